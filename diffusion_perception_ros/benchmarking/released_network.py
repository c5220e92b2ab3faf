"""The transformer as the released code runs it: float32, one expert after the other, and questions to the device.

Written from the papers' description, on the weights of ours. It serves as the rate that ours are compared with, and
stays as it is whatever is done to ours.
"""

from __future__ import annotations

import copy
import math

import torch
import torch.nn.functional as F
from torch import Tensor

from diffusion_perception_ros.model.blocks import modulate
from diffusion_perception_ros.model.embeddings import Condition
from diffusion_perception_ros.model.transformer import DiTMoETransformer


class ReleasedTransformer:
    """DiT-MoE (arXiv 2407.11633) with a patch convolution per task, as released with arXiv 2411.08034.

    Checkpoints with convolutions around the transformer, which the released ones have not, keep them.

    Args:
        transformer: Whose weights these are; in float32 they are shared.
    """

    def __init__(self, transformer: DiTMoETransformer) -> None:
        self._weights = {name: weight.float() for name, weight in transformer.state_dict().items()}
        self._config = transformer.config
        self._grid, self._patch = transformer.grid_size, transformer.token_size
        self._kernels = [None] if self._config.patch_labels is None else list(self._config.patch_labels)
        self._stem, self._head = (
            None if part is None else copy.deepcopy(part).float() for part in (transformer.stem, transformer.head)
        )

    def __call__(self, x: Tensor, timestep: Tensor, class_labels: Tensor) -> Tensor:
        """(B, in_channels, h, w), a timestep and (B,) labels to (B, out_channels, h, w)."""
        condition = self._condition(timestep, class_labels)
        features, compared = self._stem(x, self._stem.modulations(Condition(condition))) if self._stem else ([x], None)
        tokens = self._embed(features[-1], class_labels) + self._weights["pos_embed"]
        for i in range(self._config.num_layers):
            tokens = self._block(tokens, condition, f"blocks.{i}.")
        shift, scale = self._linear(F.silu(condition), "final_layer.adaLN_modulation.1").chunk(2, dim=1)
        tokens = self._linear(modulate(_normalize(tokens), shift, scale), "final_layer.linear")
        grid, patch = self._grid, self._patch
        x = tokens.view(len(x), grid, grid, patch, patch, -1)
        x = torch.einsum("bhwpqc->bchpwq", x).reshape(len(x), -1, grid * patch, grid * patch)
        return self._head(x, features, compared, self._head.modulations(Condition(condition))) if self._head else x

    def _linear(self, x: Tensor, name: str) -> Tensor:
        return F.linear(x, self._weights[f"{name}.weight"], self._weights[f"{name}.bias"])

    def _condition(self, timestep: Tensor, class_labels: Tensor) -> Tensor:
        half = self._config.frequency_size // 2
        frequencies = torch.exp(-math.log(10_000) * torch.arange(half, device=timestep.device) / half)
        angles = timestep.reshape(-1, 1).float() * frequencies
        embedding = torch.cat([angles.cos(), angles.sin()], dim=-1)
        embedding = self._linear(F.silu(self._linear(embedding, "t_embedder.mlp.0")), "t_embedder.mlp.2")
        return embedding + F.embedding(class_labels, self._weights["y_embedder.embedding_table.weight"])

    def _embed(self, x: Tensor, class_labels: Tensor) -> Tensor:
        """Patches to tokens: of every task that the batch is asked for, by its own convolution."""
        weight, bias = self._weights["x_embedder.weight"], self._weights["x_embedder.bias"]
        tokens = x.new_empty(len(x), weight.shape[1], self._grid, self._grid)
        for kernel, label in enumerate(self._kernels):
            chosen = class_labels == label if label is not None else torch.ones_like(class_labels, dtype=torch.bool)
            if chosen.any():
                tokens[chosen] = F.conv2d(x[chosen], weight[kernel], bias[kernel], stride=self._patch)
        return tokens.flatten(2).transpose(1, 2)

    def _block(self, x: Tensor, condition: Tensor, name: str) -> Tensor:
        modulation = self._linear(F.silu(condition), f"{name}adaLN_modulation.1").chunk(6, dim=1)
        shift1, scale1, gate1, shift2, scale2, gate2 = modulation
        x = x + gate1.unsqueeze(1) * self._attention(modulate(_normalize(x), shift1, scale1), f"{name}attn.")
        mlp = self._experts if self._config.num_experts else self._dense
        return x + gate2.unsqueeze(1) * mlp(modulate(_normalize(x), shift2, scale2), f"{name}mlp.")

    def _attention(self, x: Tensor, name: str) -> Tensor:
        qkv = self._linear(x, f"{name}qkv").unflatten(2, (3, self._config.num_attention_heads, -1))
        q, k, v = qkv.permute(2, 0, 3, 1, 4)
        x = F.scaled_dot_product_attention(q, k, v)
        return self._linear(x.transpose(1, 2).flatten(2), f"{name}proj")

    def _dense(self, x: Tensor, name: str) -> Tensor:
        return self._linear(F.gelu(self._linear(x, f"{name}fc1"), approximate="tanh"), f"{name}fc2")

    def _experts(self, x: Tensor, name: str) -> Tensor:
        """Each expert with the tokens that were sent to it, whose number the host has to know first."""
        tokens = x.flatten(0, 1)
        scores = F.linear(tokens, self._weights[f"{name}gate.weight"]).softmax(dim=-1)
        weights, experts = scores.topk(self._config.num_experts_per_tok, dim=-1, sorted=False)
        weights, experts = weights.flatten(), experts.flatten()
        order = experts.argsort()
        ends = experts.bincount(minlength=self._config.num_experts).cumsum(0).cpu().tolist()
        fc1, bias1, fc2, bias2 = (self._weights[f"{name}{key}"] for key in _EXPERT_WEIGHTS)
        mixed = torch.zeros_like(tokens)
        start = 0
        for expert, end in enumerate(ends):
            if start < end:
                rows = order[start:end]
                chosen = rows // self._config.num_experts_per_tok
                hidden = F.gelu(F.linear(tokens[chosen], fc1[expert], bias1[expert]), approximate="tanh")
                answer = F.linear(hidden, fc2[expert], bias2[expert]) * weights[rows, None]
                mixed.scatter_reduce_(0, chosen[:, None].expand_as(answer), answer, reduce="sum")
            start = end
        return mixed.view_as(x)


_EXPERT_WEIGHTS = ("fc1.weight", "fc1.bias", "fc2.weight", "fc2.bias")


def _normalize(x: Tensor) -> Tensor:
    return F.layer_norm(x, x.shape[-1:], eps=1e-6)
