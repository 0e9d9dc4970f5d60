"""Surfaces at texels: on the traced mesh, with normals as smooth as Loop subdivision, bent by the relief."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from relightify_diffusers.head.regions import region_masks
from relightify_diffusers.rendering.atlas import bake_atlas, interpolate
from relightify_diffusers.rendering.mesh import normalize, vertex_normals
from relightify_diffusers.synthesis.surface import SurfaceSampler, base_surface, sample_surface


@pytest.fixture(scope="module")
def sampler(head, texels) -> SurfaceSampler:
    return SurfaceSampler.of(head, texels)


@pytest.fixture(scope="module")
def surface(head, sampler, masks, geometry):
    return sample_surface(head, sampler, masks, geometry, np.random.default_rng(0))


def test_positions_lie_on_the_mesh(head, texels, sampler, geometry):
    positions, _ = base_surface(head, sampler, geometry.vertices)
    expected = interpolate(geometry.vertices, head.triangles, texels)
    np.testing.assert_allclose(positions, expected, atol=1e-6)
    assert positions.dtype == np.float32 and (positions[~texels.inside] == 0).all()


def test_points_of_the_open_face_see_the_camera(head, sampler, masks, geometry):
    """Rays start outside the mesh: nothing hides the forehead, nose and cheeks from the front."""
    positions, normals = base_surface(head, sampler, geometry.vertices)
    open_face = (np.maximum(masks["forehead"], masks["cheeks"]) > 0.5) & (normals[..., 2] > 0.3)
    origins = positions[open_face] + 1e-4 * normals[open_face]
    assert open_face.sum() > 30
    assert geometry.rasterizer.occluded(origins, [0, 0, 1] - origins, 1.0).mean() < 0.02


def test_smooth_normals(head, texels, sampler, geometry):
    _, normals = base_surface(head, sampler, geometry.vertices)
    inside = texels.inside
    np.testing.assert_allclose(np.linalg.norm(normals[inside], axis=-1), 1, atol=1e-5)
    assert normals.dtype == np.float32 and (normals[~inside] == 0).all()
    coarse = normalize(interpolate(vertex_normals(geometry.vertices, head.triangles), head.triangles, texels))
    angle = np.degrees(np.arccos(np.clip((normals * coarse).sum(-1)[inside], -1, 1)))
    assert 0.1 < np.median(angle) < 3 and np.percentile(angle, 95) < 20


def test_normals_are_smoother_than_the_mesh(head):
    """Between texels of the cheek and forehead they bend more evenly than linearly interpolated normals."""
    texels = bake_atlas(head.atlas.uv, head.atlas.uv_triangles, 256)
    _, smooth = base_surface(head, SurfaceSampler.of(head, texels), head.template)
    linear = normalize(interpolate(vertex_normals(head.template, head.triangles), head.triangles, texels))
    masks = region_masks(head, 256, texels)
    skin = (np.maximum(masks["cheeks"], masks["forehead"]) > 0.3)[1:-1, 1:-1]

    def roughness(n):
        bend = 4 * n[1:-1, 1:-1] - n[:-2, 1:-1] - n[2:, 1:-1] - n[1:-1, :-2] - n[1:-1, 2:]
        return np.linalg.norm(bend, axis=-1)[skin].mean()

    assert roughness(smooth) < 0.9 * roughness(linear)


def test_lookup_is_linear_and_constant_on_constants(head, sampler):
    ones = np.ones((len(head.template), 1), np.float32)
    for matrix in (sampler.flat, sampler.smooth):
        np.testing.assert_allclose(matrix @ ones, 1, atol=1e-5)
        assert matrix.data.min() >= 0
    # The subdivided lookup of smooth values differs little from the linear one.
    height = head.template[:, 1:2]
    assert 1e-5 < np.abs(sampler.smooth @ height - sampler.flat @ height).max() < 0.01


def test_turning_the_head_turns_the_surface(head, sampler, geometry):
    a = 0.7
    turn = np.array([[np.cos(a), 0, np.sin(a)], [0, 1, 0], [-np.sin(a), 0, np.cos(a)]])
    positions, normals = base_surface(head, sampler, geometry.vertices)
    turned_positions, turned_normals = base_surface(head, sampler, geometry.vertices @ turn.T)
    np.testing.assert_allclose(turned_positions, positions @ turn.T, atol=1e-6)
    np.testing.assert_allclose(turned_normals, normals @ turn.T, atol=1e-4)


def test_sampled_surface(head, texels, sampler, masks, geometry, surface):
    positions, smooth = base_surface(head, sampler, geometry.vertices)
    np.testing.assert_array_equal(surface.positions, positions)
    np.testing.assert_array_equal(surface.smooth, smooth)
    inside = texels.inside
    assert {a.dtype for a in (surface.positions, surface.smooth, surface.normals)} == {np.dtype(np.float32)}
    np.testing.assert_allclose(np.linalg.norm(surface.normals[inside], axis=-1), 1, atol=1e-4)
    assert (surface.normals[~inside] == 0).all()
    assert surface.relief.height.shape == surface.relief.creases.shape == (32, 32)
    angle = np.degrees(np.arccos(np.clip((surface.normals * smooth).sum(-1)[inside], -1, 1)))
    assert angle.max() > 0.5 and np.median(angle) < 15


def test_the_relief_follows_the_age(head, sampler, masks, geometry):
    def bend(age):
        aged = replace(geometry, person=replace(geometry.person, age=age))
        surface = sample_surface(head, sampler, masks, aged, np.random.default_rng(1))
        return 1 - (surface.normals * surface.smooth).sum(-1)[sampler.texels.inside].mean()

    assert bend(82.0) > bend(22.0)


def test_the_same_seed_gives_the_same_surface(head, sampler, masks, geometry, surface):
    again = sample_surface(head, sampler, masks, geometry, np.random.default_rng(0))
    np.testing.assert_array_equal(again.normals, surface.normals)
    other = sample_surface(head, sampler, masks, geometry, np.random.default_rng(1))
    assert np.abs(other.normals - surface.normals).max() > 1e-3
