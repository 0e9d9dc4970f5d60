"""Pose: projection by hand, derivatives against finite differences, the camera it stands for, the first guess."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from relightify_diffusers.fitting.camera import Pose, initial_pose
from relightify_diffusers.fitting.losses import LandmarkProblem, PointModel

# Head to camera for a head that looks into the camera: x right, y down, z forward.
FRONTAL = np.diag([1.0, -1.0, -1.0])


@pytest.fixture
def pose() -> Pose:
    rotation = Rotation.from_euler("yxz", [25, -10, 5], degrees=True).as_matrix() @ FRONTAL
    return Pose(rotation, np.array([0.03, -0.02]), np.log(0.9), np.log(1100.0), np.array([320.0, 240.0]))


@pytest.fixture
def points() -> np.ndarray:
    return np.random.default_rng(0).uniform(-0.1, 0.1, (7, 3))


def test_project_by_hand():
    """1 m away at 1000 pixels: 1 cm is 10 pixels; what is nearer is larger; up in the head is up in the image."""
    pose = Pose(FRONTAL, np.array([0.1, 0.0]), 0.0, np.log(1000.0), np.array([50.0, 60.0]))
    np.testing.assert_allclose(pose.translation, [0.1, 0, 1])
    projected = pose.project(np.array([[0, 0, 0], [0.01, 0, 0], [0, 0.01, 0], [0.01, 0, 0.5]]))
    np.testing.assert_allclose(projected, [[150, 60], [160, 60], [150, 50], [50 + 1000 * 0.11 / 0.5, 60]])


def test_offset_and_distance_are_separate():
    """Moving along the optical axis keeps the origin's place in the image."""
    near = Pose(FRONTAL, np.array([0.1, -0.05]), np.log(0.5), np.log(800.0), np.zeros(2))
    far = near.updated(np.array([0, 0, 0, 0, 0, np.log(4), 0]))
    np.testing.assert_allclose(near.project(np.zeros((1, 3))), far.project(np.zeros((1, 3))))
    assert far.translation[2] == pytest.approx(2.0)


def test_updated_rotates_in_the_camera_frame():
    turned = Pose(FRONTAL, np.zeros(2), 0.0, 0.0, np.zeros(2)).updated(np.array([0, np.pi / 2, 0, 0, 0, 0, 0]))
    # A quarter turn about the camera's y axis takes its z (the head's -z) to its x.
    np.testing.assert_allclose(turned.rotation @ [0, 0, -1], [1, 0, 0], atol=1e-12)


def test_derivatives_match_finite_differences(pose, points):
    by_pose, by_points = pose.derivatives(points)
    assert by_pose.shape == (7, 2, 7) and by_points.shape == (7, 2, 3)
    h = 1e-5
    for k in range(Pose.SIZE):
        step = h * np.eye(Pose.SIZE)[k]
        numeric = (pose.updated(step).project(points) - pose.updated(-step).project(points)) / (2 * h)
        np.testing.assert_allclose(by_pose[:, :, k], numeric, rtol=1e-5, atol=1e-4, err_msg=str(k))
    for k in range(3):
        step = h * np.eye(3)[k]
        numeric = (pose.project(points + step) - pose.project(points - step)) / (2 * h)
        np.testing.assert_allclose(by_points[:, :, k], numeric, rtol=1e-5, atol=1e-4, err_msg=str(k))


def test_jacobian_matches_finite_differences(pose):
    rng = np.random.default_rng(1)
    problem = LandmarkProblem(
        model=PointModel(rng.uniform(-0.1, 0.1, (68, 3)), rng.normal(0, 0.005, (6, 68, 3))),
        target=rng.uniform(100, 400, (68, 2)),
        precision=rng.uniform(0.1, 1, 68),
        coefficient_sigma=rng.uniform(0.3, 1, 6),
        log_distance=(0.2, 0.3),
        log_focal=(6.5, 0.1),
    )
    coefficients = rng.normal(size=6)
    jacobian = problem.jacobian(pose, coefficients)
    assert jacobian.shape == (136 + 6 + 2, 7 + 6)
    h = 1e-5
    for k in range(13):
        step = h * np.eye(13)[k]
        forward = problem.residuals(pose.updated(step[:7]), coefficients + step[7:])
        backward = problem.residuals(pose.updated(-step[:7]), coefficients - step[7:])
        numeric = (forward - backward) / (2 * h)
        np.testing.assert_allclose(jacobian[:, k], numeric, rtol=1e-5, atol=1e-4, err_msg=str(k))


def test_residuals_are_in_standard_deviations(pose):
    """A landmark 2 pixels off at a deviation of 4, a coefficient of 3 at 1.5, distance and focal length off by two."""
    model = PointModel(np.zeros((68, 3)), np.zeros((1, 68, 3)))
    target = np.tile(pose.project(np.zeros((1, 3))), (68, 1))
    target[5, 0] -= 2
    problem = LandmarkProblem(
        model, target, np.full(68, 1 / 4), np.array([1.5]), (np.log(0.9) - 0.6, 0.3), (np.log(1100) + 0.2, 0.1)
    )
    expected = np.zeros(139)
    expected[[10, 136, 137, 138]] = [0.5, 2, 2, -2]
    np.testing.assert_allclose(problem.residuals(pose, np.array([3.0])), expected, atol=1e-9)


def test_camera_projects_as_the_pose(pose, points):
    camera = pose.camera((640, 480))
    assert camera.image_size == (640, 480)
    np.testing.assert_allclose(camera.project(points), pose.project(points), rtol=1e-10)
    np.testing.assert_allclose(camera.rotation @ camera.rotation.T, np.eye(3), atol=1e-12)


def test_initial_pose_recovers_a_distant_one():
    """At 50 head sizes perspective is weak and the scaled-orthographic pose is nearly exact."""
    rng = np.random.default_rng(2)
    points = rng.uniform(-0.1, 0.1, (40, 3))
    rotation = Rotation.from_euler("yxz", [-35, 12, 8], degrees=True).as_matrix() @ FRONTAL
    true = Pose(rotation, np.array([0.001, 0.002]), np.log(10.0), np.log(5000.0), np.array([300.0, 200.0]))
    guess = initial_pose(points, true.project(points), 5000.0, true.center)
    angle = Rotation.from_matrix(guess.rotation @ rotation.T).magnitude()
    assert np.degrees(angle) < 0.5
    assert np.linalg.det(guess.rotation) == pytest.approx(1)
    np.testing.assert_allclose(guess.translation, true.translation, rtol=0.02)
