from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from replay_bags import (
    IMAGE_TOPIC,
    MASKS_TOPIC,
    PERIOD,
    SECOND,
    START,
    BrightnessPipeline,
    Outcome,
    Recorded,
    as_pipeline,
    camera,
    image,
    labels,
    masks,
    picture,
    read_bag,
    write_mcap,
)

from diffusion_perception_ros.conversions import amodal_overlay
from diffusion_perception_ros.predictions import AmodalInstance
from diffusion_perception_ros.replay import ReplaySettings, replay


def test_masks_find_their_frames_however_late(tmp_path: Path) -> None:
    frames = camera(30)
    # Recorded three seconds later, out of order, and not for every frame.
    late = [
        masks(START + i * PERIOD, labels(1, i + 2), START + i * PERIOD + 3 * SECOND - (i % 3) * SECOND)
        for i in range(0, 30, 2)
    ]
    outcome = Outcome(tmp_path, [*frames, *late], visible_masks_topic=MASKS_TOPIC)
    assert outcome.stamps("depth/relative") == [START + i * PERIOD for i in range(30)]
    assert (
        outcome.stamps("amodal/masks")
        == outcome.stamps("amodal/overlay")
        == [START + i * PERIOD for i in range(0, 30, 2)]
    )
    for i, read in zip(range(0, 30, 2), outcome.read("amodal/masks"), strict=True):
        assert [mask.id for mask in read.message.masks] == [1, i + 2]
        assert read.log_time == START + i * PERIOD + 5
        assert (read.message.height, read.message.width) == (6, 8)
    assert outcome.summary.masks == 30
    assert outcome.summary.exit_status == 0


def test_masks_of_a_looped_bag(tmp_path: Path) -> None:
    messages = []
    for loop in range(2):
        for i in range(3):
            stamp, recorded = START + i * SECOND, START + (10 * loop + i) * SECOND
            messages.append(Recorded(IMAGE_TOPIC, image(stamp, picture(i)), recorded))
            messages.append(masks(stamp, labels(10 * loop + i + 1), recorded + SECOND // 2))
    outcome = Outcome(tmp_path, messages, visible_masks_topic=MASKS_TOPIC, tasks=("amodal",))
    assert [read.message.masks[0].id for read in outcome.read("amodal/masks")] == [1, 2, 3, 11, 12, 13]


def test_label_images_in_any_order(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Further out of order than what is kept, all recorded at one time, and one stamp twice."""
    monkeypatch.setattr("diffusion_perception_ros.replay.masks._KEPT", 2)
    count = 12
    order = [11, 10, 9, 8, 0, 1, 2, 3, 7, 6, 5, 4]
    late = [
        masks(START + i * PERIOD, labels(i + 1), START + 10 * SECOND + (n // 4) * SECOND) for n, i in enumerate(order)
    ]
    late.append(masks(START + 3 * PERIOD, labels(99), START + 60 * SECOND))
    late.append(masks(START + 3, labels(98), START + 60 * SECOND))
    outcome = Outcome(tmp_path, [*camera(count), *late], visible_masks_topic=MASKS_TOPIC)
    assert [read.message.masks[0].id for read in outcome.read("amodal/masks")] == [i + 1 for i in range(count)]
    assert outcome.summary.omitted == {"masks_duplicate": 1, "masks_without_frame": 1}
    assert outcome.summary.exit_status == 0


def test_label_images_of_a_damaged_bag_are_read_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("diffusion_perception_ros.replay.masks._KEPT", 1)
    late = [masks(START + i * PERIOD, labels(i + 1), START + (10 - i) * SECOND) for i in reversed(range(6))]
    path = write_mcap(tmp_path / "cut.mcap", [*camera(6), *late], chunked=False)
    path.write_bytes(path.read_bytes()[:-50])
    settings = ReplaySettings(visible_masks_topic=MASKS_TOPIC)
    summary = replay(path, tmp_path / "out", as_pipeline(BrightnessPipeline()), settings)
    found = read_bag(tmp_path / "out")["/perception/amodal/masks"]
    assert [read.message.masks[0].id for read in found] == [1, 2, 3, 4, 5, 6]
    assert summary.omitted == {}


def test_a_label_image_with_a_malformed_stamp_is_skipped(tmp_path: Path) -> None:
    bad = masks(START, labels(1), START + 9)
    bad.message.header.stamp.nanosec = 2 * 10**9
    outcome = Outcome(tmp_path, [*camera(1), bad], visible_masks_topic=MASKS_TOPIC)
    assert outcome.summary.skipped == {"masks_undeserializable": 1}


def test_what_amodal_messages_hold(tmp_path: Path) -> None:
    array = labels(0, 7)
    outcome = Outcome(tmp_path, [*camera(1), masks(START, array, START + 9)], visible_masks_topic=MASKS_TOPIC)
    (mask,) = outcome.read("amodal/masks")[0].message.masks
    box = mask.amodal_box
    assert (box.x_offset, box.y_offset, box.width, box.height) == (2, 1, 3, 5)
    np.testing.assert_array_equal(mask.mask.data, np.full(15, 255))
    overlay = outcome.read("amodal/overlay")[0].message
    instance = AmodalInstance(7, array == 7, np.logical_or.accumulate(array == 7))
    assert overlay.encoding == "bgr8"
    np.testing.assert_array_equal(overlay.data.reshape(6, 8, 3), amodal_overlay(picture(0), [instance]))


def test_label_images_that_do_not_fit(tmp_path: Path) -> None:
    bad = image(START + 2 * PERIOD, labels(1), "mono8", step=2)
    messages = [
        *camera(5),
        masks(START, labels(), START + 1),
        masks(START + PERIOD, labels(1, height=7), START + 2),
        Recorded(MASKS_TOPIC, bad, START + 3),
        masks(START + 3 * PERIOD, labels(3), START + 4),
        masks(START + 3 * PERIOD + 1, labels(4), START + 5),
    ]
    outcome = Outcome(tmp_path, messages, visible_masks_topic=MASKS_TOPIC)
    empty, found = outcome.read("amodal/masks")
    assert (empty.stamp, empty.message.masks) == (START, [])
    assert (empty.message.height, empty.message.width) == (6, 8)
    assert (found.stamp, [mask.id for mask in found.message.masks]) == (START + 3 * PERIOD, [3])
    overlay = outcome.read("amodal/overlay")[0].message
    np.testing.assert_array_equal(overlay.data.reshape(6, 8, 3), picture(0)[..., ::-1])
    assert [("amodal" in call["tasks"]) for call in outcome.pipe.calls] == [False, False, False, True, False]
    assert len(outcome.stamps("depth/relative")) == 5
    assert outcome.summary.skipped == {"masks_size_mismatch": 2}
    assert outcome.summary.omitted == {"masks_without_frame": 1}
    assert outcome.summary.exit_status == 3
