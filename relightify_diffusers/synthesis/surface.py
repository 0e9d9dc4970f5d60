"""The skin's surface at the texels of the atlas: the head's mesh, with smooth normals and the relief that it lacks."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import scipy.sparse as sp

from relightify_diffusers.head.model import HeadModel
from relightify_diffusers.head.subdivision import Subdivision
from relightify_diffusers.rendering.atlas import AtlasTexels
from relightify_diffusers.rendering.mesh import normalize, vertex_normals
from relightify_diffusers.synthesis.geometry import Geometry
from relightify_diffusers.synthesis.relief import Relief, displaced_normals, sample_relief

# Two levels bring the edges of the face's triangles to the size of a texel at 256.
LEVELS = 2


@dataclass(frozen=True)
class Surface:
    """A head's surface at texels; all zero outside the atlas.

    positions: (N, N, 3) float32 meters, on the mesh that rays are traced against and photos are unwrapped with.
    smooth: (N, N, 3) float32 unit normals of the subdivided mesh. normals: (N, N, 3) float32 unit normals with the
    relief. relief: Relief.
    """

    positions: np.ndarray
    smooth: np.ndarray
    normals: np.ndarray
    relief: Relief


@dataclass(frozen=True)
class SurfaceSampler:
    """What surfaces need of the topology and the texels alone.

    texels: AtlasTexels. flat, smooth: (T, V) sparse, from values at the head's vertices to the T texels inside the
    atlas, row by row: linear in each triangle, and as Loop subdivision interpolates them.
    """

    texels: AtlasTexels
    flat: sp.csr_matrix
    smooth: sp.csr_matrix

    @classmethod
    def of(cls, head: HeadModel, texels: AtlasTexels) -> SurfaceSampler:
        """Subdivide the head's triangles and find the texels on the finer mesh."""
        subdivision = Subdivision.of(head.triangles, len(head.template), LEVELS)
        triangle, bary = texels.triangle[texels.inside], texels.bary[texels.inside]
        flat = _lookup(head.triangles, triangle, bary, len(head.template))
        fine = _lookup(subdivision.triangles, *subdivision.locate(triangle, bary), subdivision.matrix.shape[0])
        return cls(texels, flat, fine @ subdivision.matrix)


def base_surface(head: HeadModel, sampler: SurfaceSampler, vertices: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Positions and smooth unit normals (N, N, 3), float32, at texels; zero outside the atlas.

    vertices: (V, 3) meters, the posed head. The normals are the mesh's, subdivided as positions are (Alexa and
    Boubekeur 2008, "Subdivision Shading"): free of the ripples that the normals of a Loop surface show where the
    mesh's triangles are irregular. The positions are not subdivided: a Loop surface runs up to 1 mm inside its mesh,
    where every ray starts in shadow, and 1 to 2 mm along it, away from what the texel shows of a photo.
    """
    inside = sampler.texels.inside
    positions, normals = np.zeros((2, *inside.shape, 3), np.float32)
    positions[inside] = sampler.flat @ vertices.astype(np.float32)
    normals[inside] = normalize(sampler.smooth @ vertex_normals(vertices, head.triangles).astype(np.float32))
    return positions, normals


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
    positions, smooth = base_surface(head, sampler, geometry.vertices)
    texels = sampler.texels
    relief = sample_relief(head, texels, masks, geometry.person, geometry.expression, rng)
    normals = displaced_normals(positions, smooth, relief.height, texels.inside)
    return Surface(positions, smooth, normals.astype(np.float32), relief)


def _lookup(triangles: np.ndarray, triangle: np.ndarray, bary: np.ndarray, count: int) -> sp.csr_matrix:
    """Interpolation (T, count) at points given by triangle index (T,) and barycentrics (T, 3)."""
    rows = np.arange(len(triangle)).repeat(3)
    return sp.csr_matrix(
        (bary.ravel().astype(np.float32), (rows, triangles[triangle].ravel())), (len(triangle), count)
    )
