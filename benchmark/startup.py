"""How long one waits for the program: for its help, and from a new process to the first predictions.

Each in processes of their own, in turn; the first round, which may read files from the disk, is not counted.

    python benchmark/startup.py --repeat 5
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import time
from pathlib import Path

_ROOT = Path(__file__).resolve().parent.parent
_COMMAND = [sys.executable, "-m", "diffusion_perception_ros", "--help"]
# A camera's frame and the next, without files to read; the times of each part are what it prints.
_FIRST_RESULT = """
import json, time
began = time.perf_counter()
from diffusion_perception_ros.threads import wait_briefly
wait_briefly()
import numpy as np
import torch
imported_torch = time.perf_counter()
from diffusion_perception_ros.pipeline import PerceptionPipeline
imported = time.perf_counter()
pipe = PerceptionPipeline.embedded()
loaded = time.perf_counter()
frames = np.random.default_rng(0).integers(0, 256, (2, 480, 640, 3)).astype(np.uint8)
pipe(*frames)
done = time.perf_counter()
parts = {"import torch": imported_torch - began, "other imports": imported - imported_torch,
         "load": loaded - imported, "predict": done - loaded}
print(json.dumps([time.time(), parts]))
"""


def run(arguments: list[str]) -> str:
    """What a new process prints."""
    path = os.pathsep.join(filter(None, [str(_ROOT), os.environ.get("PYTHONPATH", "")]))
    environment = {**os.environ, "PYTHONPATH": path}
    return subprocess.run(arguments, check=True, capture_output=True, text=True, env=environment).stdout


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeat", type=int, default=5, help="(default: %(default)s)")
    args = parser.parse_args()
    helps, firsts, parts = [], [], []
    for _ in range(args.repeat + 1):
        began = time.time()
        run(_COMMAND)
        helped = time.time()
        done, spent = json.loads(run([sys.executable, "-c", _FIRST_RESULT]))
        helps.append(helped - began)
        firsts.append(done - helped)
        parts.append(spent)
    print(f"diffusion-perception --help: {_spread(helps[1:])}")
    print(f"embedded checkpoint, from a new process to the first depth and flow: {_spread(firsts[1:])}")
    for name in parts[0]:
        print(f"  {name}: {_spread([part[name] for part in parts[1:]])}")


def _spread(seconds: list[float]) -> str:
    return f"{statistics.median(seconds):.2f} s median, {min(seconds):.2f} to {max(seconds):.2f} s"


if __name__ == "__main__":
    main()
