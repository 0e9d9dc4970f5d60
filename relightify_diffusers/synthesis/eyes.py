"""Eyes painted on their islands of the atlas, and the mouth's inside."""

from __future__ import annotations

import numpy as np
from scipy.ndimage import map_coordinates
from scipy.special import expit

from relightify_diffusers.head.regions import EYE_ISLANDS
from relightify_diffusers.synthesis.noise import atlas_grid, fractal_noise
from relightify_diffusers.synthesis.sources import ATLAS_IRIS as IRIS
from relightify_diffusers.synthesis.sources import IRIS_EXTENT, IRIS_RADIUS, SkinSources

# Linear albedos of irises and how often each is drawn: browns, hazel, blue, green, gray.
IRIS_COLORS = np.array(
    [(0.045, 0.022, 0.012), (0.09, 0.045, 0.02), (0.17, 0.10, 0.045), (0.10, 0.16, 0.24), (0.12, 0.15, 0.08)]
    + [(0.20, 0.23, 0.25)]
)
IRIS_ODDS = (0.34, 0.22, 0.14, 0.14, 0.08, 0.08)
# Standard deviation of the gaze in atlas widths: 12 degrees.
GAZE = 0.0064
# The islands' centers look 6 degrees up: the iris of a level gaze lies this much lower, in the middle of the opening.
LEVEL = 0.45 * IRIS
MUCOSA, SCLERA = np.array([0.32, 0.11, 0.09]), np.array([0.62, 0.55, 0.50])


def paint_eyes(albedo: np.ndarray, sources: SkinSources, rng: np.random.Generator) -> np.ndarray:
    """Sclera, iris and pupil on the eye islands with a common gaze; mouth and sockets in the colors of mucosa.

    albedo: (N, N, 3) linear. Returns a new array.
    """
    size, masks = len(albedo), sources.masks
    gaze = rng.normal([0, LEVEL], [GAZE, 0.6 * GAZE])
    vergence = abs(rng.normal(0, 0.15 * GAZE))
    color = IRIS_COLORS[rng.choice(len(IRIS_ODDS), p=IRIS_ODDS)] * np.exp(rng.normal(0, 0.15, 3))
    sclera = SCLERA * rng.uniform(0.8, 1.12) * np.array([1, rng.uniform(0.94, 1.02), rng.uniform(0.86, 1.02)])
    pupil_size = rng.uniform(0.26, 0.52)
    veins = 1 + 0.06 * rng.uniform(0, 2) * fractal_noise(size, rng, 5, 0.8)[..., None] * np.array([0, 1, 1])
    pattern = _pattern(sources, rng)
    u, v = atlas_grid(size)
    result = albedo.copy()
    # A circle edge is as soft as a texel at least, so that coarse maps average rather than alias.
    soft = max(0.0008, 0.35 / size)
    for center_u, center_v in EYE_ISLANDS:
        eye = (masks["eyes"] > 0) & (np.abs(u - center_u) < 0.08)
        # The gaze moves both irises the same way; vergence turns them toward the nose.
        du = u - center_u - gaze[0] - vergence * np.sign(0.5 - center_u)
        dv = v - center_v - gaze[1]
        radius = np.hypot(du, dv)
        inside = expit((IRIS - radius) / soft)[..., None]
        pupil = expit((pupil_size * IRIS - radius) / soft)[..., None]
        limbus = 1 - 0.55 * np.exp(-(((radius - 0.93 * IRIS) / (0.10 * IRIS)) ** 2))[..., None]
        iris = color * pattern(du / IRIS, dv / IRIS)[..., None] * limbus
        shade = 1 - 0.35 * np.clip((radius - 0.03) / 0.03, 0, 1)[..., None]
        painted = sclera * veins * shade * (1 - inside) + (iris * (1 - pupil) + 0.006 * pupil) * inside
        result[eye] = painted[eye]
    cavity = MUCOSA * rng.uniform(0.7, 1.1)
    mouth = masks["inside"][..., None]
    return result * (1 - mouth) + cavity * mouth


def _pattern(sources: SkinSources, rng: np.random.Generator):
    """Function of positions in iris radii to a factor around 1: an iris picture's lightness, or radial fibers."""
    pick, turn = rng.integers(2**31), rng.uniform(0, 2 * np.pi)
    phases = rng.uniform(0, 2 * np.pi, 6)
    if sources.irises:
        image = sources.irises[pick % len(sources.irises)]
        half = image.shape[0] / 2
        scale = half / IRIS_EXTENT * IRIS_RADIUS

        def picture(x, y):
            turned = np.cos(turn) * x - np.sin(turn) * y, np.sin(turn) * x + np.cos(turn) * y
            columns, rows = (np.clip(t, -1.1, 1.1) * scale + half - 0.5 for t in turned)
            return np.clip(map_coordinates(image, [rows, columns], order=1, mode="nearest"), 0.3, 2.0)

        return picture

    def fibers(x, y):
        angle = np.arctan2(y, x)
        return 1 + 0.1 * sum(np.sin(k * angle + phase) for k, phase in zip((5, 9, 14, 23, 31, 44), phases))

    return fibers
