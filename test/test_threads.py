from __future__ import annotations

import os
import subprocess
import sys

import pytest


@pytest.mark.parametrize(("given", "seen"), [(None, "PASSIVE"), ("ACTIVE", "ACTIVE")])
def test_torch_finds_the_policy_when_it_is_imported(given: str | None, seen: str) -> None:
    """Before the command line imports anything; the environment's own choice stands."""
    script = (
        "import os, sys\n"
        "from diffusion_perception_ros.__main__ import main\n"
        "try:\n    main(['--version'])\n"
        "finally:\n    print(os.environ['OMP_WAIT_POLICY'], 'torch' in sys.modules)\n"
    )
    environment = {name: value for name, value in os.environ.items() if name != "OMP_WAIT_POLICY"}
    environment |= {"OMP_WAIT_POLICY": given} if given else {}
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True, env=environment)
    assert done.stdout.splitlines()[-1] == f"{seen} False"
