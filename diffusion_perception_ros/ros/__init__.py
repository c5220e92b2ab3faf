"""The live node, the only folder that knows ROS: what comes in is converted and scheduled, what comes out published."""
