"""Which part of the surroundings the points of a head see: precomputed visibility and radiance transfer."""

from __future__ import annotations

import numpy as np

from relightify_diffusers.rendering.mesh import normalize
from relightify_diffusers.rendering.rasterizer import EmbreeRasterizer, offset_origins
from relightify_diffusers.rendering.spherical_harmonics import fibonacci_sphere, sh_basis

# Meters that lift the ray origins of precomputed visibility: past the creases of a coarse mesh.
VISIBILITY_OFFSET = 2e-4
# The same for lines of sight: seen points lie inside the folds of lids and lips, which touch on the coarse mesh.
SIGHT_OFFSET = 5e-4

# An eyeball has 40 vertices, most of them behind the lids: what is traced there says nothing of the part that shows.
# Where light on eyes is needed at vertices or texels it is unshadowed, dimmed by this for the lids and lashes.
EYE_OPENNESS = 0.75


def vertex_visibility(
    vertices: np.ndarray, normals: np.ndarray, rasterizer: EmbreeRasterizer, directions: np.ndarray
) -> np.ndarray:
    """Whether vertices see the surroundings in directions.

    vertices, normals: (V, 3). directions: (D, 3). Returns (V, D) float32: 1 = free, 0 = occluded. Directions below a
    vertex's horizon are not traced: they repeat the tracing just above it, reflected, so that a shading normal that
    differs from the vertex's finds a sensible value.
    """
    facing = normals @ directions.T
    # Reflect the directions below the horizon to above it.
    rays = directions[None] + np.maximum(-2 * facing, 0)[..., None] * normals[:, None]
    origins = np.broadcast_to(offset_origins(vertices, normals, VISIBILITY_OFFSET)[:, None], rays.shape)
    occluded = rasterizer.occluded(origins.reshape(-1, 3), rays.reshape(-1, 3))
    return (~occluded).reshape(facing.shape).astype(np.float32)


def seen_from(
    eye: np.ndarray, points: np.ndarray, normals: np.ndarray, candidates: np.ndarray, rasterizer: EmbreeRasterizer
) -> np.ndarray:
    """Which surface points have a free line of sight to a camera at `eye` (3,).

    points, normals: (..., 3). candidates: (...) bool, the points to trace. Returns (...) bool, false elsewhere.
    """
    seen = candidates.copy()
    origins = offset_origins(points[candidates], normals[candidates], SIGHT_OFFSET)
    seen[candidates] = ~rasterizer.occluded(origins, normalize(eye - points[candidates]))
    return seen


def radiance_transfer(
    vertices: np.ndarray, normals: np.ndarray, rasterizer: EmbreeRasterizer, n_directions: int = 128
) -> np.ndarray:
    """Transfer of spherical-harmonic light to self-shadowed irradiance at vertices.

    vertices, normals: (V, 3). Returns (V, 9) float32 such that irradiance = transfer @ coefficients, for (9, 3)
    radiance coefficients: the diffuse shadowed transfer of Sloan et al. 2002, "Precomputed Radiance Transfer",
    equation 6 without albedo / pi. Without occluders it agrees with `spherical_harmonics.irradiance`.
    """
    directions = fibonacci_sphere(n_directions)
    cosine = np.maximum(normals @ directions.T, 0)
    # Scale each vertex's sum of cosines to its integral, pi: removes most of the error of few directions.
    weights = cosine * (np.pi / np.maximum(cosine.sum(axis=1, keepdims=True), 1e-9))
    seen = weights * vertex_visibility(vertices, normals, rasterizer, directions)
    return (seen @ sh_basis(directions)).astype(np.float32)
