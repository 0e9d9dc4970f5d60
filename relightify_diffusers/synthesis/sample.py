"""One training sample: the 12 UV channels, what a photo would show of them, and how they came about."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from relightify_diffusers.head.model import HeadModel
from relightify_diffusers.maps import BACKGROUND, encode_normals, linear_to_srgb
from relightify_diffusers.rendering.lights import DirectionalLight
from relightify_diffusers.synthesis.camera import (
    Development,
    View,
    photograph,
    sample_development,
    sample_view,
)
from relightify_diffusers.synthesis.chromophores import TONE_RANGE
from relightify_diffusers.synthesis.geometry import Geometry, sample_geometry
from relightify_diffusers.synthesis.lights import Illumination, sample_illumination
from relightify_diffusers.synthesis.masks import ObservedMask, sample_mask
from relightify_diffusers.synthesis.shading import Shading, shade
from relightify_diffusers.synthesis.skin import Skin, sample_skin
from relightify_diffusers.synthesis.sources import SkinSources
from relightify_diffusers.synthesis.surface import Surface, sample_surface

# Shading variants of one geometry: new skin, light, photo and mask, the same traced visibility, relief and camera.
VARIANTS = 4
GOLDEN_RATIO = (1 + 5**0.5) / 2


@dataclass(frozen=True)
class Subject:
    """What the variants of one geometry share. geometry, surface, view: as sampled."""

    geometry: Geometry
    surface: Surface
    view: View


@dataclass(frozen=True)
class Sample:
    """A training sample.

    maps: name → (N, N, 3) float32 in [0, 1], BACKGROUND outside the atlas. observed: (N, N) bool, what some photo of
    this head would show. record: parameters as plain numbers, strings and lists. geometry: of the head.
    """

    maps: dict[str, np.ndarray]
    observed: np.ndarray
    record: dict[str, Any]
    geometry: Geometry

    @property
    def tone(self) -> float:
        """Individual typology angle of the skin in degrees."""
        return self.record["tone"]


def geometry_of(head: HeadModel, sources: SkinSources, seed: int, index: int) -> Subject:
    """Subject of sample `index`: shared by each group of VARIANTS consecutive samples."""
    streams = np.random.default_rng([seed, 0, index // VARIANTS]).spawn(3)
    geometry = sample_geometry(head, streams[0])
    surface = sample_surface(head, sources.sampler, sources.masks, geometry, streams[1])
    return Subject(geometry, surface, sample_view(head, sources.texels, geometry, surface, streams[2]))


def generate(head: HeadModel, sources: SkinSources, seed: int, index: int, subject: Subject | None = None) -> Sample:
    """Sample `index` of `seed`; the same pair gives the same sample, whatever was generated before.

    subject: that of the same group of VARIANTS samples, to save tracing it again.
    """
    subject = subject or geometry_of(head, sources, seed, index)
    geometry, surface, view, texels = subject.geometry, subject.surface, subject.view, sources.texels
    # Independent streams: how many numbers one part draws changes nothing in the others.
    streams = np.random.default_rng([seed, 1, index]).spawn(5)
    # 1. Skin and light, each without regard to the other.
    skin = sample_skin(head, sources, geometry.person, surface.relief, streams[0], tone_of(seed, index))
    light = sample_illumination(sources.environments, streams[1])
    # 2. Shading on linear values.
    shading = shade(head, texels, geometry, surface, light, skin, view.camera.center)
    radiance = radiance_of(skin.diffuse_albedo, shading)
    # 3. The photo and its unwrapping.
    face = face_texels(sources)
    development = sample_development(shading.irradiance, face & (surface.smooth[..., 2] > 0.3), streams[2])
    texture = photograph(radiance, texels, view, development, streams[3])
    mask = sample_mask(head, texels, geometry, surface, streams[4])
    maps = {
        "texture": texture,
        "diffuse_albedo": linear_to_srgb(skin.diffuse_albedo).astype(np.float32),
        "specular_albedo": np.repeat(skin.specular[..., None], 3, axis=-1).astype(np.float32),
        "normals": encode_normals(surface.normals).astype(np.float32),
    }
    for values in maps.values():
        values[~texels.inside] = BACKGROUND
    record = _record(index, geometry, skin, light, shading, view, development, mask, face, texture)
    return Sample(maps, mask.observed, record, geometry)


def tone_of(seed: int, index: int) -> float:
    """Skin tone of a sample in degrees: any run of consecutive samples covers TONE_RANGE evenly.

    Weyl's sequence of the golden ratio, from a start of the seed.
    """
    start = np.random.default_rng([seed, 2]).uniform()
    low, high = TONE_RANGE
    return low + (high - low) * ((start + index / GOLDEN_RATIO) % 1)


def radiance_of(diffuse_albedo: np.ndarray, shading: Shading) -> np.ndarray:
    """Linear radiance (N, N, 3) towards the camera: albedo / pi times irradiance, plus the specular reflection."""
    return diffuse_albedo / np.pi * shading.irradiance + shading.specular


def face_texels(sources: SkinSources) -> np.ndarray:
    """(N, N) bool, the skin without scalp: where light, exposure and statistics are measured."""
    return (sources.masks["skin"] > 0) & (sources.masks["scalp"] < 0.5)


def _record(
    index: int,
    geometry: Geometry,
    skin: Skin,
    light: Illumination,
    shading: Shading,
    view: View,
    development: Development,
    mask: ObservedMask,
    face: np.ndarray,
    texture: np.ndarray,
) -> dict[str, Any]:
    person = geometry.person
    seen = face & (view.weight > 0.5) if (face & (view.weight > 0.5)).any() else face
    white = shading.irradiance[seen].mean(axis=0) / np.pi
    return {
        "subject": index // VARIANTS,
        "age": float(person.age),
        "gender": float(person.gender),
        "weight": float(person.weight),
        "ancestry": [float(x) for x in person.ancestry],
        "identity": [float(x) for x in person.identity],
        "expression": [float(x) for x in geometry.expression],
        "tone": skin.tone,
        "features": list(skin.features),
        "light_kind": light.kind,
        "light_sh": [float(x) for x in light.sh.ravel()],
        "sources": [_source_row(source) for source in light.sources],
        "exposure": development.exposure,
        "white_balance": [float(x) for x in development.white_balance],
        "camera_K": [float(x) for x in view.camera.K.ravel()],
        "camera_world_to_camera": [float(x) for x in view.camera.world_to_camera.ravel()],
        "mask_yaw": float(mask.yaw),
        "mask_pitch": float(mask.pitch),
        "occluders": list(mask.occluders),
        "shadowed": float((shading.shadow[seen] > 0.5).mean()),
        "clipped": float((texture[seen].max(axis=-1) > 0.995).mean()),
        "light_saturation": float((white.max() - white.min()) / max(white.max(), 1e-9)),
        "light_level": float(development.exposure * white.mean()),
        "sharpness": skin.sharpness,
    }


def _source_row(source) -> list[float]:
    """[0, direction, irradiance, angular radius] or [1, position, intensity, radius in meters]."""
    if isinstance(source, DirectionalLight):
        return [0.0, *map(float, source.direction), *map(float, source.irradiance), float(source.angular_radius)]
    return [1.0, *map(float, source.position), *map(float, source.intensity), float(source.radius)]
