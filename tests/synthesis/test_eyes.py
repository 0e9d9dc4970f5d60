"""Eyes: sclera, iris and pupil on their islands, one gaze for both, nothing painted beside them."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from relightify_diffusers.head.regions import EYE_ISLANDS
from relightify_diffusers.maps import LUMINANCE
from relightify_diffusers.rendering.atlas import bake_atlas, interpolate
from relightify_diffusers.rendering.mesh import normalize
from relightify_diffusers.synthesis.eyes import GAZE, IRIS, IRIS_COLORS, IRIS_ODDS, MUCOSA, paint_eyes
from relightify_diffusers.synthesis.noise import atlas_grid
from relightify_diffusers.synthesis.sources import IRIS_EXTENT, IRIS_RADIUS, SkinSources

# An iris is four texels wide here; at the 32 texels of the other tests it is one.
N = 128
COUNT = 40


@pytest.fixture(scope="module")
def sources(head):
    return SkinSources.load(head, bake_atlas(head.atlas.uv, head.atlas.uv_triangles, N))


def paint(sources, seed, skin=0.5) -> np.ndarray:
    size = sources.resolution
    return paint_eyes(np.full((size, size, 3), skin), sources, np.random.default_rng([8, seed]))


@pytest.fixture(scope="module")
def painted(sources):
    return np.stack([paint(sources, seed) for seed in range(COUNT)])


def offsets(center, size=N):
    """Distances (N, N) in u and v from an island's center."""
    u, v = atlas_grid(size)
    return np.broadcast_arrays(u - center[0], v - center[1])


def island(sources, center):
    return (sources.masks["eyes"] > 0) & (np.hypot(*offsets(center, sources.resolution)) < 0.06)


def iris_center(image, sources, center):
    """Offset (u, v) of an iris from its island's center, by the darkness within an island."""
    where = island(sources, center)
    light = image[where] @ LUMINANCE
    u, v = (values[where] for values in offsets(center, sources.resolution))
    # The rim of an eyeball is shaded: a dark spot is told from it by its nearness to the darkest texels.
    dark = np.clip(0.5 * np.quantile(light, 0.9) - light, 0, None) * (np.hypot(u, v) < 0.03)
    return np.array([dark @ u, dark @ v]) / dark.sum()


def test_the_islands_show_the_same_directions(head, sources):
    """To the right in the atlas is to the subject's left, and down is down, on both: a common gaze is one shift."""
    points = interpolate(head.template, head.triangles, sources.texels)
    for eye, center in zip(head.eye_centers, EYE_ISLANDS):
        where = island(sources, center)
        u, v = (values[where] for values in offsets(center))
        direction = normalize(points[where] - eye)
        assert np.corrcoef(u, direction[:, 0])[0, 1] > 0.98
        assert np.corrcoef(v, direction[:, 1])[0, 1] < -0.98


def test_nothing_else_is_touched(sources, painted):
    masks = sources.masks
    other = (masks["eyes"] == 0) & (masks["inside"] == 0)
    assert other.sum() > 0.5 * N * N
    assert (painted[:, other] == 0.5).all()
    changed = (painted != 0.5).any(axis=(0, 3))
    assert changed[~other].all()


def test_the_albedo_given_is_not_changed(sources):
    albedo = np.full((N, N, 3), 0.5)
    paint_eyes(albedo, sources, np.random.default_rng(0))
    assert (albedo == 0.5).all()


def test_the_skin_does_not_show_through(sources):
    """Eyes and mouth are the same on any skin."""
    dark, light = (paint(sources, 0, skin) for skin in (0.05, 0.9))
    where = (sources.masks["eyes"] > 0) | (sources.masks["inside"] >= 1)
    np.testing.assert_allclose(dark[where], light[where], atol=1e-6)


def test_albedos_are_in_range(painted):
    assert np.isfinite(painted).all() and painted.min() > 0 and painted.max() < 0.95


def test_iris_is_darker_than_sclera_and_pupil_is_black(sources, painted):
    for image in painted:
        for center in EYE_ISLANDS:
            at = iris_center(image, sources, center)
            u, v = offsets(center)
            radius = np.hypot(u - at[0], v - at[1]) / IRIS
            eye = island(sources, center)
            light = image @ LUMINANCE
            pupil, ring, sclera = (light[eye & where] for where in (radius < 0.6, radius < 1, abs(radius - 1.6) < 0.2))
            assert pupil.size and sclera.mean() > 0.3
            assert ring.mean() < 0.55 * sclera.mean()
            # The darkest texel lies in the pupil, or at most in the dark rim of the iris.
            assert pupil.min() < 0.12 and pupil.min() < 0.35 * sclera.mean()


def test_pupils_are_black_at_fine_resolution(head):
    """Where a pupil covers several texels it is as dark as the hole that it is."""
    fine = SkinSources.load(head, bake_atlas(head.atlas.uv, head.atlas.uv_triangles, 512))
    image = paint(fine, 1)
    for center in EYE_ISLANDS:
        at = iris_center(image, fine, center)
        u, v = offsets(center, 512)
        pupil = np.hypot(u - at[0], v - at[1]) < 0.1 * IRIS
        assert pupil.sum() > 0 and image[pupil].max() < 0.02


def test_gaze_is_common_to_both_eyes(sources, painted):
    right, left = (np.array([iris_center(image, sources, center) for image in painted]) for center in EYE_ISLANDS)
    for axis, spread in ((0, GAZE), (1, 0.6 * GAZE)):
        assert np.corrcoef(right[:, axis], left[:, axis])[0, 1] > 0.9
        assert right[:, axis].std() == pytest.approx(spread, rel=0.4)
    # They converge: the subject's right eye (left in the atlas) is turned to the right in the atlas, if at all.
    convergence = right[:, 0] - left[:, 0]
    assert convergence.mean() > 0 and convergence.mean() < GAZE
    assert np.abs(right[:, 1] - left[:, 1]).max() < 0.3 / N


def test_both_irises_have_one_color(sources, painted):
    """Averaged over the iris, as far as texels that fall otherwise allow."""
    for image in painted:
        means = []
        for center in EYE_ISLANDS:
            at = iris_center(image, sources, center)
            u, v = offsets(center)
            means.append(image[np.hypot(u - at[0], v - at[1]) < 0.9 * IRIS].mean(axis=0))
        np.testing.assert_allclose(means[0], means[1], atol=0.06)


def test_people_have_different_eyes(painted, sources):
    where = sources.masks["eyes"] > 0
    assert painted[:, where].std(axis=0).mean() > 0.02
    np.testing.assert_array_equal(painted[0], paint(sources, 0))
    assert IRIS_COLORS.shape == (len(IRIS_ODDS), 3) and sum(IRIS_ODDS) == pytest.approx(1)


def test_the_mouth_is_mucosa(sources, painted):
    cavity = painted[:, sources.masks["inside"] >= 1]
    ratio = cavity / MUCOSA
    assert ratio.min() >= 0.7 - 1e-6 and ratio.max() <= 1.1 + 1e-6
    np.testing.assert_allclose(cavity, cavity[:, :1].repeat(cavity.shape[1], axis=1), atol=1e-6)


def test_the_same_eyes_at_two_resolutions(head, sources):
    coarse = SkinSources.load(head, bake_atlas(head.atlas.uv, head.atlas.uv_triangles, 64))
    where = coarse.masks["eyes"] > 0
    both = sources.masks["eyes"].reshape(64, 2, 64, 2).min(axis=(1, 3)) > 0
    for seed in range(6):
        small, large = paint(coarse, seed), paint(sources, seed).reshape(64, 2, 64, 2, 3).mean(axis=(1, 3))
        assert np.abs(small - large)[where & both].mean() < 0.05
        # The same color: mean over all of the eyes.
        np.testing.assert_allclose(small[where & both].mean(axis=0), large[where & both].mean(axis=0), rtol=0.12)


@pytest.fixture(scope="module")
def pictured(sources):
    """Sources with one picture whose right half is twice as bright as its left one."""
    side = 58
    rows, columns = np.mgrid[:side, :side] + 0.5 - side / 2
    pattern = np.where(columns > 0, 4 / 3, 2 / 3).astype(np.float32)
    assert side == round(2 * IRIS_EXTENT * 100) and (np.hypot(rows, columns) < IRIS_RADIUS * 100).sum() > 100
    return replace(sources, irises=(pattern,))


class TestIrisPictures:
    def test_are_used(self, sources, pictured):
        plain, rich = paint(sources, 2), paint(pictured, 2)
        changed = np.abs(plain - rich).max(axis=-1) > 1e-4
        assert changed.sum() > 8
        # Only in the irises.
        assert not changed[sources.masks["eyes"] == 0].any()
        for center in EYE_ISLANDS:
            at = iris_center(plain, sources, center)
            u, v = offsets(center)
            far = island(sources, center) & (np.hypot(u - at[0], v - at[1]) > 2 * IRIS)
            # The soft edge of an iris reaches this far at coarse maps, and is next to nothing there.
            assert far.any() and np.abs(plain - rich)[far].max() < 0.01

    def test_are_turned_at_random_and_alike_in_both_eyes(self, head, pictured):
        """The brighter half lies somewhere, the same in both eyes."""
        fine = SkinSources.load(head, bake_atlas(head.atlas.uv, head.atlas.uv_triangles, 384))
        fine = replace(fine, irises=pictured.irises)
        turns = []
        for seed in range(6):
            image = paint(fine, seed) @ LUMINANCE
            angles = []
            for center in EYE_ISLANDS:
                at = iris_center(paint(fine, seed), fine, center)
                u, v = offsets(center, 384)
                u, v = u - at[0], v - at[1]
                ring = abs(np.hypot(u, v) / IRIS - 0.68) < 0.14
                weight = image[ring] - image[ring].mean()
                angles.append(np.arctan2(weight @ v[ring], weight @ u[ring]))
            difference = (angles[0] - angles[1] + np.pi) % (2 * np.pi) - np.pi
            assert abs(difference) < 0.35
            turns.append(angles[0])
        assert np.abs(np.exp(1j * np.array(turns)).mean()) < 0.9  # not all alike
