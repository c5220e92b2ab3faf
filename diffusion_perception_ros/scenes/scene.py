"""What a scene is made of: arrays in metres and radians, drawn on the CPU, that say everything about its frames.

The world frame is right-handed with z up (REP 103). The camera's frame is optical: x right, y down, z forward.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import IntEnum

import numpy as np
from numpy.typing import NDArray

from diffusion_perception_ros.scenes.rotations import from_rotation_vectors

Array = NDArray[np.float64]

# Seeds from here on are for evaluation and are never trained on.
EVALUATION_SEED = 900_000_000
# No scene has more instances; masks have room for this many.
MAX_INSTANCES = 8


class Kind(IntEnum):
    """A primitive's shape, in its own unit coordinates."""

    BOX = 0  # the cube [-1, 1]^3
    ELLIPSOID = 1  # the unit ball
    FRUSTUM = 2  # around z from -1 (radius 1) to 1 (radius shape[0]): a cylinder at 1, a cone at 0
    BLOB = 3  # a flat cut-out in z = 0 whose radius is a Fourier series of the angle
    FIGURE = 4  # a flat cut-out in z = 0: the union of capsules
    ROOM = 5  # the cube [-1, 1]^3 seen from the inside


@dataclass(frozen=True)
class Motion:
    """Rigid bodies that swing smoothly through where they were placed.

    The displacement at time t is velocity x (sin(frequency t + phase) - sin(phase)) / frequency, which is bounded, so a
    scene can be of any length; turning follows the same law around the body's origin.

    Attributes:
        position: (M, 3) origin in the world at time 0, in metres.
        rotation: (M, 3, 3) body to world at time 0.
        velocity: (M, 3) world, in metres a frame.
        spin: (M, 3) rotation vector in the world, in radians a frame.
        frequency: (M,) in radians a frame, positive.
        phase: (M,) in radians.
    """

    position: Array
    rotation: Array
    velocity: Array
    spin: Array
    frequency: Array
    phase: Array

    def poses(self, times: Sequence[int]) -> Array:
        """(T, M, 4, 4) body to world at each of the times."""
        time = np.asarray(times, float)[:, None]
        elapsed = (np.sin(self.frequency * time + self.phase) - np.sin(self.phase)) / self.frequency
        poses = np.zeros((*elapsed.shape, 4, 4))
        poses[..., :3, :3] = from_rotation_vectors(self.spin * elapsed[..., None]) @ self.rotation
        poses[..., :3, 3] = self.position + self.velocity * elapsed[..., None]
        poses[..., 3, 3] = 1
        return poses


@dataclass(frozen=True)
class Primitives:
    """The parts that bodies are made of, sorted by kind.

    Attributes:
        kind: (N,) of `Kind`.
        body: (N,) index into the bodies of `Scene.motion`.
        center: (N, 3) in the body's frame.
        rotation: (N, 3, 3) part to body.
        half_size: (N, 3) metres for one unit.
        shape: (N, 40) what else the kind needs, see `silhouettes` and `Kind`.
        material: (N, len(materials.COLUMNS)).
        casts_shadow: (N,) bool.
    """

    kind: NDArray[np.int64]
    body: NDArray[np.int64]
    center: Array
    rotation: Array
    half_size: Array
    shape: Array
    material: Array
    casts_shadow: NDArray[np.bool_]


@dataclass(frozen=True)
class Light:
    """One lamp or the sun, what comes from everywhere else, and the air between.

    Colours are linear RGB.

    Attributes:
        source: (4,) homogeneous: a direction towards the sun (w = 0) or a lamp's position (w = 1), in the world.
        color: (3,) of the source; a lamp's at one metre and a half.
        ambient_above: (3,) falling on what faces up.
        ambient_below: (3,) falling on what faces down.
        penumbra: The source's angular size in radians: how soon shadows blur.
        haze: (4,) colour and extinction per metre.
        zenith: (3,) colour of the sky above; at the horizon it is the haze's.
        clouds: Share of the sky under clouds.
    """

    source: Array
    color: Array
    ambient_above: Array
    ambient_below: Array
    penumbra: float
    haze: Array
    zenith: Array
    clouds: float


@dataclass(frozen=True)
class Sensor:
    """How light becomes pixel values.

    Attributes:
        exposure: Factor on radiance.
        white_balance: (3,) factors on red, green and blue.
        gamma: Exponent of the tone curve, about 1/2.2.
        vignette: Loss of light in the corners, 0 to 1.
        blur: Standard deviation of the point spread in pixels of a 128 pixel wide image.
        read_noise: Standard deviation of an 8-bit value / 255.
        shot_noise: Added variance per unit of radiance.
    """

    exposure: float
    white_balance: Array
    gamma: float
    vignette: float
    blur: float
    read_noise: float
    shot_noise: float


@dataclass(frozen=True)
class Scene:
    """Everything a seed determines.

    Attributes:
        seed: Where it came from; also seeds the sensor's noise.
        names: Class names of the instances; instance k (from 1) is body k, body 0 is the static world.
        camera: One body in the optical convention.
        tangent: Half the image's width over the focal length.
        motion: The bodies.
        primitives: Their parts.
        light: The light.
        sensor: The camera's sensor.
    """

    seed: int
    names: tuple[str, ...]
    camera: Motion
    tangent: float
    motion: Motion
    primitives: Primitives
    light: Light
    sensor: Sensor
