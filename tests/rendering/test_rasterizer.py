"""Ray casting against cases computed by hand."""

from __future__ import annotations

import numpy as np
import pytest
import trimesh

from relightify_diffusers.rendering.atlas import bake_atlas, interpolate
from relightify_diffusers.rendering.cameras import Camera
from relightify_diffusers.rendering.mesh import vertex_normals
from relightify_diffusers.rendering.rasterizer import RAY_CHUNK, EmbreeRasterizer, offset_origins

CAMERA = Camera(np.array([[4.0, 0, 2], [0, 4, 2], [0, 0, 1]]), np.eye(4)[:3], (4, 4))


def test_slanted_triangle_by_hand():
    # With K = 4 and the center at 2, pixel (x, y) at depth z looks at ((x + 0.5 - 2) z / 4, (y + 0.5 - 2) z / 4).
    # The triangle lies in the plane z = 2 + x.
    vertices = np.array([[-0.6, -0.6, 1.4], [0.7, -0.6, 2.7], [-0.6, 0.7, 1.4]])
    fragments = EmbreeRasterizer(vertices, [[0, 1, 2]]).rasterize(CAMERA)
    # Pixel (1, 1): direction (-1/8, -1/8, 1), so z = 2 - z / 8 and z = 16 / 9, point (-2/9, -2/9).
    assert fragments.pix_to_face[1, 1] == 0
    assert fragments.zbuf[1, 1] == pytest.approx(16 / 9, abs=1e-6)
    weight = (-2 / 9 + 0.6) / 1.3
    np.testing.assert_allclose(fragments.bary_coords[1, 1], [1 - 2 * weight, weight, weight], atol=1e-6)
    assert fragments.dists[1, 1] == 0
    # Pixel (3, 3) looks along (3/8, 3/8, 1), beyond the hypotenuse.
    assert fragments.pix_to_face[3, 3] == -1 and fragments.zbuf[3, 3] == -1
    assert fragments.pix_to_face.dtype == np.int64 and fragments.zbuf.dtype == np.float32


def test_barycentrics_rebuild_the_hit_point():
    ball = trimesh.creation.icosphere(3, 0.1)
    camera = Camera(
        np.array([[60.0, 0, 16], [0, 60, 12], [0, 0, 1]]), np.c_[np.diag([1, -1, -1]), [0, 0, 0.4]], (32, 24)
    )
    fragments = EmbreeRasterizer(ball.vertices, ball.faces).rasterize(camera)
    y, x = np.nonzero(fragments.pix_to_face >= 0)
    assert len(y) > 100
    points = np.einsum(
        "nk,nkc->nc", fragments.bary_coords[y, x], ball.vertices[ball.faces[fragments.pix_to_face[y, x]]]
    )
    np.testing.assert_allclose(camera.project(points), np.stack([x + 0.5, y + 0.5], -1), atol=1e-3)
    np.testing.assert_allclose(camera.transform(points)[:, 2], fragments.zbuf[y, x], atol=1e-6)


def test_intersect_and_occluded():
    caster = EmbreeRasterizer(np.eye(3), [[0, 1, 2]])
    ids, distances = caster.intersect(np.zeros((2, 3)), np.array([[2.0, 2, 2], [-1, -1, -1]]))
    assert list(ids) == [0, -1]
    np.testing.assert_allclose(distances, [1 / 6, np.inf])
    up = np.array([[1.0, 1, 1]])
    assert caster.occluded(np.zeros((1, 3)), up).all()
    assert not caster.occluded(np.zeros((1, 3)), up, max_distance=0.3).any()
    assert caster.intersect(np.zeros((0, 3)), np.zeros((0, 3)))[0].shape == (0,)


def test_a_sphere_does_not_shadow_itself_outwards():
    ball = trimesh.creation.icosphere(4, 0.1)
    caster = EmbreeRasterizer(ball.vertices, ball.faces)
    centers, normals = ball.triangles_center, ball.face_normals
    assert not caster.occluded(offset_origins(centers, normals), normals).any()
    assert caster.occluded(offset_origins(centers, normals), -normals).all()


def test_batches_larger_than_a_chunk():
    caster = EmbreeRasterizer(np.eye(3), [[0, 1, 2]])
    directions = np.ones((RAY_CHUNK + 3, 3))
    directions[-1] *= -1
    ids, _ = caster.intersect(np.zeros(3), directions)
    assert ids[:-1].max() == ids[:-1].min() == 0 and ids[-1] == -1


@pytest.mark.parametrize(
    "vertices, triangles",
    [(np.eye(3), np.zeros((0, 3))), (np.eye(3), [[0, 1, 3]]), (np.full((3, 3), np.nan), [[0, 1, 2]])],
)
def test_bad_meshes_are_refused(vertices, triangles):
    with pytest.raises(ValueError):
        EmbreeRasterizer(vertices, np.asarray(triangles))


def test_bake_atlas_by_hand():
    # The lower-left half of the unit square: the edge v = u - 0.05 leaves the diagonal inside.
    uv = np.array([[0.0, -0.05], [0.0, 1.0], [1.05, 1.0]])
    texels = bake_atlas(uv, np.array([[0, 1, 2]]), 4)
    np.testing.assert_array_equal(texels.inside, np.tril(np.ones((4, 4), bool)))
    coordinates = interpolate(uv, np.array([[0, 1, 2]]), texels)
    np.testing.assert_allclose(coordinates[3, 1], [1.5 / 4, 3.5 / 4], atol=1e-6)
    assert (coordinates[0, 3] == 0).all()


def test_vertex_normals_are_weighted_by_area():
    # Two triangles share an edge: one of area 2 facing +z, one of area 1 facing +x.
    vertices = np.array([[0.0, 0, 0], [0, 2, 0], [-2, 0, 0], [0, 0, -1]])
    normals = vertex_normals(vertices, np.array([[0, 1, 2], [0, 3, 1]]))
    np.testing.assert_allclose(normals[2], [0, 0, 1])
    np.testing.assert_allclose(normals[3], [1, 0, 0])
    np.testing.assert_allclose(normals[0], np.array([1, 0, 2]) / np.sqrt(5))


def test_vertex_normals_of_a_ball():
    ball = trimesh.creation.icosphere(3, 0.1)
    np.testing.assert_allclose(vertex_normals(ball.vertices, ball.faces), ball.vertices / 0.1, atol=0.015)
