from __future__ import annotations

import threading
import time
from types import SimpleNamespace
from typing import Any

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from diffusion_perception_ros.conversions import depth_from_message, image_from_message
from diffusion_perception_ros.conversions.fields import header_fields, image_fields
from diffusion_perception_ros.frames.frame import Frame
from diffusion_perception_ros.frames.history import StampedHistory
from diffusion_perception_ros.frames.instances import largest_instances
from diffusion_perception_ros.frames.intake import Intake
from diffusion_perception_ros.frames.mailbox import Mailbox
from diffusion_perception_ros.frames.pairing import reason_against

SECOND = 10**9


def message(stamp: int, array: Any = None, encoding: str = "rgb8") -> Any:
    array = np.full((4, 5, 3), stamp % 251, np.uint8) if array is None else array
    fields = image_fields(header_fields(stamp // SECOND, stamp % SECOND, "camera"), array, encoding)
    header = SimpleNamespace(stamp=SimpleNamespace(**fields["header"]["stamp"]), frame_id="camera")
    return SimpleNamespace(**{**fields, "header": header})


def test_mailbox_keeps_the_newest_and_counts_the_rest() -> None:
    box = Mailbox()
    for i in range(5):
        box.post(frame=i)
    box.post(frame=5, pair=(4, 5))
    assert box.fetch() == {"frame": 5, "pair": (4, 5)}
    assert box.replaced == {"frame": 5}
    assert box.fetch(timeout=0.01) == {}
    box.post(frame=6)
    box.clear()
    assert box.fetch(timeout=0.01) == {}


def test_mailbox_wakes_who_waits() -> None:
    box = Mailbox()
    fetched: list[Any] = []

    def work() -> None:
        while not box.closed:
            fetched.append(box.fetch())

    thread = threading.Thread(target=work)
    thread.start()
    box.post(frame=1)
    while not fetched:
        time.sleep(0.001)
    box.close()
    thread.join(timeout=5)
    assert not thread.is_alive()
    assert fetched == [{"frame": 1}, {}]
    box.post(frame=2)
    assert box.fetch() == {}


@given(st.lists(st.integers(1, 50), max_size=40), st.integers(1, 5), st.integers(0, 60))
def test_history_is_the_last_items_and_finds_the_nearest(stamps: list[int], size: int, wanted: int) -> None:
    history: StampedHistory[int] = StampedHistory(size)
    for stamp in stamps:
        history.add(stamp, -stamp)
    kept = list(dict.fromkeys(reversed(stamps)))[:size]
    assert len(history) == len(kept)
    assert history.last == (-kept[0] if kept else None)
    assert history.at(wanted) == (-wanted if wanted in kept else None)
    nearest = history.nearest(wanted)
    assert (nearest is None) == (not kept)
    assert nearest is None or abs(-nearest - wanted) == min(abs(stamp - wanted) for stamp in kept)


def test_history_is_bounded_in_bytes() -> None:
    history: StampedHistory[bytes] = StampedHistory(100, len, max_bytes=10)
    for i in range(20):
        history.add(i, b"xxxx")
    assert len(history) == 2
    history.add(99, b"x" * 50)
    assert (len(history), history.at(99)) == (1, b"x" * 50)


@given(st.lists(st.integers(0, 6), min_size=1, max_size=60), st.integers(1, 4))
def test_the_largest_instances_stay(values: list[int], count: int) -> None:
    labels = np.array([values], np.uint16)
    kept, omitted = largest_instances(labels, count)
    ids = set(values) - {0}
    left = set(np.unique(kept).tolist()) - {0}
    assert kept.dtype == labels.dtype
    assert len(left) == min(count, len(ids))
    assert omitted == len(ids) - len(left)
    for label in left:
        np.testing.assert_array_equal(kept == label, labels == label)
        assert all(values.count(label) >= values.count(other) for other in ids - left)


def test_a_second_frame_that_is_earlier_makes_no_pair() -> None:
    image = np.zeros((2, 2, 3), np.uint8)
    first, second = Frame(image, {}, 5 * SECOND, 0), Frame(image, {}, 6 * SECOND, 0)
    assert reason_against(first, second, None) is None
    assert reason_against(second, first, None) == "second_is_earlier"
    assert reason_against(first, second, 0.5) == "frame_gap"


def test_the_first_pair_after_a_loop_of_two_topics_is_not_lost() -> None:
    restarts: list[int] = []
    intake = Intake(Mailbox(), image_from_message, pair_consecutive=False, on_restart=lambda: restarts.append(1))
    del restarts[:]
    for loop in range(3):
        for i in range(3):
            assert intake.add_image(message((i + 1) * SECOND)) is not None
            assert len(restarts) == loop
            assert intake.add_next_image(message((i + 1) * SECOND)) is not None
            assert len(restarts) == loop


def test_memory_of_the_intake_is_bounded() -> None:
    intake = Intake(Mailbox(), image_from_message, history=3)
    for i in range(1, 500):
        intake.add_labels(message(i + 10**6, np.zeros((4, 5), np.uint8), "mono8"))
        intake.add_reference(message(i, np.zeros((4, 5), np.float32), "32FC1"))
        intake.add_camera_info(message(i))
        intake.add_image(message(i))
    assert len(intake._history or ()) == 3
    assert len(intake._pending_labels) <= 4
    assert len(intake._references) <= 10
    assert intake.drops["superseded"] == 498


def test_depth_is_read_in_metres_from_either_encoding_and_byte_order() -> None:
    metres = np.array([[0.5, 1.25, np.nan], [np.inf, 0, 65.535]], np.float32)
    source = message(1, metres, "32FC1")
    np.testing.assert_array_equal(depth_from_message(source), metres)
    source.data, source.is_bigendian = np.frombuffer(metres.astype(">f4").tobytes(), np.uint8), 1
    np.testing.assert_array_equal(depth_from_message(source), metres)
    padded = np.zeros((2, 5), np.uint16)
    padded[:, :3] = [[500, 1250, 0], [1, 2, 65535]]
    millimetres = SimpleNamespace(
        height=2, width=3, encoding="16UC1", is_bigendian=0, step=10, data=padded.view(np.uint8).reshape(-1)
    )
    np.testing.assert_allclose(depth_from_message(millimetres), padded[:, :3] / 1000, rtol=1e-6)
