"""Loop subdivision: hand values, invariances, symmetry, and where points of the coarse mesh lie on the fine one."""

from __future__ import annotations

import numpy as np
import pytest

from relightify_diffusers.head.model import HeadModel
from relightify_diffusers.head.subdivision import Subdivision
from relightify_diffusers.rendering.mesh import normalize, vertex_normals

TETRAHEDRON = np.array([[0, 1, 2], [0, 2, 3], [0, 3, 1], [1, 3, 2]])
CORNERS = np.array([[1.0, 1, 1], [1, -1, -1], [-1, 1, -1], [-1, -1, 1]])
# Two triangles that share the edge 0-2, with their outer edges open.
SQUARE = np.array([[0, 1, 2], [0, 2, 3]])


@pytest.fixture(scope="module")
def head() -> HeadModel:
    return HeadModel.bundled()


@pytest.fixture(scope="module")
def fine(head) -> Subdivision:
    return Subdivision.of(head.triangles, len(head.template))


def icosahedron() -> tuple[np.ndarray, np.ndarray]:
    from scipy.spatial import ConvexHull

    golden = (1 + 5**0.5) / 2
    points = np.array([[0, a, b * golden] for a in (-1, 1) for b in (-1, 1)])
    points = normalize(np.concatenate([np.roll(points, k, axis=1) for k in range(3)]))
    triangles = ConvexHull(points).simplices.astype(np.int64)
    outward = (
        np.cross(*(points[triangles[:, k]] - points[triangles[:, 0]] for k in (1, 2))) * points[triangles[:, 0]]
    ).sum(1) > 0
    return points, np.where(outward[:, None], triangles, triangles[:, ::-1])


def test_tetrahedron_by_hand():
    """Valence 3: beta = (5/8 - (3/8 + cos(120 deg) / 4)^2) / 3 = 3/16; the corners off an edge are the other two."""
    once = Subdivision.of(TETRAHEDRON, 4, levels=1)
    assert once.matrix.shape == (10, 4) and once.triangles.shape == (16, 3)
    dense = once.matrix.toarray()
    np.testing.assert_allclose(dense[:4], np.full((4, 4), 3 / 16) + np.eye(4) / 4, atol=1e-7)
    np.testing.assert_allclose(np.sort(dense[4:], axis=1), np.tile([1 / 8, 1 / 8, 3 / 8, 3 / 8], (6, 1)), atol=1e-7)
    # The corners of a centered tetrahedron stay on their rays: 7/16 - 3/16 of where they were.
    np.testing.assert_allclose(once.refine(CORNERS)[:4], CORNERS / 4, atol=1e-7)


def test_boundary_by_hand():
    """On an open edge: the middle, and 1/8, 3/4, 1/8 along the boundary, whatever lies inside."""
    dense = Subdivision.of(SQUARE, 4, levels=1).matrix.toarray()
    np.testing.assert_allclose(dense[:4], np.eye(4) * 0.75 + np.array([[0, 1, 0, 1], [1, 0, 1, 0]] * 2) / 8)
    halves = [[0.5, 0.5, 0, 0], [0.5, 0, 0, 0.5], [0, 0.5, 0.5, 0], [0, 0, 0.5, 0.5], [3 / 8, 1 / 8, 3 / 8, 1 / 8]]
    assert sorted(map(tuple, dense[4:])) == sorted(map(tuple, halves))


def test_icosahedron_approaches_a_sphere():
    points, triangles = icosahedron()
    fine = Subdivision.of(triangles, 12, levels=3)
    assert fine.triangles.shape == (20 * 64, 3) and fine.matrix.shape[0] == 2 + 20 * 64 // 2  # Euler's formula
    refined = fine.refine(points)
    radius = np.linalg.norm(refined, axis=1)
    # The corners converge to c + (1 - c) times their neighbors' mean, c = 1 / (1 + 8 n beta / 3) (Loop 1987), where
    # n beta = 5/8 - (3/8 + cos 72 deg / 4)^2 and the neighbors' mean is at cos(63.43 deg) = 1 / sqrt(5).
    share = 1 / (1 + 8 / 3 * (5 / 8 - (3 / 8 + np.cos(2 * np.pi / 5) / 4) ** 2))
    limit = share + (1 - share) / 5**0.5
    np.testing.assert_allclose(radius[:12], limit, atol=5e-3)
    assert radius.std() / radius.mean() < 0.02 and np.ptp(np.linalg.norm(points, axis=1)) < 1e-12
    assert ((normalize(refined) * vertex_normals(refined, fine.triangles)).sum(1) > 0.998).all()


def test_affine_invariance_and_partition_of_unity(head, fine):
    np.testing.assert_allclose(np.asarray(fine.matrix.sum(axis=1)), 1, atol=1e-6)
    rng = np.random.default_rng(0)
    linear, shift = rng.normal(size=(3, 3)), rng.normal(size=3)
    moved = fine.refine(head.template @ linear + shift)
    np.testing.assert_allclose(moved, fine.refine(head.template) @ linear + shift, atol=1e-5)
    assert fine.matrix.data.min() > 0  # convex: the fine mesh stays inside the hull of its neighborhood


def test_the_head_stays_symmetric(head, fine):
    from scipy.spatial import cKDTree

    symmetric = (head.template + head.template[head.mirror] * [-1, 1, 1]) / 2
    refined = fine.refine(symmetric)
    distance, partner = cKDTree(refined).query(refined * [-1, 1, 1])
    assert distance.max() < 1e-6
    assert (refined[np.arange(len(head.template)), 0] * refined[partner[: len(head.template)], 0] <= 1e-9).all()


def test_the_fine_mesh_is_closed_where_the_coarse_is(head, fine):
    """Every inner edge still has two triangles, and the open edges are the coarse ones, halved twice."""

    def uses(triangles):
        edges = np.sort(np.stack([triangles, np.roll(triangles, -1, axis=1)], axis=-1).reshape(-1, 2), axis=1)
        return np.unique(edges, axis=0, return_counts=True)[1]

    coarse, refined = uses(head.triangles), uses(fine.triangles)
    assert set(refined) <= {1, 2}
    assert (refined == 1).sum() == 4 * (coarse == 1).sum()


def test_fine_normals_are_near_the_coarse_ones(head, fine):
    coarse = vertex_normals(head.template, head.triangles)
    refined = vertex_normals(fine.refine(head.template), fine.triangles)[: len(coarse)]
    angle = np.degrees(np.arccos(np.clip((coarse * refined).sum(1), -1, 1)))
    assert np.median(angle) < 3 and np.percentile(angle, 95) < 15


@pytest.mark.parametrize("levels", [1, 2, 3])
def test_located_points_are_where_they_were(levels):
    """If fine vertices lie at the middles of edges, fine and coarse interpolation agree for every point."""
    rng = np.random.default_rng(levels)
    points = rng.normal(size=(4, 3))
    linear = flat_corners(TETRAHEDRON, points, levels)
    triangle = rng.integers(4, size=(50, 20))
    bary = rng.dirichlet([0.5] * 3, size=(50, 20))
    bary[0] = np.eye(3)[rng.integers(3, size=20)]  # corners
    bary[1, :, 0], bary[1, :, 1:] = 0, [0.5, 0.5]  # middles of sides
    fine_triangle, fine_bary = Subdivision.of(TETRAHEDRON, 4, levels).locate(triangle, bary)
    assert (fine_triangle // 4**levels == triangle).all()
    assert fine_bary.min() >= -1e-12
    np.testing.assert_allclose(fine_bary.sum(-1), 1, atol=1e-12)
    expected = np.einsum("...k,...kd->...d", bary, points[TETRAHEDRON[triangle]])
    found = np.einsum("...k,...kd->...d", fine_bary, linear[fine_triangle])
    np.testing.assert_allclose(found, expected, atol=1e-12)


def flat_corners(triangles: np.ndarray, points: np.ndarray, levels: int) -> np.ndarray:
    """Corners (4^levels F, 3, 3) of flat triangles, split at the middles of their sides in the documented order."""
    corners = points[triangles]
    for _ in range(levels):
        a, b, c = np.moveaxis(corners, 1, 0)
        ab, bc, ca = (a + b) / 2, (b + c) / 2, (c + a) / 2
        parts = [np.stack(part, axis=1) for part in ((a, ab, ca), (b, bc, ab), (c, ca, bc), (ab, bc, ca))]
        corners = np.stack(parts, axis=1).reshape(-1, 3, 3)
    return corners


def test_outside_stays_outside(fine):
    triangle, bary = fine.locate(np.array([-1, 3]), np.array([[0.0, 0, 0], [0.2, 0.3, 0.5]]))
    assert triangle[0] == -1 and (bary[0] == 0).all() and triangle[1] // 16 == 3


def test_an_edge_of_three_triangles_is_refused():
    with pytest.raises(ValueError, match="more than two"):
        Subdivision.of(np.array([[0, 1, 2], [0, 1, 3], [0, 1, 4]]), 5)
