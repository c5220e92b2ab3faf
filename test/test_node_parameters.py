from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from diffusion_perception_ros.msg import PerceptionStatus
from node_rig import FAILURE, IMAGE_TOPIC, PERIOD, START, SUCCESS, Rig
from sensor_msgs.msg import Image

from diffusion_perception_ros.errors import InputError
from diffusion_perception_ros.ros.parameters import BY_NAME, DECLARATIONS, markdown_table
from diffusion_perception_ros.ros.settings import settings_from

MakeRig = Callable[..., Rig]
ROOT = Path(__file__).resolve().parent.parent


def values(**changes: Any) -> dict[str, Any]:
    return {d.name: d.default for d in DECLARATIONS} | {
        name.replace("__", "."): value for name, value in changes.items()
    }


def test_the_documented_table_is_the_declared_one() -> None:
    header = markdown_table().splitlines()[0]
    documents = [path for path in (*ROOT.glob("docs/*.md"), ROOT / "README.md") if header in path.read_text("utf-8")]
    assert ROOT / "docs" / "node.md" in documents
    for path in documents:
        assert markdown_table() in path.read_text("utf-8"), f"put this into {path.name}:\n{markdown_table()}"


def test_defaults_are_usable_and_documented() -> None:
    settings = settings_from(values())
    assert settings.tasks is None
    assert settings.max_rate is None
    assert settings.sampling.sampler is None
    for declaration in DECLARATIONS:
        assert declaration.read(declaration.default) == declaration.default
        assert declaration.description.endswith(".")


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"max_rate": "fast"}, "must be of type double"),
        ({"max_rate": -1.0}, "must be from 0 to 1000"),
        ({"max_rate": float("nan")}, "must be from 0 to 1000"),
        ({"ensemble_size": True}, "must be of type integer"),
        ({"ensemble_size": 2.0}, "must be of type integer"),
        ({"dtype": "int8"}, "float32 or bfloat16 or float16"),
        ({"tasks": []}, "list of names"),
        ({"tasks": ["all", "depth"]}, "must be either"),
        ({"checkpoint": "generalist.pt"}, "needs its codec"),
        ({"stable_diffusion": "/sd"}, "brings its own codec"),
        ({"compile": True, "budget_ms": 20.0}, "compile needs batches of few sizes"),
        ({"pairing": "topics", "flow_pair": "last_processed"}, "needs pairing 'consecutive'"),
    ],
)
def test_unusable_values_are_one_sentence(changes: dict[str, Any], words: str) -> None:
    with pytest.raises(InputError, match=words) as error:
        settings_from(values(**changes))
    assert "\n" not in str(error.value)
    assert next(iter(changes)) in str(error.value)


def test_lists_and_whole_numbers_are_read_leniently() -> None:
    settings = settings_from(values(tasks="flow, depth,flow", max_rate=10))
    assert settings.tasks == ("flow", "depth")
    assert settings.max_rate == 10.0


def test_declared_with_type_range_and_description(rig: MakeRig) -> None:
    r = rig()
    for declaration in DECLARATIONS:
        descriptor = r.node.describe_parameter(declaration.name)
        assert descriptor.description == declaration.description
        assert descriptor.read_only == declaration.read_only
        assert not descriptor.dynamic_typing
        assert r.node.get_parameter(declaration.name).value == declaration.default
        assert bool(len(descriptor.integer_range) + len(descriptor.floating_point_range)) == declaration.has_range
    assert {d.name for d in DECLARATIONS if d.read_only} == {
        "checkpoint", "stable_diffusion", "codec", "decoder", "device", "dtype", "compile", "cameras",
    }  # fmt: skip
    assert r.node.describe_parameter("seed").integer_range[0].to_value == 2**63 - 1


@pytest.mark.parametrize(
    ("argument", "repair"),
    [
        ("max_rate:=abc", {"max_rate": 5.0}),
        ("ensemble_size:=0", {"ensemble_size": 1}),
        ("pairing:=sometimes", {"pairing": "topics"}),
        ("sampler:=euler", {"sampler": "one_step"}),
        ("tasks:=[depth, telepathy]", {"tasks": ["depth"]}),
        ("lazy:=1", {"lazy": False}),
    ],
)
def test_an_unusable_override_fails_configure_until_it_is_set(
    rig: MakeRig, argument: str, repair: dict[str, Any]
) -> None:
    r = rig("-p", argument)
    assert r.node.trigger_configure() == FAILURE
    name = argument.partition(":=")[0].removesuffix("s")
    r.wait(lambda: any(log.startswith("configure failed: ") and name in log for log in r.logs))
    assert r.set(**repair) == (True, "")
    assert r.node.trigger_configure() == SUCCESS


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"checkpoint": "other"}, "read-only"),
        ({"max_rate": 5}, "type"),
        ({"max_rate": 5000.0}, "range"),
        ({"resize": "crop"}, "squash or letterbox"),
        ({"sampler": "one_step", "ensemble_size": 3}, "deterministic"),
        ({"num_inference_steps": 1000, "sampler": "one_step"}, "exactly one step"),
        ({"pairing": "topics"}, "not active"),
        ({"tasks": ["depth", "normals"]}, "normals"),
        ({"use_sim_time": 1}, "type"),
    ],
)
def test_a_set_is_rejected_whole_with_a_reason(rig: MakeRig, changes: dict[str, Any], words: str) -> None:
    r = rig().up()
    before = {name: r.node.get_parameter(name).value for name in (*BY_NAME, "use_sim_time")}
    settings = r.node._choices.settings
    successful, reason = r.set(max_input_age=3.0, **changes)
    assert not successful
    assert words in reason
    assert "\n" not in reason
    assert {name: r.node.get_parameter(name).value for name in before} == before
    assert r.node._choices.settings == settings


def test_a_set_is_applied_whole_to_the_next_frame(rig: MakeRig) -> None:
    r = rig().up()
    status = r.subscribe("/status", PerceptionStatus)
    r.subscribe("/depth/relative", Image)
    r.image(START)
    r.wait(lambda: len(status) == 1)
    assert r.set(ensemble_size=3, num_inference_steps=4, sampler="ddim_trailing") == (True, "")
    r.image(START + PERIOD)
    r.wait(lambda: len(status) == 2)
    assert (status[1].ensemble_size, list(status[1].num_inference_steps)) == (3, [4])
    assert r.node.trigger_deactivate() == SUCCESS
    assert r.set(pairing="topics") == (True, "")
    assert r.node.trigger_activate() == SUCCESS
    r.wait(lambda: r.tester.count_subscribers("/image_next") == 1)


def test_overrides_of_quality_of_service_are_there_once_it_is_configured(rig: MakeRig) -> None:
    r = rig("-p", f"qos_overrides.{IMAGE_TOPIC}.subscription.reliability:=reliable")
    assert r.node.trigger_configure() == SUCCESS
    inputs = (IMAGE_TOPIC, "/camera/camera_info", "/visible_masks", "/depth_reference")
    names = [f"qos_overrides.{topic}.subscription" for topic in inputs] + ["qos_overrides./flow.publisher"]
    found = {
        name: [r.node.get_parameter(f"{name}.{policy}").value for policy in ("history", "depth", "reliability")]
        for name in names
    }
    assert found.pop(names[0]) == ["keep_last", 5, "reliable"]
    assert found.pop(names[-1]) == ["keep_last", 1, "reliable"]
    assert list(found.values()) == [["keep_last", 5, "best_effort"]] * 3
    assert r.node.trigger_activate() == SUCCESS


@pytest.mark.parametrize(
    ("name", "value"),
    [
        (f"{IMAGE_TOPIC}.subscription.reliability", "certain"),
        (f"{IMAGE_TOPIC}.subscription.history", "7"),
        ("/depth_reference.subscription.depth", "0"),
        ("/depth_reference.subscription.depth", "many"),
        ("/depth/relative.publisher.reliability", "certain"),
        ("/depth/relative.publisher.depth", "1.5"),
    ],
)
def test_an_unusable_override_of_quality_of_service_fails_configure(rig: MakeRig, name: str, value: str) -> None:
    r = rig("-p", f"qos_overrides.{name}:={value}")
    assert r.node.trigger_configure() == FAILURE
    r.wait(lambda: any(f"configure failed: qos_overrides.{name} is " in log for log in r.logs))


def test_another_codec_and_decoders_that_are_not_there(rig: MakeRig, tmp_path: Path) -> None:
    r = rig("-p", f"codec:={tmp_path}", load=True)
    assert r.node.trigger_configure() == FAILURE
    r.wait(lambda: any(str(tmp_path) in log for log in r.logs))
    r = rig("-p", "decoder:=latent", load=True)
    assert r.node.trigger_configure() == FAILURE
    r.wait(lambda: any("there is no decoder 'latent' in it; use full" in log for log in r.logs))
