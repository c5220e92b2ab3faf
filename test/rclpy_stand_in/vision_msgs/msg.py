from rclpy._messages import define, register

register(
    "vision_msgs",
    Point2D="float64 x\nfloat64 y",
    Pose2D="vision_msgs/Point2D position\nfloat64 theta",
    BoundingBox2D="vision_msgs/Pose2D center\nfloat64 size_x\nfloat64 size_y",
    ObjectHypothesis="string class_id\nfloat64 score",
    ObjectHypothesisWithPose="vision_msgs/ObjectHypothesis hypothesis\ngeometry_msgs/PoseWithCovariance pose",
    Detection2D=(
        "std_msgs/Header header\n"
        "vision_msgs/ObjectHypothesisWithPose[] results\n"
        "vision_msgs/BoundingBox2D bbox\n"
        "string id"
    ),
    Detection2DArray="std_msgs/Header header\nvision_msgs/Detection2D[] detections",
)
define(globals())
