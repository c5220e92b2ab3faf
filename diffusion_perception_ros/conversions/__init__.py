"""Between ROS message fields and arrays: images and labels in, predictions out.

Nothing here knows a message class: messages that come in are any objects with the right fields, messages that
go out are plain nested dicts.
"""

from diffusion_perception_ros.conversions.camera_info import image_size_from_camera_info
from diffusion_perception_ros.conversions.color import amodal_overlay, depth_color, flow_color, normal_color
from diffusion_perception_ros.conversions.compressed import image_from_compressed_message
from diffusion_perception_ros.conversions.depth import depth_from_message
from diffusion_perception_ros.conversions.detections import (
    OVERLAP_RULES,
    Detection,
    detections_from_vision_message,
    detections_from_yolo_message,
    label_image,
)
from diffusion_perception_ros.conversions.errors import ImageError
from diffusion_perception_ros.conversions.fields import (
    amodal_mask_array_fields,
    header_fields,
    header_from_message,
    image_fields,
    optical_flow_fields,
)
from diffusion_perception_ros.conversions.image import image_from_message
from diffusion_perception_ros.conversions.labels import labels_from_message
from diffusion_perception_ros.conversions.status import MetricState, perception_status_fields

__all__ = [
    "OVERLAP_RULES",
    "Detection",
    "ImageError",
    "MetricState",
    "amodal_mask_array_fields",
    "amodal_overlay",
    "depth_color",
    "depth_from_message",
    "detections_from_vision_message",
    "detections_from_yolo_message",
    "flow_color",
    "header_fields",
    "header_from_message",
    "image_fields",
    "image_from_compressed_message",
    "image_from_message",
    "image_size_from_camera_info",
    "label_image",
    "labels_from_message",
    "normal_color",
    "optical_flow_fields",
    "perception_status_fields",
]
