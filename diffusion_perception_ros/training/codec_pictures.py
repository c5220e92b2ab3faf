"""What an image codec has to carry: everything that the generalist's tasks put through it."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from diffusion_perception_ros.tasks import find_task
from diffusion_perception_ros.training.batches import Questions
from diffusion_perception_ros.training.config import TrainingConfig


def codec_pictures(config: TrainingConfig, batch: Sequence[Questions]) -> dict[str, Tensor]:
    """All pictures of a batch by kind, in the order of the batch.

    Args:
        config: Of the run, which says how its tasks are asked.
        batch: Of any tasks.

    Returns:
        (N, 3, R, R) in [-1, 1]: ``image`` are camera images, the next ones as well; other prompts are under their
        names (``visible_mask``, ``ones``, the latter once), and targets under those of their tasks.
    """
    pictures: dict[str, list[Tensor]] = {"image": []}
    for questions in batch:
        (prompt,) = find_task(questions.task).prompts(config.tasks[questions.task].encoding(), [1])
        pictures["image"].append(questions.image)
        if prompt.source == "ones":
            pictures["ones"] = [questions.prompt[:1]]
        else:
            kind = "image" if prompt.source == "next_image" else prompt.source
            pictures.setdefault(kind, []).append(questions.prompt)
        pictures.setdefault(questions.task, []).append(questions.target.images.flatten(0, 1))
    return {kind: torch.cat(parts) for kind, parts in pictures.items()}
