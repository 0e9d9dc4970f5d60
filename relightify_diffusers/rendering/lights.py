"""Lights with a position or a direction, the presets, and the text by which the command line names a light."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from relightify_diffusers.errors import UsageError
from relightify_diffusers.rendering.environment import EnvironmentLight, read_hdr
from relightify_diffusers.rendering.mesh import normalize


@dataclass(frozen=True)
class DirectionalLight:
    """Light from one direction, or from a disk around it.

    direction: (3,) towards the light, any length. irradiance: (3,) on a surface facing it; pi shows a white Lambertian
    facing it as 1. angular_radius: of the disk, in radians; 0 casts hard shadows. samples: shadow rays for a disk.
    """

    direction: np.ndarray
    irradiance: np.ndarray
    angular_radius: float = 0.0
    samples: int = 16

    def sample(self, points: np.ndarray):
        """Yield directions (3,), distances (None = infinite) and irradiances (3,), which add up to the whole light."""
        center = normalize(np.asarray(self.direction, np.float64))
        if self.angular_radius == 0:
            yield center, None, np.asarray(self.irradiance)
            return
        offsets = np.tan(self.angular_radius) * _disk(center, self.samples)
        for direction in normalize(center + offsets):
            yield direction, None, np.asarray(self.irradiance) / self.samples


@dataclass(frozen=True)
class PointLight:
    """Light from a point, or from a ball around it.

    position: (3,) meters. intensity: (3,) radiant intensity; the irradiance falls with the squared distance.
    radius: of the ball in meters; 0 casts hard shadows. samples: shadow rays for a ball.
    """

    position: np.ndarray
    intensity: np.ndarray
    radius: float = 0.0
    samples: int = 16

    def sample(self, points: np.ndarray):
        """Yield directions (P, 3), distances (P,) and irradiances (P, 3) at points (P, 3), which add up."""
        offset = np.asarray(self.position) - points
        distance = np.linalg.norm(offset, axis=-1)
        irradiance = np.asarray(self.intensity) / distance[:, None] ** 2
        if self.radius == 0:
            yield offset / distance[:, None], distance, irradiance
            return
        # One disk for all points, facing their middle: the ball looks much the same from all of a head.
        middle = normalize(np.asarray(self.position) - points.mean(axis=0))
        for across in self.radius * _disk(middle, self.samples):
            toward = offset + across
            length = np.linalg.norm(toward, axis=-1)
            yield toward / length[:, None], length, irradiance / self.samples


def _disk(axis: np.ndarray, samples: int) -> np.ndarray:
    """Points (samples, 3) spread evenly over the unit disk across a unit axis (3,): a sunflower (Vogel 1979)."""
    side = normalize(np.cross(axis, [1.0, 0, 0] if abs(axis[1]) > 0.9 else [0.0, 1, 0]))
    index = np.arange(samples) + 0.5
    radius, angle = np.sqrt(index / samples), index * np.pi * (3 - np.sqrt(5))
    return np.outer(radius * np.cos(angle), side) + np.outer(radius * np.sin(angle), np.cross(axis, side))


# Preset: lights of (direction in the view frame, white level, angular radius in degrees), and the ambient level.
# A level of 1 shows a white Lambertian facing the light as 1. Chosen by eye on the bundled head.
PRESETS = {
    "front": ([((0.1, 0.3, 1.0), 0.9, 8)], 0.12),
    "left": ([((-1.0, 0.35, 0.55), 1.1, 6)], 0.08),
    "right": ([((1.0, 0.35, 0.55), 1.1, 6)], 0.08),
    "top": ([((0.0, 1.0, 0.35), 1.1, 6)], 0.08),
    "rim": ([((-1.0, 0.35, -0.7), 1.5, 6), ((1.0, 0.35, -0.7), 1.5, 6)], 0.06),
    "studio": ([((-0.7, 0.5, 0.8), 0.85, 10), ((0.9, 0.1, 0.8), 0.3, 15), ((0.6, 0.6, -0.9), 0.55, 8)], 0.1),
}


def preset_lights(name: str, view_to_world: np.ndarray) -> list:
    """The lights of a preset, turned from the view frame to the world by a (3, 3) rotation."""
    directional, ambient = PRESETS[name]
    lights = [
        DirectionalLight(view_to_world @ normalize(np.array(direction)), np.full(3, np.pi * level), np.radians(radius))
        for direction, level, radius in directional
    ]
    return [*lights, EnvironmentLight.constant(ambient)]


def parse_light(text: str, view_to_world: np.ndarray) -> list:
    """The lights that a text names: a preset, "dir:x,y,z" or the path of an equirectangular .hdr file.

    Directions are in the view frame (x right, y up, z towards the viewer), which the (3, 3) rotation turns to the
    world. "dir" has hard shadows and shows a white Lambertian facing it as 1; the center of an .hdr lies towards +z.
    Raises UsageError for anything else, UnsuitableImageError for a damaged .hdr.
    """
    if text in PRESETS:
        return preset_lights(text, view_to_world)
    if text.startswith("dir:"):
        try:
            direction = np.array([float(part) for part in text[4:].split(",")])
        except ValueError:
            direction = np.zeros(0)
        if direction.shape != (3,) or not np.isfinite(direction).all() or not direction.any():
            raise UsageError(
                f"{text!r} is no light direction; write dir:x,y,z with three numbers that are not all zero"
            )
        return [DirectionalLight(view_to_world @ normalize(direction), np.full(3, np.pi))]
    if Path(text).suffix.lower() == ".hdr":
        image = read_hdr(text)
        if image.shape[1] != 2 * image.shape[0]:
            raise UsageError(
                f"{text} is {image.shape[1]} x {image.shape[0]}; an environment map is twice as wide as high"
            )
        return [EnvironmentLight(image, view_to_world)]
    raise UsageError(f"no light {text!r}; use {', '.join(PRESETS)}, dir:x,y,z or the path of an .hdr file")
