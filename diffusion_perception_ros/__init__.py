"""Depth, optical flow and amodal masks from one diffusion model, for ROS 2."""

import pkgutil

# In a ROS installation the generated message classes live in a second folder of this package's name.
__path__ = pkgutil.extend_path(__path__, __name__)

__version__ = "0.1.0"
