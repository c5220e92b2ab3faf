"""All figures of docs/benchmarks, each by the command that stands beside it there; then the page and its picture.

    make benchmark                                on a CPU, some eleven minutes on two cores that nothing else uses
    python benchmark/figures.py --device cuda     on a Hopper GPU, some four minutes
    python benchmark/figures.py --small --out FOLDER      the same at small size, to see that it works

Of a command that takes too long nothing is kept; what is measured already is.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import time
from pathlib import Path

from page import write_page

_ROOT = Path(__file__).resolve().parent.parent
_LIMIT = {"cpu": 900.0, "cuda": 480.0}
_EMBEDDED = "--tasks depth,flow --tasks depth,flow,amodal --decoder full,features --reference --rounds 200 --seconds 15"
_OFFICIAL = "--random 12x384 --resolution 512 --tasks depth,flow,amodal --codec kl,tiny --warm-up 1"
_FULL = "--random 28x1152 --resolution 512 --tasks depth,flow --dtype bfloat16 --rounds 100"
# The first are the most important ones.
PLANS = {
    "cpu": {
        "embedded": _EMBEDDED,
        "12x384": f"{_OFFICIAL} --steps 1,10 --reference --rounds 2 --seconds 30",
        "12x384_bfloat16": f"{_OFFICIAL} --dtype bfloat16 --rounds 3 --seconds 20",
    },
    "cuda": {
        "28x1152": f"{_FULL} --seconds 20 --codec tiny,kl --compile no,yes --reference",
        "28x1152_steps": f"{_FULL} --seconds 10 --codec tiny --compile yes --steps 4,10",
        "embedded": _EMBEDDED,
    },
}
# Longer texts first.
_SMALLER = {
    "--random 12x384 --resolution 512": "--random 2x64 --resolution 32",
    "--random 28x1152 --resolution 512": "--random 2x64 --resolution 32",
    "--rounds 200 --seconds 15": "--rounds 3 --seconds 3",
    "--rounds 100": "--rounds 2",
}


def main() -> int:
    """Measure what the plan says, write and draw."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", choices=tuple(PLANS), default="cpu", help="(default: %(default)s)")
    parser.add_argument("--plan", choices=tuple(PLANS), help="of another kind of device (default: this one's)")
    parser.add_argument("--small", action="store_true", help="small networks and few frames")
    parser.add_argument("--out", type=Path, default=Path("docs/benchmarks"), help="(default: %(default)s)")
    args = parser.parse_args()
    plan = args.plan or args.device
    deadline = time.monotonic() + _LIMIT[args.device]
    done = [measure(name, options, args, deadline) for name, options in PLANS[plan].items()]
    write_page(_ROOT / args.out)
    return 0 if all(done) else 1


def measure(name: str, options: str, args: argparse.Namespace, deadline: float) -> bool:
    """Run one command and keep its result; whether it could measure."""
    for large, small in _SMALLER.items() if args.small else ():
        options = options.replace(large, small)
    out = args.out / (args.plan or args.device) / f"{name}.json"
    command = ["benchmark", *options.split(), "--device", args.device, "--out", str(out)]
    print("$ diffusion-perception " + " ".join(command), flush=True)
    began = time.monotonic()
    limit = deadline - began
    if limit < 1:
        print("no time is left for it")
        return False
    try:
        status = subprocess.run(
            [sys.executable, "-m", "diffusion_perception_ros", *command], cwd=_ROOT, timeout=limit, check=False
        ).returncode
    except subprocess.TimeoutExpired:
        print(f"not finished after {limit:.0f} s, which was the time left")
        return False
    print(f"({time.monotonic() - began:.0f} s)\n", flush=True)
    return status in (0, 3)


if __name__ == "__main__":
    sys.exit(main())
