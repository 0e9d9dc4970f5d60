"""Random light on a head: photographed or procedural surroundings, flashes, lamps near the head and colored gels."""

from __future__ import annotations

import colorsys
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from relightify_diffusers.maps import LUMINANCE
from relightify_diffusers.rendering.mesh import normalize
from relightify_diffusers.rendering.spherical_harmonics import irradiance
from relightify_diffusers.synthesis.environments import (
    FINE,
    Environment,
    Source,
    aimed,
    lamp,
    sample_room,
    sample_sky,
    tint,
    to_cells,
)
from relightify_diffusers.synthesis.geometry import DIRECTIONS

# Share of the samples that stand in a given environment map, if there are any, and the odds of the other kinds.
HDRI_ODDS = 0.5
KIND_ODDS = {"sky": 0.28, "studio": 0.3, "room": 0.25, "flash": 0.1, "uniform": 0.07}

# Odds that one or two lamps with strongly colored gels are added, and that a lamp near the head is (not to flashes
# and uniform light).
GEL_ODDS, LAMP_ODDS = 0.05, 0.12

# How often the best of three random turns of the surroundings is taken, the one with most light on the face: people
# turn to the light for a portrait. Otherwise the first.
TOWARD_FACE = 0.75

# Largest share of even light that is added to all but uniform light: what reflectors, bright clothes, near walls and
# the local tone mapping of phones add to the shadows.
MAX_FILL = 0.4


# Portrait photographers' usual set-ups: lights of azimuth and elevation in degrees from the face's axis, radius of the
# lamp or softbox in meters at a distance of 1.5 m, and irradiance over pi.
STUDIOS: dict[str, tuple[tuple[float, float, float, float], ...]] = {
    "loop": ((40, 35, 0.35, 1.0), (-45, 10, 0.6, 0.3)),
    "rembrandt": ((60, 45, 0.25, 1.0), (-60, 10, 0.6, 0.12)),
    "butterfly": ((0, 48, 0.2, 1.0),),
    "clamshell": ((0, 40, 0.4, 1.0), (0, -35, 0.4, 0.5)),
    "split": ((85, 10, 0.25, 1.0),),
    "rim": ((145, 25, 0.2, 1.3), (-145, 25, 0.2, 1.3), (5, 15, 0.5, 0.4)),
    "ring": ((0, 2, 0.25, 1.0),),
    "cross": ((70, 15, 0.35, 1.0), (-70, 15, 0.35, 0.8)),
    "spot": ((35, 40, 0.03, 1.0),),
    "under": ((12, -45, 0.15, 1.0), (30, 40, 0.3, 0.25)),
    "three": ((45, 30, 0.3, 1.0), (-50, 15, 0.5, 0.35), (-150, 35, 0.15, 1.1)),
    "broad": ((-30, 25, 0.7, 1.0),),
}


@dataclass(frozen=True)
class Illumination:
    """A sampled light. radiance: (192, 3) of the cells around DIRECTIONS, without the sources, which cast shadows.

    kind: "hdri", "sky", "studio", "room", "flash" or "uniform". In radiance such that 1 all around shows white as 1.
    """

    kind: str
    radiance: np.ndarray
    sources: tuple[Source, ...]

    @property
    def sh(self) -> np.ndarray:
        """(9, 3) radiance coefficients of all of it, in the head frame; sources as seen from the face."""
        return Environment(self.kind, self.radiance, self.sources).sh


def sample_illumination(environments: Sequence[Environment], rng: np.random.Generator) -> Illumination:
    """Draw a light. environments: maps of which about half of the lights come; may be empty.

    Its mean irradiance over all orientations is around pi, for the camera to expose.
    """
    if len(environments) and rng.uniform() < HDRI_ODDS:
        kind = "hdri"
    else:
        odds = np.array(list(KIND_ODDS.values()))
        kind = list(KIND_ODDS)[rng.choice(len(odds), p=odds / odds.sum())]
    if kind == "uniform":
        light = Environment(kind, np.broadcast_to(tint(rng), DIRECTIONS.shape).copy())
    elif kind == "flash":
        light = sample_flash(rng)
    elif kind == "hdri":
        light = _turn(environments[int(rng.integers(len(environments)))], rng)
        light = light.scaled(tint(rng, 0.06))
    else:
        light = {"sky": sample_sky, "room": sample_room, "studio": sample_studio}[kind](rng)
        # A studio is built around the face; skies and rooms do not know of it.
        light = light if kind == "studio" else _turn(light, rng)
    light = light.scaled(np.pi / max(light.level @ LUMINANCE, 1e-9))
    if kind != "uniform":
        light = replace(light, radiance=light.radiance + rng.uniform(0, MAX_FILL) * tint(rng, 0.06))
    if kind not in ("flash", "uniform") and rng.uniform() < LAMP_ODDS:
        light = _add(light, [_near_lamp(rng)])
    if rng.uniform() < GEL_ODDS:
        light = _add(light.scaled(rng.uniform(0.1, 0.8)), _gels(rng))
    light = light.scaled(np.pi * np.exp(rng.normal(0, 0.25)) / (light.level @ LUMINANCE))
    return Illumination(kind, light.radiance, light.sources)


def sample_studio(rng: np.random.Generator) -> Environment:
    """Draw a photographer's set-up of one to three lamps before a black to gray background."""
    lights = STUDIOS[list(STUDIOS)[rng.integers(len(STUDIOS))]]
    side, color = rng.choice([-1, 1]), tint(rng, 0.1)
    sources = []
    for azimuth, elevation, radius, level in lights:
        distance = rng.uniform(0.9, 2.5)
        position = aimed(side * azimuth + rng.normal(0, 10), elevation + rng.normal(0, 8), distance)
        strength = np.pi * level * np.exp(rng.normal(0, 0.25)) * color * tint(rng, 0.06)
        sources.append(lamp(position, strength, radius * distance / 1.5 * np.exp(rng.normal(0, 0.3))))
    # Walls and reflectors send a little back: more from the sides that the lamps light.
    background = rng.uniform(0.03, 0.4) * tint(rng, 0.1)
    gradient = 1 + rng.uniform(-0.7, 0.7) * FINE @ normalize(rng.normal(size=3))
    return Environment("studio", to_cells(gradient[:, None] * background), tuple(sources))


def sample_flash(rng: np.random.Generator) -> Environment:
    """Draw a flash beside the lens of a camera at 0.3 to 1.5 m, in a dim room."""
    distance = rng.uniform(0.3, 1.5)
    position = aimed(rng.normal(0, 8), rng.normal(2, 6), distance)
    position = position + np.array([rng.normal(0, 0.02), rng.uniform(0, 0.1), 0])
    dim = sample_room(rng)
    dim = dim.scaled(np.pi * rng.uniform(0.02, 0.3) / max(dim.level @ LUMINANCE, 1e-9))
    flash = lamp(position, np.pi * tint(rng, 0.08), rng.uniform(0.005, 0.04))
    return Environment("flash", dim.radiance, (flash, *dim.sources))


def _turn(environment: Environment, rng: np.random.Generator) -> Environment:
    """Turn surroundings about the vertical, with a preference for light on the face."""
    yaws = rng.uniform(-np.pi, np.pi, 3)
    # A surface that faces forward is lit by what was at these directions before.
    fronts = np.stack([-np.sin(yaws), np.zeros(3), np.cos(yaws)], axis=-1)
    best = (irradiance(environment.sh, fronts) @ LUMINANCE).argmax()
    return environment.turned(yaws[best] if rng.uniform() < TOWARD_FACE else yaws[0])


def _near_lamp(rng: np.random.Generator) -> Source:
    """A lamp, screen or candle within reach of the head."""
    position = aimed(rng.uniform(-110, 110), rng.uniform(-35, 55), rng.uniform(0.35, 1.2))
    return lamp(position, np.pi * rng.uniform(0.5, 2.5) * tint(rng, 0.2), rng.uniform(0.02, 0.15))


def _gels(rng: np.random.Generator) -> list[Source]:
    """One or two lamps with gels, on opposite sides, of different hues."""
    hue, side = rng.uniform(), rng.choice([-1, 1])
    gels: list[Source] = []
    for index in range(rng.integers(1, 3)):
        shade = np.array(colorsys.hsv_to_rgb((hue + index * rng.uniform(0.25, 0.6)) % 1, rng.uniform(0.5, 0.9), 1.0))
        color = shade**2.2
        position = aimed(side * (1 - 2 * index) * rng.uniform(20, 120), rng.normal(10, 20), rng.uniform(0.8, 2.0))
        strength = np.pi * rng.uniform(1.0, 3.0) * color / max(color @ LUMINANCE, 0.15)
        gels.append(lamp(position, strength, rng.uniform(0.05, 0.3)))
    return gels


def _add(environment: Environment, sources: Sequence[Source]) -> Environment:
    return replace(environment, sources=(*environment.sources, *sources))
