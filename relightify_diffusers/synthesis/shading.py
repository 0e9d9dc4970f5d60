"""Light on the texels of a head: irradiance with shadows and bounces, subsurface light, highlights."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import lru_cache

import numpy as np
import torch
from scipy.ndimage import uniform_filter1d
from scipy.sparse import csr_matrix

from relightify_diffusers.head.model import EYES, HeadModel
from relightify_diffusers.maps import LUMINANCE
from relightify_diffusers.rendering.atlas import AtlasTexels, dilate
from relightify_diffusers.rendering.brdf import (
    ggx_distribution,
    schlick_fresnel,
    smith_visibility,
    specular_albedo_terms,
    specular_f0,
)
from relightify_diffusers.rendering.environment import equirect_directions, ggx_lobe
from relightify_diffusers.rendering.mesh import normalize
from relightify_diffusers.rendering.rasterizer import offset_origins
from relightify_diffusers.rendering.spherical_harmonics import irradiance, project
from relightify_diffusers.rendering.visibility import EYE_OPENNESS, VISIBILITY_OFFSET
from relightify_diffusers.synthesis.environments import Source, incident
from relightify_diffusers.synthesis.geometry import DIRECTIONS, SOLID_ANGLE, Geometry, eye_vertices
from relightify_diffusers.synthesis.lights import Illumination
from relightify_diffusers.synthesis.skin import Skin
from relightify_diffusers.synthesis.subsurface import TEXEL_MM, scatter_below
from relightify_diffusers.synthesis.surface import Surface

# Width in millimeters of the surroundings whose light a hidden direction shows.
NEIGHBORHOOD_MM = 12.0

# How much of the surroundings, and of a source, the bottom of the deepest crease loses.
CREASE_OPENNESS, CREASE_SHADOW = 0.6, 0.35

# Roughness of the prefiltered surroundings: the cells do not resolve a narrower lobe.
LEVELS, GRID_HEIGHT = (0.35, 0.5, 0.7, 1.0), 16

# The least n.v, reached gradually: what the eye cannot see gets the view bent to where it is seen.
MIN_FACING, BEND = 0.35, 0.15

# Shadow rays leave at least this far above the horizon (cosine): what is below it the cosine takes, not the mesh.
MIN_RAY = 0.06

# Vertices whose shares of a source differ by more than this have the shadow's edge between them, which is then traced
# at the texels, if the source is narrower than this (radians): a wider one has no edge.
EDGE, SHARP_SOURCE = 0.02, np.radians(7)

# Shadow rays by which the vertices find the edges of a sharp source's shadow; below this cosine they look for none.
PROBES, FAR_BELOW = 4, -0.35

# How far before an eyeball the lids are passed, in meters.
LID_DEPTH = 0.003


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
    """The P texels of the atlas.

    bake: (P, V) barycentric weights of the vertices. triangle: (P,). bary: (P, 3). flat, mesh: (P, 3) points and
    normals of the traced mesh. positions, normals, view, albedo: (P, 3). The others: (P,).
    """

    bake: csr_matrix
    triangle: np.ndarray
    bary: np.ndarray
    flat: np.ndarray
    mesh: np.ndarray
    positions: np.ndarray
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
    """Light of the sources: irradiance, specular (P, 3); its luminance before and after shadows (P,)."""

    irradiance: np.ndarray
    specular: np.ndarray
    full: np.ndarray
    kept: np.ndarray


def shade(
    head: HeadModel,
    texels: AtlasTexels,
    geometry: Geometry,
    surface: Surface,
    illumination: Illumination,
    skin: Skin,
    eye: np.ndarray,
) -> Shading:
    """Light a head.

    surface: of the same texels. skin: with diffuse_albedo (N, N, 3) linear, specular (N, N) and roughness (N, N).
    eye: (3,) position of the camera in the head frame. Without randomness; what sources give adds up.
    """
    inside = texels.inside
    points = _points(head, texels, geometry, surface, skin, eye)
    radiance = np.asarray(illumination.radiance, np.float32)

    exposed = 1 - CREASE_OPENNESS * points.creases
    ambient = points.bake @ (geometry.gather @ radiance)
    ambient *= _detail(radiance, points) * exposed[:, None]
    openness = points.openness * exposed
    direct = _sources(head, geometry, illumination.sources, points)

    # Skin that is seen instead of the surroundings.
    around = _neighborhood(ambient + direct.irradiance, openness, points, inside)
    ambient += np.where(points.eyes, 0, 1 - openness)[:, None] * around

    scale, bias = specular_albedo_terms(points.n_dot_v, points.roughness)
    reflected = specular_f0(points.s) * scale + bias
    # What the surface reflects towards the eye does not enter, so that no light is made.
    entering = (ambient + direct.irradiance) * (1 - reflected)[:, None]
    specular = reflected[:, None] * _mirrored(radiance, openness, around, points) + direct.specular

    under = scatter_below(_image(entering, inside), inside, _image(points.eyes, inside))
    shadow = np.clip(1 - direct.kept / np.where(direct.full > 0, direct.full, 1), 0, 1) * (direct.full > 0)
    return Shading(under, _image(specular, inside), _image(shadow, inside))


def _flat(image: np.ndarray, inside: np.ndarray) -> np.ndarray:
    return image[inside].astype(np.float32)


def _image(values: np.ndarray, inside: np.ndarray) -> np.ndarray:
    """Values (P,) or (P, C) of the texels inside as an image (N, N) or (N, N, C), zero elsewhere."""
    image = np.zeros((*inside.shape, *values.shape[1:]), np.float32)
    image[inside] = values
    return image


def _points(
    head: HeadModel, texels: AtlasTexels, geometry: Geometry, surface: Surface, skin: Skin, eye: np.ndarray
) -> _Points:
    inside = texels.inside
    triangle, bary = texels.triangle[inside], texels.bary[inside].astype(np.float32)
    corners, count = head.triangles[triangle], len(geometry.vertices)
    bake = csr_matrix((bary.ravel(), corners.ravel(), np.arange(len(corners) + 1) * 3), (len(corners), count))
    vertices = geometry.vertices.astype(np.float32)
    baked = bake @ np.concatenate([vertices, geometry.normals, geometry.openness[:, None]], axis=1, dtype=np.float32)
    normals, positions = _flat(surface.normals, inside), _flat(surface.positions, inside)
    view = normalize(np.asarray(eye, np.float32) - positions)
    short = MIN_FACING - _dot(normals, view)
    view = normalize(view + (short + np.sqrt(short**2 + BEND**2))[:, None] / 2 * normals)
    return _Points(
        bake=bake,
        triangle=triangle,
        bary=bary,
        flat=baked[:, :3],
        mesh=normalize(baked[:, 3:6]),
        positions=positions,
        normals=normals,
        view=view,
        n_dot_v=_dot(normals, view).clip(0.02, 1),
        openness=np.clip(baked[:, 6], 0, 1),
        creases=np.clip(_flat(surface.relief.creases, inside), 0, 1),
        eyes=head.atlas.triangle_regions[triangle] == EYES,
        albedo=_flat(skin.diffuse_albedo, inside),
        s=_flat(skin.specular, inside),
        roughness=_flat(skin.roughness, inside),
    )


def _dot(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Dot products (P,) of vectors (P, 3), or of (P, 3) and (1, 3)."""
    return a[:, 0] * b[:, 0] + a[:, 1] * b[:, 1] + a[:, 2] * b[:, 2]


def _lifted(geometry: Geometry, triangles: np.ndarray, points: _Points, chosen: np.ndarray) -> np.ndarray:
    """Chosen points on the smooth surface that the vertex normals suggest rather than on flat triangles, for rays.

    Hanika 2021, "Hacking the Shadow Terminator" (Ray Tracing Gems II, chapter 4).
    """
    flat, corners = points.flat[chosen], triangles[points.triangle[chosen]]
    vertices, normals = geometry.vertices.astype(np.float32), geometry.normals.astype(np.float32)
    lifted = flat.copy()
    for k, bary in enumerate(points.bary[chosen].T):
        normal = normals[corners[:, k]]
        height = np.minimum(_dot(flat - vertices[corners[:, k]], normal), 0)
        lifted -= (bary * height)[:, None] * normal
    return lifted


def _detail(radiance: np.ndarray, points: _Points) -> np.ndarray:
    """How much more unshadowed light (P, 3) the shading normals receive than those of the mesh."""
    sh = project(radiance, DIRECTIONS, np.full(len(DIRECTIONS), SOLID_ANGLE)).astype(np.float32)
    # The light of truncated harmonics can be near zero or below: a tenth of the mean keeps the ratio sound.
    floor = 0.1 * np.pi * radiance.mean(axis=0) + 1e-9
    with_detail = np.maximum(irradiance(sh, points.normals), 0) + floor
    return np.clip(with_detail / (np.maximum(irradiance(sh, points.mesh), 0) + floor), 0.3, 3).astype(np.float32)


def _sources(head: HeadModel, geometry: Geometry, sources: tuple[Source, ...], points: _Points) -> _Direct:
    count = len(points.positions)
    arriving, specular = np.zeros((count, 3), np.float32), np.zeros((count, 3), np.float32)
    full, kept = np.zeros(count, np.float32), np.zeros(count, np.float32)
    for source in sources:
        direction, facing, radius = incident(source, points.positions)
        cosine = _cosine(points, direction, radius)
        lit = _lit(head, geometry, source, cosine, points)
        luminance = cosine * (facing @ LUMINANCE.astype(np.float32))
        full += luminance
        kept += luminance * lit
        light = (cosine * lit * (1 - CREASE_SHADOW * points.creases))[:, None] * facing
        half = normalize(direction + points.view)
        fresnel = schlick_fresnel(_dot(points.view, half), specular_f0(points.s))
        # The disk of a source widens the highlight, as Karis 2013 does for area lights; the half vector turns by
        # half the angle.
        roughness = np.sqrt(np.sqrt(points.roughness**4 + (radius / 2) ** 2))
        lobe = ggx_distribution(_dot(points.normals, half).clip(0, 1), roughness)
        lobe *= smith_visibility(_dot(points.normals, direction).clip(0.02, 1), points.n_dot_v, roughness)
        arriving += light
        specular += (fresnel * lobe)[:, None] * light
    return _Direct(arriving, specular, full, kept)


def _cosine(points: _Points, direction: np.ndarray, radius: np.ndarray) -> np.ndarray:
    """Clamped cosine (P,) of the shading normal to a disk of light, without light from below the mesh's horizon."""

    def clamped(normals):
        # A disk sets gradually: the cosine, rounded off over its width.
        cosine, half = _dot(normals, direction), np.maximum(np.sin(radius), 1e-4)
        return np.where(np.abs(cosine) < half, (cosine + half) ** 2 / (4 * half), np.maximum(cosine, 0))

    shading, mesh = clamped(points.normals), clamped(points.mesh)
    # The microfacet shadowing of bumps: Chiang et al. 2019, "Taming the Shadow Terminator", equation 3.
    agreement = np.maximum(_dot(points.normals, points.mesh), 0.1)
    g = np.minimum(mesh / np.maximum(shading * agreement, 1e-6), 1)
    return shading * g * (1 + g - g**2)


def _lit(head: HeadModel, geometry: Geometry, source: Source, cosine: np.ndarray, points: _Points) -> np.ndarray:
    """Share (P,) of a source that each texel sees: traced at the vertices, and at the texels on shadow edges.

    cosine: (P,) of the texels, none of which need tracing where it is zero.
    """
    sharp = np.max(incident(source, np.zeros((1, 3), np.float32))[2]) < SHARP_SOURCE
    coarse = replace(source, samples=min(source.samples, PROBES)) if sharp else source
    free = _visible(geometry, coarse, geometry.vertices, geometry.normals)
    for eye in _eyeballs(head):
        # A point before the lids speaks for all of an eye.
        ball = geometry.vertices[eye]
        before = np.array([[*ball[:, :2].mean(axis=0), ball[:, 2].max() + LID_DEPTH]])
        free[eye] = EYE_OPENNESS * _visible(geometry, source, before, np.array([[0.0, 0, 1]]))
    lit = points.bake @ free
    if sharp:
        # The range of the vertices and of their neighbors, so that an edge beside a triangle is found, too.
        triangles = head.triangles
        high, low = free.copy(), free.copy()
        np.maximum.at(high, triangles.ravel(), np.repeat(free[triangles].max(axis=1), 3))
        np.minimum.at(low, triangles.ravel(), np.repeat(free[triangles].min(axis=1), 3))
        edge = (high - low > EDGE)[triangles].any(axis=1)[points.triangle]
        edge &= (cosine > 0) & ~points.eyes
        lit[edge] = _visible(geometry, source, _lifted(geometry, triangles, points, edge), points.mesh[edge])
    return lit


def _eyeballs(head: HeadModel) -> tuple[np.ndarray, np.ndarray]:
    """Indices of the vertices of the right and of the left eyeball."""
    eyes = eye_vertices(head)
    left = head.template[eyes, 0] > 0
    return eyes[~left], eyes[left]


def _visible(geometry: Geometry, source: Source, positions: np.ndarray, normals: np.ndarray) -> np.ndarray:
    """Share (P,) of the shadow rays from points to a source that are free; 1 where it is far below the horizon."""
    origins = offset_origins(positions, normals, VISIBILITY_OFFSET).astype(np.float32)
    normals = normals.astype(np.float32)
    result = np.ones(len(origins), np.float32)
    direction, _, radius = incident(source, origins)
    facing = _dot(normals, direction) > FAR_BELOW - np.sin(radius)
    origins, normals = origins[facing], normals[facing]
    if not len(origins):
        return result
    free, rays = np.zeros(len(origins), np.float32), 0
    for direction, distance, _ in source.sample(origins):
        toward = np.asarray(direction, np.float32).reshape(-1, 3)
        toward = toward + np.maximum(MIN_RAY - _dot(normals, toward), 0)[:, None] * normals
        # Nothing of the head lies near a lamp.
        limit = None if distance is None else float(distance.min())
        free += ~geometry.rasterizer.occluded(origins, toward, limit)
        rays += 1
    result[facing] = free / rays
    return result


def _neighborhood(incoming: np.ndarray, openness: np.ndarray, points: _Points, inside: np.ndarray) -> np.ndarray:
    """Radiosity (P, 3) of the skin around each texel, all bounces: what hidden directions show, times pi.

    With E the irradiance that comes from outside, o the openness and a the albedo, each averaged over the
    neighborhood, radiosity is a (E + (1 - o) radiosity).
    """
    values = np.concatenate([incoming, points.albedo, openness[:, None], np.ones_like(openness)[:, None]], axis=1)
    image = _image(values * ~points.eyes[:, None], inside)
    size = inside.shape[0]
    # Such wide means need no full resolution.
    step = next(step for step in (8, 4, 2, 1) if size % step == 0 and (size // step >= 48 or step == 1))
    image = image.reshape(size // step, step, size // step, step, -1).mean(axis=(1, 3))
    # Twice a box is near a Gaussian.
    width = max(1, round(NEIGHBORHOOD_MM / TEXEL_MM * len(image) / 256))
    for axis in (0, 1, 0, 1):
        image = uniform_filter1d(image, width, axis=axis, mode="constant")
    arriving, albedo, opened = np.split(image[..., :7] / np.maximum(image[..., 7:], 1e-4), [3, 6], axis=-1)
    radiosity = albedo * arriving / np.maximum(1 - albedo * (1 - opened), 0.05)
    if step > 1:
        small = torch.from_numpy(dilate(radiosity, image[..., 7] > 1e-4)).permute(2, 0, 1)[None]
        large = torch.nn.functional.interpolate(small, scale_factor=step, mode="bilinear", align_corners=False)
        radiosity = large[0].permute(1, 2, 0).numpy()
    return radiosity[inside]


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
    surroundings = found[0, :, 0, 0].T.numpy()
    # Specular occlusion from ambient occlusion: Lagarde & de Rousiers 2014, "Moving Frostbite to Physically Based
    # Rendering", listing 26.
    open_share = np.clip((points.n_dot_v + openness) ** np.exp2(-16 * points.roughness - 1) - 1 + openness, 0, 1)[
        :, None
    ]
    return open_share * surroundings + (1 - open_share) * np.where(points.eyes[:, None], 0, around / np.pi)
