"""Loop subdivision of a triangle mesh as one sparse matrix, and where points of the mesh lie on the finer one."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import scipy.sparse as sp


@dataclass(frozen=True)
class Subdivision:
    """Loop subdivision of one topology (Loop 1987, "Smooth Subdivision Surfaces Based on Triangles", section 2.3).

    matrix: (V', V) float32 sparse; rows sum to 1. triangles: (F', 3) into the V' fine vertices, of which the first V
    are the moved coarse ones; triangle f of one level becomes 4 f to 4 f + 3 of the next. levels: int.
    """

    matrix: sp.csr_matrix
    triangles: np.ndarray
    levels: int

    @classmethod
    def of(cls, triangles: np.ndarray, vertex_count: int, levels: int = 2) -> Subdivision:
        """Subdivide triangles (F, 3), whose edges belong to one or two of them, `levels` times."""
        matrix = sp.identity(vertex_count, format="csr")
        for _ in range(levels):
            step, triangles = _loop_step(triangles, matrix.shape[0])
            matrix = step @ matrix
        matrix = sp.csr_matrix(matrix, dtype=np.float32)
        matrix.sort_indices()
        return cls(matrix, triangles, levels)

    def refine(self, values: np.ndarray) -> np.ndarray:
        """Values (V', C) at the fine vertices from values (V, C), such as positions, at the coarse ones."""
        return self.matrix @ values

    def locate(self, triangle: np.ndarray, bary: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """The fine triangle and its barycentrics at points of the coarse mesh.

        triangle: (...) int, negative = none, which stays so. bary: (..., 3). Returns arrays of the same shapes. The
        map is linear in each fine triangle, as an atlas's texture coordinates are.
        """
        outside = triangle < 0
        for _ in range(self.levels):
            corner = bary.argmax(axis=-1)
            own = np.take_along_axis(bary, corner[..., None], axis=-1)[..., 0]
            # In the order of _children: from the corner itself, the edge to the next one, the edge to the one before.
            order = (corner[..., None] + np.arange(3)) % 3
            at_corner = 2 * np.take_along_axis(bary, order, axis=-1) - [1.0, 0.0, 0.0]
            middle = 1 - 2 * bary[..., [2, 0, 1]]
            is_corner = own >= 0.5
            triangle = 4 * triangle + np.where(is_corner, corner, 3)
            bary = np.where(is_corner[..., None], at_corner, middle)
        return np.where(outside, -1, triangle), np.where(outside[..., None], 0.0, bary)


def _loop_step(triangles: np.ndarray, count: int) -> tuple[sp.csr_matrix, np.ndarray]:
    """Matrix (count + edges, count) and triangles (4 F, 3) of one level."""
    sides = np.stack([triangles, np.roll(triangles, -1, axis=1)], axis=-1)  # (F, 3, 2): ab, bc, ca
    keys = np.sort(sides.reshape(-1, 2), axis=1) @ [count, 1]
    unique, index, uses = np.unique(keys, return_inverse=True, return_counts=True)
    if uses.max() > 2:
        raise ValueError("an edge belongs to more than two triangles")
    edges = np.stack([unique // count, unique % count], axis=1)
    open_edges = edges[uses == 1]
    matrix = sp.vstack(
        [
            _vertex_rule(edges, open_edges, count),
            _edge_rule(edges, uses == 1, index, np.roll(triangles, 1, axis=1).ravel(), count),
        ]
    )
    return sp.csr_matrix(matrix), _children(triangles, count + index.reshape(-1, 3))


def _children(corners: np.ndarray, middles: np.ndarray) -> np.ndarray:
    """Triangles (4 F, 3): those at the corners a, b, c, each starting with it, and the middle one."""
    a, b, c = corners.T
    ab, bc, ca = middles.T
    children = [[a, ab, ca], [b, bc, ab], [c, ca, bc], [ab, bc, ca]]
    return np.array(children).transpose(2, 0, 1).reshape(-1, 3)


def _vertex_rule(edges: np.ndarray, open_edges: np.ndarray, count: int) -> sp.csr_matrix:
    """Old vertices: 1 - n beta of themselves and beta of each neighbor; at the boundary 3/4 and 1/8 of two."""
    neighbors, border = (_adjacency(pairs, count) for pairs in (edges, open_edges))
    valence, border_valence = (np.asarray(m.sum(axis=1)).ravel() for m in (neighbors, border))
    n = np.maximum(valence, 1)
    beta = (5 / 8 - (3 / 8 + np.cos(2 * np.pi / n) / 4) ** 2) / n
    # A vertex where several boundaries meet, or that no triangle uses, stays where it is.
    inner = np.where((border_valence == 0) & (valence > 0), beta, 0)
    outer = np.where(border_valence == 2, 1 / 8, 0)
    kept = 1 - inner * valence - outer * border_valence
    return sp.diags(kept) + sp.diags(inner) @ neighbors + sp.diags(outer) @ border


def _edge_rule(edges: np.ndarray, is_open: np.ndarray, index: np.ndarray, opposite: np.ndarray, count: int):
    """New vertices: 3/8 of the edge's ends and 1/8 of the two opposite corners; at the boundary the edge's middle.

    index: (3 F,) edge of each triangle's side; opposite: (3 F,) the corner of that triangle that is not on it.
    """
    rows = np.arange(len(edges))
    ends = np.where(is_open, 1 / 2, 3 / 8)
    return sp.csr_matrix(
        (
            np.concatenate([ends, ends, np.where(is_open, 0, 1 / 8)[index]]),
            (np.concatenate([rows, rows, index]), np.concatenate([edges[:, 0], edges[:, 1], opposite])),
        ),
        shape=(len(edges), count),
    )


def _adjacency(pairs: np.ndarray, count: int) -> sp.csr_matrix:
    ones = np.ones(2 * len(pairs))
    return sp.csr_matrix((ones, (np.r_[pairs[:, 0], pairs[:, 1]], np.r_[pairs[:, 1], pairs[:, 0]])), (count, count))
