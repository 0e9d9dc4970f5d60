"""Random light on a head, and the texture that a photo of it would show."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from relightify_diffusers.head.model import HeadModel
from relightify_diffusers.maps import LUMINANCE, linear_to_srgb
from relightify_diffusers.rendering.atlas import AtlasTexels, interpolate
from relightify_diffusers.rendering.brdf import brdf, specular_albedo_terms, specular_f0
from relightify_diffusers.rendering.lights import DirectionalLight
from relightify_diffusers.rendering.mesh import normalize
from relightify_diffusers.rendering.rasterizer import offset_origins
from relightify_diffusers.rendering.spherical_harmonics import sh_basis
from relightify_diffusers.rendering.visibility import EYE_OPENNESS, VISIBILITY_OFFSET
from relightify_diffusers.synthesis.geometry import Geometry, eye_vertices
from relightify_diffusers.synthesis.skin import Skin

# Zonal coefficients of a clamped-cosine lobe, bands 0 to 2 (Ramamoorthi & Hanrahan 2001, equation 8).
LOBE = np.array([0.886227, 1.023328, 0.495416])


@dataclass(frozen=True)
class Illumination:
    """A sampled light. sh: (9, 3) radiance coefficients in the head frame. suns: directional lights with shadows."""

    sh: np.ndarray
    suns: tuple[DirectionalLight, ...]


def lobe_coefficients(direction: np.ndarray) -> np.ndarray:
    """Spherical harmonics (9,) of a clamped-cosine lobe about a unit direction (3,)."""
    bands = np.repeat([0, 1, 2], [1, 3, 5])
    return LOBE[bands] * np.sqrt(4 * np.pi / (2 * bands + 1)) * sh_basis(direction)


def sample_light(rng: np.random.Generator) -> Illumination:
    """Draw ambient light, one to three soft lobes and, in 45 % of the cases, a small source with shadows."""
    sh = np.zeros((9, 3))
    sh[0] = rng.uniform(0.1, 0.7) * _tint(rng) / 0.282095
    for strength in rng.uniform(0.2, 1.0, rng.integers(1, 4)):
        sh += strength * lobe_coefficients(_direction(rng))[:, None] * _tint(rng)
    suns: tuple[DirectionalLight, ...] = ()
    if rng.uniform() < 0.45:
        level = rng.uniform(0.3, 1.6) * np.pi * _tint(rng)
        suns = (DirectionalLight(_direction(rng), level, np.radians(rng.uniform(0.5, 9)), samples=9),)
    return Illumination(sh, suns)


def shade_texture(
    head: HeadModel,
    geometry: Geometry,
    texels: AtlasTexels,
    skin: Skin,
    normals: np.ndarray,
    roughness: np.ndarray,
    light: Illumination,
    rng: np.random.Generator,
) -> tuple[np.ndarray, float]:
    """Texture (N, N, 3), sRGB-encoded, that a camera in front of the head sees, and the exposure that was applied.

    normals: (N, N, 3) unit. Diffuse light is self-shadowed; the exposure puts a white surface in the brighter part of
    the face near 0.85 before it is varied, as an automatic exposure would.
    """
    inside = texels.inside
    view = normalize(np.array([*rng.normal(0, 0.12, 2), rng.uniform(0.5, 1.4)]))[None]
    n, s, rough = normals[inside], skin.specular[inside].astype(np.float64), roughness[inside]
    albedo = skin.diffuse_albedo[inside].astype(np.float64)

    transfer = interpolate(geometry.transfer, head.triangles, texels)[inside]
    irradiance = np.maximum(transfer @ light.sh, 0)
    openness = np.clip(transfer[:, :1] / 0.886227, 0, 1)
    # A texel that the camera cannot see has no highlight of its own: it gets that of a view bent to where it is seen.
    view = normalize(view + np.maximum(0.35 - (n * view).sum(-1), 0)[:, None] * n)
    n_dot_v = (n * view).sum(-1)
    scale, bias = specular_albedo_terms(n_dot_v.clip(0.02, 1), rough)
    mirror = 2 * n_dot_v[:, None] * n - view
    # A rough surface sees the light blurred: damp the bands by the lobe's width (Ramamoorthi & Hanrahan 2002, eq. 30).
    blur = np.exp(-(np.repeat([0, 1, 2], [1, 3, 5]) ** 2) * rough[:, None] ** 4)
    seen = np.maximum((sh_basis(mirror) * blur) @ light.sh, 0)
    specular = (specular_f0(s) * scale + bias)[:, None] * seen * openness
    radiance = albedo / np.pi * irradiance + specular

    white = irradiance / np.pi
    for sun in light.suns:
        lit = _lit(head, geometry, texels, sun)[inside]
        direction = normalize(np.asarray(sun.direction))[None]
        cosine = (n * direction).sum(-1).clip(0, None)
        arriving = (lit * cosine)[:, None] * sun.irradiance
        radiance += arriving * brdf(n, direction, view, albedo, s, rough)
        white += arriving / np.pi

    facing = n[:, 2] > 0.3
    exposure = 0.85 * np.exp(rng.normal(0, 0.18)) / np.quantile(white[facing].mean(-1), 0.85)
    # White balance: the camera takes out most of the light's color, more or less well. Without this, warm dark skin
    # would look to the priors like gray skin in warm light.
    cast = white[facing].mean(axis=0)
    adaptation = rng.uniform(0.5, 1.0)
    balance = (cast / (cast @ LUMINANCE)) ** -adaptation * np.exp(rng.normal(0, 0.03, 3))
    linear = np.clip(radiance * exposure * balance, 0, 1)
    encoded = camera_response(linear_to_srgb(linear), rng)
    encoded += rng.uniform(0, 0.012) * rng.normal(size=encoded.shape)
    texture = np.zeros((*inside.shape, 3), np.float32)
    texture[inside] = np.clip(encoded, 0, 1)
    return texture, float(exposure)


def camera_response(encoded: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Random tone curve and color saturation of a camera or a photographer's edit, on sRGB-encoded values (P, 3).

    Without it, the saturated skin of most published photos would look to the priors like darker skin.
    """
    encoded = encoded ** np.exp(rng.normal(0, 0.06))
    # A contrast curve that keeps black, middle gray and white.
    encoded = encoded + rng.uniform(0, 0.7) * encoded * (1 - encoded) * (2 * encoded - 1)
    gray = encoded @ LUMINANCE
    return gray[:, None] + np.exp(rng.normal(0.12, 0.14)) * (encoded - gray[:, None])


def _lit(head: HeadModel, geometry: Geometry, texels: AtlasTexels, sun: DirectionalLight) -> np.ndarray:
    """Share of a small source that each texel sees (N, N), traced at the vertices."""
    total = np.zeros(len(geometry.vertices))
    origins = offset_origins(geometry.vertices, geometry.normals, VISIBILITY_OFFSET)
    for direction, _, irradiance in sun.sample(origins):
        free = ~geometry.rasterizer.occluded(origins, np.broadcast_to(direction, origins.shape))
        total += free * irradiance[0] / sun.irradiance[0]
    eyes = eye_vertices(head)
    total[eyes] = EYE_OPENNESS
    return interpolate(total[:, None], head.triangles, texels)[..., 0]


def _direction(rng: np.random.Generator) -> np.ndarray:
    """Mostly from the front and above, as lights stand; sometimes from behind."""
    return normalize(np.array([rng.normal(0, 0.8), rng.normal(0.35, 0.5), rng.normal(0.6, 0.5)]))


def _tint(rng: np.random.Generator) -> np.ndarray:
    """A color of about unit luminance along warm to cool, with a little green or magenta; strong one time in ten."""
    strength = 0.5 if rng.uniform() < 0.1 else 0.16
    warm, green = rng.normal(0, strength), rng.normal(0, strength / 4)
    color = np.exp(np.array([warm, green, -warm]))
    return color / (color @ LUMINANCE)
