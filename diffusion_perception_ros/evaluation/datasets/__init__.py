"""Datasets in their official layouts, one reader a file."""

from diffusion_perception_ros.evaluation.datasets.bag import Bag
from diffusion_perception_ros.evaluation.datasets.bag_topics import BagTopics
from diffusion_perception_ros.evaluation.datasets.chairs import FlyingChairs
from diffusion_perception_ros.evaluation.datasets.dataset import Dataset, IndexedDataset
from diffusion_perception_ros.evaluation.datasets.hypersim import Hypersim
from diffusion_perception_ros.evaluation.datasets.pix2gestalt import Pix2Gestalt
from diffusion_perception_ros.evaluation.datasets.scenes import Scenes

__all__ = ["Bag", "BagTopics", "Dataset", "FlyingChairs", "Hypersim", "IndexedDataset", "Pix2Gestalt", "Scenes"]
