"""Unwrapping painted photos whose color is known at every pixel."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.ndimage import maximum_filter, minimum_filter

from relightify_diffusers.head.model import INSIDE, SKIN, HeadModel
from relightify_diffusers.head.regions import region_masks
from relightify_diffusers.maps import linear_to_srgb, srgb_to_linear
from relightify_diffusers.rendering.atlas import AtlasTexels, bake_atlas, interpolate
from relightify_diffusers.rendering.cameras import Camera, orbit_camera
from relightify_diffusers.rendering.mesh import normalize
from relightify_diffusers.synthesis.geometry import Geometry, trace_geometry
from relightify_diffusers.synthesis.population import Person
from relightify_diffusers.texturing import PartialTexture, TexturingConfig, unwrap

N, SIZE = 64, 256


@pytest.fixture(scope="module")
def head() -> HeadModel:
    return HeadModel.bundled()


@pytest.fixture(scope="module")
def geometry(head) -> Geometry:
    """Some head that shows its lips, whatever the population that training data are drawn from."""
    identity = 0.7 * np.random.default_rng(0).standard_normal(len(head.identity_basis))
    person = Person(40.0, 0.5, 0.5, np.full(3, 1 / 3), identity)
    weights = {"mouthFunnel": 0.5}
    return trace_geometry(head, person, np.array([weights.get(name, 0.0) for name in head.expression_names]))


@pytest.fixture(scope="module")
def texels(head) -> AtlasTexels:
    return bake_atlas(head.atlas.uv, head.atlas.uv_triangles, N)


@pytest.fixture(scope="module")
def masks(head, texels) -> dict[str, np.ndarray]:
    return region_masks(head, N, texels)


@pytest.fixture(scope="module")
def unwrapped(head, geometry, texels, masks):
    def run(image: np.ndarray, camera: Camera, **thresholds: float) -> PartialTexture:
        config = TexturingConfig(**thresholds)
        return unwrap(image, camera, geometry.vertices, head, texels, masks, geometry.transfer, config)

    return run


@pytest.fixture(scope="module")
def points(head, geometry, texels) -> np.ndarray:
    return interpolate(geometry.vertices, head.triangles, texels)


@pytest.fixture(scope="module")
def normals(head, geometry, texels) -> np.ndarray:
    return normalize(interpolate(geometry.normals, head.triangles, texels))


@pytest.fixture(scope="module")
def camera(geometry) -> Camera:
    return orbit_camera(geometry.vertices, size=SIZE)


@pytest.fixture(scope="module")
def frontal(unwrapped, camera) -> PartialTexture:
    return unwrapped(photo(), camera)


def skin_color(x, y) -> np.ndarray:
    """Linear color of skin that changes a little with the pixel position."""
    x, y = x - SIZE / 2, y - SIZE / 2
    return np.stack([0.4 + 4e-4 * x, 0.3 + 3e-4 * y, 0.22 + 1e-4 * (x - y)], axis=-1)


def photo(paint=None) -> np.ndarray:
    """The skin color everywhere, sRGB-encoded; `paint(image, x, y)` changes the linear image."""
    y, x = np.mgrid[:SIZE, :SIZE] + 0.5
    linear = skin_color(x, y)
    if paint:
        paint(linear, x, y)
    return linear_to_srgb(linear).astype(np.float32)


def test_colors_are_those_of_the_photo(frontal):
    """Each observed texel has the color that the photo has at the texel's pixel."""
    x, y = frontal.pixels[frontal.observed].T
    np.testing.assert_allclose(srgb_to_linear(frontal.texture[frontal.observed]), skin_color(x, y), atol=1e-5)
    assert (frontal.texture[~frontal.observed] == 0).all()
    assert frontal.texture.dtype == np.float32 and frontal.observed.dtype == bool
    assert frontal.observed.sum() > 1000


def test_pixels_are_projections(frontal, camera, points, texels):
    inside = texels.inside
    np.testing.assert_allclose(frontal.pixels[inside], camera.project(points[inside]), atol=1e-6)


def test_what_a_frontal_photo_shows(frontal, head, points, normals, texels, masks):
    """The face, not the back of the head, not the mouth's inside; never more than is visible."""
    assert not (frontal.observed & ~frontal.visible).any()
    assert not (frontal.visible & ~texels.inside).any()
    region = np.where(texels.inside, head.atlas.triangle_regions[texels.triangle], INSIDE)
    assert not frontal.visible[region == INSIDE].any()
    back = texels.inside & (points[..., 2] < -0.02)
    assert back.sum() > 300 and not frontal.visible[back].any()
    rows, columns = (head.landmark_uv[[27, 28, 29]] * N).astype(int)[:, ::-1].T
    assert frontal.observed[rows, columns].all()  # the bridge of the nose
    assert frontal.observed[masks["cheeks"] > 0.7].all()
    face = (region == SKIN) & (normals[..., 2] > 0.75) & (points[..., 2] > 0.06)
    assert frontal.observed[face].mean() > 0.9
    # Left and right alike.
    assert frontal.observed[:, : N // 2].sum() == pytest.approx(frontal.observed[:, N // 2 :].sum(), rel=0.1)


def test_cosine(frontal, camera, points, normals, texels):
    assert (frontal.cosine[frontal.visible] > TexturingConfig().min_cosine).all()
    seen = frontal.visible
    expected = (normals[seen] * normalize(camera.center - points[seen])).sum(axis=-1)
    np.testing.assert_allclose(frontal.cosine[seen], expected, atol=1e-6)
    assert np.isnan(frontal.cosine[~texels.inside]).all()


def test_grazing_texels_are_dropped(unwrapped, camera, frontal):
    strict = unwrapped(photo(), camera, min_cosine=0.7)
    assert (strict.cosine[strict.visible] > 0.7).all()
    np.testing.assert_array_equal(strict.visible, frontal.visible & (frontal.cosine > 0.7))


@pytest.mark.parametrize("yaw", [-45, 45])
def test_visibility_agrees_with_the_depth_buffer(unwrapped, geometry, points, texels, yaw):
    """Of a head turned away, the far side and what the nose covers are not seen."""
    camera = orbit_camera(geometry.vertices, yaw=yaw, size=SIZE)
    partial = unwrapped(photo(), camera)
    fragments = geometry.rasterizer.rasterize(camera)
    depth = np.where(fragments.pix_to_face >= 0, fragments.zbuf, 10.0)
    column, row = np.floor(partial.pixels).astype(int).clip(0, SIZE - 1).transpose(2, 0, 1)
    # A pixel center is up to half a pixel off the texel's own ray: its neighbors bound the depth on that ray.
    nearest, farthest = (function(depth, 3)[row, column] for function in (minimum_filter, maximum_filter))
    own = camera.transform(points)[..., 2]
    facing = texels.inside & (np.nan_to_num(partial.cosine, nan=-1) > 0.28)
    covered, clear = facing & (own > farthest + 0.005), facing & (own < nearest + 0.002)
    assert covered.sum() > 30 and not partial.visible[covered].any()
    assert clear.sum() > 500 and partial.visible[clear].mean() > 0.99
    # The camera stands on the subject's left for a positive yaw: that cheek (the right of the atlas) is seen whole.
    halves = partial.observed[:, : N // 2].sum(), partial.observed[:, N // 2 :].sum()
    assert halves[yaw > 0] > 1.5 * halves[yaw < 0]


def test_outside_the_frame(unwrapped, camera, frontal):
    """A photo that ends at the middle of the face: the other half is not observed."""
    cropped = camera.cropped(0, 0, SIZE // 2, SIZE)
    partial = unwrapped(photo()[:, : SIZE // 2], cropped)
    assert partial.pixels[partial.observed][:, 0].max() < SIZE / 2
    kept = frontal.visible & (frontal.pixels[..., 0] < SIZE / 2 - 1)
    np.testing.assert_array_equal(partial.visible, kept)


@pytest.mark.parametrize("color", [(0.02, 0.02, 0.02), (0.05, 0.1, 0.6), (0.9, 0.9, 0.9)])
def test_a_bar_over_the_forehead_is_dropped(unwrapped, camera, frontal, head, geometry, color):
    """Black as hair, blue as a band, white as a cap: dropped, while the skin below stays."""
    landmarks = camera.project(head.landmarks(geometry.vertices))
    bottom = landmarks[17:27, 1].min() - 6
    top = bottom - 0.3 * (landmarks[8, 1] - landmarks[27, 1])

    def paint(image, x, y):
        image[(y > top) & (y < bottom)] = color

    partial = unwrapped(photo(paint), camera)
    height = frontal.pixels[..., 1]
    bar = frontal.observed & (height > top + 1) & (height < bottom - 1)
    below = frontal.observed & (height > bottom + 12)
    assert bar.sum() > 100 and below.sum() > 800
    assert not partial.observed[bar].any()
    assert partial.observed[below].mean() > 0.99
    # What is left still has the photo's own colors: the bar has not bled in.
    x, y = partial.pixels[partial.observed & below].T
    np.testing.assert_allclose(srgb_to_linear(partial.texture[partial.observed & below]), skin_color(x, y), atol=2e-3)


def test_the_guard_is_relative_to_the_person(unwrapped, camera, frontal):
    """Skin ten times as dark, and a black-and-white photo, are skin all the same."""
    dark = linear_to_srgb(0.1 * srgb_to_linear(photo())).astype(np.float32)
    gray = np.repeat(photo().mean(axis=-1, keepdims=True), 3, axis=-1)
    for image in (dark, gray):
        assert unwrapped(image, camera).observed.sum() > 0.97 * frontal.observed.sum()


def test_side_light_is_not_taken_for_hair(unwrapped, camera, frontal):
    """Strong smooth light from one side darkens the other by a factor of four; it stays observed."""

    def paint(image, x, y):
        image *= np.clip(0.5 + 0.3 * (x - SIZE / 2) / 50, 0.2, 0.8)[..., None]

    assert unwrapped(photo(paint), camera).observed.sum() > 0.85 * frontal.observed.sum()


def test_red_lips_pass(unwrapped, camera, frontal, masks, head, geometry):
    """Lips may differ from skin; skin may not differ as much."""
    landmarks = camera.project(head.landmarks(geometry.vertices))
    left, top = landmarks[48:60].min(axis=0)
    right, bottom = landmarks[48:60].max(axis=0)

    def paint(image, x, y):
        image[(x > left) & (x < right) & (y > top) & (y < bottom)] *= [0.9, 0.25, 0.3]

    partial = unwrapped(photo(paint), camera)
    lips = frontal.observed & (masks["lips"] > 0.6)
    assert lips.sum() > 20 and partial.observed[lips].all()
    # The same color on a cheek is no skin.
    row, column = int(0.57 * N), int(0.32 * N)
    x0, y0 = frontal.pixels[row, column]

    def blush(image, x, y):
        image[np.hypot(x - x0, y - y0) < 8] *= [0.9, 0.25, 0.3]

    assert not unwrapped(photo(blush), camera).observed[row, column]


def test_a_wrong_spot_costs_only_itself(unwrapped, camera, frontal):
    """A green spot on the cheek is dropped, and little else."""
    spot = frontal.pixels[int(0.57 * N), int(0.32 * N)]

    def paint(image, x, y):
        image[np.hypot(x - spot[0], y - spot[1]) < 8] = [0.1, 0.4, 0.1]

    partial = unwrapped(photo(paint), camera)
    distance = np.linalg.norm(frontal.pixels - spot, axis=-1)
    assert not partial.observed[distance < 5].any()
    far = frontal.observed & (distance > 25)
    assert partial.observed[far].all()


def test_observed_fraction_by_hand():
    observed = np.array([[True, False], [True, False]])
    cosine = np.array([[0.9, 0.1], [0.8, np.nan]])
    partial = PartialTexture(np.zeros((2, 2, 3)), observed, np.zeros((2, 2, 2)), cosine, observed)
    assert partial.observed_fraction == pytest.approx(2 / 3)
    nothing = PartialTexture(np.zeros((2, 2, 3)), observed & False, np.zeros((2, 2, 2)), cosine * np.nan, observed)
    assert nothing.observed_fraction == 0
