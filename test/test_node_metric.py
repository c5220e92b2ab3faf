from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from diffusion_perception_ros.msg import PerceptionStatus
from node_rig import (
    FAILURE,
    PERIOD,
    SECOND,
    START,
    BrightnessPipeline,
    Rig,
    camera_info,
    floats,
    image_message,
    picture,
    stamped,
    stamps,
)
from numpy.typing import NDArray
from sensor_msgs.msg import CameraInfo, Image

from diffusion_perception_ros.conversions import MetricState
from diffusion_perception_ros.model.metadata import TargetEncoding

MakeRig = Callable[..., Rig]
SIZE = (24, 32)


def relative(stamp: int) -> NDArray[Any]:
    return picture(stamp, *SIZE)[..., 0].astype(np.float32) / 255


def metres(stamp: int) -> NDArray[Any]:
    return np.asarray(3 * relative(stamp) + 1, np.float32)


class Metric:
    """A rig that publishes frames with references."""

    def __init__(self, rig: MakeRig, *arguments: str) -> None:
        self.rig = rig("-p", "depth.scale_source:=reference", *arguments).up()
        self.depth = self.rig.subscribe("/depth/image", Image)
        self.infos = self.rig.subscribe("/depth/camera_info", CameraInfo)
        self.status = self.rig.subscribe("/status", PerceptionStatus)

    def frame(self, stamp: int, reference: Any = None) -> Any:
        """The status after a frame; its reference comes first."""
        if reference is not None:
            before = self.rig.node._cameras[0].inputs.all[-1].received
            self.rig.publish("/depth_reference", reference)
            self.rig.wait(lambda: self.rig.node._cameras[0].inputs.all[-1].received > before)
        before = len(self.status)
        self.rig.image(stamp, picture(stamp, *SIZE))
        self.rig.wait(lambda: len(self.status) > before)
        return self.status[-1]


def test_metres_only_while_a_reference_vouches_for_them(rig: MakeRig) -> None:
    m = Metric(rig)
    m.rig.publish("/camera/camera_info", camera_info(START, *SIZE))
    assert m.frame(START).metric_state == MetricState.NO_REFERENCE
    assert not m.depth
    assert m.rig.diagnostics()["metric depth"].level == b"\1"

    stamp = START + PERIOD
    status = m.frame(stamp, image_message(stamp, metres(stamp), "32FC1"))
    assert status.metric_state == MetricState.TRUSTED
    assert status.depth_scale == pytest.approx(3, rel=1e-3)
    assert status.depth_shift == pytest.approx(1, rel=1e-3)
    assert status.depth_inlier_ratio == pytest.approx(1)
    assert status.reference_age == 0
    m.rig.wait(lambda: len(m.depth) == len(m.infos) == 1)
    np.testing.assert_allclose(floats(m.depth[0]), metres(stamp), rtol=1e-4)
    assert stamps(m.depth) == stamps(m.infos) == [stamp]
    assert list(m.infos[0].k) == [100.0, 0, 4, 0, 100, 3, 0, 0, 1]
    assert m.rig.diagnostics()["metric depth"].level == b"\0"

    status = m.frame(stamp + SECOND)
    assert status.metric_state == MetricState.STALE
    assert status.reference_age == pytest.approx(1)
    assert np.isnan(status.depth_scale)

    stamp += 2 * SECOND
    nonsense = np.random.default_rng(0).uniform(0.5, 20, SIZE).astype(np.float32)
    assert m.frame(stamp, image_message(stamp, nonsense, "32FC1")).metric_state == MetricState.POOR_FIT
    assert len(m.depth) == len(m.infos) == 1


def test_a_sparse_reference_in_millimetres_with_outliers_is_enough(rig: MakeRig) -> None:
    m = Metric(rig)
    random = np.random.default_rng(0)
    reference = np.zeros(SIZE, np.uint16)
    known = random.random(SIZE) < 0.3
    reference[known] = np.rint(1000 * metres(START)[known])
    reference[known & (random.random(SIZE) < 0.3)] = 9000
    assert m.frame(START, image_message(START, reference, "16UC1")).metric_state == MetricState.TRUSTED
    m.rig.wait(lambda: m.depth)
    np.testing.assert_allclose(floats(m.depth[0]), metres(START), rtol=0.02)
    assert not m.infos  # there is no calibration


@pytest.mark.parametrize("shape", [(3, 3), (48, 64)])
def test_a_reference_of_another_size_is_refused(rig: MakeRig, shape: tuple[int, int]) -> None:
    m = Metric(rig)
    status = m.frame(START, image_message(START, np.ones(shape, np.float32), "32FC1"))
    assert status.metric_state == MetricState.POOR_FIT
    m.rig.wait(lambda: any("register it to the image" in log for log in m.rig.logs))
    assert m.rig.drops == {"reference_size_mismatch": 1}
    assert not m.depth


def test_what_a_reference_does_not_vouch_for_is_nan(rig: MakeRig) -> None:
    m = Metric(rig)
    reference = metres(START)
    reference[reference > 2.5] = np.nan  # out of the sensor's range
    assert m.frame(START, image_message(START, reference, "32FC1")).metric_state == MetricState.TRUSTED
    m.rig.wait(lambda: m.depth)
    published = floats(m.depth[0])
    far = metres(START) > 2.5 * 1.3
    assert far.any()
    assert np.isnan(published[far]).all()
    near = metres(START) < 2.5
    np.testing.assert_allclose(published[near], metres(START)[near], rtol=1e-3)


def test_a_calibration_for_another_size_is_withheld(rig: MakeRig) -> None:
    m = Metric(rig)
    m.rig.publish("/camera/camera_info", camera_info(START, 480, 640))
    m.frame(START, image_message(START, metres(START), "32FC1"))
    m.rig.wait(lambda: any("depth/camera_info is withheld" in log for log in m.rig.logs))
    m.rig.wait(lambda: m.depth)
    assert not m.infos


def test_no_metres_unless_asked_for(rig: MakeRig) -> None:
    r = rig().up()
    depth, status = r.subscribe("/depth/image", Image), r.subscribe("/status", PerceptionStatus)
    r.subscribe("/depth/relative", Image)
    r.publish("/depth_reference", stamped(image_message(START, metres(START), "32FC1"), START))
    r.image(START, picture(START, *SIZE))
    r.wait(lambda: status)
    assert status[0].metric_state == MetricState.OFF
    assert not depth


def test_metres_from_a_checkpoint_that_knows_them(rig: MakeRig) -> None:
    pipe = BrightnessPipeline()
    encoding = TargetEncoding("log_metric", (1000,), parameters={"log_range": 2.0, "middle": 5.0})
    pipe.metadata = replace(pipe.metadata, tasks={**pipe.metadata.tasks, "depth": encoding})
    r = rig("-p", "depth.scale_source:=checkpoint", pipe=pipe).up()
    depth, infos = r.subscribe("/depth/image", Image), r.subscribe("/depth/camera_info", CameraInfo)
    status = r.subscribe("/status", PerceptionStatus)
    r.publish("/camera/camera_info", camera_info(START, *SIZE))
    r.image(START, picture(START, *SIZE))
    r.wait(lambda: depth and infos and status)
    np.testing.assert_array_equal(floats(depth[0]), 10 * relative(START))
    assert stamps(depth) == stamps(infos) == [START]
    assert status[0].metric_state == MetricState.TRUSTED
    assert r.diagnostics()["metric depth"].level == b"\0"


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("depth.scale_source:=checkpoint",), "predicts relative depth"),
        (("depth.scale_source:=reference", "tasks:=flow"), "depth is not among the tasks"),
    ],
)
def test_what_can_never_give_metres_fails_configure(rig: MakeRig, arguments: tuple[str, ...], words: str) -> None:
    r = rig(*(text for argument in arguments for text in ("-p", argument)))
    assert r.node.trigger_configure() == FAILURE
    r.wait(lambda: any(words in log for log in r.logs))
