"""One synthetic sample: geometry, skin and light put together as the 12 UV channels."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from relightify_diffusers.head.model import HeadModel
from relightify_diffusers.head.regions import roughness_map
from relightify_diffusers.maps import BACKGROUND, encode_normals, linear_to_srgb
from relightify_diffusers.rendering.atlas import interpolate
from relightify_diffusers.rendering.mesh import normalize
from relightify_diffusers.synthesis.geometry import Geometry, sample_geometry
from relightify_diffusers.synthesis.lights import Illumination, sample_light, shade_texture
from relightify_diffusers.synthesis.skin import SkinSources, sample_skin

# Shading variants of one geometry: new skin, new light, the same traced visibility.
VARIANTS = 4


@dataclass(frozen=True)
class Sample:
    """The 12 channels and how they came about.

    maps: name → (N, N, 3) float32 in [0, 1], BACKGROUND outside the atlas. geometry, light: what they were made from.
    tone: individual typology angle in degrees. exposure: factor from radiance to the camera's linear value.
    """

    maps: dict[str, np.ndarray]
    geometry: Geometry
    light: Illumination
    tone: float
    exposure: float


def generate(head: HeadModel, sources: SkinSources, seed: int, index: int, geometry: Geometry | None = None) -> Sample:
    """Sample `index` of `seed`; the same pair gives the same sample, whatever was generated before.

    geometry: that of the same group of VARIANTS samples, to save tracing it again.
    """
    geometry = geometry or geometry_of(head, seed, index)
    rng = np.random.default_rng([seed, 1, index])
    texels = sources.texels
    normals = normalize(interpolate(geometry.normals, head.triangles, texels))
    skin = sample_skin(sources, rng)
    light = sample_light(rng)
    roughness = roughness_map(sources.masks)
    texture, exposure = shade_texture(head, geometry, texels, skin, normals, roughness, light, rng)
    maps = {
        "texture": texture,
        "diffuse_albedo": linear_to_srgb(skin.diffuse_albedo),
        "specular_albedo": np.repeat(skin.specular[..., None], 3, axis=-1),
        "normals": encode_normals(normals),
    }
    outside = ~texels.inside
    for values in maps.values():
        values[outside] = BACKGROUND
    return Sample({k: m.astype(np.float32) for k, m in maps.items()}, geometry, light, skin.tone, exposure)


def geometry_of(head: HeadModel, seed: int, index: int) -> Geometry:
    """Geometry of sample `index`: shared by each group of VARIANTS consecutive samples."""
    return sample_geometry(head, np.random.default_rng([seed, 0, index // VARIANTS]))
