"""The skin's surface at the texels of the atlas: the subdivided mesh with the relief that the mesh lacks."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import scipy.sparse as sp

from relightify_diffusers.head.model import HeadModel
from relightify_diffusers.head.subdivision import Subdivision
from relightify_diffusers.rendering.atlas import AtlasTexels
from relightify_diffusers.rendering.mesh import normalize
from relightify_diffusers.synthesis.geometry import Geometry

if TYPE_CHECKING:
    from relightify_diffusers.synthesis.relief import Relief

# Two levels bring the edges of the face's triangles to the size of a texel at 256.
LEVELS = 2


@dataclass(frozen=True)
class Surface:
    """A head's surface at texels; all zero outside the atlas.

    positions: (N, N, 3) float32 meters. smooth: (N, N, 3) float32 unit normals of the subdivided mesh. normals: (N, N,
    3) float32 unit normals with the relief. relief: Relief.
    """

    positions: np.ndarray
    smooth: np.ndarray
    normals: np.ndarray
    relief: Relief


@dataclass(frozen=True)
class SurfaceSampler:
    """What base_surface needs of the topology and the texels alone.

    texels: AtlasTexels. triangles: (F', 3) of the subdivided mesh. refine: (V', V) sparse, to its vertices. gather:
    (V', F') sparse, sums what triangles hold at their corners. lookup: (T, V') sparse, interpolation at the T texels
    inside the atlas, row by row.
    """

    texels: AtlasTexels
    triangles: np.ndarray
    refine: sp.csr_matrix
    gather: sp.csr_matrix
    lookup: sp.csr_matrix

    @classmethod
    def of(cls, head: HeadModel, texels: AtlasTexels) -> SurfaceSampler:
        """Subdivide the head's triangles and find the texels on the finer mesh."""
        subdivision = Subdivision.of(head.triangles, len(head.template), LEVELS)
        triangle, bary = subdivision.locate(texels.triangle[texels.inside], texels.bary[texels.inside])
        fine = subdivision.triangles
        count = subdivision.matrix.shape[0]
        corners = np.arange(len(fine)).repeat(3)
        gather = sp.csr_matrix((np.ones(fine.size, np.float32), (fine.ravel(), corners)), (count, len(fine)))
        rows = np.arange(len(triangle)).repeat(3)
        lookup = sp.csr_matrix(
            (bary.ravel().astype(np.float32), (rows, fine[triangle].ravel())), (len(triangle), count)
        )
        return cls(texels, fine, subdivision.matrix, gather, lookup)


def base_surface(head: HeadModel, sampler: SurfaceSampler, vertices: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Positions and unit normals (N, N, 3), float32, of the subdivided mesh at texels; zero outside the atlas.

    vertices: (V, 3) meters, the posed head.
    """
    fine = sampler.refine @ vertices.astype(np.float32)
    a, b, c = (fine[sampler.triangles[:, corner]] for corner in range(3))
    # The cross product is twice the area times the normal, which weighs it in the sum around a vertex.
    normals = normalize(sampler.gather @ np.cross(b - a, c - a))
    inside = sampler.texels.inside
    maps = np.zeros((2, *inside.shape, 3), np.float32)
    maps[0][inside] = sampler.lookup @ fine
    maps[1][inside] = normalize(sampler.lookup @ normals)
    return maps[0], maps[1]


def sample_surface(
    head: HeadModel,
    sampler: SurfaceSampler,
    masks: dict[str, np.ndarray],
    geometry: Geometry,
    rng: np.random.Generator,
) -> Surface:
    """Draw the relief of a geometry's person and expression, and bend the subdivided mesh's normals by it.

    masks: region masks (N, N) by name, of the sampler's resolution.
    """
    from relightify_diffusers.synthesis import relief as relief_module

    positions, smooth = base_surface(head, sampler, geometry.vertices)
    texels = sampler.texels
    relief = relief_module.sample_relief(head, texels, masks, geometry.person, geometry.expression, rng)
    normals = relief_module.displaced_normals(positions, smooth, relief.height, texels.inside)
    return Surface(positions, smooth, normals.astype(np.float32), relief)
