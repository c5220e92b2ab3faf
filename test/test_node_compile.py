"""The node's networks compiled, without a compiler: what is traced is run as it is."""

from __future__ import annotations

from functools import partial

import numpy as np
import pytest
import torch

from diffusion_perception_ros import pipeline
from diffusion_perception_ros.model.compile import compile_transformer
from diffusion_perception_ros.pipeline import PerceptionPipeline
from diffusion_perception_ros.ros.model import CancelledError, Model
from diffusion_perception_ros.ros.parameters import DECLARATIONS
from diffusion_perception_ros.ros.settings import settings_from


def test_compiled_at_configure_and_given_up_between_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pipeline, "compile_transformer", partial(compile_transformer, backend="eager"))
    defaults = {declaration.name: declaration.default for declaration in DECLARATIONS}
    settings = settings_from({**defaults, "compile": True, "tasks": ["depth", "flow"], "num_inference_steps": 2})
    pipe, plain = (PerceptionPipeline.random(64, num_layers=1) for _ in range(2))
    model = Model(pipe, compiled=True)
    model.warm_up(settings)
    assert "forward" in vars(pipe.transformer)
    image, next_image = np.random.default_rng(0).integers(0, 255, (2, 64, 64, 3), dtype=np.uint8)
    request = model.request(image, next_image, None, ("depth", "flow"), settings, settings.cameras[0])
    (output,) = model.predict([request], settings)
    want = plain(image, next_image, tasks=["depth", "flow"], num_inference_steps=2)
    assert output.depth_relative is not None
    assert want.depth_relative is not None
    np.testing.assert_allclose(output.depth_relative, want.depth_relative, atol=1e-4)

    steps = 0

    def stop_in_the_first_step(*_: object) -> None:
        nonlocal steps
        steps += 1
        model.cancel()

    pipe.transformer.register_forward_hook(stop_in_the_first_step)
    with pytest.raises(CancelledError), torch.inference_mode():
        model.predict([request], settings)
    assert steps == 1
