"""So many milliseconds for a frame: what is computed of all that is wanted, decided before each frame.

``costs`` says how long something will take, ``plan`` what fits, neither of them with a clock; ``calibrate`` measures
the device, and ``stream`` applies the plans to a ``PerceptionStream``.
"""

from diffusion_perception_ros.budget.costs import CostModel
from diffusion_perception_ros.budget.plan import Limits, Plan, Wanted, plan

__all__ = ["CostModel", "Limits", "Plan", "Wanted", "plan"]
