"""What goes into the wheel; everything else about the package is in pyproject.toml and setup.cfg."""

from setuptools import find_packages, setup

NAME = "diffusion_perception_ros"
# The message definitions live in the top-level msg/, where ROS expects them. Inside the Python package they
# cannot be called msg: that is the name of the classes which ROS generates from them.
MESSAGE_DEFINITIONS = f"{NAME}.message_definitions"

setup(
    packages=[*find_packages(include=[NAME, f"{NAME}.*"]), MESSAGE_DEFINITIONS],
    package_dir={MESSAGE_DEFINITIONS: "msg"},
    package_data={
        NAME: ["py.typed", *(f"weights/**/*.{suffix}" for suffix in ("json", "md", "safetensors"))],
        MESSAGE_DEFINITIONS: ["*.msg"],
    },
    include_package_data=False,
)
