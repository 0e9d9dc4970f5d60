"""Light on the texels of a head: irradiance with shadows and bounces, subsurface light, highlights."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import torch
from scipy.ndimage import gaussian_filter1d, uniform_filter1d

from relightify_diffusers.head.model import EYES, HeadModel
from relightify_diffusers.maps import LUMINANCE
from relightify_diffusers.rendering.atlas import AtlasTexels, interpolate
from relightify_diffusers.rendering.brdf import (
    ggx_distribution,
    schlick_fresnel,
    smith_visibility,
    specular_albedo_terms,
    specular_f0,
)
from relightify_diffusers.rendering.environment import equirect_directions, ggx_lobe
from relightify_diffusers.rendering.lights import DirectionalLight
from relightify_diffusers.rendering.mesh import normalize
from relightify_diffusers.rendering.rasterizer import offset_origins
from relightify_diffusers.rendering.spherical_harmonics import irradiance, project
from relightify_diffusers.rendering.visibility import EYE_OPENNESS, VISIBILITY_OFFSET
from relightify_diffusers.synthesis.environments import Source
from relightify_diffusers.synthesis.geometry import DIRECTIONS, SOLID_ANGLE, Geometry, eye_vertices
from relightify_diffusers.synthesis.lights import Illumination

# Millimeters that a texel of the face covers at 256 texels; it goes with 1 / N.
TEXEL_MM = 1.2

# The six Gaussians of skin: variance in mm^2, weights in red, green and blue (d'Eon & Luebke 2007, GPU Gems 3,
# chapter 14, figure 14-13).
SKIN_PROFILE = (
    (0.0064, (0.233, 0.455, 0.649)),
    (0.0484, (0.100, 0.336, 0.344)),
    (0.187, (0.118, 0.198, 0.000)),
    (0.567, (0.113, 0.007, 0.007)),
    (1.99, (0.358, 0.004, 0.000)),
    (7.41, (0.078, 0.000, 0.000)),
)

# Gaussians narrower than this in texels change nothing that the texels could show.
MIN_BLUR = 0.4

# Width in millimeters of the surroundings whose light a hidden direction shows.
NEIGHBORHOOD_MM = 12.0

# How much of the surroundings, and of a source, the bottom of the deepest crease loses.
CREASE_OPENNESS, CREASE_SHADOW = 0.6, 0.35

# Roughness of the prefiltered surroundings: the cells do not resolve a narrower lobe.
LEVELS, GRID_HEIGHT = (0.35, 0.5, 0.7, 1.0), 16

# The least n.v: what the eye cannot see gets the view bent to where it is seen.
MIN_FACING = 0.35

# Shadow rays leave at least this far above the horizon (cosine): what is below it the cosine takes, not the mesh.
MIN_RAY = 0.06

# Vertices whose shares of a source differ by more than this have the shadow's edge between them, which is then traced
# at the texels, if the source is narrower than this (radians): a wider one has no edge.
EDGE, SHARP_SOURCE = 0.02, np.radians(8)


@dataclass(frozen=True)
class Shading:
    """Light on the texels; zero outside the atlas. Texture radiance = diffuse_albedo / pi * irradiance + specular.

    irradiance: (N, N, 3) that enters the skin: the Fresnel loss is taken, it is spread below the surface. specular:
    (N, N, 3) radiance of the highlights. shadow: (N, N) in [0, 1], share of the sources' light on a texel that other
    parts of the head take away.
    """

    irradiance: np.ndarray
    specular: np.ndarray
    shadow: np.ndarray


@dataclass(frozen=True)
class _Points:
    """The P texels of the atlas. mesh: (P, 3) normals of the traced mesh. view: (P, 3). traced: (P, 3) ray origins."""

    positions: np.ndarray
    traced: np.ndarray
    mesh: np.ndarray
    normals: np.ndarray
    view: np.ndarray
    n_dot_v: np.ndarray
    openness: np.ndarray
    creases: np.ndarray
    eyes: np.ndarray
    albedo: np.ndarray
    s: np.ndarray
    roughness: np.ndarray


@dataclass(frozen=True)
class _Direct:
    """Light of the sources. irradiance, entering, specular: (P, 3). full, kept: (P,) luminance without and with shadow."""

    irradiance: np.ndarray
    entering: np.ndarray
    specular: np.ndarray
    full: np.ndarray
    kept: np.ndarray


def shade(
    head: HeadModel,
    texels: AtlasTexels,
    geometry: Geometry,
    surface,
    illumination: Illumination,
    skin,
    eye: np.ndarray,
) -> Shading:
    """Light a head.

    surface: Surface of the same texels. skin: with diffuse_albedo (N, N, 3) linear, specular (N, N) and roughness
    (N, N). eye: (3,) position of the camera in the head frame. Without randomness, and linear in the light.
    """
    inside = texels.inside
    points = _points(head, texels, geometry, surface, skin, eye)
    radiance = np.asarray(illumination.radiance, np.float32)

    ambient = _flat(interpolate(geometry.gather @ radiance, head.triangles, texels), inside)
    ambient *= _detail(radiance, points)
    openness = points.openness * (1 - CREASE_OPENNESS * points.creases)
    ambient *= (1 - CREASE_OPENNESS * points.creases)[:, None]
    direct = _sources(head, texels, geometry, illumination.sources, points)

    # Skin that is seen instead of the surroundings.
    around = _neighborhood(ambient + direct.irradiance, openness, points, inside)
    ambient += np.where(points.eyes, 0, 1 - openness)[:, None] * around

    scale, bias = (x.astype(np.float32) for x in specular_albedo_terms(points.n_dot_v, points.roughness))
    reflected = specular_f0(points.s) * scale + bias
    entering = ambient * (1 - reflected)[:, None] + direct.entering
    specular = reflected[:, None] * _mirrored(radiance, openness, around, points) + direct.specular

    under = _scatter_below(_image(entering, inside), inside, _image(points.eyes, inside))
    shadow = 1 - direct.kept / np.maximum(direct.full, 1e-6 * max(float(direct.full.max(initial=0)), 1e-12))
    shadow = np.where(direct.full > 0, np.clip(shadow, 0, 1), 0)
    return Shading(under, _image(specular, inside), _image(shadow, inside))


def _flat(image: np.ndarray, inside: np.ndarray) -> np.ndarray:
    return image[inside].astype(np.float32)


def _image(values: np.ndarray, inside: np.ndarray) -> np.ndarray:
    """Values (P,) or (P, C) of the texels inside as an image (N, N) or (N, N, C), zero elsewhere."""
    image = np.zeros((*inside.shape, *values.shape[1:]), np.float32)
    image[inside] = values
    return image


def _points(head: HeadModel, texels: AtlasTexels, geometry: Geometry, surface, skin, eye: np.ndarray) -> _Points:
    inside = texels.inside
    baked = np.concatenate([geometry.normals, geometry.openness[:, None]], axis=1).astype(np.float32)
    baked = _flat(interpolate(baked, head.triangles, texels), inside)
    mesh, openness = normalize(baked[:, :3]), np.clip(baked[:, 3], 0, 1)
    positions, normals = _flat(surface.positions, inside), _flat(surface.normals, inside)
    view = normalize(np.asarray(eye, np.float32) - positions)
    facing = np.maximum(MIN_FACING - (normals * view).sum(-1), 0)
    view = normalize(view + facing[:, None] * normals)
    corners = head.triangles[texels.triangle[inside]]
    return _Points(
        positions=positions,
        traced=_lifted(geometry, corners, texels.bary[inside]),
        mesh=mesh,
        normals=normals,
        view=view,
        n_dot_v=(normals * view).sum(-1).clip(0.02, 1),
        openness=openness,
        creases=np.clip(_flat(surface.relief.creases, inside), 0, 1),
        eyes=head.atlas.triangle_regions[texels.triangle[inside]] == EYES,
        albedo=_flat(skin.diffuse_albedo, inside),
        s=_flat(skin.specular, inside),
        roughness=_flat(skin.roughness, inside),
    )


def _lifted(geometry: Geometry, corners: np.ndarray, bary: np.ndarray) -> np.ndarray:
    """Origins (P, 3) of shadow rays on the smooth surface that the vertex normals suggest, not on the flat triangles.

    Hanika 2021, "Hacking the Shadow Terminator" (Ray Tracing Gems II, chapter 4), listing 4-1.
    """
    vertices, normals = geometry.vertices.astype(np.float32), geometry.normals.astype(np.float32)
    bary = bary.astype(np.float32)
    flat = sum(bary[:, k, None] * vertices[corners[:, k]] for k in range(3))
    lifted = flat.copy()
    for k in range(3):
        normal = normals[corners[:, k]]
        height = np.minimum(((flat - vertices[corners[:, k]]) * normal).sum(-1), 0)
        lifted -= (bary[:, k] * height)[:, None] * normal
    return lifted


def _detail(radiance: np.ndarray, points: _Points) -> np.ndarray:
    """How much more unshadowed light (P, 3) the shading normals receive than those of the mesh."""
    sh = project(radiance, DIRECTIONS, np.full(len(DIRECTIONS), SOLID_ANGLE)).astype(np.float32)
    # The light of truncated harmonics can be near zero or below: a tenth of the mean keeps the ratio sound.
    floor = 0.1 * np.pi * radiance.mean(axis=0) + 1e-9
    with_detail = np.maximum(irradiance(sh, points.normals), 0) + floor
    return np.clip(with_detail / (np.maximum(irradiance(sh, points.mesh), 0) + floor), 0.3, 3).astype(np.float32)


def _sources(
    head: HeadModel, texels: AtlasTexels, geometry: Geometry, sources: tuple[Source, ...], points: _Points
) -> _Direct:
    count = len(points.positions)
    arriving, entering, specular = (np.zeros((count, 3), np.float32) for _ in range(3))
    full, kept = np.zeros(count, np.float32), np.zeros(count, np.float32)
    for source in sources:
        direction, facing, radius = _incident(source, points.positions)
        cosine = _cosine(points, direction, radius)
        lit = _lit(head, texels, geometry, source, points)
        luminance = cosine * (facing @ LUMINANCE)
        full += luminance
        kept += luminance * lit
        lit = lit * (1 - CREASE_SHADOW * points.creases)
        light = (cosine * lit)[:, None] * facing
        half = normalize(direction + points.view)
        fresnel = schlick_fresnel((points.view * half).sum(-1), specular_f0(points.s))
        # The disk of a source widens the highlight, as Karis 2013 does for area lights; the half vector turns by
        # half the angle.
        roughness = (points.roughness**4 + (radius / 2) ** 2) ** 0.25
        lobe = ggx_distribution((points.normals * half).sum(-1).clip(0, 1), roughness)
        n_dot_l = (points.normals * direction).sum(-1).clip(0.02, 1)
        lobe *= smith_visibility(n_dot_l, points.n_dot_v, roughness)
        arriving += light
        entering += (1 - fresnel)[:, None] * light
        specular += (fresnel * lobe)[:, None] * light
    return _Direct(arriving, entering, specular, full, kept)


def _incident(source: Source, positions: np.ndarray):
    """Direction (P, 3) or (1, 3) to a source, irradiance of surfaces that face it (the same), angular radius."""
    if isinstance(source, DirectionalLight):
        direction = normalize(np.asarray(source.direction, np.float32))[None]
        return direction, np.asarray(source.irradiance, np.float32)[None], np.float32(source.angular_radius)
    offset = np.asarray(source.position, np.float32) - positions
    # No texel lies inside a lamp.
    squared = np.maximum((offset**2).sum(-1), max(source.radius, 0.01) ** 2)
    distance = np.sqrt(squared)
    facing = np.asarray(source.intensity, np.float32) / squared[:, None]
    return offset / distance[:, None], facing, np.arctan(np.float32(source.radius) / distance)


def _cosine(points: _Points, direction: np.ndarray, radius: np.ndarray) -> np.ndarray:
    """Clamped cosine (P,) of the shading normal to a disk of light, without light from below the mesh's horizon."""

    def clamped(normals):
        # A disk sets gradually: the cosine, rounded off over its width.
        cosine, half = (normals * direction).sum(-1), np.maximum(np.sin(radius), 1e-4)
        return np.where(np.abs(cosine) < half, (cosine + half) ** 2 / (4 * half), np.maximum(cosine, 0))

    shading, mesh = clamped(points.normals), clamped(points.mesh)
    # The microfacet shadowing of bumps: Chiang et al. 2019, "Taming the Shadow Terminator", equation 3.
    agreement = np.maximum((points.normals * points.mesh).sum(-1), 0.1)
    g = np.minimum(mesh / np.maximum(shading * agreement, 1e-6), 1)
    return shading * g * (1 + g - g**2)


def _lit(head: HeadModel, texels: AtlasTexels, geometry: Geometry, source: Source, points: _Points) -> np.ndarray:
    """Share (P,) of a source that each texel sees: traced at the vertices, and at the texels on shadow edges."""
    corners = head.triangles[texels.triangle[texels.inside]]
    free = _visible(geometry, source, geometry.vertices, geometry.normals)
    free[eye_vertices(head)] = EYE_OPENNESS
    bary = texels.bary[texels.inside].astype(np.float32)
    lit = sum(bary[:, k] * free[corners[:, k]] for k in range(3))
    if np.max(_incident(source, np.zeros((1, 3), np.float32))[2]) < SHARP_SOURCE:
        # The range of the vertex and its neighbors, so that an edge beside a triangle is found, too.
        triangles = head.triangles
        high, low = free.copy(), free.copy()
        np.maximum.at(high, triangles.ravel(), np.repeat(free[triangles].max(axis=1), 3))
        np.minimum.at(low, triangles.ravel(), np.repeat(free[triangles].min(axis=1), 3))
        mixed = (high - low > EDGE)[triangles].any(axis=1)[texels.triangle[texels.inside]] & ~points.eyes
        lit[mixed] = _visible(geometry, source, points.traced[mixed], points.mesh[mixed])
    return np.where(points.eyes, np.float32(EYE_OPENNESS), lit)


def _visible(geometry: Geometry, source: Source, positions: np.ndarray, normals: np.ndarray) -> np.ndarray:
    """Share (P,) of the shadow rays from points to a source that are free."""
    origins = offset_origins(positions, normals, VISIBILITY_OFFSET).astype(np.float32)
    normals = normals.astype(np.float32)
    free = np.zeros(len(origins), np.float32)
    rays = 0
    for direction, distance, _ in source.sample(origins):
        direction = np.broadcast_to(direction, origins.shape).astype(np.float32)
        below = np.maximum(MIN_RAY - (direction * normals).sum(-1), 0)
        toward = direction + below[:, None] * normals
        limit = None
        if distance is not None:
            toward, limit = toward * distance[:, None].astype(np.float32), 1.0
        free += ~geometry.rasterizer.occluded(origins, toward, limit)
        rays += 1
    return free / rays


def _neighborhood(incoming: np.ndarray, openness: np.ndarray, points: _Points, inside: np.ndarray) -> np.ndarray:
    """Radiosity (P, 3) of the skin around each texel, all bounces: what hidden directions show, times pi.

    With E the irradiance that comes from outside, o the openness and a the albedo, each averaged over the
    neighborhood, radiosity is a (E + (1 - o) radiosity).
    """
    weight = (~points.eyes).astype(np.float32)
    values = np.concatenate([incoming, openness[:, None], points.albedo, np.ones_like(openness)[:, None]], axis=1)
    image = _image(values * weight[:, None], inside)
    size = inside.shape[0]
    # Twice a box is near a Gaussian, at a cost that does not grow with its width.
    width = max(1, round(NEIGHBORHOOD_MM / TEXEL_MM * size / 256))
    for axis in (0, 1, 0, 1):
        image = uniform_filter1d(image, width, axis=axis, mode="constant")
    mean = image[inside]
    mean = mean[:, :7] / np.maximum(mean[:, 7:], 1e-4)
    arriving, opened, albedo = mean[:, :3], mean[:, 3:4], np.clip(mean[:, 4:], 0, 1)
    return albedo * arriving / np.maximum(1 - albedo * (1 - opened), 0.05)


@lru_cache(maxsize=1)
def _lobes() -> np.ndarray:
    """Weights (levels * rows * columns, 192) of the cells in the mirror directions of a small equirectangular grid."""
    mirror = equirect_directions(GRID_HEIGHT)[0].reshape(-1, 3)
    lobes = np.concatenate([ggx_lobe(mirror @ DIRECTIONS.T, roughness) for roughness in LEVELS])
    return (lobes / lobes.sum(axis=1, keepdims=True)).astype(np.float32)


def _mirrored(radiance: np.ndarray, openness: np.ndarray, around: np.ndarray, points: _Points) -> np.ndarray:
    """Blurred radiance (P, 3) in the mirror directions: of the surroundings where they are open, else of skin."""
    width = 2 * GRID_HEIGHT
    levels = (_lobes() @ radiance).reshape(len(LEVELS), GRID_HEIGHT, width, 3)
    stack = torch.from_numpy(np.pad(levels, [(0, 0), (0, 0), (1, 1), (0, 0)], mode="wrap")).permute(3, 0, 1, 2)[None]
    mirror = 2 * points.n_dot_v[:, None] * points.normals - points.view
    column = (0.5 - np.arctan2(mirror[:, 0], mirror[:, 2]) / (2 * np.pi)) * width + 1
    row = np.arccos(np.clip(mirror[:, 1], -1, 1)) / np.pi
    level = np.interp(points.roughness, LEVELS, np.arange(len(LEVELS))) + 0.5
    grid = np.stack([column / (width + 2), row, level / len(LEVELS)], axis=-1) * 2 - 1
    where = torch.from_numpy(grid.astype(np.float32))[None, None, None]
    found = torch.nn.functional.grid_sample(stack, where, padding_mode="border", align_corners=False)
    found = found[0, :, 0, 0].T.numpy()
    # Specular occlusion from ambient occlusion: Lagarde & de Rousiers 2014, "Moving Frostbite to Physically Based
    # Rendering", listing 26.
    open_share = np.clip((points.n_dot_v + openness) ** np.exp2(-16 * points.roughness - 1) - 1 + openness, 0, 1)[
        :, None
    ]
    return open_share * found + (1 - open_share) * np.where(points.eyes[:, None], 0, around / np.pi)


def _scatter_below(image: np.ndarray, inside: np.ndarray, eyes: np.ndarray) -> np.ndarray:
    """Spread light (N, N, 3) below the skin by SKIN_PROFILE, within the atlas and not on the eyes (N, N)."""
    skin = (inside & (eyes == 0)).astype(np.float32)
    texel = TEXEL_MM * 256 / inside.shape[0]
    result, weights = np.zeros_like(image), np.zeros(3, np.float32)
    for variance, weight in SKIN_PROFILE:
        sigma = np.sqrt(variance) / texel
        if sigma < MIN_BLUR:
            continue
        share = np.array(weight, np.float32)
        channels = np.flatnonzero(share > 0.01)
        stack = np.concatenate([image[..., channels], np.ones_like(skin)[..., None]], axis=-1) * skin[..., None]
        for axis in (0, 1):
            stack = gaussian_filter1d(stack, sigma, axis=axis, mode="constant", truncate=3)
        result[..., channels] += share[channels] * stack[..., :-1] / np.maximum(stack[..., -1:], 1e-6)
        weights[channels] += share[channels]
    result += (1 - weights) * image
    return np.where(skin[..., None] > 0, result, image)
