"""fit_landmarks on heads whose parameters are known: pose, expression, contour, EXIF, a wild landmark."""

from __future__ import annotations

import numpy as np
import pytest

from relightify_diffusers.fitting import FittingConfig, fit_landmarks
from relightify_diffusers.head.model import HeadModel
from relightify_diffusers.rendering.cameras import Camera, orbit_camera
from relightify_diffusers.rendering.rasterizer import EmbreeRasterizer

SIZE = 800
SMILE = ("mouthSmileLeft", "mouthSmileRight")


@pytest.fixture(scope="module")
def head() -> HeadModel:
    return HeadModel.bundled()


@pytest.fixture(scope="module")
def person(head) -> np.ndarray:
    """Vertices of a smiling somebody."""
    identity = np.clip(np.random.default_rng(0).normal(0, 0.7, len(head.identity_basis)), -2, 2)
    return head.vertices(identity, np.array([0.8 * (name in SMILE) for name in head.expression_names]))


def yaw_of(camera: Camera) -> float:
    backward = -camera.rotation[2]
    return float(np.degrees(np.arctan2(backward[0], backward[2])))


def inter_ocular(landmarks: np.ndarray) -> float:
    return float(np.linalg.norm(landmarks[36] - landmarks[45]))


def occluding_contour(head: HeadModel, vertices: np.ndarray, camera: Camera) -> np.ndarray:
    """Landmarks with the far side's jaw line moved to the silhouette of the skin, row by row, as detectors put it."""
    landmarks = camera.project(head.landmarks(vertices))
    covered = EmbreeRasterizer(vertices, head.triangles).rasterize(camera).pix_to_face >= 0
    # A camera on the subject's left sees the right cheek (points 0 to 7) edge-on, at the left of the image.
    for point in range(3, 8):
        columns = np.flatnonzero(covered[int(landmarks[point, 1])])
        landmarks[point, 0] = columns.min() + 0.5
    return landmarks


def test_frontal(head, person):
    camera = orbit_camera(person, size=SIZE)
    landmarks = camera.project(head.landmarks(person))
    fit = fit_landmarks(head, landmarks, (SIZE, SIZE))
    assert fit.landmark_error_iod < 0.01
    # The reported error is the one that follows from the reported landmarks.
    distance = np.linalg.norm(fit.landmarks - landmarks, axis=1).mean()
    assert fit.landmark_error_iod == pytest.approx(distance / inter_ocular(landmarks))
    assert abs(yaw_of(fit.camera)) < 2
    np.testing.assert_allclose(fit.camera.K[:2, 2], SIZE / 2)
    assert not fit.focal_from_exif
    assert fit.expression.min() >= 0 and fit.expression.max() <= 1
    weights = dict(zip(head.expression_names, fit.expression))
    assert min(weights[name] for name in SMILE) > 0.25
    assert max(weights[name] for name in ("mouthFrownLeft", "mouthFrownRight", "jawOpen")) < 0.1
    np.testing.assert_allclose(fit.vertices, head.vertices(fit.identity, fit.expression), atol=1e-6)
    assert np.sqrt(((fit.vertices - person) ** 2).sum(axis=1).mean()) < 0.006  # the population's spread is 0.0075


def test_the_average_head_is_found_without_a_smile(head):
    """Landmarks of the template itself: coefficients stay small, the camera is where the prior has it."""
    camera = orbit_camera(head.template, size=SIZE, distance=1.2)
    fit = fit_landmarks(head, camera.project(head.landmarks(head.template)), (SIZE, SIZE))
    assert fit.landmark_error_iod < 0.006
    assert np.abs(fit.identity).max() < 0.5 and fit.expression.max() < 0.2
    assert 0.95 < np.linalg.norm(fit.camera.center) < 1.5


@pytest.mark.parametrize("yaw", [-30, 15])
def test_turned_head(head, person, yaw):
    camera = orbit_camera(person, yaw=yaw, size=SIZE)
    landmarks = camera.project(head.landmarks(person))
    # The far side's jaw line is hidden in a turned view: only the inner points and the near side are compared exactly.
    landmarks[:17] = _outermost(head, person, camera)
    fit = fit_landmarks(head, landmarks, (SIZE, SIZE))
    assert fit.landmark_error_iod < 0.01
    assert yaw_of(fit.camera) == pytest.approx(yaw, abs=2)


def _outermost(head: HeadModel, vertices: np.ndarray, camera: Camera) -> np.ndarray:
    """Of the points along which each jaw-line landmark may slide, the one farthest out in the image."""
    corners = vertices[head.triangles[head.contour_triangles]]
    points = camera.project(np.einsum("nck,nckd->ncd", head.contour_barycentrics, corners))  # (17, C, 2)
    center = camera.project(head.landmarks(vertices))[33]
    outward = points[:, 0] - center
    best = ((points - center) * outward[:, None]).sum(axis=-1).argmax(axis=1)
    return points[np.arange(17), best]


def test_contour_of_a_turned_head_is_its_silhouette(head, person):
    """With the jaw line read off the rendered silhouette the fit stays close; without sliding it would be worse."""
    camera = orbit_camera(person, yaw=30, size=SIZE)
    landmarks = occluding_contour(head, person, camera)
    fit = fit_landmarks(head, landmarks, (SIZE, SIZE))
    assert fit.landmark_error_iod < 0.02
    assert yaw_of(fit.camera) == pytest.approx(30, abs=2)
    weights = dict(zip(head.expression_names, fit.expression))
    assert min(weights[name] for name in SMILE) > 0.2
    still = fit.camera.project(head.landmarks(fit.vertices))[3:8]
    slid = fit.landmarks[3:8]
    target = landmarks[3:8]
    assert np.linalg.norm(slid - target, axis=1).mean() < 0.6 * np.linalg.norm(still - target, axis=1).mean()


def test_exif_focal_length(head, person):
    """The 35 mm equivalent scales by the image's diagonal and is kept; the distance follows from it."""
    landmarks = orbit_camera(person, size=SIZE).project(head.landmarks(person))
    diagonal = np.hypot(800, 600)
    distances = []
    for focal_35mm in (35.0, 70.0):
        fit = fit_landmarks(head, landmarks, (800, 600), focal_35mm)
        assert fit.focal_from_exif
        # The diagonal of a 36 x 24 mm frame is 43.27 mm.
        assert fit.camera.K[0, 0] == pytest.approx(focal_35mm / 43.27 * diagonal, rel=0.1)
        assert fit.camera.image_size == (800, 600)
        distances.append(np.linalg.norm(fit.camera.center))
    assert 1.6 < distances[1] / distances[0] < 2.4


def test_true_focal_length_gives_the_true_distance(head, person):
    camera = orbit_camera(person, size=SIZE, distance=0.6)
    landmarks = camera.project(head.landmarks(person))
    exif = camera.K[0, 0] / np.hypot(SIZE, SIZE) * 43.267
    fit = fit_landmarks(head, landmarks, (SIZE, SIZE), exif)
    truth = np.linalg.norm(camera.center)
    assert np.linalg.norm(fit.camera.center) == pytest.approx(truth, rel=0.08)
    assert fit.landmark_error_iod < 0.01


def test_one_wild_landmark(head, person):
    """A tip of the nose 170 pixels off hardly moves the rest."""
    camera = orbit_camera(person, size=SIZE)
    landmarks = camera.project(head.landmarks(person))
    wild = landmarks.copy()
    wild[30] += [150, 80]
    fit = fit_landmarks(head, wild, (SIZE, SIZE))
    others = np.arange(68) != 30
    error = np.linalg.norm(fit.landmarks - landmarks, axis=1) / inter_ocular(landmarks)
    assert error[others].mean() < 0.012
    assert error[30] < 0.15 < np.linalg.norm(fit.landmarks[30] - wild[30]) / inter_ocular(landmarks)
    assert abs(yaw_of(fit.camera)) < 2


def test_scale_does_not_matter(head, person):
    """The same face on an image of half the size: half the focal length, the same head."""
    camera = orbit_camera(person, yaw=10, size=SIZE)
    landmarks = camera.project(head.landmarks(person))
    whole = fit_landmarks(head, landmarks, (SIZE, SIZE))
    half = fit_landmarks(head, landmarks / 2, (SIZE // 2, SIZE // 2))
    assert half.camera.K[0, 0] == pytest.approx(whole.camera.K[0, 0] / 2, rel=1e-4)
    np.testing.assert_allclose(half.vertices, whole.vertices, atol=1e-5)


def test_mirrored_landmarks_give_the_mirrored_head(head, person):
    """Fitting commutes with reflection: camera yaw changes sign, left and right expressions trade places."""
    camera = orbit_camera(person, yaw=20, size=SIZE)
    landmarks = camera.project(head.landmarks(person))
    opposite = np.array(
        [*range(16, -1, -1), *range(26, 16, -1), *range(27, 31), *range(35, 30, -1), 45, 44, 43, 42, 47, 46, 39, 38]
        + [37, 36, 41, 40, *range(54, 47, -1), 59, 58, 57, 56, 55, 64, 63, 62, 61, 60, 67, 66, 65]
    )
    flipped = landmarks[opposite] * [-1, 1] + [SIZE, 0]
    fit, other = (fit_landmarks(head, points, (SIZE, SIZE)) for points in (landmarks, flipped))
    assert yaw_of(other.camera) == pytest.approx(-yaw_of(fit.camera), abs=1)
    assert np.linalg.norm(other.vertices[head.mirror] * [-1, 1, 1] - fit.vertices, axis=1).mean() < 0.001


def test_expression_prior_holds_back(head, person):
    """With a tight prior the smile is explained less by expression."""
    landmarks = orbit_camera(person, size=SIZE).project(head.landmarks(person))
    loose = fit_landmarks(head, landmarks, (SIZE, SIZE))
    tight = fit_landmarks(head, landmarks, (SIZE, SIZE), config=FittingConfig(expression_sigma=0.05))
    assert tight.expression.sum() < 0.6 * loose.expression.sum()
