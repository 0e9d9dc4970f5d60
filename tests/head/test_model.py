"""The bundled head model: names, symmetry, landmarks, eyes, and what a damaged file does."""

from __future__ import annotations

import zipfile
from importlib.resources import files

import numpy as np
import pytest

from relightify_diffusers.errors import AssetError
from relightify_diffusers.head.model import EYES, INSIDE, SKIN, HeadModel
from relightify_diffusers.rendering.mesh import vertex_normals

# Apple's ARFaceAnchor.BlendShapeLocation, the names that expression weights are exchanged under.
SIDED = [
    "browDown", "browOuterUp", "cheekSquint", "eyeBlink", "eyeLookDown", "eyeLookIn", "eyeLookOut", "eyeLookUp",
    "eyeSquint", "eyeWide", "mouthDimple", "mouthFrown", "mouthLowerDown", "mouthPress", "mouthSmile",
    "mouthStretch", "mouthUpperUp", "noseSneer",
]  # fmt: skip
CENTRAL = [
    "browInnerUp", "cheekPuff", "jawForward", "jawLeft", "jawOpen", "jawRight", "mouthClose", "mouthFunnel",
    "mouthLeft", "mouthPucker", "mouthRight", "mouthRollLower", "mouthRollUpper", "mouthShrugLower",
    "mouthShrugUpper", "tongueOut",
]  # fmt: skip
ARKIT = {name + side for name in SIDED for side in ("Left", "Right")} | set(CENTRAL)
MIRROR = np.array([-1, 1, 1])
# The iBUG point that takes each point's place in a mirror.
OPPOSITE = np.array(
    [*range(16, -1, -1), *range(26, 16, -1), *range(27, 31), *range(35, 30, -1), 45, 44, 43, 42, 47, 46, 39, 38, 37]
    + [36, 41, 40, *range(54, 47, -1), 59, 58, 57, 56, 55, 64, 63, 62, 61, 60, 67, 66, 65]
)


@pytest.fixture(scope="module")
def head() -> HeadModel:
    return HeadModel.bundled()


@pytest.fixture(scope="module")
def landmarks(head) -> np.ndarray:
    return head.landmarks(head.template)


def expression(head: HeadModel, **weights: float) -> np.ndarray:
    return np.array([weights.get(name, 0.0) for name in head.expression_names])


def test_arrays_agree(head):
    vertices, triangles = len(head.template), len(head.triangles)
    assert head.template.shape == (vertices, 3) and head.template.dtype == np.float32
    assert head.identity_basis.shape[1:] == head.expression_basis.shape[1:] == (vertices, 3)
    assert np.isfinite(head.identity_basis).all() and np.isfinite(head.expression_basis).all()
    assert set(head.triangles.ravel()) == set(range(vertices))  # no vertex is left over
    assert head.atlas.uv_triangles.shape == head.triangles.shape
    assert head.atlas.triangle_regions.shape == (triangles,)
    assert set(head.atlas.triangle_regions) == {SKIN, EYES, INSIDE}
    assert head.atlas.uv_triangles.max() == len(head.atlas.uv) - 1
    # Each atlas position belongs to one vertex: maps cannot say two things of one point.
    pairs = np.unique(np.stack([head.atlas.uv_triangles.ravel(), head.triangles.ravel()], 1), axis=0)
    assert len(pairs) == len(head.atlas.uv)
    assert "CC0" in head.provenance["license"] and head.provenance["seed"] == 0


def test_the_52_arkit_actions(head):
    assert len(head.expression_names) == 52
    assert set(head.expression_names) == ARKIT
    moved = np.linalg.norm(head.expression_basis, axis=2).max(axis=1)
    silent = {name for name, distance in zip(head.expression_names, moved) if distance < 5e-4}
    assert silent <= {"tongueOut"}  # the mesh has no tongue


def test_identity_components(head):
    """Components are displacements of one standard deviation, largest first, of the scale of heads."""
    spread = np.linalg.norm(head.identity_basis, axis=(1, 2))
    assert (np.diff(spread) <= 1e-6).all()
    rms = np.sqrt((head.identity_basis**2).sum(axis=(0, 2)).mean())
    assert 0.004 < rms < 0.012
    unit = head.identity_basis.reshape(len(spread), -1) / spread[:, None]
    np.testing.assert_allclose(unit @ unit.T, np.eye(len(spread)), atol=2e-3)  # half precision in the file
    assert head.provenance["explained_variance"] > 0.99


def test_vertices_are_linear(head):
    identity, none = np.zeros(len(head.identity_basis)), np.zeros(52)
    np.testing.assert_array_equal(head.vertices(identity, none), head.template)
    identity[3] = -1.5
    jaw = head.expression_names.index("jawOpen")
    weights = none.copy()
    weights[jaw] = 0.5
    expected = head.template - 1.5 * head.identity_basis[3] + 0.5 * head.expression_basis[jaw]
    np.testing.assert_allclose(head.vertices(identity, weights), expected, atol=1e-7)
    np.testing.assert_allclose(head.vertices(identity[:4], weights), expected, atol=1e-7)  # fewer components are fine


def test_mirror_map(head):
    mirror = head.mirror
    np.testing.assert_array_equal(mirror[mirror], np.arange(len(mirror)))
    distance = np.linalg.norm(head.template[mirror] * MIRROR - head.template, axis=1)
    assert distance.max() < 1e-4
    # Faces are mirrored with their orientation turned, as a reflection does.
    rolled = {tuple(np.roll(t, -t.argmin())) for t in head.triangles}
    mirrored = mirror[head.triangles][:, ::-1]
    assert {tuple(np.roll(t, -t.argmin())) for t in mirrored} == rolled
    # And it is not the identity: most of the head lies off the plane of symmetry.
    assert (mirror != np.arange(len(mirror))).mean() > 0.9


def test_left_actions_mirror_right_ones(head):
    names = list(head.expression_names)
    for name in SIDED:
        left, right = (head.expression_basis[names.index(name + side)] for side in ("Left", "Right"))
        assert np.linalg.norm(left[head.mirror] * MIRROR - right, axis=1).max() < 1.5e-3, name
        moving = np.linalg.norm(left, axis=1)
        # "Left" is the subject's own left, +X.
        assert (moving * head.template[:, 0]).sum() > 0, name


def test_actions_move_the_right_way(head, landmarks):
    def points(**weights):
        return head.landmarks(head.vertices(np.zeros(1), expression(head, **weights)))

    opened = points(jawOpen=1.0)
    assert opened[8, 1] < landmarks[8, 1] - 0.01  # the chin drops
    assert opened[62, 1] - opened[66, 1] > landmarks[62, 1] - landmarks[66, 1] + 0.01  # and the lips part
    smile = points(mouthSmileLeft=1.0, mouthSmileRight=1.0)
    assert (smile[[48, 54], 1] > landmarks[[48, 54], 1] + 0.002).all()
    blink = points(eyeBlinkRight=1.0)
    assert blink[37, 1] < landmarks[37, 1] - 0.003 and abs(blink[44, 1] - landmarks[44, 1]) < 1e-3


def test_head_frame(head, landmarks):
    """Meters, +Y up, +Z out of the face, the origin between the ears."""
    size = np.ptp(head.template, axis=0)
    assert 0.14 < size[0] < 0.22 and 0.2 < size[1] < 0.35 and 0.17 < size[2] < 0.27
    assert landmarks[30, 2] > 0.95 * head.template[:, 2].max()  # the nose is foremost
    # The ears are the widest part; the origin lies between their rims at the back and where they join the face.
    widest = head.template[np.abs(head.template[:, 0]).argsort()[-60:]].mean(axis=0)
    assert abs(widest[0]) < 1e-3 and abs(widest[1]) < 0.01
    assert -0.03 < widest[2] < 0 < landmarks[0, 2] < 0.03


def test_outward_normals(head):
    """The skin's triangles face outward: seen from the middle of the cranium, nearly all normals point away."""
    skin = np.unique(head.triangles[head.atlas.triangle_regions == SKIN])
    normals = vertex_normals(head.template, head.triangles)[skin]
    cranium = head.template[skin, 1] > 0.06
    outward = ((head.template[skin] - [0, 0.03, 0]) * normals).sum(axis=1)[cranium]
    assert cranium.sum() > 100 and (outward > 0).all()


def test_landmark_embedding(head, landmarks):
    assert head.landmark_triangles.shape == (68,) and head.landmark_barycentrics.shape == (68, 3)
    assert (head.landmark_barycentrics >= 0).all()
    np.testing.assert_allclose(head.landmark_barycentrics.sum(axis=1), 1, atol=1e-5)
    assert (head.atlas.triangle_regions[head.landmark_triangles] == SKIN).all()
    np.testing.assert_array_equal(OPPOSITE[OPPOSITE], np.arange(68))


def test_landmarks_are_symmetric(head, landmarks):
    np.testing.assert_allclose(head.landmark_uv[OPPOSITE] * [-1, 1] + [1, 0], head.landmark_uv, atol=1e-4)
    distance = np.linalg.norm(landmarks[OPPOSITE] * MIRROR - landmarks, axis=1)
    assert distance.max() < 0.003


def test_landmark_order(landmarks):
    """iBUG 300-W: numbered from the subject's right (x < 0), the left of an image of a face seen from the front."""
    x, y = landmarks[:, 0], landmarks[:, 1]
    assert x[0] < -0.05 and x[16] > 0.05
    for part in (range(17), range(17, 27), range(31, 36), range(48, 55), range(60, 65)):
        assert (np.diff(x[part]) > 0).all()
    assert (np.diff(y[27:31]) < 0).all()  # down the bridge of the nose
    assert y[17:27].mean() > y[36:48].mean() > y[31:36].mean() > y[48:68].mean() > y[8]  # brows to chin
    assert (x[36:42] < 0).all() and (x[42:48] > 0).all()
    assert (y[[37, 38]] > y[[41, 40]]).all()  # upper lid, lower lid
    assert (y[49:54] > y[[59, 58, 57, 56, 55]]).all()  # upper lip, lower lip


def test_contour_candidates(head, landmarks):
    """Each jaw-line point starts on its landmark and slides over the cheek toward the middle of the face."""
    assert len(head.contour_triangles) == 17
    assert head.contour_barycentrics.shape == (*head.contour_triangles.shape, 3)
    corners = head.template[head.triangles[head.contour_triangles]]
    points = np.einsum("nck,nckd->ncd", head.contour_barycentrics, corners)
    assert np.linalg.norm(points[:, 0] - landmarks[:17], axis=1).max() < 0.003
    depth = points[[0, 1, 2, 14, 15, 16], -1, 2] - points[[0, 1, 2, 14, 15, 16], 0, 2]
    assert (depth > 0.01).all()  # forward, onto the cheek


def test_eye_centers(head):
    """Behind the fronts of the eyeballs by the radius of a human eye, right before left."""
    assert head.eye_centers.shape == (2, 3)
    assert head.eye_centers[0, 0] < 0 < head.eye_centers[1, 0]
    np.testing.assert_allclose(head.eye_centers[1], head.eye_centers[0] * MIRROR, atol=1e-4)
    eyes = np.unique(head.triangles[head.atlas.triangle_regions == EYES])
    for center in head.eye_centers:
        front = head.template[eyes[head.template[eyes, 0] * center[0] > 0]]
        radius = np.linalg.norm(front - center, axis=1)
        assert 0.010 < radius.mean() < 0.018
        assert front[:, 2].max() > center[2] + 0.009
        assert radius.std() < 0.1 * radius.mean()  # a ball


def test_broken_files(tmp_path):
    """Missing, not an archive, empty, cut off, damaged within, or without an array: one error with the path in it."""
    whole = (files("relightify_diffusers") / "assets" / "head.npz").read_bytes()
    np.savez(tmp_path / "other.npz", template=np.zeros((4, 3)))
    np.save(tmp_path / "array.npy", np.zeros(3))
    (tmp_path / "text.npz").write_text("not a head")
    (tmp_path / "empty.npz").write_bytes(b"")
    (tmp_path / "cut.npz").write_bytes(whole[: len(whole) // 2])
    damaged = bytearray(whole)
    with zipfile.ZipFile(files("relightify_diffusers") / "assets" / "head.npz") as archive:
        start = archive.getinfo("template.npy").header_offset
    damaged[start + 200 : start + 400] = bytes(200)
    (tmp_path / "damaged.npz").write_bytes(damaged)
    for name in ("missing.npz", "other.npz", "array.npy", "text.npz", "empty.npz", "cut.npz", "damaged.npz"):
        with pytest.raises(AssetError, match=name):
            HeadModel.load(tmp_path / name)
    with pytest.raises(AssetError):
        HeadModel.load(tmp_path)
