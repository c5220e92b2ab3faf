"""The nonlinearity of the transformer's MLPs."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor


def gelu(x: Tensor) -> Tensor:
    """The tanh approximation of GELU (Hendrycks & Gimpel, arXiv 1606.08415).

    Compiled, as the sigmoid that it is: ``(1 + tanh u) / 2 = sigmoid(2 u)``. Triton's tanh takes so many instructions
    that a pass over the rows of the released size's experts is bound by them and not by memory: on an H200 45 us, and
    35 us so.
    """
    if torch.compiler.is_compiling():
        return x * torch.sigmoid(math.sqrt(8 / math.pi) * (x + 0.044715 * x * x * x))
    return F.gelu(x, approximate="tanh")
