"""The command line program ``diffusion-perception``, also as ``python -m diffusion_perception_ros``."""

from __future__ import annotations

import sys
from collections.abc import Sequence

from diffusion_perception_ros.threads import wait_briefly


def main(argv: Sequence[str] | None = None) -> int:
    """Run it; even what is imported first can be interrupted."""
    wait_briefly()
    try:
        from diffusion_perception_ros import cli  # noqa: PLC0415

        return cli.main(argv)
    except KeyboardInterrupt:
        print("diffusion-perception: interrupted", file=sys.stderr)
        return 130


def replay() -> int:
    """``ros2 run diffusion_perception_ros replay``: the same as ``diffusion-perception replay``."""
    return main(["replay", *sys.argv[1:]])


if __name__ == "__main__":
    sys.exit(main())
