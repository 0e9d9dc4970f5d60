"""Visibility by ray casting (Intel Embree): fragments of a view, intersections and shadow rays."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from relightify_diffusers.rendering.cameras import Camera

# Rays in one call to Embree: bounds the float32 copies to a few tens of megabytes.
RAY_CHUNK = 1 << 19

# Distance in meters that lifts a shadow ray off its surface: far above the float32 error of a head (about 1e-8 m)
# and far below its features.
SHADOW_EPSILON = 1e-5


@dataclass(frozen=True)
class Fragments:
    """What each pixel of a view sees, in the terms of PyTorch3D's rasterizer with one face per pixel.

    pix_to_face: (H, W) int64, index of the triangle, -1 = none. zbuf: (H, W) float32, camera-space z in meters, -1 =
    none. bary_coords: (H, W, 3) float32, perspective-correct barycentric coordinates, -1 = none.
    dists: (H, W) float32, squared distance to the triangle on the image plane: 0 inside, -1 = none.
    """

    pix_to_face: np.ndarray
    zbuf: np.ndarray
    bary_coords: np.ndarray
    dists: np.ndarray


def offset_origins(points: np.ndarray, normals: np.ndarray, epsilon: float = SHADOW_EPSILON) -> np.ndarray:
    """Lift surface points (..., 3) by `epsilon` meters along their unit normals (..., 3), for use as ray origins."""
    return points + epsilon * normals


class EmbreeRasterizer:
    """Ray queries against one triangle mesh; both sides of a triangle are seen.

    vertices: (V, 3) meters, any float type. triangles: (F, 3) int. Raises ValueError for an empty or non-finite mesh
    or an index out of range.
    """

    def __init__(self, vertices: np.ndarray, triangles: np.ndarray):
        from embreex.mesh_construction import TriangleMesh
        from embreex.rtcore_scene import EmbreeScene

        self.vertices = np.asarray(vertices, np.float64)
        self.triangles = np.ascontiguousarray(triangles, np.int32)
        if not len(self.triangles) or not np.isfinite(self.vertices).all():
            raise ValueError("the mesh needs at least one triangle and finite vertices")
        if self.triangles.min() < 0 or self.triangles.max() >= len(self.vertices):
            raise ValueError("a triangle names a vertex that does not exist")
        self._scene = EmbreeScene(robust=True)
        self._mesh = TriangleMesh(self._scene, np.ascontiguousarray(vertices, np.float32), self.triangles)

    def _run(self, origins: np.ndarray, directions: np.ndarray, query: str, max_distance: float | None) -> np.ndarray:
        origins = np.broadcast_to(origins, np.shape(directions))
        result = np.full(len(directions), -1, np.int32)
        for start in range(0, len(directions), RAY_CHUNK):
            part = slice(start, start + RAY_CHUNK)
            rays = (np.array(x[part], np.float32, order="C") for x in (origins, np.asarray(directions)))
            limits = None if max_distance is None else np.full(len(result[part]), max_distance, np.float32)
            result[part] = self._scene.run(*rays, dists=limits, query=query)
        return result

    def hits(self, origins: np.ndarray, directions: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Triangle (N,), distance (N,) and barycentrics (N, 3) of the first hits; the last two exact, in float64."""
        origins, directions = np.broadcast_to(origins, np.shape(directions)), np.asarray(directions, np.float64)
        ids = self._run(origins, directions, "INTERSECT", None).astype(np.int64)
        distance, bary = np.full(len(ids), np.inf), np.full((len(ids), 3), -1.0)
        hit = ids >= 0
        a, b, c = np.moveaxis(self.vertices[self.triangles[ids[hit]]], 1, 0)
        # Moeller and Trumbore 1997, "Fast, minimum storage ray-triangle intersection", equation 6.
        edge1, edge2, d = b - a, c - a, directions[hit]
        p, s = np.cross(d, edge2), origins[hit] - a
        q = np.cross(s, edge1)
        determinant = np.einsum("ni,ni->n", p, edge1)
        determinant = np.where(determinant == 0, 1, determinant)
        u, v, t = (np.einsum("ni,ni->n", *pair) / determinant for pair in ((p, s), (q, d), (q, edge2)))
        uvw = np.clip(np.stack([1 - u - v, u, v], axis=-1), 0, 1)
        bary[hit] = uvw / uvw.sum(axis=-1, keepdims=True)
        distance[hit] = t
        return ids, distance, bary

    def intersect(self, origins: np.ndarray, directions: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """First hits of rays.

        origins: (N, 3) or (3,) meters. directions: (N, 3), any length. Returns triangle_ids (N,) int64, -1 = none, and
        distances (N,) float64 in units of the direction's length, inf = none.
        """
        return self.hits(origins, directions)[:2]

    def occluded(self, origins: np.ndarray, directions: np.ndarray, max_distance: float | None = None) -> np.ndarray:
        """Whether anything lies on rays: (N,) bool.

        origins: (N, 3) or (3,) meters, already lifted off their own surface (`offset_origins`). directions: (N, 3).
        max_distance: where to stop looking, in units of the direction's length.
        """
        return self._run(origins, directions, "OCCLUDED", max_distance) >= 0

    def rasterize(self, camera: Camera) -> Fragments:
        """Cast one ray through each pixel center of `camera` and return its Fragments."""
        _, directions = camera.rays()
        shape = directions.shape[:2]
        ids, distance, bary = self.hits(camera.center, directions.reshape(-1, 3))
        depth = (directions @ camera.rotation[2]).ravel() * np.where(ids >= 0, distance, 0)
        return Fragments(
            ids.reshape(shape),
            np.where(ids >= 0, depth, -1).astype(np.float32).reshape(shape),
            bary.astype(np.float32).reshape(*shape, 3),
            np.where(ids >= 0, 0, -1).astype(np.float32).reshape(shape),
        )
