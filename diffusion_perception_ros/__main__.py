"""``python -m diffusion_perception_ros`` is the command line program ``diffusion-perception``."""

import sys

from diffusion_perception_ros.cli import main

sys.exit(main())
