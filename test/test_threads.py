from __future__ import annotations

import os
import subprocess
import sys

import pytest


@pytest.mark.parametrize(
    ("given", "seen"),
    [
        ({}, "PASSIVE 1000"),
        ({"OMP_WAIT_POLICY": "ACTIVE"}, "ACTIVE None"),
        ({"GOMP_SPINCOUNT": "7"}, "PASSIVE 7"),
    ],
)
def test_torch_finds_the_policy_when_it_is_imported(given: dict[str, str], seen: str) -> None:
    """Before the command line imports anything; the environment's own choice stands."""
    script = (
        "import os, sys\n"
        "from diffusion_perception_ros.__main__ import main\n"
        "try:\n    main(['--version'])\n"
        "finally:\n"
        "    print(os.environ['OMP_WAIT_POLICY'], os.environ.get('GOMP_SPINCOUNT'), 'torch' in sys.modules)\n"
    )
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("OMP_", "GOMP_"))}
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True, env=environment | given
    )
    assert done.stdout.splitlines()[-1] == f"{seen} False"
