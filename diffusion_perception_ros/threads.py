"""How the threads of PyTorch's CPU kernels wait for each other."""

from __future__ import annotations

import os


def wait_passively() -> None:
    """Let threads that wait sleep, not spin, unless the environment says otherwise; only before torch is imported.

    A kernel is as fast as its slowest thread. Where something else runs on the same processors, as on a robot, threads
    that spin take the time that the slowest needs: on two busy cores a frame took sixty times as long.
    """
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
