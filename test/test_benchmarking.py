"""Times, memory and rooflines; not how large they are."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from diffusion_perception_ros import cli
from diffusion_perception_ros.benchmarking import measure as measure_module
from diffusion_perception_ros.benchmarking.clip import Clip
from diffusion_perception_ros.benchmarking.configuration import Configuration, combine, random_sizes
from diffusion_perception_ros.benchmarking.measure import Effort, Streams
from diffusion_perception_ros.benchmarking.memory import WorkingMemory
from diffusion_perception_ros.benchmarking.models import Models
from diffusion_perception_ros.benchmarking.random_generalist import random_generalist
from diffusion_perception_ros.benchmarking.released import ReleasedPipeline
from diffusion_perception_ros.benchmarking.roofline import Peaks, Work, stage_work
from diffusion_perception_ros.benchmarking.table import number
from diffusion_perception_ros.errors import InputError
from diffusion_perception_ros.model.decoders import LatentDecoder
from diffusion_perception_ros.model.flops import transformer_flops
from diffusion_perception_ros.model.random import random_codec
from diffusion_perception_ros.pipeline import PerceptionPipeline

CPU = torch.device("cpu")


def configuration(**changes: Any) -> Configuration:
    values: dict[str, Any] = {
        "checkpoint": "embedded",
        "resolution": None,
        "tasks": ("depth", "flow", "amodal"),
        "steps": 1,
        "dtype": "float32",
        "codec": "own",
        "compiled": False,
    }
    return Configuration(**{**values, **changes})


@pytest.mark.parametrize(
    ("config", "options"),
    [
        ({}, {"num_inference_steps": 3}),
        ({}, {"sampler": "one_step_genpercept", "num_inference_steps": 1}),
        ({"num_experts": 0}, {}),
        (None, {}),
    ],
)
def test_the_released_way_predicts_the_same(config: dict[str, Any] | None, options: dict[str, Any]) -> None:
    """Or its time would say nothing; also of the embedded checkpoint, which has convolutions besides."""
    pipe = PerceptionPipeline.embedded("cpu") if config is None else PerceptionPipeline.random(64, **config)
    clip = Clip(64, 48, 2)
    arguments = clip.arguments(0, ("flow", "amodal"))
    ours, theirs = pipe(*arguments, **options), ReleasedPipeline(pipe, pipe.codec)(*arguments, **options)
    assert ours.depth_relative is not None
    assert np.std(ours.depth_relative) > 1e-3
    assert {name: value < 1e-3 for name, value in measure_module.difference(ours, theirs).items()} == dict.fromkeys(
        ("depth", "flow", "amodal"), True
    )
    assert measure_module.difference(ours, theirs)["depth"] < 1e-5


def test_the_released_way_encodes_and_decodes_every_picture_for_each_image() -> None:
    """Depth, dx, dy and an object: eight encodings, four decodings, four forward passes of one sample a step."""
    pipe = PerceptionPipeline.random(64)
    codec = random_codec()
    counts = {"encode": 0, "decode": 0}

    def counted(name: str) -> Any:
        own = getattr(codec, name)

        def call(x: torch.Tensor) -> torch.Tensor:
            counts[name] += len(x)
            result: torch.Tensor = own(x)
            return result

        return call

    for name in counts:
        setattr(codec, name, counted(name))
    ReleasedPipeline(pipe, codec)(*Clip(64, 48, 1).arguments(0, ("flow", "amodal")))
    assert counts == {"encode": 8, "decode": 4}


def test_rounds_measure_each_frame_of_all() -> None:
    group = [configuration(), configuration(dtype="bfloat16")]
    models = Models("embedded", None, ["float32", "bfloat16"], CPU)
    streams = Streams(models, Clip(64, 48, 1), CPU)
    # Of a turn at most four frames count.
    for effort, rounds in ((Effort(rounds=6, warm_up=2), 6), (Effort(rounds=6, seconds=0, warm_up=0), 4)):
        for measurement in streams.measure(group, effort, with_released=True):
            assert {len(values) for values in measurement.milliseconds.values()} == {rounds}
            spreads = measurement.spreads
            assert 0 < spreads["encode"].median + spreads["denoise"].median < spreads["total"].median
            # The next frame and the visible mask with its surroundings: the frame itself and the ones are known.
            assert measurement.pictures == 3
            assert measurement.ratio is not None
            assert measurement.ratio.count == rounds
            exact = measurement.configuration.dtype == "float32"
            assert (measurement.difference["flow"] < 1e-3) == exact
            assert measurement.memory is not None


def test_what_is_impossible_is_a_row_among_others(monkeypatch: pytest.MonkeyPatch) -> None:
    models = Models("embedded", None, ["float32"], CPU)

    def released(codec: str) -> Any:
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")

    monkeypatch.setattr(models, "released", released)
    streams = Streams(models, Clip(64, 48, 1), CPU)
    tiny, own = streams.measure([configuration(codec="tiny"), configuration()], Effort(1, warm_up=0), True)
    assert tiny.error is not None
    assert "3 x 4" in tiny.error
    assert own.error is None
    assert own.released_error == "out of memory"
    assert len(own.milliseconds["total"]) == 1


def test_other_resolutions_keep_the_weights() -> None:
    models = Models("embedded", 96, ["float32"], CPU)
    pipe = models.pipeline("float32", "own", False, "own")
    assert pipe.metadata.resolution == 96
    own = PerceptionPipeline.embedded("cpu").transformer.state_dict()
    same = pipe.transformer.state_dict()
    assert all(torch.equal(same[name], weight) for name, weight in own.items() if name != "pos_embed")
    output = pipe(Clip(64, 48, 1).frame(0))
    assert output.depth_relative is not None
    assert np.isfinite(output.depth_relative).all()
    with pytest.raises(InputError, match="choose 96"):
        Models("embedded", 100, ["float32"], CPU)


def test_random_generalists_are_made_in_their_type() -> None:
    sizes = random_sizes("random 2x64")
    assert sizes is not None
    transformer = random_generalist({**sizes, "sample_size": 8}, torch.bfloat16, CPU)
    assert {tensor.dtype for tensor in transformer.state_dict().values()} == {torch.bfloat16}
    assert all(parameter.std() > 0 for parameter in transformer.parameters())
    assert torch.get_default_dtype() == torch.float32
    assert transformer.kernel_of_label[1000:1004].tolist() == [0, 1, 2, 3]


@pytest.mark.parametrize(("size", "message"), [("12", "no size"), ("0x64", "no size"), ("2x70", "does not divide")])
def test_sizes_that_there_are_not(size: str, message: str) -> None:
    with pytest.raises(InputError, match=message):
        random_sizes(f"random {size}")


def test_combinations() -> None:
    rows = combine(["a", "b"], [None], [("depth",)], [1, 2], ["float32"], ["kl", "tiny"], [False])
    assert [(row.checkpoint, row.steps, row.codec) for row in rows[:5]] == [
        ("a", 1, "kl"),
        ("a", 1, "tiny"),
        ("a", 2, "kl"),
        ("a", 2, "tiny"),
        ("b", 1, "kl"),
    ]


def test_work_of_the_stages() -> None:
    """Weights once whatever the batch, activations and arithmetic for each of it."""
    pipe = PerceptionPipeline.random(64)
    one, three = (stage_work(pipe, n, n, steps=2) for n in (1, 3))
    for stage in ("encode", "denoise", "decode"):
        assert three[stage].flops == 3 * one[stage].flops
        assert one[stage].bytes < three[stage].bytes < 3 * one[stage].bytes
    assert one["denoise"].flops == 2 * transformer_flops(pipe.transformer)
    weights = 4 * sum(p.numel() for name, p in pipe.transformer.named_parameters() if "embedding_table" not in name)
    patches = 4 * 2 * 4 * 16 * (12 + 8) * 4  # a sample's latents, in and out, on 16 tokens at least
    assert one["denoise"].bytes > 2 * weights + patches


def test_a_convolution_by_hand() -> None:
    pipe = PerceptionPipeline.random(64)
    side = pipe.metadata.resolution
    conv = pipe.codec.vae.encoder.conv_in  # type: ignore[attr-defined]
    pipe.codec.encode = conv  # type: ignore[method-assign]
    work = stage_work(pipe, 1, 1, 1)["encode"]
    assert work.flops == 2 * 9 * 3 * 8 * side**2


def test_what_bounds_a_stage() -> None:
    peaks = Peaks(flops=1e12, bytes=1e9)
    assert (Work(1e9, 1e3).bound(peaks), Work(1e9, 1e3).fastest(peaks)) == ("compute", 1.0)
    assert (Work(1e3, 2e6).bound(peaks), Work(1e3, 2e6).fastest(peaks)) == ("memory", 2.0)
    assert Peaks(2, 1).best(Peaks(1, 2)) == Peaks(2, 2)


def test_the_peak_of_a_block_alone() -> None:
    memory = WorkingMemory(CPU)
    with memory:
        np.ones(40 * 2**20, np.uint8).sum()
    assert memory.peak is not None
    assert 35 * 2**20 < memory.peak < 60 * 2**20
    with memory:
        pass
    assert memory.peak < 5 * 2**20


def test_the_camera_pans_and_objects_stay() -> None:
    clip = Clip(64, 48, 3)
    assert sorted(np.unique(clip.visible_masks)) == [0, 1, 2, 3]
    first, second = clip.frame(0), clip.frame(1)
    moved = (clip.visible_masks[:, 3:] == 0) & (clip.visible_masks[:, :-3] == 0)
    assert np.array_equal(second[:, :-3][moved], first[:, 3:][moved])
    assert np.array_equal(first[clip.visible_masks > 0], second[clip.visible_masks > 0])
    assert clip.arguments(0, ("depth",))[1:] == (None, None)


def test_the_command_writes_what_it_prints(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "new" / "result.json"
    command = ["benchmark", "--device", "cpu", "--size", "64x48", "--rounds", "1", "--warm-up", "1", "--out", str(out)]
    assert cli.main([*command, "--codec", "own,tiny", "--reference"]) == 3
    printed = capsys.readouterr().out
    report = json.loads(out.read_text())
    own, tiny = report["rows"]
    assert own["released"]["ratio"]["median"] > 0
    assert own["roofline"]["stages"].keys() == {"denoise"}  # pixels are only moved by this codec
    assert own["frames_per_second"] == pytest.approx(1e3 / own["milliseconds"]["total"]["median"])
    assert own["memory"]["weights"] > 30e6
    assert "3 x 4" in tiny["error"]
    assert number(own["milliseconds"]["total"]["median"]) in printed
    assert "GFLOP" in printed
    assert report["machine"]["device_type"] == "cpu"


def test_the_command_refuses(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["benchmark", "--device", "cpu", "--codec", "kl", "--rounds", "1", "--json"]) == 2
    assert json.loads(capsys.readouterr().out)["rows"][0]["error"]
    assert cli.main(["benchmark", "--device", "cpu", "--decoder", "latent", "--rounds", "1"]) == 2
    printed = capsys.readouterr().out
    assert "no decoder 'latent'" in printed
    assert "roofline" not in printed
    for arguments in (["--dtype", "int8"], ["--compile", "maybe"], ["--steps", "0"]):
        with pytest.raises(SystemExit) as stopped:
            cli.main(["benchmark", *arguments])
        assert stopped.value.code == 2
    assert cli.main(["benchmark", "--random", "big"]) == 2
    assert "12x384" in capsys.readouterr().err


def test_decoders_take_turns(tmp_path: Path) -> None:
    """The released way has the codec's, so it predicts as the full one does."""
    pipe = PerceptionPipeline.random(64)
    labels = {name: list(pipe.metadata.tasks[name].labels) for name in ("depth", "flow")}
    pipe.decoder = LatentDecoder(tasks=labels, **LatentDecoder.sizes(pipe.transformer, pipe.codec))
    pipe.save_pretrained(tmp_path)
    models = Models(str(tmp_path), None, ["float32"], CPU)
    group = [configuration(checkpoint=str(tmp_path), decoder=decoder) for decoder in ("own", "full", "features")]
    streams = Streams(models, Clip(64, 48, 1), CPU)
    own, full, features = streams.measure(group, Effort(1, warm_up=0), with_released=True)
    assert models.pipeline(*own.configuration.model).decoding(1) == "AutoencoderKL, latent decoder"
    assert full.difference["flow"] < 1e-3 < own.difference["flow"]
    assert features.error is not None
    assert "no decoder 'features'" in features.error
