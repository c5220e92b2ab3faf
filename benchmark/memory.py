"""Peak host memory of converting and of loading released weights, as a multiple of the checkpoint's size.

Makes a random checkpoint in the released format, of at least the size asked for, and runs each job in a process of
its own, so that the kernel's own peak (resident set, the mapped file's pages included) is the measure.

    python benchmark/memory.py --gigabytes 1.2
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path

import torch

from diffusion_perception_ros.model.official import to_official_state_dict
from diffusion_perception_ros.model.random import SCHEDULER_CONFIG, random_codec
from diffusion_perception_ros.model.transformer import DiTMoETransformer

_IMPORT = "import diffusion_perception_ros.pipeline"
_CONVERT = "from diffusion_perception_ros.cli import main; sys.exit(main(['convert', ck, sd, out, '--dtype', dtype]))"
_LOAD = (
    "import torch; from diffusion_perception_ros.pipeline import PerceptionPipeline; "
    "pipe = PerceptionPipeline.from_official(ck, sd, torch_dtype=getattr(torch, dtype))"
)


def make_checkpoint(folder: Path, gigabytes: float) -> Path:
    """A random generalist of width 1152 with as many blocks as the size takes, and a stable-diffusion-2 folder."""
    bytes_of_block = 4 * (8 * 2 * 1152 * 4608 + 10 * 1152 * 1152)
    config = {"num_layers": -int(-gigabytes * 1e9 // bytes_of_block), "sample_size": 8}
    torch.save(to_official_state_dict(DiTMoETransformer(**config)), folder / "checkpoint.pt")
    random_codec().vae.save_pretrained(folder / "sd" / "vae")
    (folder / "sd" / "scheduler").mkdir()
    (folder / "sd" / "scheduler" / "scheduler_config.json").write_text(json.dumps(SCHEDULER_CONFIG))
    return folder / "checkpoint.pt"


def peak_of(job: str, folder: Path, dtype: str) -> int:
    """Peak resident bytes of one job in a fresh process (Linux)."""
    arguments = [str(folder / name) for name in ("checkpoint.pt", "sd", f"out-{dtype}")] + [dtype]
    # Not ru_maxrss, which a child inherits from its parent.
    report = "print([line for line in open('/proc/self/status') if line.startswith('VmHWM')][0].split()[1])"
    code = f"import atexit, sys; ck, sd, out, dtype = sys.argv[1:]; atexit.register(lambda: exec({report!r})); {job}"
    done = subprocess.run([sys.executable, "-c", code, *arguments], check=True, capture_output=True, text=True)
    return int(done.stdout.split()[-1]) * 1024


def main() -> None:
    """Print one line per job."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--gigabytes", type=float, default=1.2, help="size of the checkpoint (default: %(default)s)")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        size = make_checkpoint(folder, args.gigabytes).stat().st_size
        print(f"checkpoint {size / 1e9:.2f} GB, float32")
        print(f"imports alone     peak {peak_of(_IMPORT, folder, '') / 1e9:.2f} GB")
        for label, job in (("convert", _CONVERT), ("load", _LOAD)):
            for dtype in ("float32", "bfloat16"):
                peak = peak_of(job, folder, dtype)
                print(f"{label:7} {dtype:9} peak {peak / 1e9:.2f} GB = {peak / size:.2f} x the file")


if __name__ == "__main__":
    main()
