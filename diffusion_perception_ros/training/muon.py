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
            # Those of one shape together, since most of what this costs is the number of operations.
            alike: dict[torch.Size, list[Tensor]] = {}
            for parameter in group["params"]:
                if parameter.grad is not None:
                    alike.setdefault(parameter.shape, []).append(parameter)
            for parameters in alike.values():
                self._update(parameters, group)
        return None

    def _update(self, parameters: list[Tensor], group: dict[str, Any]) -> None:
        gradients = [parameter.grad for parameter in parameters if parameter.grad is not None]
        for parameter in parameters:
            if not self.state[parameter]:
                self.state[parameter]["momentum"] = torch.zeros_like(parameter)
        momenta = [self.state[parameter]["momentum"] for parameter in parameters]
        torch._foreach_lerp_(momenta, gradients, 1 - group["momentum"])
        directions = torch.stack(torch._foreach_lerp(gradients, momenta, group["momentum"]))
        is_kernel = directions.ndim == 5
        matrices = directions.flatten(2) if is_kernel else directions.view(-1, *directions.shape[-2:])
        # The RMS of AdamW's updates is about 0.2; that of an orthogonal matrix is 1 / sqrt(its longer side).
        scale = 0.2 * max(matrices.shape[-2:]) ** 0.5
        updates = orthogonalize(matrices).view_as(directions).unbind()
        torch._foreach_mul_(parameters, 1 - group["lr"] * group["weight_decay"])
        torch._foreach_add_(parameters, updates, alpha=-group["lr"] * scale)


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
