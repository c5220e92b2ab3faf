"""What sensor_msgs/CameraInfo says about the image beside it."""

from __future__ import annotations

from typing import Any

from diffusion_perception_ros.conversions.pixels import check_size, read_field, read_integer


def image_size_from_camera_info(message: Any) -> tuple[int, int]:
    """The size of the images that a calibration belongs to.

    Args:
        message: Any object with the fields of sensor_msgs/CameraInfo. Its ``height`` and ``width`` are those of the
            whole sensor; ``roi`` (if not empty) is what the camera reads of it, and ``binning`` divides that.

    Returns:
        (height, width) in pixels.

    Raises:
        ImageError: If a field is missing, or no image has this size.
    """
    roi = read_field(message, "roi")
    height = read_integer(roi, "height") or read_integer(message, "height")
    width = read_integer(roi, "width") or read_integer(message, "width")
    height //= max(read_integer(message, "binning_y"), 1)
    width //= max(read_integer(message, "binning_x"), 1)
    check_size(height, width)
    return height, width
