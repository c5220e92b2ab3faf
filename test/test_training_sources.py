"""Datasets in their official layouts beside generated scenes."""

from __future__ import annotations

import csv
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import SMALL, shared, write_official
from official_layouts import chairs, hypersim, pix2gestalt
from ruamel.yaml import YAML
from training_runs import CONFIGS, generalist, render_cache, seeing_normals, tiny

from diffusion_perception_ros.errors import InputError
from diffusion_perception_ros.evaluation.datasets import FlyingChairs, Hypersim, IndexedDataset, Pix2Gestalt
from diffusion_perception_ros.evaluation.evaluate import evaluate, predict_with
from diffusion_perception_ros.media.pictures import read_picture
from diffusion_perception_ros.pipeline import PerceptionPipeline
from diffusion_perception_ros.queries import View, render
from diffusion_perception_ros.sampling.settings import SamplingSettings
from diffusion_perception_ros.tasks import Picture, released_encodings
from diffusion_perception_ros.tasks.geometry import Geometry
from diffusion_perception_ros.training import GeneralistConfig, load_config, train
from diffusion_perception_ros.training.batches import Batches, Questions
from diffusion_perception_ros.training.data_config import SourceConfig
from diffusion_perception_ros.training.sources import open_sources
from diffusion_perception_ros.training.sources_datasets import DatasetSource, fit
from diffusion_perception_ros.training.stages import make_stage

CPU = torch.device("cpu")
SIZE = 32
SCENES = SourceConfig("scenes")


def drawing_from(config: GeneralistConfig, *sources: SourceConfig) -> GeneralistConfig:
    return replace(config, data=replace(config.data, sources=sources))


def ask(config: GeneralistConfig, folder: Path, step: int = 0) -> dict[str, Questions]:
    sources = open_sources(config, folder, 0, CPU)
    questions = Batches(config, sources).make(step, 0)
    for source in sources:
        source.close()
    return {question.task: question for question in questions}


def plain(config: GeneralistConfig) -> GeneralistConfig:
    """Without augmentation."""
    return replace(config, data=replace(config.data, flip=0.0, photometric=0.0))


def only(config: GeneralistConfig, *tasks: str) -> GeneralistConfig:
    return replace(config, tasks={name: task for name, task in config.tasks.items() if name in tasks})


@pytest.fixture(scope="module")
def pairs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return render_cache(tmp_path_factory.mktemp("run") / "pairs").parent


def test_depth_that_is_not_valid_is_unknown(tmp_path: Path) -> None:
    frames = fit(Hypersim(hypersim(tmp_path))[1], 16, "area")
    assert frames.image.shape == frames.next_image.shape == (1, 3, 16, 16)
    depth = frames.truth.depth[0]
    assert depth.isnan().sum() == 2
    assert depth[0, :2].isnan().all()
    assert depth[~depth.isnan()].unique().tolist() == [pytest.approx(2.001)]
    assert not frames.truth.flow_valid.any()
    assert not frames.truth.visible.any()
    assert frames.truth.normals is None


@pytest.mark.parametrize("interpolation", ["area", "bilinear", "nearest-exact"])
def test_pictures_and_prompts_are_resized_as_the_pipeline_does(tmp_path: Path, interpolation: str) -> None:
    sample = Pix2Gestalt(pix2gestalt(tmp_path), appearance=True)[0]
    frames = fit(sample, SIZE, interpolation)
    height, width = sample.image.shape[:2]
    (instance,) = sample.instances

    class Asked:
        image, next_image, visible_masks = sample.image, None, {1: instance.visible}

    pictures = [Picture("image", interpolation), Picture("visible_mask", "nearest", 1)]
    views = [View(Asked(), picture, Geometry(height, width, SIZE), None) for picture in pictures]  # type: ignore[arg-type]
    image, prompt = render(views, CPU)
    torch.testing.assert_close(frames.image[0] * 2 - 1, image)
    assert torch.equal(frames.truth.visible[0].float() * 2 - 1, prompt[0])
    assert (frames.truth.amodal | ~frames.truth.visible).all()
    assert frames.truth.appearance is not None
    inside = frames.truth.appearance[0, :, 12, 8]
    torch.testing.assert_close(inside, torch.tensor([0, 200 / 255, 0]))


def test_flow_is_in_pixels_of_the_square(tmp_path: Path) -> None:
    """16x12 pixels become 48x48: three times as wide, four times as high."""
    frames = fit(FlyingChairs(chairs(tmp_path))[1], 48, "bilinear")
    truth = frames.truth
    assert truth.flow_valid.sum() == 48 * 48 - 3 * 4
    assert truth.flow[0, 0][truth.flow_valid[0]].unique().tolist() == [6]
    assert truth.flow[0, 1][truth.flow_valid[0]].unique().tolist() == [8]
    assert truth.flow[0, :, :4, :3].isnan().all()
    assert not torch.equal(frames.image, frames.next_image)


def test_targets_of_the_released_encodings(tmp_path: Path) -> None:
    """Displacements in pixels of the reference frame, the object's picture, depth between its quantiles."""
    config = plain(official(tmp_path))
    questions = ask(config, tmp_path)
    flow = questions["flow"]
    assert flow.target.images.shape[1:] == (2, 3, SIZE, SIZE)
    # One pixel of sixteen columns and of twelve rows, in frames of 512x384 pixels.
    known = flow.target.images[0][..., flow.target.valid[0]]
    torch.testing.assert_close(known, torch.full_like(known, 32 / 75))
    amodal = questions["amodal"]
    assert amodal.target.valid.all()
    colours = amodal.target.images[0, 0, :, 10, 8]
    torch.testing.assert_close(colours, torch.tensor([-1, 200 / 127.5 - 1, -1]))
    assert (amodal.target.images[0, 0, :, -1] == 1).all()
    assert (~questions["depth"].target.valid[0]).any()


@pytest.mark.parametrize(
    ("reader", "folder", "task"),
    [
        (Hypersim, "Hypersim_small", "depth"),
        (FlyingChairs, "FlyingChairs_small", "flow"),
        (lambda path: Pix2Gestalt(path, appearance=True), "Pix2Gestalt_small", "amodal"),
    ],
)
def test_real_samples(reader: Callable[[Path], IndexedDataset], folder: str, task: str) -> None:
    config = tiny()
    dataset = reader(shared("toy_data", folder))
    source = DatasetSource(dataset, SIZE, threads=2, device=CPU)
    frames = source.read(np.array([2, 0, 2]), config.tasks[task].encoding())
    source.close()
    assert torch.equal(frames.image[0], frames.image[2])
    assert not torch.equal(frames.image[0], frames.image[1])
    sample = dataset[2]
    assert frames.image[0].mean() == pytest.approx(sample.image.mean() / 255, abs=0.01)
    truth = frames.truth
    known = {
        "depth": ~truth.depth.isnan(),
        "flow": truth.flow_valid,
        "amodal": truth.amodal & ~truth.visible,
    }
    assert known[task].flatten(1).any(dim=1).all()
    if truth.appearance is not None:
        assert (truth.appearance[0][:, ~truth.amodal[0]] > 0.9).float().mean() > 0.95


def test_sources_are_mixed_by_their_shares(tmp_path: Path, pairs: Path) -> None:
    sources = SCENES, SourceConfig("hypersim", hypersim(tmp_path), ("depth",), share=3)
    config = plain(drawing_from(tiny(batch_size=400), *sources))
    questions = ask(config, pairs)
    depth = questions["depth"].truth.depth
    from_files = (depth.isnan() | ((depth - 2).abs() < 0.01)).flatten(1).all(dim=1)
    assert from_files.float().mean() == pytest.approx(0.75, abs=0.1)
    # Neither source has the first questions, which are those at t = T, to itself.
    assert from_files[:50].float().mean() == pytest.approx(0.75, abs=0.2)
    unmixed = ask(plain(tiny(batch_size=400)), pairs)
    assert {"amodal", "flow"} < questions.keys()
    assert questions["flow"].truth.flow_valid.any(dim=(1, 2)).all()
    assert questions["amodal"].image.shape == unmixed["amodal"].image.shape


def test_a_mixed_step_has_one_batch(tmp_path: Path, pairs: Path) -> None:
    config = drawing_from(tiny(), SCENES, SourceConfig("hypersim", hypersim(tmp_path)))
    first, again, other = ask(config, pairs, 5), ask(config, pairs, 5), ask(config, pairs, 6)
    for name, questions in first.items():
        assert torch.equal(questions.image, again[name].image)
        assert torch.equal(questions.target.images, again[name].target.images)
        assert not torch.equal(questions.image, other[name].image)


def test_scenes_alone_are_drawn_as_without_other_sources(tmp_path: Path, pairs: Path) -> None:
    config = drawing_from(tiny(), SCENES, SourceConfig("chairs", chairs(tmp_path), ("flow",)))
    mixed, alone = ask(config, pairs), ask(tiny(), pairs)
    assert torch.equal(mixed["depth"].image, alone["depth"].image)
    assert not torch.equal(mixed["flow"].image, alone["flow"].image)


def test_normals_from_files(tmp_path: Path) -> None:
    """Nothing is rendered for a run that does not draw from scenes."""
    source = SourceConfig("hypersim", hypersim(tmp_path / "data", normals=True))
    config = plain(drawing_from(only(seeing_normals(tiny()), "depth", "normals"), source))
    normals = ask(config, tmp_path)["normals"]
    known = normals.target.images[:, 0].permute(0, 2, 3, 1)[normals.target.valid]
    assert known.unique(dim=0).tolist() == [[0, -1, 0]]
    assert not normals.target.valid.all()
    assert not (tmp_path / "pairs").exists()


def curve(out: Path) -> list[dict[str, str]]:
    with (out / "losses.csv").open(newline="") as file:
        return [{k: v for k, v in row.items() if k != "minutes"} for row in csv.DictReader(file)]


def test_a_mixed_run_resumes_to_the_same_loss_curve(tmp_path: Path, pairs: Path) -> None:
    sources = (
        SCENES,
        SourceConfig("hypersim", hypersim(tmp_path / "hypersim"), ("depth",)),
        SourceConfig("chairs", chairs(tmp_path / "chairs"), ("flow",), share=2),
        SourceConfig("pix2gestalt", pix2gestalt(tmp_path / "pix2gestalt")),
    )
    config = drawing_from(tiny(steps=6), *sources)
    data, report = replace(config.data, folder=pairs / "pairs"), replace(config.report, log=1, checkpoint=1, sheet=6)
    config = replace(config, data=data, report=replace(report, validation=6))
    train(config, tmp_path / "whole")
    outcome = train(replace(config, max_minutes=1e-6), tmp_path / "parts")
    assert (outcome.step, outcome.reason) == (1, "time")
    train(config, tmp_path / "parts", resume=True)
    assert len(curve(tmp_path / "whole")) == 6
    assert curve(tmp_path / "parts") == curve(tmp_path / "whole")


def official(folder: Path) -> GeneralistConfig:
    """A run on the three datasets with the released encodings, without any scenes."""
    sources = (
        SourceConfig("hypersim", hypersim(folder / "hypersim")),
        SourceConfig("chairs", chairs(folder / "chairs")),
        SourceConfig("pix2gestalt", pix2gestalt(folder / "pix2gestalt")),
    )
    config = drawing_from(tiny(flow_reference_size=(512, 384)), *sources)
    tasks = {
        name: replace(
            config.tasks[name],
            kind=encoding.kind,
            labels=encoding.labels,
            image_interpolation=encoding.image_interpolation,
            parameters=encoding.parameters,
            weight=1.0,
        )
        for name, encoding in released_encodings(1005).items()
    }
    return replace(config, tasks=tasks, data=replace(config.data, pairs=0))


def cost(config: GeneralistConfig, checkpoint: Path) -> float:
    """The diffusion loss of a checkpoint on the first batches, with the same noise for all checkpoints."""
    loss = replace(config.loss, one_step_share=0.0)
    stage = make_stage(replace(config, model=replace(config.model, init=checkpoint), loss=loss), CPU)
    sources = open_sources(config, checkpoint, 0, CPU)
    batches, rng, losses = Batches(config, sources), np.random.default_rng(0), stage.losses()
    with torch.no_grad():
        parts = [losses(stage.network, batches.make(step, 0), rng)[1] for step in range(6)]
    for source in sources:
        source.close()
    return float(np.mean([value.item() for part in parts for name, value in part.items() if "diffusion" in name]))


def test_fine_tuning_a_checkpoint_in_the_released_format(tmp_path: Path, stable_diffusion: Path) -> None:
    """The KL autoencoder, the released targets and nothing but the official datasets."""
    write_official(tmp_path / "dit_moe_generalist.pt")
    released = PerceptionPipeline.from_official(
        tmp_path / "dit_moe_generalist.pt", stable_diffusion, num_attention_heads=4
    )
    released.save_pretrained(tmp_path / "generalist")
    settings = YAML(typ="safe").load((CONFIGS / "tiny.yaml").read_text())
    config = official(tmp_path)
    settings |= {
        "resolution": released.metadata.resolution,
        "steps": 40,
        "flow_reference_size": [512, 384],
        "model": {**SMALL, "patch_size": 2, "init": str(tmp_path / "generalist")},
        "diffusion": {"prediction_type": "v_prediction"},
        "data": {"sources": [{"kind": s.kind, "path": str(s.path)} for s in config.data.sources]},
        "tasks": {
            name: {
                "share": 0.3,
                "kind": encoding.kind,
                "labels": list(encoding.labels),
                "image_interpolation": encoding.image_interpolation,
                "parameters": dict(encoding.parameters),
            }
            for name, encoding in released.metadata.tasks.items()
        },
        "optimizer": {"learning_rate": 0.003, "final_ratio": 0.3, "warmup_steps": 2, "ema": 0.9},
        "report": {
            "log": 10,
            "checkpoint": 40,
            "validation": 40,
            "validation_scenes": 2,
            "inference_steps": [1],
            "sheet": 40,
        },
    }
    with (tmp_path / "run.yaml").open("w") as file:
        YAML().dump(settings, file)
    run = generalist(tmp_path / "run.yaml")
    train(run, tmp_path / "out")
    assert cost(run, tmp_path / "out" / "last") < 0.9 * cost(run, tmp_path / "generalist")
    tuned = PerceptionPipeline.from_pretrained(tmp_path / "out" / "last")
    assert tuned.metadata.tasks == released.metadata.tasks
    assert tuned.metadata.flow_reference_size == (512, 384)
    assert tuned.codec.name == "AutoencoderKL"
    assert tuned.transformer.config.out_channels == released.transformer.config.out_channels
    weights = released.transformer.state_dict()
    assert any((value != weights[name]).any() for name, value in tuned.transformer.state_dict().items())
    dataset = Pix2Gestalt(tmp_path / "pix2gestalt")
    assert "amodal" in evaluate(predict_with(tuned, SamplingSettings()), dataset, tuned.metadata.tasks).method


def write_config(folder: Path, **data: object) -> Path:
    values = YAML(typ="safe").load((CONFIGS / "tiny.yaml").read_text())
    values["data"] |= data
    path = folder / "run.yaml"
    with path.open("w") as file:
        YAML().dump(values, file)
    return path


def test_scenes_are_the_source_of_files_that_name_none(tmp_path: Path) -> None:
    assert tiny().data.sources == (SCENES,)
    listed = load_config(write_config(tmp_path, sources=[{"kind": "scenes"}, {"kind": "chairs", "path": "x"}]))
    assert listed.sources() == {"depth": (0,), "amodal": (0,), "flow": (0, 1)}


@pytest.mark.parametrize(
    ("sources", "sentence"),
    [
        ([{"kind": "kitti", "path": "x"}], "data.sources[0]: the kind 'kitti' is unknown; use one of scenes, hypersim"),
        ([{"kind": "chairs"}], "data.sources[0]: chairs needs a path"),
        ([{"kind": "scenes", "path": "x"}], "data.sources[0]: scenes are rendered and have no path"),
        ([{"kind": "scenes", "share": 0}], "share is 0.0; give a number above 0"),
        ([{"kind": "hypersim", "path": "x"}], "none of data.sources serves task 'amodal'; add one, such as scenes"),
        ([{"kind": "scenes", "tasks": ["depth", "flow"]}], "none of data.sources serves task 'amodal'"),
        (
            [{"kind": "scenes", "tasks": ["normals"]}],
            "data.sources[0] is for task 'normals', which the run does not have",
        ),
        (
            [{"kind": "scenes"}, {"kind": "chairs", "path": "x", "tasks": ["depth"]}],
            "data.sources[1] cannot serve task 'depth': chairs knows no depth; leave the task out there.",
        ),
        ([], "none of data.sources serves task 'depth'"),
    ],
)
def test_impossible_sources_are_refused(tmp_path: Path, sources: list[object], sentence: str) -> None:
    with pytest.raises(InputError) as error:
        load_config(write_config(tmp_path, sources=sources))
    assert sentence in str(error.value)
    assert "\n" not in str(error.value)


def test_hidden_parts_can_only_be_learned_where_they_are_known() -> None:
    config = tiny()
    amodal = replace(config.tasks["amodal"], kind="rgb_on_white", parameters={"threshold": 230.0})
    with pytest.raises(InputError, match="serves task 'amodal'; add one, such as pix2gestalt"):
        replace(config, tasks={**config.tasks, "amodal": amodal})


@pytest.mark.parametrize(
    ("missing", "sentence"),
    [
        ("chairs/data/00001_img2.ppm", "00001_img2.ppm is missing"),
        ("hypersim/val/ai_2/depth.png", "depth.png is missing"),
        ("pix2gestalt/whole/5_whole.png", "5_whole.png is missing"),
    ],
)
def test_missing_files_are_named_before_training_starts(tmp_path: Path, missing: str, sentence: str) -> None:
    config = official(tmp_path)
    (tmp_path / missing).unlink()
    with pytest.raises(InputError, match=sentence):
        train(config, tmp_path / "out")
    assert not (tmp_path / "out" / "losses.csv").exists()


def test_a_missing_folder_is_named(tmp_path: Path) -> None:
    config = drawing_from(tiny(), SCENES, SourceConfig("chairs", tmp_path / "nowhere"))
    with pytest.raises(InputError, match="nowhere/data does not exist; name the folder that holds the dataset"):
        train(config, tmp_path / "out")


def test_a_file_that_is_damaged_later_ends_the_run_with_a_sentence(tmp_path: Path) -> None:
    config = official(tmp_path)
    for path in (tmp_path / "pix2gestalt" / "occlusion").iterdir():
        path.write_bytes(path.read_bytes()[:100])
        with pytest.raises(InputError):
            read_picture(path)
    with pytest.raises(InputError, match=r"occlusion\.png is not a picture, or is damaged"):
        train(config, tmp_path / "out")
