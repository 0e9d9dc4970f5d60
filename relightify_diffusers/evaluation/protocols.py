"""Held-out synthetic subjects with ground truth, seen as a photo at some yaw would show them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from scipy.ndimage import binary_erosion, binary_opening

from relightify_diffusers.head.model import INSIDE, HeadModel
from relightify_diffusers.maps import LAYOUT
from relightify_diffusers.rendering.atlas import AtlasTexels, bake_atlas, interpolate
from relightify_diffusers.rendering.mesh import normalize
from relightify_diffusers.rendering.visibility import seen_from
from relightify_diffusers.synthesis.geometry import Geometry
from relightify_diffusers.synthesis.sample import VARIANTS, generate
from relightify_diffusers.synthesis.sources import SkinSources
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
    face = (sources.masks["skin"] > 0) & (sources.masks["scalp"] < 0.5)
    face = shrink(np.repeat(face[..., None], 3, -1).astype(np.float32), everything, resolution).texture[0] > 0.9
    for number in range(count):
        sample = generate(head, sources, seed + SEED_OFFSET, number * VARIANTS)
        yaw = yaws[number % len(yaws)]
        visible = visible_texels(head, sample.geometry, texels, yaw) & (sources.masks["scalp"] < 0.5)
        observed = shrink(np.zeros((*visible.shape, 3), np.float32), visible, resolution).observed
        maps = {
            name: shrink(sample.maps[name], everything, resolution).texture.transpose(1, 2, 0) for name in LAYOUT.names
        }
        yield Subject(maps, observed, yaw, face, sample.tone)


def visible_texels(head: HeadModel, geometry: Geometry, texels: AtlasTexels, yaw: float) -> np.ndarray:
    """Texels (N, N) bool that a camera at a yaw (degrees, positive to the subject's left) sees well enough."""
    angle = np.radians(yaw)
    camera = CAMERA_DISTANCE * np.array([np.sin(angle), 0, np.cos(angle)])
    region = np.where(texels.inside, head.atlas.triangle_regions[texels.triangle], INSIDE)
    points = interpolate(geometry.vertices, head.triangles, texels)
    normals = normalize(interpolate(geometry.normals, head.triangles, texels))
    facing = (region != INSIDE) & ((normals * normalize(camera - points)).sum(-1) > MIN_COSINE)
    visible = seen_from(camera, points, normals, facing, geometry.rasterizer)
    return binary_erosion(binary_opening(visible))
