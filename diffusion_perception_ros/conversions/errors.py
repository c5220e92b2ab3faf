"""The exception for one image message that cannot be used."""

from __future__ import annotations

from diffusion_perception_ros.errors import InputError


class ImageError(InputError):
    """An image message whose pixels cannot be read.

    Attributes:
        reason: A short key under which skipped frames are counted: ``malformed_message`` (a field is missing
            or of the wrong type), ``zero_size``, ``too_large``, ``size_mismatch`` (step or data do not fit
            the image size), ``unsupported_size`` (the encoding does not exist in this size),
            ``unknown_encoding``, ``unknown_endianness``, ``compressed_depth`` or ``undecodable``.
    """

    def __init__(self, reason: str, sentence: str) -> None:
        super().__init__(sentence)
        self.reason = reason

    def __reduce__(self) -> tuple[type[ImageError], tuple[str, str]]:
        return ImageError, (self.reason, str(self))
