"""Which texels of a face a photo shows: the side turned to the camera, less what covers it and what is not trusted."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from scipy.ndimage import gaussian_filter

from relightify_diffusers.head.model import EYES, INSIDE, SKIN, HeadModel
from relightify_diffusers.rendering.atlas import AtlasTexels
from relightify_diffusers.rendering.mesh import normalize
from relightify_diffusers.rendering.visibility import seen_from
from relightify_diffusers.synthesis.geometry import Geometry
from relightify_diffusers.synthesis.occluders import OCCLUDERS, Scene, View, smooth_noise
from relightify_diffusers.texturing.unwrap import without_islands

if TYPE_CHECKING:
    from relightify_diffusers.synthesis.surface import Surface

# The camera: mostly in front, as people are photographed, sometimes anywhere before the ears. Degrees and meters.
YAW_SIGMA, ANY_YAW_ODDS, MAX_YAW = 14.0, 0.22, 90.0
PITCH_MEAN, PITCH_SIGMA, MAX_PITCH = -2.0, 8.0, 35.0
ROLL_SIGMA = 6.0
DISTANCE = (0.4, 2.0)

# Cosine of the steepest view that is used: about the threshold of texturing/unwrap.py, which is 0.28.
MIN_COSINE = (0.24, 0.36)
# An occluder that leaves less than this share of the skin in view is not used, one that covers less is not named.
LEAST_LEFT, LEAST_NAMED = 0.4, 0.005

# Flaws of a mask: odds of holes in shadow, of patches at folds and of holes anywhere.
SHADOW_ODDS, PATCH_ODDS, HOLE_ODDS = 0.12, 0.65, 0.25
# Where patches are lost, each with these odds on one or both sides: corners of the eyes and sockets, nose wings,
# nasolabial folds, under the lip (pairs of iBUG landmarks of the subject's right between which they lie).
FOLDS, FOLD_ODDS, BOTH_SIDES_ODDS = ((36, 36), (39, 39), (40, 41), (31, 31), (31, 48), (31, 48), (57, 8)), 0.4, 0.6
# Blur of the border in atlas widths (what is narrower vanishes), its mean level and how far noise moves the level:
# a guard steps back by about two of 256 texels.
BORDER_BLUR, BORDER_LEVEL, BORDER_NOISE = 2.0 / 256, 0.8, 0.14
# Texels: a narrower blur than this does not act on the texels of a coarse map, whose border would stay where it is.
LEAST_BLUR = 0.6


@dataclass(frozen=True)
class ObservedMask:
    """What a photo shows of the atlas.

    observed: (N, N) bool. yaw, pitch: of the camera about the head in degrees, positive towards the subject's left and
    up. occluders: names of what covered part of the face, a subset of the names in OCCLUDERS.
    """

    observed: np.ndarray
    yaw: float
    pitch: float
    occluders: tuple[str, ...]


def sample_mask(
    head: HeadModel, texels: AtlasTexels, geometry: Geometry, surface: Surface, rng: np.random.Generator
) -> ObservedMask:
    """Draw a camera and occluders and return which texels are observed.

    surface: its `positions` and `smooth` normals at the texels. The same generator gives the same mask, and nearly
    the same at another map resolution.
    """
    landmarks = head.landmarks(geometry.vertices)
    view = sample_view(landmarks, rng)
    visible = visible_texels(head, texels, geometry, surface, view, rng.uniform(*MIN_COSINE))
    region = head.atlas.regions_at(texels.triangle)
    scene = Scene.of(view, landmarks, surface.positions[visible].astype(np.float64))
    covered, names = cover(scene, region[visible] == SKIN, rng)
    kept = visible.copy()
    kept[visible] = ~covered
    skin = region == SKIN
    trusted = kept & skin
    trusted[trusted] = ~flaws(head.landmark_uv, texel_places(trusted), surface.smooth[trusted], rng)
    observed = ragged(trusted, skin, rng)
    return ObservedMask(without_islands(observed) | (kept & (region == EYES)), view.yaw, view.pitch, names)


def sample_view(landmarks: np.ndarray, rng: np.random.Generator) -> View:
    """Draw a camera about the face with landmarks (68, 3)."""
    anywhere, yaw, sideways = rng.uniform(), rng.normal(0, YAW_SIGMA), rng.uniform(-MAX_YAW, MAX_YAW)
    yaw = sideways if anywhere < ANY_YAW_ODDS else yaw
    pitch = float(np.clip(rng.normal(PITCH_MEAN, PITCH_SIGMA), -MAX_PITCH, MAX_PITCH))
    distance = float(np.exp(rng.uniform(*np.log(DISTANCE))))
    return View.around(landmarks.mean(axis=0) * [0, 1, 0.8], float(yaw), pitch, rng.normal(0, ROLL_SIGMA), distance)


def visible_texels(
    head: HeadModel, texels: AtlasTexels, geometry: Geometry, surface: Surface, view: View, min_cosine: float
) -> np.ndarray:
    """Skin and eye texels (N, N) bool that face a camera by more than `min_cosine` and that the head does not hide."""
    region = head.atlas.regions_at(texels.triangle)
    facing = region != INSIDE
    sight = view.eye.astype(np.float32) - surface.positions[facing]
    # The dot products first, then one square root: cheaper than unit vectors.
    towards = np.einsum("pk,pk->p", surface.smooth[facing], sight)
    facing[facing] = towards > min_cosine * np.sqrt(np.einsum("pk,pk->p", sight, sight))
    points, normals = surface.positions[facing], surface.smooth[facing]
    facing[facing] = seen_from(view.eye, points, normals, np.ones(len(points), bool), geometry.rasterizer)
    return facing


def cover(scene: Scene, skin: np.ndarray, rng: np.random.Generator) -> tuple[np.ndarray, tuple[str, ...]]:
    """Draw occluders: which of the scene's texels they cover (P,) bool, and the names of those that do.

    skin: (P,) bool, the texels that count for LEAST_LEFT.
    """
    covered = np.zeros(len(scene.points), bool)
    names = []
    for name, odds, draw in OCCLUDERS:
        if rng.uniform() >= odds:
            continue
        more = covered | draw(scene, rng)
        if (~more & skin).sum() < LEAST_LEFT * skin.sum():
            continue
        if (more & ~covered & skin).sum() >= LEAST_NAMED * skin.sum():
            names.append(name)
        covered = more
    return covered, tuple(names)


def texel_places(mask: np.ndarray) -> np.ndarray:
    """Centers (P, 2) in the atlas, u and v, of the texels of a mask (N, N) bool."""
    v, u = np.nonzero(mask)
    return (np.stack([u, v], axis=1) + 0.5) / len(mask)


def flaws(uv: np.ndarray, place: np.ndarray, normals: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Which texels (P,) bool a classifier of skin takes for something else: shadow, folds, spots.

    uv: (68, 2) landmarks in the atlas. place: (P, 2) the texels' centers in the atlas. normals: (P, 3) unit.
    """
    lost = np.zeros(len(place), bool)
    grain = smooth_noise(place, rng, 0.03)
    if rng.uniform() < SHADOW_ODDS:
        side = rng.choice([-1, 1]) * rng.uniform(0.5, 1)
        light = normalize(np.array([side, rng.normal(0.1, 0.4), rng.uniform(0.2, 0.9)]))
        lost |= normals @ light < rng.uniform(-0.5, 0.05) + 0.08 * grain
    if rng.uniform() < PATCH_ODDS:
        lost |= fold_patches(uv, place, grain, rng)
    if rng.uniform() < HOLE_ODDS:
        lost |= smooth_noise(place, rng, rng.uniform(0.03, 0.1)) > rng.uniform(1.8, 2.8)
    return lost


def fold_patches(uv: np.ndarray, place: np.ndarray, grain: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Texels (P,) in ragged patches at the folds FOLDS. uv: (68, 2) landmarks. place: (P, 2) atlas. grain: (P,)."""
    lost = np.zeros(len(place), bool)
    for first, second in FOLDS:
        if rng.uniform() > FOLD_ODDS:
            continue
        center = uv[first] + rng.uniform(0.1, 0.8) * (uv[second] - uv[first]) - [0.02 * (first == 31), 0]
        both, right = rng.uniform() < BOTH_SIDES_ODDS, rng.uniform() < 0.5
        for side in (1, -1):
            middle = np.where([side > 0, True], center, [1 - center[0], center[1]]) + rng.normal(0, 0.006, 2)
            radii = np.exp(rng.normal(np.log([0.008, 0.016]), 0.4))
            turn = side * rng.normal(0.4, 0.3)
            rotation = np.array([[np.cos(turn), -np.sin(turn)], [np.sin(turn), np.cos(turn)]])
            if both or right == (side > 0):
                offset = (place - middle) @ rotation / radii
                lost |= np.hypot(*offset.T) < 1 + 0.3 * grain
    return lost


def ragged(kept: np.ndarray, skin: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Step back from the border of what was kept (N, N) by a distance that varies along it, and drop what is thin.

    Outside the skin chart counts as kept: lids and lips end at holes of the chart, not at something that covers them.
    """
    size = len(kept)
    strength = rng.uniform(0, 1)
    noise = smooth_noise(texel_places(kept), rng, 0.02)
    blurred = gaussian_filter((kept | ~skin).astype(np.float32), max(BORDER_BLUR * size, LEAST_BLUR))
    level = BORDER_LEVEL + BORDER_NOISE * strength * noise
    result = np.zeros_like(kept)
    result[kept] = blurred[kept] > np.clip(level, 0.3, 0.97)
    return result
