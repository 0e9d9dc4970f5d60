"""Tangent frames from UVs, and normal maps between the head frame and tangent space."""

from __future__ import annotations

import numpy as np

from relightify_diffusers.rendering.atlas import AtlasTexels, interpolate
from relightify_diffusers.rendering.mesh import normalize, vertex_normals


def split_vertices(triangles: np.ndarray, uv_triangles: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """One vertex for each pair of position and UV, as glTF wants.

    triangles, uv_triangles: (F, 3) int. Returns pairs (S, 2) int64, indices of the position and the UV of each new
    vertex, and triangles (F, 3) int64 into them.
    """
    corners = np.stack([triangles, uv_triangles], axis=-1).reshape(-1, 2)
    pairs, index = np.unique(corners, axis=0, return_inverse=True)
    return pairs.astype(np.int64), index.reshape(-1, 3).astype(np.int64)


def vertex_tangents(
    positions: np.ndarray, normals: np.ndarray, uv: np.ndarray, triangles: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Tangents of split vertices in glTF's convention, weighted by corner angle as in MikkTSpace.

    positions, normals: (S, 3). uv: (S, 2), v downwards. triangles: (F, 3). Returns unit tangents (S, 3) towards
    growing u, orthogonal to the normals, and signs (S,) of +1 or -1: the bitangent, cross(normal, tangent) * sign,
    points up in the image (Mikkelsen 2008, "Simulation of Wrinkled Surfaces Revisited"; glTF 2.0, section 3.7.2.1).
    """
    corners, texture = positions[triangles].astype(np.float64), uv[triangles].astype(np.float64)
    edge1, edge2 = corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0]
    (u1, v1), (u2, v2) = (texture[:, 1] - texture[:, 0]).T, (texture[:, 2] - texture[:, 0]).T
    # The gradient of u on the triangle up to a positive factor; its determinant's sign says whether it is mirrored.
    orientation = np.sign(u1 * v2 - u2 * v1)
    tangent = normalize((edge1 * v2[:, None] - edge2 * v1[:, None]) * orientation[:, None])
    total, mirrored = np.zeros((len(positions), 3)), np.zeros(len(positions))
    for corner in range(3):
        index = triangles[:, corner]
        n = normals[index]
        projected = normalize(tangent - np.sum(tangent * n, axis=-1, keepdims=True) * n)
        a, b = (normalize(corners[:, (corner + step) % 3] - corners[:, corner]) for step in (1, 2))
        angle = np.arccos(np.clip(np.sum(a * b, axis=-1), -1, 1))
        np.add.at(total, index, projected * angle[:, None])
        np.add.at(mirrored, index, orientation * angle)
    total -= np.sum(total * normals, axis=-1, keepdims=True) * normals
    # A vertex whose tangents cancel gets any direction in its plane, so that the frame stays usable.
    axis = np.where(np.abs(normals[:, :1]) < 0.9, [[1.0, 0, 0]], [[0.0, 1, 0]])
    total = np.where(np.linalg.norm(total, axis=-1, keepdims=True) > 1e-8, total, np.cross(normals, axis))
    # v grows downwards: a triangle seen upright from outside has a negative determinant.
    return normalize(total), np.where(mirrored <= 0, 1.0, -1.0)


def tangent_frames(mesh, texels: AtlasTexels) -> np.ndarray:
    """Tangent, bitangent and normal of each texel of a Mesh.

    Returns (N, N, 3, 3), the three unit vectors as rows, interpolated from those of the vertices as renderers do; zero
    outside the atlas.
    """
    pairs, triangles = split_vertices(mesh.triangles, mesh.uv_triangles)
    positions = np.asarray(mesh.vertices, np.float64)
    normals = vertex_normals(positions, mesh.triangles)[pairs[:, 0]]
    tangents, signs = vertex_tangents(positions[pairs[:, 0]], normals, mesh.uv[pairs[:, 1]], triangles)
    bitangents = np.cross(normals, tangents) * signs[:, None]
    rows = [normalize(interpolate(vectors, triangles, texels)) for vectors in (tangents, bitangents, normals)]
    return np.stack(rows, axis=-2)


def to_tangent_space(normals: np.ndarray, frames: np.ndarray) -> np.ndarray:
    """Head-frame normals (N, N, 3) as tangent-space normals (N, N, 3); (0, 0, 1) where the frame is zero.

    frames: (N, N, 3, 3) of `tangent_frames`. `from_tangent_space` is the inverse.
    """
    inside = np.abs(np.linalg.det(frames)) > 1e-6
    result = np.zeros(normals.shape)
    result[..., 2] = 1
    # n = t T + b B + n N: solved exactly, for interpolated frames are not quite orthogonal.
    columns = np.swapaxes(frames[inside], -1, -2)
    result[inside] = normalize(np.linalg.solve(columns, normals[inside][..., None].astype(np.float64))[..., 0])
    return result.astype(np.float32)


def from_tangent_space(normals: np.ndarray, frames: np.ndarray) -> np.ndarray:
    """Tangent-space normals (N, N, 3) as unit head-frame normals (N, N, 3); zero where the frame is zero."""
    return normalize(np.einsum("...i,...ij->...j", normals, frames)).astype(np.float32)
