"""Random heads: valid expressions, traced geometry, and the furnace test of the transfer."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.spatial import ConvexHull

from relightify_diffusers.head.model import INSIDE
from relightify_diffusers.rendering.spherical_harmonics import irradiance
from relightify_diffusers.synthesis.geometry import (
    EXPRESSION_ODDS,
    EXPRESSIONS,
    eye_vertices,
    sample_expression,
    sample_geometry,
)


def test_expressions_name_actions_of_the_head(head):
    names = set(head.expression_names)
    for actions in EXPRESSIONS.values():
        for action, largest in actions.items():
            sides = ("Left", "Right") if action.endswith("Both") else ("",)
            assert {action.removesuffix("Both") + side for side in sides} <= names
            assert 0 < largest <= 1
    assert len(EXPRESSION_ODDS) == len(EXPRESSIONS)
    assert sum(EXPRESSION_ODDS) == pytest.approx(1)


def test_sampled_expressions(head):
    names = list(head.expression_names)
    samples = np.array([sample_expression(head, np.random.default_rng(i)) for i in range(200)])
    assert samples.min() >= 0 and samples.max() <= 1
    used = dict(zip(names, samples.max(axis=0)))
    assert used["mouthSmileLeft"] > 0.5 and used["jawOpen"] > 0.2 and used["browDownRight"] > 0.3
    # Gaze turns eyeballs, which the atlas paints; the jaw does not wander sideways.
    assert used["eyeLookUpLeft"] == used["jawLeft"] == used["tongueOut"] == 0
    # Both sides do nearly the same.
    left, right = samples[:, names.index("mouthSmileLeft")], samples[:, names.index("mouthSmileRight")]
    smiling = left > 0
    assert 20 < smiling.sum() < 120
    assert (np.abs(left - right)[smiling] <= 0.16 * left[smiling] / 0.85 + 1e-9).all() and (left != right).any()
    # A wide eye does not blink.
    wide, blink = samples[:, names.index("eyeWideLeft")], samples[:, names.index("eyeBlinkLeft")]
    assert (blink <= 0.35 * (1 - wide) + 1e-9).all()


def test_geometry(head, geometry):
    assert np.abs(geometry.identity).max() <= 2.5 and geometry.identity.std() > 0.7
    np.testing.assert_array_equal(geometry.vertices, head.vertices(geometry.identity, geometry.expression))
    np.testing.assert_allclose(np.linalg.norm(geometry.normals, axis=1), 1, atol=1e-5)
    assert geometry.transfer.shape == (len(geometry.vertices), 9) and np.isfinite(geometry.transfer).all()
    again = sample_geometry(head, np.random.default_rng(0), directions=32)
    np.testing.assert_array_equal(again.vertices, geometry.vertices)
    np.testing.assert_array_equal(again.transfer, geometry.transfer)
    other = sample_geometry(head, np.random.default_rng(1), directions=32)
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


def test_eye_vertices(head):
    eyes = eye_vertices(head)
    assert len(eyes) == len(np.unique(eyes))
    assert (np.abs(head.template[eyes] - head.eye_centers[(head.template[eyes, 0] > 0).astype(int)]) < 0.025).all()
