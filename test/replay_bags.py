"""Bags for the tests of replay, and a pipeline whose answers are easy to predict."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any, NamedTuple, cast

import numpy as np
from mcap.writer import CompressionType, IndexType
from mcap.writer import Writer as McapWriter
from numpy.typing import NDArray
from rosbags.highlevel import AnyReader
from rosbags.rosbag2 import CompressionFormat, CompressionMode, StoragePlugin, Writer
from rosbags.typesys import Stores, get_typestore

from diffusion_perception_ros.model.metadata import CheckpointMetadata, TargetEncoding
from diffusion_perception_ros.model.random import SCHEDULER_CONFIG
from diffusion_perception_ros.pipeline import PerceptionPipeline
from diffusion_perception_ros.predictions import AmodalInstance, PerceptionOutput
from diffusion_perception_ros.replay import ReplaySettings, ReplaySummary, replay
from diffusion_perception_ros.request import Request, check_request

JAZZY = get_typestore(Stores.ROS2_JAZZY)
SECOND = 10**9
START = 1_700_000_000 * SECOND
PERIOD = SECOND // 10
IMAGE_TOPIC = "/camera/image_raw"
MASKS_TOPIC = "/detector/masks"


class Recorded(NamedTuple):
    topic: str
    message: Any
    log_time: int


def ros(kind: str, **fields: Any) -> Any:
    return JAZZY.types[kind](**fields)


def header(stamp: int, frame_id: str = "camera_optical") -> Any:
    time = ros("builtin_interfaces/msg/Time", sec=stamp // SECOND, nanosec=stamp % SECOND)
    return ros("std_msgs/msg/Header", stamp=time, frame_id=frame_id)


def picture(seed: int, height: int = 6, width: int = 8) -> NDArray[np.uint8]:
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), np.uint8)


def image(stamp: int, pixels: NDArray[Any], encoding: str = "rgb8", **changes: Any) -> Any:
    fields = {
        "header": header(stamp),
        "height": pixels.shape[0],
        "width": pixels.shape[1],
        "encoding": encoding,
        "is_bigendian": 0,
        "step": pixels.strides[0],
        "data": pixels.reshape(-1).view(np.uint8),
    }
    return ros("sensor_msgs/msg/Image", **(fields | changes))


def camera_info(stamp: int, focal_length: float = 100.0, frame_id: str = "camera_optical") -> Any:
    region = ros("sensor_msgs/msg/RegionOfInterest", x_offset=0, y_offset=0, height=0, width=0, do_rectify=False)
    return ros(
        "sensor_msgs/msg/CameraInfo",
        header=header(stamp, frame_id),
        height=6,
        width=8,
        distortion_model="plumb_bob",
        d=np.zeros(5),
        k=np.array([focal_length, 0, 4, 0, focal_length, 3, 0, 0, 1.0]),
        r=np.eye(3).reshape(-1),
        p=np.zeros(12),
        binning_x=0,
        binning_y=0,
        roi=region,
    )


def camera(count: int, topic: str = IMAGE_TOPIC, period: int = PERIOD, delay: int = 5) -> list[Recorded]:
    """Frames at START, START + period, ..., each recorded ``delay`` ns after its stamp."""
    stamps = [START + i * period for i in range(count)]
    return [Recorded(topic, image(stamp, picture(i)), stamp + delay) for i, stamp in enumerate(stamps)]


def write_bag(
    path: Path,
    messages: Iterable[Recorded],
    storage: StoragePlugin = StoragePlugin.MCAP,
    compression: CompressionMode = CompressionMode.NONE,
) -> Path:
    writer = Writer(path, version=9, storage_plugin=storage)
    writer.set_compression(compression, CompressionFormat.ZSTD)
    connections: dict[str, Any] = {}
    with writer:
        for topic, message, log_time in messages:
            kind = message.__msgtype__
            if topic not in connections:
                connections[topic] = writer.add_connection(topic, kind, typestore=JAZZY)
            writer.write(connections[topic], log_time, JAZZY.serialize_cdr(message, kind))
    return path


def write_mcap(
    path: Path,
    messages: Iterable[Recorded],
    compression: CompressionType = CompressionType.ZSTD,
    chunk_size: int = 1024,
    chunked: bool = True,
    indexed: bool = True,
    profile: str = "ros2",
) -> Path:
    """With the writer of the mcap package, as recorders other than rosbags do it."""
    writer = McapWriter(
        str(path),
        chunk_size=chunk_size,
        compression=compression,
        use_chunking=chunked,
        index_types=IndexType.ALL if indexed else IndexType.NONE,
        use_summary_offsets=indexed,
        use_statistics=indexed,
        repeat_channels=indexed,
        repeat_schemas=indexed,
    )
    writer.start(profile=profile)
    channels: dict[str, int] = {}
    for topic, message, log_time in messages:
        kind = message.__msgtype__
        if topic not in channels:
            definition = JAZZY.generate_msgdef(kind, ros_version=2)[0].encode()
            schema = writer.register_schema(kind, "ros2msg", definition)
            channels[topic] = writer.register_channel(topic, "cdr", schema)
        data = bytes(JAZZY.serialize_cdr(message, kind))
        writer.add_message(channels[topic], log_time, data, log_time)
    writer.finish()  # type: ignore[no-untyped-call]
    return path


class Read(NamedTuple):
    stamp: int
    log_time: int
    message: Any


def read_bag(path: Path) -> dict[str, list[Read]]:
    """With rosbags' reader and the definitions that the bag embeds."""
    topics: dict[str, list[Read]] = {}
    with AnyReader([path]) as reader:
        for connection, log_time, data in reader.messages():
            message = cast(Any, reader.deserialize(data, connection.msgtype))
            time = message.header.stamp
            read = Read(time.sec * SECOND + time.nanosec, log_time, message)
            topics.setdefault(connection.topic, []).append(read)
    return topics


def floats(message: Any) -> NDArray[np.float32]:
    channels = int(message.encoding[-1])
    values = np.asarray(message.data).view(np.float32)
    return values.reshape(message.height, message.width, channels).squeeze()


def given(request: Request) -> tuple[Any, Any, Any]:
    """What a request is about: image, next image, label image."""
    labels = None
    for instance, mask in request.visible_masks.items():
        labels = np.zeros(mask.shape, np.int64) if labels is None else labels
        labels[mask] = instance
    return request.image, request.next_image, labels


def asked(request: Request) -> dict[str, Any]:
    """The options of a request, under the names of the pipeline's call."""
    names = ("num_inference_steps", "ensemble_size", "flip_members", "resize", "seed")
    options = {name: getattr(request, name) for name in names}
    return {"tasks": tuple(task.name for task in request.tasks), "sampler": request.sampler.name, **options}


class BrightnessPipeline:
    """Depth is brightness, flow the mean change of brightness, hidden what lies below the visible; all is floor."""

    def __init__(self, tasks: tuple[str, ...] = ("depth", "flow", "amodal")) -> None:
        encodings = {task: TargetEncoding("brightness", (1000 + i,)) for i, task in enumerate(tasks)}
        self.metadata = CheckpointMetadata(64, encodings, num_inference_steps=2, name="brightness")
        self.scheduler_config = SCHEDULER_CONFIG
        self.device, self.dtype, self.codec = "cpu", "torch.float32", SimpleNamespace(name="none")
        self.max_batch_size = 16
        self.calls: list[dict[str, Any]] = []

    def request(self, *images: Any, **arguments: Any) -> Request:
        return check_request(self.metadata, self.scheduler_config, *images, **arguments)

    def decoding(self, num_inference_steps: int) -> str:
        return "none"

    def batch(self, requests: Sequence[Request], memory: Any = None) -> list[PerceptionOutput]:
        return [self(*given(request), **asked(request)) for request in requests]

    def __call__(
        self, image: NDArray[np.uint8], next_image: Any = None, visible_masks: Any = None, **options: Any
    ) -> PerceptionOutput:
        self.calls.append({"next_image": next_image, "visible_masks": visible_masks, **options})
        tasks = options["tasks"]
        assert tasks
        assert ("flow" in tasks) == (next_image is not None)
        assert ("amodal" in tasks) == (visible_masks is not None)
        depth = flow = uncertainty = amodal = None
        if "depth" in tasks:
            depth = (image.mean(axis=2) / 255).astype(np.float32)
            uncertainty = depth / 2 if options["ensemble_size"] >= 3 else None
        if "flow" in tasks:
            change = np.float32(next_image.mean() - image.mean())
            flow = np.full((*image.shape[:2], 2), change, np.float32)
            flow[0, 0] = np.nan
        if "amodal" in tasks:
            amodal = [
                AmodalInstance(int(label), visible_masks == label, np.logical_or.accumulate(visible_masks == label))
                for label in np.unique(visible_masks)[1:]
            ]
        floor = np.tile(np.array([0, -1, 0], np.float32), (*image.shape[:2], 1))
        extra = {"normals": floor} if "normals" in tasks else {}
        return PerceptionOutput(depth, uncertainty, flow, None, (75.0, 75.0), amodal, extra=extra)


def as_pipeline(pipe: BrightnessPipeline) -> PerceptionPipeline:
    return cast(PerceptionPipeline, pipe)


class Outcome:
    """A replay with a checkpoint that is able to do ``able``, and what came of it."""

    def __init__(
        self,
        tmp_path: Path,
        messages: Sequence[Recorded],
        able: tuple[str, ...] = ("depth", "flow", "amodal"),
        **options: Any,
    ) -> None:
        ordered = sorted(messages, key=lambda recorded: recorded.log_time)
        self.pipe = BrightnessPipeline(able)
        source = write_bag(tmp_path / "in", ordered)
        self.summary: ReplaySummary = replay(
            source, tmp_path / "out", as_pipeline(self.pipe), ReplaySettings(**options)
        )
        self.topics = read_bag(tmp_path / "out")

    def stamps(self, topic: str) -> list[int]:
        return [read.stamp for read in self.topics.get(f"/perception/{topic}", [])]

    def read(self, topic: str) -> list[Read]:
        return self.topics[f"/perception/{topic}"]


def labels(*values: int, height: int = 6, width: int = 8) -> Any:
    array = np.zeros((height, width), np.uint8)
    for row, value in enumerate(values):
        array[row, 2:5] = value
    return array


def masks(stamp: int, array: Any, log_time: int) -> Recorded:
    return Recorded(MASKS_TOPIC, image(stamp, array, "mono8"), log_time)
