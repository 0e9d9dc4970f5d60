"""Small geometry helpers on indexed triangle meshes."""

from __future__ import annotations

import numpy as np


def normalize(vectors: np.ndarray) -> np.ndarray:
    """Scale vectors (..., n) to unit length; zero vectors stay zero."""
    length = np.linalg.norm(vectors, axis=-1, keepdims=True)
    return vectors / np.where(length > 0, length, 1)


def vertex_normals(vertices: np.ndarray, triangles: np.ndarray) -> np.ndarray:
    """Area-weighted unit normals of the vertices.

    vertices: (V, 3). triangles: (F, 3) int, counterclockwise from outside. Returns (V, 3) in the dtype of `vertices`;
    a vertex that no triangle uses gets a zero normal.
    """
    # The cross product is twice the area times the normal, which is the weight.
    corners = np.asarray(vertices, np.float64)[triangles]
    faces = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    normals = np.stack(
        [np.bincount(triangles.ravel(), np.repeat(faces[:, axis], 3), minlength=len(vertices)) for axis in range(3)],
        axis=-1,
    )
    return normalize(normals).astype(np.asarray(vertices).dtype)


def interpolate_corners(values: np.ndarray, triangles: np.ndarray, faces: np.ndarray, bary: np.ndarray) -> np.ndarray:
    """Interpolate values of vertices (V, C) at points given by triangle index (...,) and barycentrics (..., 3).

    Returns (..., C); zero where the triangle index is negative.
    """
    hit = faces >= 0
    result = np.zeros((*faces.shape, values.shape[-1]), np.result_type(values, bary))
    result[hit] = np.einsum("nk,nkc->nc", bary[hit], values[triangles[faces[hit]]])
    return result
