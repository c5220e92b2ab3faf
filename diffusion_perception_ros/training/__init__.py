"""Training of checkpoints from a YAML file: data, losses, and a loop that can be killed and resumed."""

from diffusion_perception_ros.training.codec_config import CodecConfig
from diffusion_perception_ros.training.config import TrainingConfig
from diffusion_perception_ros.training.config_file import load_config
from diffusion_perception_ros.training.generalist_config import GeneralistConfig
from diffusion_perception_ros.training.loop import Outcome, train

__all__ = ["CodecConfig", "GeneralistConfig", "Outcome", "TrainingConfig", "load_config", "train"]
