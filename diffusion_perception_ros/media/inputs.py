"""From what the command line names to clips."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from diffusion_perception_ros.errors import InputError
from diffusion_perception_ros.media.clips import Clip, FolderClip, Frame, GivenClip, StillClip, VideoClip
from diffusion_perception_ros.media.labels import LabelFolder, check_size
from diffusion_perception_ros.media.naming import files_in, natural_key, unique_names
from diffusion_perception_ros.media.pictures import PICTURE_SUFFIXES, check_picture, read_labels, read_picture
from diffusion_perception_ros.media.video import VIDEO_SUFFIXES

_BAG_SUFFIXES = (".mcap", ".db3", ".bag")


def open_clips(
    paths: Sequence[Path], next_image: Path | None, masks: Path | None
) -> tuple[list[Clip], LabelFolder | None]:
    """Open pictures, folders of pictures and videos.

    Args:
        paths: The inputs.
        next_image: The frame after the only input, a picture.
        masks: A label image for the only input, a picture; or a folder of label images, for pictures, for one folder
            or for one video.

    Returns:
        One clip for each input, and the folder of label images.

    Raises:
        InputError: One of them does not exist or is of no known kind, or they do not go together.
    """
    for path in (*paths, next_image, masks):
        if path is not None and not path.exists():
            raise InputError(f"{path}: there is no such file or folder.")
    stills = [path for path in paths if not path.is_dir() and path.suffix.lower() in PICTURE_SUFFIXES]
    one_still = len(paths) == len(stills) == 1
    if next_image is not None and not one_still:
        raise InputError(
            "--next belongs to one picture; in a folder or a video, the frame after each frame is the next one."
        )
    names = unique_names([path.resolve().stem if path.is_file() else path.resolve().name for path in paths])
    if next_image is not None or (masks is not None and masks.is_file()):
        if not one_still:
            raise InputError(f"--masks {masks} is one label image and belongs to one picture; name a folder of them.")
        return [_given(stills[0], names[0], next_image, masks)], None
    if masks is not None and len(paths) > 1 and len(stills) < len(paths):
        raise InputError("--masks belongs to pictures, to one folder or to one video; run once for each input.")
    labels = LabelFolder(masks) if masks is not None else None
    clips = [_open(path, name, labels) for path, name in zip(paths, names, strict=True)]
    if labels is not None:
        labels.check(name for clip in clips for name in clip.label_names())
    return clips, labels


def _open(path: Path, name: str, labels: LabelFolder | None) -> Clip:
    suffix = path.suffix.lower()
    if path.is_dir():
        entries = files_in(path)
        pictures = [entry for entry in entries if entry.suffix.lower() in PICTURE_SUFFIXES]
        if not pictures:
            is_bag = any(entry.suffix.lower() in _BAG_SUFFIXES for entry in entries)
            remedy = "it is a bag, so use `diffusion-perception replay`" if is_bag else "name a folder that has some"
            raise InputError(f"{path} has no pictures in it; {remedy}.")
        pictures.sort(key=lambda picture: natural_key(picture.name))
        return FolderClip(path, name, pictures, labels)
    if suffix in PICTURE_SUFFIXES:
        check_picture(path)
        return StillClip(path, name, labels)
    if suffix in VIDEO_SUFFIXES:
        return VideoClip(path, name, labels)
    if suffix in _BAG_SUFFIXES:
        raise InputError(f"{path} is a bag; use `diffusion-perception replay`.")
    raise InputError(
        f"{path} has an unknown extension; pictures end in {_listing(PICTURE_SUFFIXES)}, "
        f"videos in {_listing(VIDEO_SUFFIXES)}."
    )


def _given(path: Path, name: str, next_path: Path | None, masks_path: Path | None) -> GivenClip:
    """Everything is named, so all of it has to be usable."""
    image = read_picture(path)
    next_image = labels = None
    if next_path is not None:
        next_image = read_picture(next_path)
        if next_image.shape != image.shape:
            sizes = " and ".join(f"{shape[1]}x{shape[0]}" for shape in (image.shape, next_image.shape))
            raise InputError(f"{path} and --next {next_path} are {sizes}; both frames need one size.")
    if masks_path is not None:
        if masks_path.is_dir():
            folder = LabelFolder(masks_path)
            folder.check((path.stem,))
            labels = folder.find(path.stem, image.shape[:2])
        else:
            labels = read_labels(masks_path)
            check_size(masks_path, labels, image.shape[:2])
    return GivenClip(path, Frame(name, image, next_image, labels))


def _listing(suffixes: frozenset[str]) -> str:
    return " ".join(sorted(suffixes))
