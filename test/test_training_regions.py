"""Samples about the surroundings of an object."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from official_layouts import pix2gestalt

from diffusion_perception_ros.evaluation.datasets import Pix2Gestalt
from diffusion_perception_ros.model.metadata import TargetEncoding
from diffusion_perception_ros.queries import View, render
from diffusion_perception_ros.tasks import Picture, find_task
from diffusion_perception_ros.tasks.geometry import Geometry
from diffusion_perception_ros.training import regions
from diffusion_perception_ros.training.cache import render_records
from diffusion_perception_ros.training.sources_datasets import fit
from diffusion_perception_ros.training.sources_scenes import scene_frames

CPU = torch.device("cpu")
SIZE = 32
REGION = TargetEncoding("mask_in_region", (1001,), "area", {"context": 1.2, "smallest": 0.3})


@pytest.mark.parametrize("interpolation", ["area", "bilinear", "nearest-exact", "nearest"])
def test_regions_are_seen_as_the_pipeline_shows_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, interpolation: str
) -> None:
    encoding = replace(REGION, image_interpolation=interpolation)
    monkeypatch.setattr(regions, "_ZOOM", 0.0)
    monkeypatch.setattr(regions, "_SHIFT", 0.0)
    task, frames = find_task("amodal"), fit(Pix2Gestalt(pix2gestalt(tmp_path))[0], SIZE, "area")
    visible = frames.truth.visible[0].numpy()
    focused = regions.focus(frames, task, encoding, np.random.default_rng(0))

    class Asked:
        image = (frames.image[0] * 255).round().byte().permute(1, 2, 0).numpy()
        next_image, visible_masks = None, {1: visible}

    region = task.regions(encoding, Asked.visible_masks)[1]
    assert 0 < region.height < SIZE
    pictures = [Picture("image", interpolation, region=region), Picture("visible_mask", "nearest", 1, region=region)]
    views = [View(Asked(), picture, Geometry(SIZE, SIZE, SIZE), None) for picture in pictures]  # type: ignore[arg-type]
    image, prompt = render(views, CPU)
    # Half a step of 255, which the pipeline is asked in, and float32.
    torch.testing.assert_close(focused.image[0] * 2 - 1, image, rtol=0, atol=1 / 255 + 1e-6)
    assert torch.equal(focused.truth.visible[0].float() * 2 - 1, prompt[0])
    assert focused.truth.amodal.sum() > frames.truth.amodal.sum()


def test_regions_move_and_the_truth_with_them() -> None:
    """Whole images of other tasks stay; of a region nothing but the instance is known."""
    frames, amodal = scene_frames(render_records(range(8), SIZE), CPU), find_task("amodal")
    depth = TargetEncoding("log", (1000,), parameters={"log_range": 3.0})
    assert regions.focus(frames, find_task("depth"), depth, np.random.default_rng(0)) is frames
    first, again, other = (regions.focus(frames, amodal, REGION, np.random.default_rng(seed)) for seed in (0, 0, 1))
    assert torch.equal(first.image, again.image)
    assert not torch.equal(first.image, other.image)
    seen = frames.truth.visible.flatten(1).any(dim=1)
    assert seen.any()
    assert (first.truth.amodal | ~first.truth.visible)[seen].all()
    assert first.truth.visible[seen].flatten(1).any(dim=1).all()
    assert first.truth.depth[seen].isnan().all()
    assert not first.truth.flow_valid[seen].any()
