"""Linear layers by the library that is fastest on the processor.

PyTorch hands float32 matrix products on x86 to MKL, whose AVX-512 kernels are for Intel's processors; convolutions and
half precision go to oneDNN, whose kernels are for all. ``benchmark/experts.py`` prints what that makes of them.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

# What torch.compile itself calls for linear layers; builds of PyTorch without oneDNN have none.
_has_one_dnn = hasattr(torch.ops.mkldnn, "_linear_pointwise")


def _one_dnn(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    product: Tensor = torch.ops.mkldnn._linear_pointwise(x, weight, bias, "none", [], "")
    return product


# To torch.compile a closed box: of an open one it expects that the weights are packed.
_opaque = torch.library.custom_op("diffusion_perception_ros::linear", _one_dnn, mutates_args=())
_opaque.register_fake(F.linear)


def linear(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """``x @ weight.T + bias``.

    Args:
        x: (..., in).
        weight: (out, in).
        bias: (out,).
    """
    if not _by_one_dnn(x, weight):
        return F.linear(x, weight, bias)
    return _opaque(x, weight, bias) if torch.compiler.is_compiling() else _one_dnn(x, weight, bias)


class Linear(nn.Linear):
    """``torch.nn.Linear`` by `linear`."""

    def forward(self, input: Tensor) -> Tensor:
        """(..., in_features) to (..., out_features)."""
        return linear(input, self.weight, self.bias)


def _by_one_dnn(x: Tensor, weight: Tensor) -> bool:
    """Whether oneDNN takes float32 products here: it has no gradients, and autocast does not know it."""
    return (
        x.device.type == "cpu"
        and x.dtype == weight.dtype == torch.float32
        and x.is_contiguous()  # of others it makes copies, very slowly
        and weight.is_contiguous()
        and not (torch.is_grad_enabled() and (x.requires_grad or weight.requires_grad))
        and not torch.is_autocast_enabled("cpu")
    )
