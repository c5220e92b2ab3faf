"""The groups of a sheet of predictions, and what their colours mean."""

from __future__ import annotations

from diffusion_perception_ros.conversions import depth_color
from diffusion_perception_ros.evaluation.sheets.contact_sheet import Group
from diffusion_perception_ros.evaluation.sheets.drawing import Color, Picture, note, ramp, swatch, wheel
from diffusion_perception_ros.evaluation.sheets.tiles import MISSED, RIGHT, TOO_MUCH, UNKNOWN, error_color

DEPTH_ERROR, NORMALS_ERROR = 0.5, 45.0
"""The relative error of depth and the angle between normals in degrees that are drawn in full colour."""
# Of an overlay: every object has an outline of its own colour; its parts are tints of that.
_OUTLINE, _VISIBLE, _HIDDEN = (220, 60, 110), (244, 196, 212), (232, 128, 161)
# Of normals that face right, up and the camera.
_RIGHT, _UP, _TOWARDS = (128, 128, 255), (128, 255, 128), (255, 128, 128)


def flow_range(width: int) -> float:
    """The displacement in pixels that is drawn in full colour, in images of a width; half of it as an error."""
    return float(max(1, round(width / 12)))


def task_groups(width: int) -> dict[str, Group]:
    """The group of each task.

    Args:
        width: Of the images in pixels.
    """

    def flow_legend(sheet: Picture, x: int, line: int, step: int) -> None:
        wheel(sheet, x + 16, line - 5, 16)
        note(sheet, f"to the next frame; full colour {flow_range(width):g} px", x + 42, line)
        end = note(sheet, "0", x + 2 * step - 80, line) + 8
        end = ramp(sheet, error_color, end, line, 90)
        end = note(sheet, f"{flow_range(width) / 2:g} px", end + 8, line)
        swatch(sheet, "not known", UNKNOWN, end + 16, line, UNKNOWN)

    return {
        "depth": Group("Relative depth", ("predicted", "true", "error"), _depth_legend),
        "flow": Group("Optical flow", ("predicted", "true", "error"), flow_legend),
        "amodal": Group("Hidden shape", ("predicted", "true", "hidden parts"), _amodal_legend),
        "normals": Group("Surface normals", ("predicted", "true", "error"), _normals_legend),
    }


def _depth_legend(sheet: Picture, x: int, line: int, step: int) -> None:
    end = note(sheet, "near", x, line) + 8
    end = ramp(sheet, depth_color, end, line, 130)
    note(sheet, "far", end + 8, line)
    end = note(sheet, "scale and shift fitted: 0", x + step, line) + 8
    end = ramp(sheet, error_color, end, line, 130)
    note(sheet, f"{DEPTH_ERROR:.0%}", end + 8, line)


def _amodal_legend(sheet: Picture, x: int, line: int, step: int) -> None:
    end = swatch(sheet, "visible", _VISIBLE, x, line, _OUTLINE)
    swatch(sheet, "hidden", _HIDDEN, end, line, _OUTLINE)
    end = x + 2 * step - 60
    for name, color in {"right": RIGHT, "missed": MISSED, "too much": TOO_MUCH}.items():
        end = swatch(sheet, name, color, end, line, color)


def _normals_legend(sheet: Picture, x: int, line: int, step: int) -> None:
    faces: dict[str, Color] = {"right": _RIGHT, "up": _UP, "to the camera": _TOWARDS}
    end = x
    for name, color in faces.items():
        end = swatch(sheet, name, color, end, line, color)
    end = note(sheet, "0", x + 2 * step - 20, line) + 8
    end = ramp(sheet, error_color, end, line, 90)
    note(sheet, f"{NORMALS_ERROR:g} degrees", end + 8, line)
