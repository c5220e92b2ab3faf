from rclpy._messages import define

define(globals())
