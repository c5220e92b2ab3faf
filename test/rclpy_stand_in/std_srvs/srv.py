from rclpy._messages import define_service

define_service(globals(), "Trigger", "", "bool success\nstring message\n")
