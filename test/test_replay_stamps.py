from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from replay_bags import (
    IMAGE_TOPIC,
    PERIOD,
    SECOND,
    START,
    Outcome,
    Recorded,
    camera,
    image,
    picture,
)


def replay_stamps(tmp_path: Path, stamps: Sequence[int], **options: Any) -> Outcome:
    """Frames with these stamps, recorded one after the other."""
    messages = [Recorded(IMAGE_TOPIC, image(stamp, picture(i)), START + i) for i, stamp in enumerate(stamps)]
    return Outcome(tmp_path, messages, **options)


def test_stamps_that_do_not_advance_are_skipped(tmp_path: Path) -> None:
    outcome = replay_stamps(tmp_path, [START + offset * PERIOD for offset in (0, 0, 1, 3, 2, 3, 1, 4)])
    assert outcome.stamps("depth/relative") == [START + offset * PERIOD for offset in (0, 1, 3, 4)]
    assert outcome.summary.skipped == {"non_monotonic_stamp": 4}
    assert outcome.summary.pairs == 3
    assert outcome.summary.time_jumps == 0


@pytest.mark.parametrize("period", [SECOND, PERIOD, 1])
@pytest.mark.parametrize("back_to", [0, -1])
def test_a_looped_bag_begins_a_new_segment(tmp_path: Path, period: int, back_to: int) -> None:
    stamps = [START + offset * period for offset in (0, 1, 2, back_to, 1)]
    outcome = replay_stamps(tmp_path, stamps)
    assert outcome.stamps("depth/relative") == stamps
    assert outcome.stamps("flow") == [stamps[0], stamps[1], stamps[3]]
    assert outcome.summary.omitted == {"time_jump": 1}
    assert outcome.summary.time_jumps == 1
    assert outcome.summary.exit_status == 0


def test_one_frame_from_the_future_costs_no_other_frame(tmp_path: Path) -> None:
    stamps = [START, START + PERIOD, START + 100 * SECOND, START + 2 * PERIOD, START + 3 * PERIOD]
    outcome = replay_stamps(tmp_path, stamps, max_frame_gap=1.0)
    assert outcome.stamps("depth/relative") == stamps
    assert outcome.stamps("flow") == [stamps[0], stamps[3]]
    assert outcome.summary.omitted == {"frame_gap": 1, "time_jump": 1}


def test_frames_without_a_stamp_make_no_pairs(tmp_path: Path) -> None:
    stamps = [START, START + PERIOD, 0, START + 2 * PERIOD, START + 3 * PERIOD]
    outcome = replay_stamps(tmp_path, stamps)
    assert outcome.stamps("depth/relative") == stamps
    assert outcome.stamps("flow") == [START, START + 2 * PERIOD]
    assert outcome.summary.omitted == {"zero_stamp": 2}
    assert (outcome.summary.time_jumps, outcome.summary.skipped) == (0, {})


def test_a_camera_that_never_sets_its_stamps(tmp_path: Path) -> None:
    outcome = replay_stamps(tmp_path, [0, 0, 0])
    assert outcome.stamps("depth/relative") == [0, 0, 0]
    assert outcome.stamps("flow") == []
    assert outcome.summary.omitted == {"zero_stamp": 2}


def test_a_second_frame_without_a_stamp_is_no_partner(tmp_path: Path) -> None:
    second = "/camera/next"
    messages = [*camera(2), Recorded(second, image(0, picture(7)), START)]
    messages += [Recorded(second, image(START + PERIOD, picture(8)), START + PERIOD)]
    outcome = Outcome(tmp_path, messages, pair_topic=second)
    assert outcome.stamps("flow") == [START + PERIOD]
    assert outcome.summary.skipped == {"pair_zero_stamp": 1}


def test_a_stamp_that_is_no_time_is_malformed(tmp_path: Path) -> None:
    messages = camera(3)
    messages[1].message.header.stamp.nanosec = 4 * 10**9
    outcome = Outcome(tmp_path, messages)
    assert outcome.stamps("depth/relative") == [START, START + 2 * PERIOD]
    assert outcome.summary.skipped == {"malformed_message": 1}
