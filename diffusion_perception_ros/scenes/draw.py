"""From a seed to a scene: a setting, things put into it partly behind one another, and how all of it moves."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from diffusion_perception_ros.scenes import catalogue, outdoors
from diffusion_perception_ros.scenes.parts import Part, Rng
from diffusion_perception_ros.scenes.rotations import about
from diffusion_perception_ros.scenes.scene import MAX_INSTANCES, Array, Motion, Primitives, Scene, Sensor
from diffusion_perception_ros.scenes.settings import Setting, draw_setting, moved

_FEWEST = 3
_ATTEMPTS = 25
# Speeds are drawn as what they do in the image, in widths a frame: the median and the largest.
_CAMERA_SPEED = 0.035, 0.12
_BODY_SPEED = 0.04, 0.14
# Of a thing, in widths of the image.
_APPARENT_SIZE = 0.09, 1.0
# No swing takes a body farther than this share of the image's width.
_SWING = 0.15


@dataclass(frozen=True)
class _Body:
    """A thing in its place: parts around the middle of its height, horizontal radius, half its height."""

    name: str
    parts: list[Part]
    position: Array
    radius: float
    half_height: float
    flies: bool


def draw_scene(seed: int) -> Scene:
    """Everything about the scene of a seed, and of that seed alone; seeds from `EVALUATION_SEED` on are for evaluation.

    Args:
        seed: A number that is not negative.
    """
    rng = np.random.default_rng([seed, 0])
    bodies: list[_Body] = []
    # Some settings, such as a narrow corner that the camera looks away from, hardly have room for anything.
    while len(bodies) < _FEWEST:
        setting = draw_setting(rng)
        bodies = _place(rng, setting)
    parts = [*((0, piece) for piece in setting.scenery)]
    parts += [(k, piece) for k, body in enumerate(bodies, 1) for piece in body.parts]
    return Scene(
        seed,
        tuple(body.name for body in bodies),
        _camera_motion(rng, setting, bodies),
        setting.tangent,
        _body_motion(rng, setting, bodies),
        _primitives(parts),
        setting.light,
        _sensor(rng, setting),
    )


def _place(rng: Rng, setting: Setting) -> list[_Body]:
    bodies: list[_Body] = []
    count = int(rng.integers(_FEWEST, MAX_INSTANCES + 1))
    for _ in range(4 * count):
        body = _try_to_place(rng, setting, bodies, flies=rng.random() < 0.12)
        if body is not None:
            bodies.append(body)
        if len(bodies) == count:
            break
    return bodies


def _try_to_place(rng: Rng, setting: Setting, bodies: list[_Body], flies: bool) -> _Body | None:
    things = catalogue.FLYING if flies and setting.ground == 0 else setting.things
    thing = things[int(rng.integers(len(things)))]
    parts = thing(rng)
    low = np.min([np.array(piece.center) - piece.extent for piece in parts], 0)
    high = np.max([np.array(piece.center) + piece.extent for piece in parts], 0)
    radius = float(np.max([np.linalg.norm(np.array(p.center[:2])) + np.linalg.norm(p.extent[:2]) for p in parts]))
    half = float(high[2] - max(low[2], 0.0)) / 2
    middle = np.array([0, 0, half])
    heading = rng.uniform(-np.pi, np.pi)
    if thing in (outdoors.standee, outdoors.flat_animal, outdoors.leaf, outdoors.strokes):
        heading = rng.normal(0, 0.5)
    turn = about(2, heading)
    if flies:
        turn = turn @ about(0, rng.normal(0, 0.5)) @ about(1, rng.normal(0, 0.5))
    for _ in range(_ATTEMPTS):
        place = _propose(rng, setting, bodies, radius, half)
        position = np.array([*place, setting.ground + half])
        if flies:
            position[2] += rng.uniform(0.1, 0.5) * place[1]
        if _fits(setting, bodies, position, radius, half, flies):
            pieces = [moved(piece, turn, -(turn @ middle)) for piece in parts]
            return _Body(thing.__name__, pieces, position, radius, half, flies)
    return None


def _propose(rng: Rng, setting: Setting, bodies: list[_Body], radius: float, half: float) -> Array:
    """A place (x, y), often behind or before something that is there."""
    size = 2 * max(radius, half)
    if bodies and rng.random() < 0.75:
        other = bodies[int(rng.integers(len(bodies)))]
        gap = (radius + other.radius) * rng.uniform(1.0, 2.5)
        depth = max(setting.depth[0], other.position[1] + gap * (1 if rng.random() < 0.6 else -1))
        # Beside it by part of their widths, as seen from the camera.
        aside = rng.normal(0, 0.45) * (other.radius / other.position[1] + radius / depth)
        return np.array([(other.position[0] / other.position[1] + aside) * depth, depth])
    nearest = max(setting.depth[0], size / (2 * setting.tangent * _APPARENT_SIZE[1]))
    farthest = max(nearest * 1.2, min(setting.depth[1], size / (2 * setting.tangent * _APPARENT_SIZE[0])))
    depth = np.exp(rng.uniform(np.log(nearest), np.log(farthest)))
    return np.array([rng.uniform(-0.9, 0.9) * setting.tangent * depth, depth])


def _fits(setting: Setting, bodies: list[_Body], position: Array, radius: float, half: float, flies: bool) -> bool:
    if not setting.is_free(position[:2], radius) or position[1] < setting.depth[0] + 0.5 * radius:
        return False
    apparent = max(radius, half) / (setting.tangent * position[1])
    if not _APPARENT_SIZE[0] < apparent < _APPARENT_SIZE[1]:
        return False
    # Something of it has to be seen: its middle or a place towards its foot or top.
    offsets = np.array([[0, 0, 0], [0, 0, -0.6 * half], [0, 0, 0.6 * half]])
    points = (position + offsets - setting.camera) @ setting.camera_rotation
    seen = (np.abs(points[:, :2]) < 0.95 * setting.tangent * points[:, 2:]).all(1)
    if not seen.any() or np.linalg.norm(position[:2]) < radius + 0.12 + 0.1 * setting.depth[0]:
        return False
    if flies and position[2] > setting.ground + 2.0 and setting.depth[1] < 12 and setting.ground == 0:
        return False
    for other in bodies:
        apart = np.linalg.norm(position[:2] - other.position[:2])
        above = abs(position[2] - other.position[2]) > half + other.half_height
        if apart < 0.75 * (radius + other.radius) and not above:
            return False
    return True


def _body_motion(rng: Rng, setting: Setting, bodies: list[_Body]) -> Motion:
    """The static world and, mostly, moving bodies."""
    rows: list[tuple[Array, Array, Array, float, float]] = [(np.zeros(3), np.zeros(3), np.zeros(3), 0.2, 0.0)]
    for body in bodies:
        speed = _speed(rng, *_BODY_SPEED) * (rng.random() < 0.75)
        heading = rng.uniform(-np.pi, np.pi)
        pace = speed * 2 * setting.tangent * body.position[1]
        velocity = pace * np.array([np.cos(heading), np.sin(heading), 0.0])
        spin = np.array([0, 0, rng.normal(0, 0.05)]) * (speed > 0)
        if body.flies:
            velocity = velocity + pace * np.array([0, 0, rng.normal(0, 0.6)])
            spin = rng.normal(0, 0.05, 3)
        elif body.name == "ball":
            spin = np.cross([0, 0, 1], velocity) / body.radius
        rows.append(
            (body.position, velocity, spin, max(rng.uniform(0.1, 0.35), speed / _SWING), rng.uniform(0, 2 * np.pi))
        )
    return _motion(rows, np.broadcast_to(np.eye(3), (len(rows), 3, 3)))


def _camera_motion(rng: Rng, setting: Setting, bodies: list[_Body]) -> Motion:
    """Turning and travelling, sideways or ahead, by about as much in the image."""
    distance = float(np.median([body.position[1] for body in bodies]))
    speed = _speed(rng, *_CAMERA_SPEED) * (rng.random() < 0.92)
    share = rng.beta(0.7, 0.7)
    turning = rng.normal(0, 1, 3) * np.array([0.5, 0.3, 1.0])
    spin = turning / np.linalg.norm(turning) * share * speed * 2 * setting.tangent
    direction = rng.normal(0, 1, 3) * np.array([1.0, rng.uniform(0, 3.0), 0.4])
    velocity = direction / np.linalg.norm(direction) * (1 - share) * speed * 2 * setting.tangent * distance
    # The flow of travelling ahead is small in the middle of the image.
    velocity[1] *= 2
    # Travel stays well before what is nearest: a thing, or the ground at the lower edge of the image.
    down = setting.tangent - setting.camera_rotation[2, 2]
    ground = (setting.camera[2] - setting.ground) / max(down, 0.1)
    nearest = max(0.1, min(ground, *(float(body.position[1]) - body.radius for body in bodies)))
    velocity *= min(1.0, 0.25 * nearest / float(np.linalg.norm(velocity) + 1e-9))
    frequency = max(rng.uniform(0.08, 0.3), speed / _SWING, 2 * float(np.linalg.norm(velocity)) / nearest)
    row = (setting.camera, velocity, spin, frequency, rng.uniform(0, 2 * np.pi))
    return _motion([row], setting.camera_rotation[None])


def _speed(rng: Rng, median: float, largest: float) -> float:
    return float(min(largest, median * np.exp(rng.normal(0, 0.75))))


def _motion(rows: list[tuple[Array, Array, Array, float, float]], rotation: Array) -> Motion:
    position, velocity, spin, frequency, phase = (np.array(values, float) for values in zip(*rows, strict=True))
    return Motion(position, np.array(rotation), velocity, spin, frequency, phase)


def _primitives(parts: list[tuple[int, Part]]) -> Primitives:
    parts = sorted(parts, key=lambda item: item[1].kind)
    pieces = [piece for _, piece in parts]
    half_size = np.array([piece.half_size for piece in pieces])
    return Primitives(
        np.array([piece.kind for piece in pieces], np.int64),
        np.array([body for body, _ in parts], np.int64),
        np.array([piece.center for piece in pieces]),
        np.array([piece.rotation for piece in pieces]),
        half_size,
        np.array([piece.shape for piece in pieces]),
        np.array([piece.material for piece in pieces]),
        np.array([piece.casts_shadow for piece in pieces]),
    )


def _sensor(rng: Rng, setting: Setting) -> Sensor:
    light = setting.light
    usual = float(np.mean(light.ambient_above + 0.5 * light.color))
    dark = rng.random() < 0.15
    return Sensor(
        exposure=rng.uniform(0.9, 2.0) / usual * (0.5 if dark else 1.0),
        white_balance=np.exp(rng.normal(0, 0.05, 3)),
        gamma=rng.uniform(0.4, 0.55),
        vignette=rng.uniform(0, 0.35),
        blur=rng.uniform(0.0, 0.8) if rng.random() < 0.6 else 0.0,
        read_noise=np.exp(rng.uniform(np.log(0.002), np.log(0.02))) * (2 if dark else 1),
        shot_noise=rng.uniform(0, 0.0006),
    )
