"""The message definitions: ROS 2's own from rosbags, this package's from its ``.msg`` files."""

from __future__ import annotations

import os
from functools import lru_cache
from pathlib import Path

from rosbags.typesys import Stores, get_types_from_msg, get_typestore
from rosbags.typesys.store import Typestore

from diffusion_perception_ros.errors import InputError

PACKAGE = "diffusion_perception_ros"
IMAGE = "sensor_msgs/msg/Image"
COMPRESSED_IMAGE = "sensor_msgs/msg/CompressedImage"
CAMERA_INFO = "sensor_msgs/msg/CameraInfo"
OPTICAL_FLOW = f"{PACKAGE}/msg/OpticalFlow"
AMODAL_MASK_ARRAY = f"{PACKAGE}/msg/AmodalMaskArray"
PERCEPTION_STATUS = f"{PACKAGE}/msg/PerceptionStatus"


def definitions_folder() -> Path:
    """The folder with this package's ``.msg`` files.

    They are inside the module in a wheel, beside it in a source tree, and in ``share`` of a ROS installation.

    Raises:
        InputError: None of these places has them, so the installation is incomplete.
    """
    module = Path(__file__).resolve().parent.parent
    prefixes = [prefix for prefix in os.environ.get("AMENT_PREFIX_PATH", "").split(os.pathsep) if prefix]
    places = [
        module / "message_definitions",
        module.parent / "msg",
        *(Path(prefix) / "share" / PACKAGE / "msg" for prefix in prefixes),
    ]
    for place in places:
        if (place / "OpticalFlow.msg").is_file():
            return place
    raise InputError(
        f"the message definitions of {PACKAGE} are missing (looked in {', '.join(map(str, places))}); reinstall it."
    )


@lru_cache(maxsize=1)
def typestore() -> Typestore:
    """The types of ROS 2 Jazzy and of this package.

    Images and camera infos have had one layout in every ROS 2 release, so bags are read with these types whatever
    definitions (or none) they embed.
    """
    store = get_typestore(Stores.ROS2_JAZZY)
    types = {}
    for path in sorted(definitions_folder().glob("*.msg")):
        types.update(get_types_from_msg(path.read_text(encoding="utf-8"), f"{PACKAGE}/msg/{path.stem}"))
    store.register(types)
    return store
