"""The node with a budget: what it gives up, and that its status says so."""

from __future__ import annotations

import math
import threading
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from diffusion_perception_ros.msg import AmodalMaskArray, OpticalFlow, PerceptionStatus
from node_rig import PERIOD, START, BrightnessPipeline, Rig, image_message
from sensor_msgs.msg import Image

from diffusion_perception_ros.predictions import PerceptionOutput
from diffusion_perception_ros.request import Request

MakeRig = Callable[..., Rig]
LABELS = np.zeros((6, 8), np.uint8)
LABELS[1:3, 1:3] = 1


class TimedPipeline(BrightnessPipeline):
    """A sample takes 100 ms for each step, by its own account; no more than `room` of them fit at once."""

    def __init__(self) -> None:
        super().__init__()
        self.room = 1000

    def batch(self, requests: Sequence[Request], memory: Any = None, refine: Any = None) -> list[PerceptionOutput]:
        samples = {"depth": 1, "flow": 2, "amodal": 1}
        count = sum(r.ensemble_size * samples[task.name] for r in requests for task in r.tasks)
        if min(count, self.max_batch_size) > self.room:
            raise torch.cuda.OutOfMemoryError
        outputs = super().batch(requests, memory, refine)
        stage_ms = {"encode": 0.001, "denoise": 100.0 * count * requests[0].num_inference_steps, "decode": 0.001}
        return [replace(output, stage_ms=stage_ms) for output in outputs]


class Subscriber:
    """Everything that the node says, and its camera."""

    def __init__(self, rig: Rig) -> None:
        self._rig = rig
        self.status = rig.subscribe("/status", PerceptionStatus)
        self.depth = rig.subscribe("/depth/relative", Image)
        self.flow = rig.subscribe("/flow", OpticalFlow)
        self.masks = rig.subscribe("/amodal/masks", AmodalMaskArray)
        self._sent = 0

    def send(self) -> int:
        """Publish the next frame; its stamp."""
        stamp = START + self._sent * PERIOD
        self._sent += 1
        self._rig.image(stamp)
        return stamp

    def next_status(self) -> Any:
        """Of the next frame."""
        seen = len(self.status)
        self.send()
        self._rig.wait(lambda: len(self.status) > seen)
        return self.status[seen]

    def status_of_both(self, labels: Any) -> Any:
        """Of a frame and its masks, which come while the model is busy with another frame, and so go together."""
        rig, seen = self._rig, len(self.status)
        pipe: Any = rig.pipe
        pipe.hold, calls = threading.Event(), len(pipe.calls)
        self.send()
        rig.wait(lambda: len(pipe.calls) > calls)
        rig.publish("/visible_masks", image_message(self.send(), labels, "mono8"))
        rig.wait(lambda: {"frame", "masks"} <= rig.node._worker._cameras[0].mailbox._items.keys())
        pipe.hold.set()
        rig.wait(lambda: len(self.status) == seen + 2)
        return self.status[-1]


def started(make: MakeRig, *arguments: str) -> tuple[Rig, Any, Subscriber]:
    steps = ("-p", "num_inference_steps:=4", "-p", "tasks:=[depth, flow, amodal]", "-p", "ensemble_size:=2")
    r = make(*steps, *arguments, pipe=TimedPipeline()).up()
    subscriber = Subscriber(r)
    subscriber.next_status()
    return r, r.pipe, subscriber


def chosen(status: Any) -> tuple[list[str], list[int], int]:
    return list(status.tasks), list(status.num_inference_steps), status.ensemble_size


def test_without_a_budget_everything_is_computed(rig: MakeRig) -> None:
    _, pipe, subscriber = started(rig)
    status = subscriber.next_status()
    assert chosen(status) == (["depth", "flow"], [4, 4], 2)
    assert math.isnan(status.budget_ms)
    assert status.degraded_reason == ""
    assert pipe.calls[-1]["num_inference_steps"] == 4


@pytest.mark.parametrize(
    ("budget_ms", "expected"),
    [
        (1000.0, (["depth", "flow"], [3, 3], 1)),
        (450.0, (["depth", "flow"], [1, 1], 1)),
        (250.0, (["depth"], [2], 1)),
        (50.0, (["depth"], [1], 1)),
    ],
)
def test_the_status_says_what_was_chosen_and_why(
    rig: MakeRig, budget_ms: float, expected: tuple[list[str], list[int], int]
) -> None:
    r, pipe, subscriber = started(rig, "-p", f"budget_ms:={budget_ms}")
    status = subscriber.next_status()
    assert chosen(status) == expected
    assert status.budget_ms == budget_ms
    assert "ensemble_size 1 of 2" in status.degraded_reason
    assert f"num_inference_steps {expected[1][0]} of 4" in status.degraded_reason
    assert ("no flow" in status.degraded_reason) == ("flow" not in expected[0])
    assert status.denoise_ms == pytest.approx(100 * (1 + 2 * ("flow" in expected[0])) * expected[1][0])
    assert pipe.calls[-1]["num_inference_steps"] == expected[1][0]
    assert bool(subscriber.flow) == ("flow" in expected[0])
    assert status.degraded_reason in r.diagnostics()["model"].message


def test_a_budget_is_set_changed_and_taken_away_while_it_runs(rig: MakeRig) -> None:
    r, _, subscriber = started(rig)
    assert r.set(budget_ms=450.0) == (True, "")
    assert chosen(subscriber.next_status()) == (["depth", "flow"], [1, 1], 1)
    assert r.set(budget_ms=2500.0) == (True, "")
    assert chosen(subscriber.next_status()) == (["depth", "flow"], [4, 4], 2)
    assert r.set(budget_ms=-1.0)[0] is False
    assert r.set(budget_ms=0.0, num_inference_steps=2) == (True, "")
    assert chosen(subscriber.next_status()) == (["depth", "flow"], [2, 2], 2)


def test_masks_cost_only_where_there_are_objects(rig: MakeRig) -> None:
    _, _, subscriber = started(rig, "-p", "budget_ms:=370.0")
    nothing = subscriber.status_of_both(np.zeros_like(LABELS))
    assert set(nothing.tasks) == {"depth", "flow", "amodal"}
    something = subscriber.status_of_both(LABELS)
    assert set(something.tasks) == {"depth", "flow"}
    assert "no amodal" in something.degraded_reason
    assert [len(message.masks) for message in subscriber.masks] == [0]


def test_the_order_of_tasks_is_their_importance(rig: MakeRig) -> None:
    r, _, subscriber = started(rig, "-p", "budget_ms:=250.0")
    assert r.set(tasks=["flow", "depth"]) == (True, "")
    assert chosen(subscriber.next_status()) == (["flow"], [1], 1)
    assert len(subscriber.depth) == 1


def test_out_of_memory_costs_no_frame(rig: MakeRig) -> None:
    r, pipe, subscriber = started(rig)
    pipe.room = 4
    status = subscriber.next_status()
    assert chosen(status) == (["depth", "flow"], [4, 4], 2)
    assert status.degraded_reason == "batches of 3, because the device ran out of memory"
    assert not r.drops
    pipe.room = 0
    subscriber.send()
    r.wait(lambda: r.drops == {"out_of_memory": 1})
    pipe.room = 1
    assert chosen(subscriber.next_status()) == (["depth", "flow"], [4, 4], 2)
    assert pipe.max_batch_size == 16
