"""Training of checkpoints from a YAML file: data, losses, and a loop that can be killed and resumed."""

from diffusion_perception_ros.training.config import TrainingConfig, load_config
from diffusion_perception_ros.training.loop import Outcome, train

__all__ = ["Outcome", "TrainingConfig", "load_config", "train"]
