"""Muon: momentum whose update of a matrix is made orthogonal, so that all its directions learn alike."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, overload

import torch
from torch import Tensor

# Quintic Newton-Schulz coefficients that take singular values near to 1 in few iterations, not exactly to it.
_A, _B, _C = 3.4445, -4.7750, 2.0315
_ITERATIONS = 5


class Muon(torch.optim.Optimizer):
    """Jordan et al. 2024, scaled as by Liu et al. 2025 (Moonlight, arXiv 2502.16982) to share AdamW's learning rate.

    Args:
        parameters: Matrices; stacks of matrices (E, out, in), one per expert; or kernels (out, in, h, w).
        lr: Learning rate.
        momentum: Of the gradient, used with Nesterov's look-ahead.
        weight_decay: Decoupled.
    """

    def __init__(
        self, parameters: Iterable[Tensor], lr: float, momentum: float = 0.95, weight_decay: float = 0.0
    ) -> None:
        super().__init__(parameters, {"lr": lr, "momentum": momentum, "weight_decay": weight_decay})

    @overload
    def step(self, closure: None = None) -> None: ...
    @overload
    def step(self, closure: Callable[[], float]) -> float: ...
    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> float | None:
        """One step; the closure is not called."""
        for group in self.param_groups:
            for parameter in group["params"]:
                if parameter.grad is not None:
                    self._update(parameter, group)
        return None

    def _update(self, parameter: Tensor, group: dict[str, Any]) -> None:
        gradient, state = parameter.grad, self.state[parameter]
        assert gradient is not None
        if not state:
            state["momentum"] = torch.zeros_like(parameter)
        momentum = state["momentum"].lerp_(gradient, 1 - group["momentum"])
        direction = gradient.lerp(momentum, group["momentum"])
        is_kernel = direction.ndim == 4
        matrices = direction.flatten(1)[None] if is_kernel else direction.view(-1, *direction.shape[-2:])
        # The RMS of AdamW's updates is about 0.2; that of an orthogonal matrix is 1 / sqrt(its longer side).
        scale = 0.2 * max(matrices.shape[-2:]) ** 0.5
        parameter.mul_(1 - group["lr"] * group["weight_decay"])
        parameter.add_(orthogonalize(matrices).view_as(parameter), alpha=-group["lr"] * scale)


def orthogonalize(matrices: Tensor) -> Tensor:
    """(N, m, n) to matrices of the same singular vectors and singular values near 1; float32."""
    x = matrices.to(torch.bfloat16)
    wide = x.shape[-2] <= x.shape[-1]
    x = x if wide else x.mT
    x = x / (x.norm(dim=(-2, -1), keepdim=True) + 1e-7)
    for _ in range(_ITERATIONS):
        gram = x @ x.mT
        x = _A * x + (_B * gram + _C * gram @ gram) @ x
    orthogonal: Tensor = (x if wide else x.mT).to(torch.float32)
    return orthogonal
