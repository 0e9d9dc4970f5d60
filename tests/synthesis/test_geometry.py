"""Random heads: traced geometry, and the furnace test of the transfer."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.spatial import ConvexHull

from relightify_diffusers.head.model import INSIDE
from relightify_diffusers.rendering.spherical_harmonics import irradiance, sh_basis
from relightify_diffusers.synthesis.geometry import (
    DIRECTIONS,
    SOLID_ANGLE,
    eye_vertices,
    sample_geometry,
    trace_geometry,
)


def test_geometry(head, geometry):
    identity = geometry.person.identity
    np.testing.assert_array_equal(geometry.vertices, head.vertices(identity, geometry.expression))
    np.testing.assert_allclose(np.linalg.norm(geometry.normals, axis=1), 1, atol=1e-5)
    assert geometry.transfer.shape == (len(geometry.vertices), 9) and np.isfinite(geometry.transfer).all()
    again = sample_geometry(head, np.random.default_rng(0))
    np.testing.assert_array_equal(again.vertices, geometry.vertices)
    np.testing.assert_array_equal(again.gather, geometry.gather)
    other = sample_geometry(head, np.random.default_rng(1))
    assert np.abs(other.vertices - geometry.vertices).max() > 0.003


def test_furnace(head, geometry):
    """In light L from everywhere, points that nothing occludes receive pi L and no point receives more."""
    radiance = np.array([2.0, 1.0, 0.5])
    sh = np.zeros((9, 3))
    sh[0] = radiance / 0.282095
    received = geometry.transfer @ sh
    # The crown and the forehead are convex: the vertices of the convex hull above the eyes see everything.
    hull = ConvexHull(geometry.vertices).vertices
    hull = hull[geometry.vertices[hull, 1] > 0.06]
    assert len(hull) > 100
    np.testing.assert_allclose(received[hull], np.tile(np.pi * radiance, (len(hull), 1)), rtol=0.01)
    assert received.max() <= np.pi * 2 * 1.0001 and received.min() >= 0


def test_self_shadowing(head, geometry):
    """The mouth's inside and the throat below the chin get less light; eyes get a fixed share."""
    share = geometry.transfer[:, 0] / (np.pi * 0.282095)
    inside = np.unique(head.triangles[head.atlas.triangle_regions == INSIDE])
    assert np.median(share[inside]) < 0.3
    np.testing.assert_allclose(share[eye_vertices(head)], 0.75, atol=1e-3)
    landmarks = head.landmark_triangles
    nose, wing = (share[head.triangles[landmarks[point]]].mean() for point in (30, 31))
    assert wing < 0.9 < nose


def test_unshadowed_points_agree_with_the_irradiance_formula(geometry):
    """For smooth light too: transfer equals the cosine-lobe formula where nothing occludes, up to 32 directions."""
    sh = np.random.default_rng(0).normal(size=(9, 1)) * np.repeat([0, 0.5, 0.2], [1, 3, 5])[:, None]
    sh[0] = 3
    hull = ConvexHull(geometry.vertices).vertices
    hull = hull[geometry.vertices[hull, 1] > 0.06]
    expected = irradiance(sh, geometry.normals[hull])
    assert np.abs((geometry.transfer @ sh)[hull] - expected).max() < 0.1 * expected.mean()


def test_gather_and_transfer_agree(geometry):
    """Light of three bands, as radiance in the directions and as coefficients, arrives alike."""
    sh = np.random.default_rng(1).normal(size=(9, 3))
    radiance = sh_basis(DIRECTIONS) @ sh
    np.testing.assert_allclose(geometry.gather @ radiance, geometry.transfer @ sh, atol=1e-4)
    np.testing.assert_allclose(geometry.gather.sum(axis=1), np.pi * geometry.openness, rtol=1e-5)
    assert geometry.openness.min() >= 0 and geometry.openness.max() <= 1 + 1e-6
    assert pytest.approx(4 * np.pi) == SOLID_ANGLE * len(DIRECTIONS)


def test_light_from_behind_a_vertex_does_not_arrive(geometry):
    behind = geometry.normals @ DIRECTIONS.T < 0
    assert behind.any() and (geometry.gather[behind] == 0).all()


def test_tracing_a_given_person(head, geometry):
    again = trace_geometry(head, geometry.person, geometry.expression)
    np.testing.assert_array_equal(again.gather, geometry.gather)
    calm = trace_geometry(head, geometry.person, np.zeros(len(head.expression_names)))
    assert calm.person is geometry.person
    np.testing.assert_array_equal(calm.vertices, head.vertices(geometry.person.identity, calm.expression))


def test_eye_vertices(head):
    eyes = eye_vertices(head)
    assert len(eyes) == len(np.unique(eyes))
    assert (np.abs(head.template[eyes] - head.eye_centers[(head.template[eyes, 0] > 0).astype(int)]) < 0.025).all()
