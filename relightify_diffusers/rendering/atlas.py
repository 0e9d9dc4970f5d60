"""The UV atlas as an image: which triangle each texel belongs to, and attributes baked on it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from relightify_diffusers.rendering.mesh import interpolate_corners
from relightify_diffusers.rendering.rasterizer import EmbreeRasterizer


@dataclass(frozen=True)
class AtlasTexels:
    """The triangle under each texel center.

    triangle: (N, N) int64, -1 = outside the atlas. bary: (N, N, 3) float64, barycentric coordinates, 0 outside.
    """

    triangle: np.ndarray
    bary: np.ndarray

    @property
    def inside(self) -> np.ndarray:
        """(N, N) bool, texels whose center lies in the atlas."""
        return self.triangle >= 0


def bake_atlas(uv: np.ndarray, uv_triangles: np.ndarray, resolution: int) -> AtlasTexels:
    """Rasterize the triangles of an atlas at texel centers ((column + 0.5) / N, (row + 0.5) / N).

    uv: (T, 2), (0, 0) = top-left corner of the image. uv_triangles: (F, 3) int into uv.
    """
    flat = np.concatenate([uv, np.zeros((len(uv), 1))], axis=1)
    centers = (np.arange(resolution) + 0.5) / resolution
    u, v = np.meshgrid(centers, centers)
    origins = np.stack([u, v, np.ones_like(u)], axis=-1).reshape(-1, 3)
    down = np.broadcast_to([0.0, 0.0, -1.0], origins.shape)
    triangle, _, bary = EmbreeRasterizer(flat, uv_triangles).hits(origins, down)
    bary = np.where(triangle[:, None] >= 0, bary, 0)
    return AtlasTexels(triangle.reshape(resolution, resolution), bary.reshape(resolution, resolution, 3))


def interpolate(values: np.ndarray, triangles: np.ndarray, texels: AtlasTexels) -> np.ndarray:
    """Bake values of vertices on the atlas.

    values: (V, C). triangles: (F, 3) int into `values`. Returns (N, N, C), zero outside the atlas.
    """
    return interpolate_corners(values, triangles, texels.triangle, texels.bary)


def dilate(image: np.ndarray, inside: np.ndarray) -> np.ndarray:
    """Fill the texels outside an atlas with their nearest texel inside, so that filtering at its edge finds no gap.

    image: (N, N) or (N, N, C). inside: (N, N) bool, at least one True. Returns the shape of `image`.
    """
    from scipy.ndimage import distance_transform_edt

    rows, columns = distance_transform_edt(~inside, return_distances=False, return_indices=True)
    return image[rows, columns]
