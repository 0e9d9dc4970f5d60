"""Point lights with a size; presets and texts are tested with the shading."""

from __future__ import annotations

import numpy as np
import pytest

from relightify_diffusers.rendering.lights import DirectionalLight, PointLight

POINTS = np.array([[0, 0, 0.0], [0.1, 0, 0], [0, -0.05, 0.1]])


def test_a_point_is_one_ray():
    (sample,) = PointLight(np.array([0, 0, 2.0]), np.array([4, 8, 12.0])).sample(POINTS)
    directions, distances, irradiance = sample
    np.testing.assert_allclose(directions[0], [0, 0, 1])
    np.testing.assert_allclose(distances, np.linalg.norm([0, 0, 2] - POINTS, axis=1))
    np.testing.assert_allclose(irradiance[0], [1, 2, 3])


def test_a_ball_has_a_width_and_the_same_light():
    light = PointLight(np.array([0.3, 0.4, 1.2]), np.array([4, 8, 12.0]), radius=0.25, samples=40)
    directions, distances, irradiances = zip(*light.sample(POINTS), strict=True)
    assert len(directions) == 40
    (point,) = PointLight(light.position, light.intensity).sample(POINTS)
    np.testing.assert_allclose(np.sum(irradiances, axis=0), point[2])
    # The ends of the rays fill a disk of that radius around the position, and surround it evenly.
    ends = POINTS + np.array(directions) * np.array(distances)[..., None]
    np.testing.assert_allclose(np.linalg.norm(directions, axis=-1), 1)
    offsets = ends - light.position
    assert np.linalg.norm(offsets, axis=-1).max() == pytest.approx(0.25, rel=0.02)
    assert np.linalg.norm(offsets.mean(axis=0), axis=-1).max() < 0.02
    # A uniform disk has a mean squared radius of half the squared radius.
    assert (offsets**2).sum(-1).mean() == pytest.approx(0.25**2 / 2, rel=0.02)
    toward = light.position - POINTS.mean(axis=0)
    np.testing.assert_allclose(offsets @ toward, 0, atol=1e-9)


def test_a_disk_at_infinity_keeps_its_light():
    light = DirectionalLight(np.array([0, 2.0, 0]), np.array([1, 2, 3.0]), np.radians(5), samples=32)
    directions, _, irradiances = zip(*light.sample(POINTS), strict=True)
    np.testing.assert_allclose(np.sum(irradiances, axis=0), [1, 2, 3])
    angles = np.degrees(np.arccos(np.array(directions) @ [0, 1, 0]))
    assert angles.max() == pytest.approx(5, rel=0.03)
