"""Functions recorded as CUDA graphs: all kernels are launched at once, not one after another by the host.

A network of many small kernels takes as long as its host needs to launch them, which on a GPU is most of the time.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

# The first calls choose kernels and make workspaces, which a graph cannot.
_CALLS_BEFORE = 3


class Graphed:
    """A function of tensors on a GPU, recorded for each size of its inputs when that first comes, then replayed.

    Args:
        function: Of tensors to one tensor; asks the device for nothing, and does the same for inputs of the same size.
    """

    def __init__(self, function: Callable[..., Tensor]) -> None:
        self._function = function
        self._recorded: dict[Any, _Recorded] = {}

    def __call__(self, *inputs: Tensor) -> Tensor:
        """What the function makes of the inputs."""
        key = tuple((x.shape, x.dtype) for x in inputs)
        if key not in self._recorded:
            self._recorded[key] = _Recorded(self._function, inputs)
        return self._recorded[key](inputs)

    def __deepcopy__(self, memo: dict[int, Any]) -> Callable[..., Tensor]:
        """The copy's own function, which is not recorded: a graph is about the tensors of the original."""
        return copy.deepcopy(self._function, memo)


class _Recorded:
    def __init__(self, function: Callable[..., Tensor], inputs: tuple[Tensor, ...]) -> None:
        # Tensors of inference mode could not be written to outside of it.
        with torch.inference_mode(False), torch.no_grad(), torch.cuda.device(inputs[0].device):
            self._inputs = [x.clone() for x in inputs]
            stream = torch.cuda.Stream()
            stream.wait_stream(torch.cuda.current_stream())
            with torch.cuda.stream(stream):
                for _ in range(_CALLS_BEFORE):
                    function(*self._inputs)
            torch.cuda.current_stream().wait_stream(stream)
            self._graph = torch.cuda.CUDAGraph()
            # Other threads may use the device meanwhile.
            with torch.cuda.graph(self._graph, capture_error_mode="thread_local"):
                self._output = function(*self._inputs)

    def __call__(self, inputs: tuple[Tensor, ...]) -> Tensor:
        with torch.no_grad():
            torch._foreach_copy_(self._inputs, list(inputs))
            self._graph.replay()
            # The next replay writes to the same place, and samplers keep what earlier steps gave.
            return self._output.clone()
