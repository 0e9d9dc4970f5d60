"""Held-out synthetic subjects with ground truth, seen as a photo at some yaw would show them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from scipy.ndimage import binary_erosion, binary_opening

from relightify_diffusers.head.model import HeadModel
from relightify_diffusers.maps import LAYOUT
from relightify_diffusers.rendering.atlas import AtlasTexels, bake_atlas
from relightify_diffusers.synthesis import masks
from relightify_diffusers.synthesis.geometry import Geometry
from relightify_diffusers.synthesis.occluders import View
from relightify_diffusers.synthesis.sample import VARIANTS, face_texels, generate, geometry_of
from relightify_diffusers.synthesis.sources import SkinSources
from relightify_diffusers.synthesis.surface import Surface
from relightify_diffusers.texturing.detail import shrink

# Samples of `relightify synthesize` are drawn from seeds that users choose; evaluation adds this to stay apart.
SEED_OFFSET = 1_000_003
CAMERA_DISTANCE = 1.2  # meters
MIN_COSINE = 0.28


@dataclass(frozen=True)
class Subject:
    """A held-out sample. maps: name → (R, R, 3) float32 in [0, 1], the truth. observed: (R, R) bool. yaw: degrees.
    face: (R, R) bool, skin of face and neck without scalp, over which the maps are compared. tone: ITA in degrees."""

    maps: dict[str, np.ndarray]
    observed: np.ndarray
    yaw: float
    face: np.ndarray
    tone: float


def subjects(
    head: HeadModel, count: int, resolution: int, seed: int, yaws: tuple[float, ...], assets=None
) -> Iterator[Subject]:
    """Yield `count` subjects of as many identities, the yaws in turn; maps are averaged from twice the texels."""
    texels = bake_atlas(head.atlas.uv, head.atlas.uv_triangles, 2 * resolution)
    sources = SkinSources.load(head, texels, assets)
    everything = np.ones((2 * resolution, 2 * resolution), bool)
    face = face_texels(sources)
    face = shrink(np.repeat(face[..., None], 3, -1).astype(np.float32), everything, resolution).texture[0] > 0.9
    for number in range(count):
        person = geometry_of(head, sources, seed + SEED_OFFSET, number * VARIANTS)
        sample = generate(head, sources, seed + SEED_OFFSET, number * VARIANTS, person)
        yaw = yaws[number % len(yaws)]
        visible = visible_texels(head, texels, person.geometry, person.surface, yaw) & (sources.masks["scalp"] < 0.5)
        observed = shrink(np.zeros((*visible.shape, 3), np.float32), visible, resolution).observed
        maps = {
            name: shrink(sample.maps[name], everything, resolution).texture.transpose(1, 2, 0) for name in LAYOUT.names
        }
        yield Subject(maps, observed, yaw, face, sample.tone)


def visible_texels(
    head: HeadModel, texels: AtlasTexels, geometry: Geometry, surface: Surface, yaw: float
) -> np.ndarray:
    """Texels (N, N) bool that a camera at a yaw (degrees, positive to the subject's left) sees well enough."""
    view = View.around(np.zeros(3), yaw, 0.0, 0.0, CAMERA_DISTANCE)
    return binary_erosion(binary_opening(masks.visible_texels(head, texels, geometry, surface, view, MIN_COSINE)))
