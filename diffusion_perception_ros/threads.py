"""How the threads of PyTorch's CPU kernels wait for each other."""

from __future__ import annotations

import os

# As many as GNU's library takes where it knows of more threads than processors; they last some microseconds.
_SPINS = "1000"


def wait_briefly() -> None:
    """Let threads that wait look a few times and then sleep, unless the environment says otherwise.

    Only before torch is imported. A kernel is as fast as its slowest thread. Where something else runs on the same
    processors, as on a robot, threads that go on looking take the time that the slowest needs: on two busy cores a
    frame took sixty times as long. Where nothing else runs, to wake a thread that sleeps takes longer than most
    kernels: where none looked first, a frame took twice as long.
    """
    if "OMP_WAIT_POLICY" not in os.environ:
        os.environ["OMP_WAIT_POLICY"] = "PASSIVE"  # for Intel's and LLVM's library, which do not know the other
        os.environ.setdefault("GOMP_SPINCOUNT", _SPINS)
