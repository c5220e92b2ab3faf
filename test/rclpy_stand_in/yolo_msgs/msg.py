from rclpy._messages import define, register

# Of yolo_ros' Detection what the mask adapter reads.
register(
    "yolo_msgs",
    Point2D="float64 x\nfloat64 y",
    Vector2="float64 x\nfloat64 y",
    Pose2D="yolo_msgs/Point2D position\nfloat64 theta",
    BoundingBox2D="yolo_msgs/Pose2D center\nyolo_msgs/Vector2 size",
    Mask="int32 height\nint32 width\nyolo_msgs/Point2D[] data",
    Detection="float64 score\nyolo_msgs/BoundingBox2D bbox\nyolo_msgs/Mask mask",
    DetectionArray="std_msgs/Header header\nyolo_msgs/Detection[] detections",
)
define(globals())
