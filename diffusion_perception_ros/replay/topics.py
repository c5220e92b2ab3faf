"""Which topics of a bag are the camera, its calibration and the label images."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from diffusion_perception_ros.errors import InputError
from diffusion_perception_ros.replay.bag import Topic, UndeserializableError, deserialize
from diffusion_perception_ros.replay.definitions import CAMERA_INFO, COMPRESSED_IMAGE, IMAGE
from diffusion_perception_ros.replay.reader import BagReader
from diffusion_perception_ros.replay.settings import ReplaySettings
from diffusion_perception_ros.replay.wording import counted

_IMAGES = (IMAGE, COMPRESSED_IMAGE)
# Encodings of depth, flow, normals and the like, which stand beside the colour image.
_MEASUREMENTS = ("16UC1", "32F", "64F")


@dataclass(frozen=True)
class SourceTopics:
    """The topics a replay reads; all of them are in the bag."""

    image: str
    camera_info: str | None
    masks: str | None
    pair: str | None

    @property
    def all(self) -> tuple[str, ...]:
        """Every one of them, the image topic first."""
        return tuple(topic for topic in (self.image, self.camera_info, self.masks, self.pair) if topic)


def choose_topics(bag: BagReader, settings: ReplaySettings) -> SourceTopics:
    """Find the topics named in the settings, and the image topic if it is not named.

    Raises:
        InputError: A named topic is missing or of another type, or the image topic is not evident.
    """
    masks = _named(bag, "--visible-masks-topic", settings.visible_masks_topic, (IMAGE,))
    pair = _named(bag, "--pair-topic", settings.pair_topic, _IMAGES)
    camera_info = _named(bag, "--camera-info-topic", settings.camera_info_topic, (CAMERA_INFO,))
    image = _named(bag, "--image-topic", settings.image_topic, _IMAGES)
    if image is None:
        image = _only_image_topic(bag, taken={"--visible-masks-topic": masks, "--pair-topic": pair})
    elif image in (masks, pair):
        raise InputError(f"{image} is named by --image-topic and by another option; every topic has one part to play.")
    if camera_info is None:
        sibling = image.removesuffix("/compressed").rpartition("/")[0] + "/camera_info"
        if sibling in bag.topics and bag.topics[sibling].type == CAMERA_INFO:
            camera_info = sibling
    return SourceTopics(image, camera_info, masks, pair)


def _named(bag: BagReader, option: str, name: str | None, types: tuple[str, ...]) -> str | None:
    if name is None:
        return None
    # Recorders write names with a slash in front, most other writers do as they like, and so do users.
    alike = [topic for topic in bag.topics.values() if topic.name.lstrip("/") == name.lstrip("/")]
    topic = bag.topics.get(name) or (alike[0] if alike else None)
    if topic is None:
        raise InputError(f"{option} {name} is not in the bag, which has {_contents(bag)}.")
    if topic.type not in types:
        raise InputError(f"{option} {name} is of type {topic.type}; it has to be {' or '.join(types)}.")
    return topic.name


def _only_image_topic(bag: BagReader, taken: Mapping[str, str | None]) -> str:
    images = [topic for topic in bag.topics.values() if topic.type in _IMAGES and topic.name not in taken.values()]
    # Empty topics and measurements are passed over only while something better is there.
    images = [topic for topic in images if topic.count] or images
    images = [topic for topic in images if not _is_measurement(_encoding(bag, topic))] or images
    if len(images) == 1:
        return images[0].name
    if not images:
        used = " and ".join(sorted(f"{topic} (named by {option})" for option, topic in taken.items() if topic))
        raise InputError(f"the bag has no image topic{f' besides {used}' if used else ''}; it has {_contents(bag)}.")
    raise InputError(
        f"the bag has several image topics: {_listing(bag, tuple(images))}; choose one with --image-topic."
    )


def _encoding(bag: BagReader, topic: Topic) -> str:
    """The encoding of the first message, or "" where there is none."""
    if topic.type not in _IMAGES:
        return ""
    messages = bag.messages([topic.name])
    for raw in messages:
        try:
            message = deserialize(raw)
        except UndeserializableError:
            break
        return str(message.format if topic.type == COMPRESSED_IMAGE else message.encoding)
    return ""


def _is_measurement(encoding: str) -> bool:
    return encoding.startswith(_MEASUREMENTS) or "compressedDepth" in encoding


def _contents(bag: BagReader) -> str:
    """All topics, and what is wrong with the bag, which may be why one is missing."""
    listing = _listing(bag, tuple(bag.topics.values())) or "no topics at all"
    return listing + "".join(f"; {damage}" for damage in bag.damage)


def _listing(bag: BagReader, topics: tuple[Topic, ...]) -> str:
    parts = []
    for topic in sorted(topics, key=lambda topic: topic.name):
        encoding = _encoding(bag, topic)
        facts = filter(None, (topic.type, encoding, counted(topic.count, "message")))
        parts.append(f"{topic.name} ({', '.join(facts)})")
    return "; ".join(parts)
