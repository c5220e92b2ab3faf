"""Which topics of a bag are the ground truth."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from contextlib import suppress
from dataclasses import dataclass

from diffusion_perception_ros.errors import InputError
from diffusion_perception_ros.evaluation.datasets.messages import DEPTH_ENCODINGS
from diffusion_perception_ros.replay.bag import UndeserializableError, deserialize
from diffusion_perception_ros.replay.definitions import AMODAL_MASK_ARRAY, COMPRESSED_IMAGE, IMAGE, OPTICAL_FLOW
from diffusion_perception_ros.replay.reader import BagReader

_LABEL_ENCODINGS = ("mono8", "8UC1", "mono16", "16UC1")


@dataclass(frozen=True)
class BagTopics:
    """Names of topics that a user gives; None to find them by type and encoding.

    Attributes:
        image: The camera.
        depth: True depth, a 16UC1 or 32FC1 image.
        flow: True flow, an OpticalFlow or a 32FC2 image.
        visible_masks: Label images of visible masks; by default the one with ``mask`` or ``label`` in its name.
        amodal: The true AmodalMaskArray.
        normals: True surface normals, a 32FC3 image.
    """

    image: str | None = None
    depth: str | None = None
    flow: str | None = None
    visible_masks: str | None = None
    amodal: str | None = None
    normals: str | None = None


@dataclass(frozen=True)
class TruthTopics:
    """The topics to read, all of them in the bag.

    Attributes:
        image: The camera.
        truths: The others by what they tell: ``depth``, ``flow``, ``visible_masks``, ``amodal``, ``normals``.
    """

    image: str
    truths: Mapping[str, str]


def choose_topics(bag: BagReader, named: BagTopics) -> TruthTopics:
    """Find the topics that a user has not named.

    Raises:
        InputError: A named topic is missing or of another kind, or it is not evident which of several is meant.
    """
    kinds = {topic.name: _kind(bag, topic.name) for topic in bag.topics.values() if topic.count}
    labels = {name for name, kind in kinds.items() if kind in _LABEL_ENCODINGS and ("mask" in name or "label" in name)}
    masks = _choose("--visible-masks-topic", named.visible_masks, kinds, labels, _LABEL_ENCODINGS)
    depths = {name for name, kind in kinds.items() if kind in DEPTH_ENCODINGS} - labels
    flows = {name for name, kind in kinds.items() if kind == OPTICAL_FLOW}
    flows = flows or {name for name, kind in kinds.items() if kind == "32FC2"}
    normals = {name for name, kind in kinds.items() if kind == "32FC3"}
    arrays = {name for name, kind in kinds.items() if kind == AMODAL_MASK_ARRAY}
    truths = {
        "depth": _choose("--depth-topic", named.depth, kinds, depths, DEPTH_ENCODINGS),
        "flow": _choose("--flow-topic", named.flow, kinds, flows, (OPTICAL_FLOW, "32FC2")),
        "visible_masks": masks,
        "amodal": _choose("--amodal-topic", named.amodal, kinds, arrays, (AMODAL_MASK_ARRAY,)),
        "normals": _choose("--normals-topic", named.normals, kinds, normals, ("32FC3",)),
    }
    pictures = {name for name, kind in kinds.items() if _is_picture(kind)}
    image = _choose(
        "--image-topic", named.image, kinds, pictures - labels - {masks}, {kinds[name] for name in pictures}
    )
    if image is None:
        raise InputError(f"the bag has no image topic; it has {_listing(kinds)}.")
    if truths["amodal"] is not None and masks is None:
        raise InputError(
            f"{truths['amodal']} tells the whole shapes, but not what is visible; name the label images "
            "with --visible-masks-topic."
        )
    return TruthTopics(image, {role: name for role, name in truths.items() if name is not None})


def _choose(
    option: str, name: str | None, kinds: Mapping[str, str], candidates: Collection[str], wanted: Collection[str]
) -> str | None:
    if name is not None:
        full_name = name if name in kinds else "/" + name
        if kinds.get(full_name) not in wanted:
            raise InputError(f"{option} {name} is no such topic of the bag, which has {_listing(kinds)}.")
        return full_name
    if len(candidates) > 1:
        raise InputError(f"the bag has several topics for {option}: {', '.join(sorted(candidates))}; name one.")
    return next(iter(candidates), None)


def _is_picture(kind: str) -> bool:
    return kind == COMPRESSED_IMAGE or ("/" not in kind and not kind.startswith(("16UC1", "32FC", "64FC")))


def _kind(bag: BagReader, topic: str) -> str:
    """An image topic's encoding, the type of others."""
    if bag.topics[topic].type == IMAGE:
        for raw in bag.messages([topic]):
            with suppress(UndeserializableError):
                return str(deserialize(raw).encoding)
    return bag.topics[topic].type


def _listing(kinds: Mapping[str, str]) -> str:
    return "; ".join(f"{topic} ({kind})" for topic, kind in sorted(kinds.items())) or "no messages"
