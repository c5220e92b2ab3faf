"""Teaching a lookup where to look: its offsets are held against the truth, since no other loss reaches them."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from diffusion_perception_ros.model.convolutions import Lookup
from diffusion_perception_ros.tasks import find_task
from diffusion_perception_ros.training.batches import Questions


def offset_loss(offset: Tensor, questions: Questions) -> Tensor:
    """(B,) mean end-point error in pixels of the latent, where the motion is known.

    Prompts that are not the next image show what they show at the same place.

    Args:
        offset: (B, labels, 2, h, w).
        questions: B of them.
    """
    truth = questions.truth
    if "next_image" in find_task(questions.task).requires:
        size = offset.shape[-2:]
        known = truth.flow_valid.to(offset.dtype)[:, None]
        weight = F.interpolate(known, size=size, mode="area")
        motion = torch.where(truth.flow_valid[:, None], truth.flow, 0)
        wanted = F.interpolate(motion, size=size, mode="area") / weight.clamp_min(1e-3)
        wanted = wanted * (size[-1] / truth.flow.shape[-1])
    else:
        wanted, weight = torch.zeros_like(offset[:, 0]), torch.ones_like(offset[:, 0, :1])
    error = ((offset - wanted[:, None]).square().sum(dim=2) + 1e-6).sqrt() * weight
    loss: Tensor = error.mean(dim=(1, 2, 3)) / weight.mean(dim=(1, 2, 3)).clamp_min(1e-3)
    return loss


class Offsets:
    """Watches the lookup of a network, so that inference knows nothing of it.

    Args:
        network: Any module; a lookup is found by its type.
    """

    def __init__(self, network: nn.Module) -> None:
        self._offset: Tensor | None = None
        for module in network.modules():
            if isinstance(module, Lookup):
                module.offset.register_forward_hook(self._observe)

    def _observe(self, layer: nn.Module, inputs: tuple[Tensor], output: Tensor) -> None:
        if layer.training:
            self._offset = output

    def take(self) -> Tensor | None:
        """(B, 2, h, w) float32 of the last forward pass; None for a network without a lookup."""
        offset, self._offset = self._offset, None
        return None if offset is None else offset.float()
