"""The dlib detector on a real portrait: turned, scaled, mirrored, twice, too small, absent."""

from __future__ import annotations

import numpy as np
import pytest
import skimage.data
from PIL import Image

from relightify_diffusers.errors import UnsuitableImageError
from relightify_diffusers.landmarks import select_face

# iBUG points of the mirrored face: the pairs that exchange, and those on the midline that stay.
MIRROR = np.array(
    [*range(16, -1, -1), *range(26, 16, -1), *range(27, 31), *range(35, 30, -1), 45, 44, 43, 42, 47, 46]
    + [39, 38, 37, 36, 41, 40, *range(54, 47, -1), *range(59, 54, -1), *range(64, 59, -1), *range(67, 64, -1)]
)


def eye_distance(landmarks: np.ndarray) -> float:
    """Between the outer corners of the eyes, the usual unit of landmark errors."""
    return float(np.linalg.norm(landmarks[45] - landmarks[36]))


def error(found: np.ndarray, expected: np.ndarray) -> float:
    """Mean distance over the eye distance."""
    return float(np.linalg.norm(found - expected, axis=-1).mean()) / eye_distance(expected)


def picture(image: np.ndarray) -> Image.Image:
    return Image.fromarray(np.round(image * 255).astype(np.uint8))


def array(image: Image.Image) -> np.ndarray:
    return np.asarray(image, np.float32) / 255


def test_portrait(face):
    assert face.landmarks.shape == (68, 2) and face.landmarks.dtype == np.float32
    margin = 0.25 * face.size
    assert np.all(face.landmarks > face.box[:2] - margin) and np.all(face.landmarks < face.box[2:] + margin)
    # Read off the portrait by eye: outer and inner corners of both eyes, nose tip, corners of the mouth, chin.
    expected = {36: (114, 101), 39: (133, 104), 42: (158, 105), 45: (176, 104), 30: (145, 128), 48: (121, 139)}
    expected |= {54: (165, 140), 8: (142, 179)}
    for point, position in expected.items():
        assert np.linalg.norm(face.landmarks[point] - position) < 5, point


def test_sides_are_the_subjects(face):
    # The subject's right is on the left of the photo; brows are above eyes, eyes above the mouth, y growing downwards.
    points = face.landmarks
    assert points[0, 0] < points[36, 0] < points[39, 0] < points[42, 0] < points[45, 0] < points[16, 0]
    brows, eyes, mouth = points[17:27, 1], points[36:48, 1], points[48:, 1]
    assert brows.mean() < eyes.min() and eyes.max() < mouth.min() < points[8, 1]


def test_mirrored(detector, portrait, face):
    (mirrored,) = detector.detect(portrait[:, ::-1].copy())
    back = mirrored.landmarks[MIRROR] * [-1, 1] + [portrait.shape[1], 0]
    assert error(back, face.landmarks) < 0.04


def test_pixel_centers_do_not_move_with_scale(detector, portrait, face):
    # With centers at + 0.5, doubling the image doubles every coordinate.
    (doubled,) = detector.detect(array(picture(portrait).resize((600, 600), Image.Resampling.LANCZOS)))
    assert error(doubled.landmarks / 2, face.landmarks) < 0.02
    assert abs(float((doubled.landmarks / 2 - face.landmarks).mean())) < 0.25


@pytest.mark.parametrize("degrees", [20, 35, 45, -45])
def test_tilted(detector, portrait, face, degrees):
    turned = picture(portrait).rotate(degrees, Image.Resampling.BICUBIC, fillcolor=(128, 128, 128))
    (found,) = detector.detect(array(turned))
    angle = np.radians(degrees)
    back = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    assert error((found.landmarks - 150) @ back.T + 150, face.landmarks) < 0.05


def test_several_faces_come_largest_first(detector, portrait):
    scene = Image.new("RGB", (640, 320), (110, 120, 130))
    scene.paste(picture(portrait).resize((220, 220)), (20, 40))
    scene.paste(picture(portrait), (320, 10))
    large, small = detector.detect(array(scene))
    assert large.size > small.size
    assert large.box[0] > 320 > small.box[2]


def test_a_face_at_the_border(detector, portrait, face):
    # Cut through the lower lip, so that the crop around the face reaches beyond the image.
    (cut,) = detector.detect(portrait[60:152])
    upper = np.linalg.norm(cut.landmarks[17:48] + [0, 60] - face.landmarks[17:48], axis=-1)
    assert upper.mean() < 0.1 * eye_distance(face.landmarks)


def test_a_40_pixel_face_is_refused(detector, portrait):
    scene = Image.new("RGB", (240, 240), (110, 120, 130))
    scene.paste(picture(portrait).resize((125, 125), Image.Resampling.LANCZOS), (60, 60))
    faces = detector.detect(array(scene))
    assert len(faces) == 1 and 30 < faces[0].size < 50
    with pytest.raises(UnsuitableImageError, match="pixels wide"):
        select_face(faces)


@pytest.mark.parametrize("name", ["chelsea", "plain"])
def test_no_face(detector, name):
    image = skimage.data.chelsea()[60:260, 80:330] if name == "chelsea" else np.full((100, 100, 3), 128)
    assert detector.detect(image.astype(np.float32) / 255) == ()


def test_repeatable(detector, portrait, face):
    (again,) = detector.detect(portrait)
    assert np.array_equal(again.landmarks, face.landmarks) and np.array_equal(again.box, face.box)
