from __future__ import annotations

import array
import contextlib
import pickle
from collections.abc import Callable, Sequence
from fractions import Fraction
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from numpy.typing import NDArray

from diffusion_perception_ros.conversions import ImageError, image_from_message, labels_from_message
from diffusion_perception_ros.errors import InputError

BYTES_PER_PIXEL = {
    **dict.fromkeys(("rgb8", "bgr8", "8UC3"), 3),
    **dict.fromkeys(("rgba8", "bgra8"), 4),
    **dict.fromkeys(("rgb16", "bgr16"), 6),
    **dict.fromkeys(("rgba16", "bgra16"), 8),
    **dict.fromkeys(("mono8", "8UC1"), 1),
    **dict.fromkeys(("mono16", "16UC1"), 2),
    **dict.fromkeys(("yuv422", "uyvy", "yuv422_yuy2", "yuyv"), 2),
    **{f"bayer_{pattern}8": 1 for pattern in ("rggb", "bggr", "gbrg", "grbg")},
    **{f"bayer_{pattern}16": 2 for pattern in ("rggb", "bggr", "gbrg", "grbg")},
}
BAYER = [name for name in BYTES_PER_PIXEL if name.startswith("bayer")]
YUV = ["yuv422", "uyvy", "yuv422_yuy2", "yuyv"]
CONTAINERS: dict[str, Callable[[Any], Any]] = {
    "numpy": lambda data: np.frombuffer(data, np.uint8).copy(),
    "array": lambda data: array.array("B", data),
    "bytes": bytes,
    "bytearray": bytearray,
    "memoryview": memoryview,
}


def message(height: int, width: int, encoding: str, data: Any, **fields: Any) -> Any:
    """A well-formed image without padding, unless ``fields`` say otherwise."""
    step = width * BYTES_PER_PIXEL.get(encoding, 1)
    known = {"height": height, "width": width, "encoding": encoding, "is_bigendian": 0, "step": step}
    return SimpleNamespace(**{**known, "data": data, **fields})


def zeros(height: int, width: int, encoding: str) -> Any:
    return message(height, width, encoding, bytes(height * width * BYTES_PER_PIXEL.get(encoding, 1)))


def reason(message: Any) -> str:
    with pytest.raises(ImageError) as caught:
        image_from_message(message)
    assert isinstance(caught.value, InputError)
    assert len(str(caught.value)) > 10
    return caught.value.reason


class Slow:
    """The same conversions one pixel at a time in exact arithmetic, from the definitions of the encodings."""

    def __init__(self, message: Any) -> None:
        self.message = message
        self.height, self.width, self.encoding = message.height, message.width, message.encoding
        self.data = bytes(message.data)

    def element(self, row: int, index: int) -> Fraction:
        """One stored number, scaled to 0..255."""
        start = row * self.message.step
        if self.encoding.endswith("16") or self.encoding == "16UC1":
            two = self.data[start + 2 * index : start + 2 * index + 2]
            return Fraction(int.from_bytes(two, "big" if self.message.is_bigendian else "little"), 257)
        return Fraction(self.data[start + index])

    def pixel(self, y: int, x: int) -> list[Fraction | float]:
        encoding = self.encoding
        if encoding == "8UC3" or encoding.startswith(("rgb", "bgr")):
            start = x * (4 if "a" in encoding else 3)
            channels = (0, 1, 2) if encoding.startswith("rgb") else (2, 1, 0)
            return [self.element(y, start + channel) for channel in channels]
        if encoding in YUV:
            four = [float(self.element(y, x // 2 * 4 + k)) for k in range(4)]
            order = (0, 1, 2, 3) if encoding in ("yuv422_yuy2", "yuyv") else (1, 0, 3, 2)
            first, u, second, v = (four[k] for k in order)
            luma = 255 / 219 * max((second if x % 2 else first) - 16, 0)
            u, v = (u - 128) * 255 / 224, (v - 128) * 255 / 224
            rgb = luma + 1.402 * v, luma - 0.344136 * u - 0.714136 * v, luma + 1.772 * u
            return [min(max(value, 0.0), 255.0) for value in rgb]
        if encoding in BAYER:
            # The outermost pixels are those of the ring within.
            y, x = min(max(y, 1), self.height - 2), min(max(x, 1), self.width - 2)
            around: dict[str, list[Fraction]] = {"r": [], "g": [], "b": []}
            pattern = encoding[len("bayer_") :]
            own = pattern[y % 2 * 2 + x % 2]
            for dy in (-1, 0, 1):
                for dx in (-1, 0, 1):
                    color = pattern[(y + dy) % 2 * 2 + (x + dx) % 2]
                    if color != own or dy == dx == 0:
                        around[color].append(self.element(y + dy, x + dx))
            return [sum(around[color], Fraction(0)) / len(around[color]) for color in "rgb"]
        return [self.element(y, x)] * 3

    def image(self) -> NDArray[np.float64]:
        rows = [[self.pixel(y, x) for x in range(self.width)] for y in range(self.height)]
        return np.array(rows, float)


@st.composite
def images(draw: st.DrawFn, encodings: Sequence[str] = tuple(BYTES_PER_PIXEL)) -> Any:
    encoding = draw(st.sampled_from(encodings))
    smallest = 3 if encoding in BAYER else 1
    height, width = draw(st.integers(smallest, 6)), draw(st.integers(smallest, 6))
    if encoding in YUV:
        width *= 2
    row = width * BYTES_PER_PIXEL[encoding]
    step = row + draw(st.integers(0, 5))
    size = draw(st.sampled_from([step * height, step * (height - 1) + row]))
    data = np.random.default_rng(draw(st.integers(0, 1 << 32))).bytes(size)
    container = draw(st.sampled_from(sorted(CONTAINERS)))
    endianness = draw(st.integers(0, 1))
    return message(height, width, encoding, CONTAINERS[container](data), step=step, is_bigendian=endianness)


@given(images())
def test_every_encoding_padding_and_byte_order_gives_the_image_of_the_slow_reference(message: Any) -> None:
    image = image_from_message(message)
    assert image.shape == (message.height, message.width, 3)
    assert image.dtype == np.uint8
    # cv2 rounds twice in YUV and Bayer, and 16-bit Bayer is rounded to 8 bits before colours are averaged.
    tolerance = 2 if message.encoding in YUV else 1.01 if message.encoding in BAYER else 0.5
    assert np.abs(image - Slow(message).image()).max() <= tolerance


@given(images(("mono8", "8UC1", "mono16", "16UC1")))
def test_labels_are_the_stored_numbers(message: Any) -> None:
    labels = labels_from_message(message)
    slow = Slow(message)
    factor = 257 if "16" in message.encoding else 1
    expected = [[slow.element(y, x) * factor for x in range(message.width)] for y in range(message.height)]
    assert labels.dtype == (np.uint16 if factor == 257 else np.uint8)
    assert labels.dtype.isnative
    np.testing.assert_array_equal(labels, np.array(expected, int))


@pytest.mark.parametrize("encoding", ["rgb8", "bgr8", "rgba8", "bgra8", "8UC3"])
@pytest.mark.parametrize("padding", [0, 7])
@pytest.mark.parametrize("container", sorted(CONTAINERS))
def test_color_is_a_view_of_the_messages_memory(encoding: str, padding: int, container: str) -> None:
    step = 5 * BYTES_PER_PIXEL[encoding] + padding
    data = CONTAINERS[container](bytes(4 * step))
    image = image_from_message(message(4, 5, encoding, data, step=step))
    assert np.shares_memory(image, np.frombuffer(data, np.uint8))
    assert image.strides[0] == step


def test_8_bit_labels_are_a_view_of_the_messages_memory() -> None:
    data = np.zeros(12, np.uint8)
    assert np.shares_memory(labels_from_message(message(3, 4, "mono8", data)), data)


@pytest.mark.parametrize("encoding", BAYER)
def test_bayer_mosaic_of_a_smooth_color_image_gives_that_image(encoding: str) -> None:
    y, x = np.mgrid[:24, :32].astype(float)
    truth = np.stack([200 - 2 * x, 60 + 3 * y, 20 + 2 * x + y], axis=-1)
    pattern, bits = encoding[len("bayer_") :][:4], int(encoding[len("bayer_") + 4 :])
    mosaic = np.empty((24, 32))
    for position, color in enumerate(pattern):
        rows, columns = slice(position // 2, None, 2), slice(position % 2, None, 2)
        mosaic[rows, columns] = truth[rows, columns, "rgb".index(color)]
    data = mosaic.astype(np.uint8).tobytes() if bits == 8 else (mosaic * 257).astype("<u2").tobytes()
    image = image_from_message(message(24, 32, encoding, data))
    assert np.abs(image[1:-1, 1:-1] - truth[1:-1, 1:-1]).max() <= 1.01
    assert np.abs(image - truth).max() <= 8


@pytest.mark.parametrize(
    ("rgb", "yuv"), [((255, 0, 0), (82, 90, 240)), ((0, 255, 0), (145, 54, 34)), ((0, 0, 255), (41, 240, 110))]
)
def test_yuv_422_is_bt601_in_both_orders(rgb: tuple[int, int, int], yuv: tuple[int, int, int]) -> None:
    y, u, v = yuv
    for encoding, data in (("yuv422", [u, y, v, y]), ("yuv422_yuy2", [y, u, y, v])):
        image = image_from_message(message(1, 2, encoding, bytes(data)))
        assert np.abs(image.astype(int) - rgb).max() <= 2


def test_16_bits_are_scaled_by_the_full_range_not_by_the_frames() -> None:
    values = np.array([[0, 128, 129, 257, 32896, 65535]], "<u2")
    image = image_from_message(message(1, 6, "mono16", values.tobytes()))
    np.testing.assert_array_equal(image[0, :, 0], [0, 0, 1, 1, 128, 255])


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({"height": 0}, "zero_size"),
        ({"width": 0}, "zero_size"),
        ({"height": -4}, "zero_size"),
        ({"width": 1 << 31}, "too_large"),
        ({"height": 1 << 31}, "too_large"),
        ({"step": 14}, "size_mismatch"),
        ({"step": 0}, "size_mismatch"),
        ({"step": -15}, "size_mismatch"),
        ({"step": 16}, "size_mismatch"),
        ({"height": 5}, "size_mismatch"),
        ({"height": 3}, "size_mismatch"),
        ({"data": bytes(59)}, "size_mismatch"),
        ({"data": bytes(61)}, "size_mismatch"),
        ({"data": b""}, "size_mismatch"),
        ({"encoding": ""}, "unknown_encoding"),
        ({"encoding": "RGB8"}, "unknown_encoding"),
        ({"encoding": "32FC1"}, "unknown_encoding"),
        ({"height": None}, "malformed_message"),
        ({"width": 5.0}, "malformed_message"),
        ({"step": "15"}, "malformed_message"),
        ({"encoding": b"rgb8"}, "malformed_message"),
        ({"encoding": ["rgb8"]}, "malformed_message"),
        ({"data": None}, "malformed_message"),
        ({"data": [0] * 60}, "malformed_message"),
        ({"data": "x" * 60}, "malformed_message"),
        ({"data": np.zeros((4, 15), np.uint8)}, "malformed_message"),
        ({"data": np.zeros(120, np.uint8)[::2]}, "malformed_message"),
        ({"data": np.zeros(60, np.int8)}, "malformed_message"),
        ({"data": np.zeros(60, np.float32)}, "malformed_message"),
        ({"data": np.zeros(60, object)}, "malformed_message"),
        ({"data": np.zeros(60, "datetime64[s]")}, "malformed_message"),
        ({"data": array.array("d", bytes(480))}, "malformed_message"),
        ({"data": np.uint8(0)}, "malformed_message"),
    ],
)
def test_a_wrong_field_is_refused_with_its_reason(fields: dict[str, Any], expected: str) -> None:
    wrong = zeros(4, 5, "rgb8")
    vars(wrong).update(fields)
    assert reason(wrong) == expected


@pytest.mark.parametrize("is_bigendian", [2, -1, 255])
def test_the_byte_order_has_to_be_known_only_where_it_matters(is_bigendian: int) -> None:
    for encoding, size in BYTES_PER_PIXEL.items():
        unclear = zeros(4, 6, encoding)
        unclear.is_bigendian = is_bigendian
        if "16" in encoding:
            assert reason(unclear) == "unknown_endianness"
        else:
            assert image_from_message(unclear).shape == (4, 6, 3), (encoding, size)


@pytest.mark.parametrize("field", ["height", "width", "step", "encoding", "is_bigendian", "data"])
def test_a_missing_field_is_refused(field: str) -> None:
    incomplete = zeros(4, 5, "rgb8")
    delattr(incomplete, field)
    assert reason(incomplete) == "malformed_message"


@pytest.mark.parametrize("encoding", YUV)
def test_yuv_of_odd_width_is_refused(encoding: str) -> None:
    assert reason(zeros(4, 5, encoding)) == "unsupported_size"


@pytest.mark.parametrize("size", [(2, 9), (9, 2), (1, 1)])
def test_bayer_too_small_to_interpolate_is_refused(size: tuple[int, int]) -> None:
    assert reason(zeros(*size, "bayer_rggb8")) == "unsupported_size"


@pytest.mark.parametrize("encoding", ["rgb8", "32SC1", "yuv422"])
def test_labels_refuse_pictures(encoding: str) -> None:
    with pytest.raises(ImageError, match="mono16") as caught:
        labels_from_message(zeros(4, 4, encoding))
    assert caught.value.reason == "unknown_encoding"


anything = st.one_of(
    st.none(),
    st.integers(),
    st.integers(0, 8),
    st.floats(),
    st.text(max_size=8),
    st.binary(max_size=64),
    st.sampled_from([*BYTES_PER_PIXEL, "32FC1"]),
    st.lists(st.integers(), max_size=3),
    st.builds(array.array, st.sampled_from("bBhHdf"), st.just([1, 2, 3])),
    st.builds(np.zeros, st.integers(0, 40), st.sampled_from([np.uint8, np.uint16, np.float64, object])),
)


@given(st.fixed_dictionaries(dict.fromkeys(("height", "width", "step", "is_bigendian", "encoding", "data"), anything)))
@example({"height": 1, "width": 1, "step": 1, "is_bigendian": 0, "encoding": "mono8", "data": np.zeros(1, np.uint8)})
def test_garbage_fields_raise_nothing_but_image_errors(fields: dict[str, Any]) -> None:
    with contextlib.suppress(ImageError):
        image = image_from_message(SimpleNamespace(**fields))
        assert image.shape == (fields["height"], fields["width"], 3)
    with contextlib.suppress(ImageError):
        labels = labels_from_message(SimpleNamespace(**fields))
        assert labels.shape == (fields["height"], fields["width"])


@given(images(), st.sampled_from(["height", "width", "step", "is_bigendian", "encoding", "data"]), anything)
def test_one_garbage_field_raises_nothing_but_image_errors(message: Any, field: str, value: Any) -> None:
    setattr(message, field, value)
    with contextlib.suppress(ImageError):
        image = image_from_message(message)
        assert image.shape == (message.height, message.width, 3)


def test_an_image_error_survives_a_process_boundary() -> None:
    copy = pickle.loads(pickle.dumps(ImageError("zero_size", "the image is empty")))
    assert (copy.reason, str(copy)) == ("zero_size", "the image is empty")
