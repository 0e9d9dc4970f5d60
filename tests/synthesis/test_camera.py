"""The photo: exposure and white balance by hand, the tone curve, and unwrapping that gives back what was lit."""

from __future__ import annotations

from dataclasses import fields, replace

import numpy as np
import pytest

from relightify_diffusers.head.model import INSIDE
from relightify_diffusers.head.regions import region_masks
from relightify_diffusers.maps import LUMINANCE, linear_to_srgb
from relightify_diffusers.rendering.atlas import bake_atlas
from relightify_diffusers.synthesis import camera
from relightify_diffusers.synthesis.camera import (
    DISTANCE,
    MAX_PITCH,
    MAX_YAW,
    MIN_COSINE,
    PIXELS_PER_TEXEL,
    WHITE_LEVEL,
    Development,
    photograph,
    respond,
    sample_development,
    sample_view,
)
from relightify_diffusers.synthesis.surface import SurfaceSampler, sample_surface

N = 64
NEUTRAL = Development(
    exposure=1.0,
    white_balance=np.ones(3),
    contrast=0.0,
    gamma=1.0,
    saturation=1.0,
    blur=0.0,
    noise=(0.0, 0.0),
    quality=0,
)


class Typical:
    """A generator without chance: the mean of a normal, the upper end of a uniform distribution."""

    def normal(self, loc=0.0, scale=1.0, size=None):
        return loc if size is None else np.full(size, float(loc))

    def uniform(self, low=0.0, high=1.0):
        return high

    def gamma(self, shape, scale):
        return shape * scale

    def integers(self, low, high):
        return low


@pytest.fixture(scope="module")
def atlas(head):
    return bake_atlas(head.atlas.uv, head.atlas.uv_triangles, N)


@pytest.fixture(scope="module")
def surface(head, atlas, geometry):
    sampler = SurfaceSampler.of(head, atlas)
    return sample_surface(head, sampler, region_masks(head, N, atlas), geometry, np.random.default_rng(0))


@pytest.fixture(scope="module")
def views(head, atlas, geometry, surface):
    return [sample_view(head, atlas, geometry, surface, np.random.default_rng([1, i])) for i in range(16)]


@pytest.fixture(scope="module")
def sharp(head, atlas, geometry, surface):
    """A view with about two pixels a texel, nearly from the front."""

    class Close(Typical):
        def uniform(self, low=0.0, high=1.0):
            return np.log(2.0) if high == np.log(PIXELS_PER_TEXEL[1]) else 0.0

    return sample_view(head, atlas, geometry, surface, Close())


def smooth_radiance(surface) -> np.ndarray:
    """Linear radiance (N, N, 3) between about 0.1 and 0.7 that changes evenly over the head."""
    x, y, z = np.moveaxis(surface.positions.astype(float), -1, 0)
    return np.clip(np.stack([0.4 + 2 * x, 0.35 + 1.5 * y, 0.3 + 1.5 * z - 1.0 * x], axis=-1), 0.05, 0.95)


def shoot(radiance, atlas, view, development, seed=0):
    return photograph(radiance, atlas, view, development, np.random.default_rng(seed))


class TestExposure:
    @pytest.mark.parametrize("level", [0.02, 1.0, 300.0])
    def test_a_uniform_face_by_hand(self, level):
        """Whatever the light's strength, white comes out at the level that is aimed at."""
        irradiance = np.full((4, 4, 3), np.pi * level)
        development = sample_development(irradiance, np.ones((4, 4), bool), Typical())
        assert development.exposure * level == pytest.approx(WHITE_LEVEL)
        np.testing.assert_allclose(development.white_balance, 1)

    def test_only_the_face_counts(self):
        irradiance = np.full((4, 4, 3), 1000.0)
        face = np.zeros((4, 4), bool)
        face[1:3, 1:3] = True
        irradiance[face] = np.pi * 0.5
        development = sample_development(irradiance, face, Typical())
        assert development.exposure == pytest.approx(2 * WHITE_LEVEL)

    def test_meters_on_the_brighter_part(self):
        """A face of which a fifth is bright and the rest dim: the 85 % quantile is bright."""
        white = np.full(100, 0.1)
        white[:20] = 1.0
        irradiance = np.pi * np.repeat(white.reshape(10, 10, 1), 3, axis=-1)
        development = sample_development(irradiance, np.ones((10, 10), bool), Typical())
        assert development.exposure == pytest.approx(WHITE_LEVEL)

    def test_darkness_is_no_error(self):
        development = sample_development(np.full((4, 4, 3), 1e-12), np.ones((4, 4), bool), Typical())
        assert np.isfinite(development.exposure) and np.isfinite(development.white_balance).all()

    def test_people_differ_by_stops(self):
        irradiance = np.full((2, 2, 3), np.pi)
        drawn = [sample_development(irradiance, np.ones((2, 2), bool), np.random.default_rng(i)) for i in range(200)]
        logs = np.log([development.exposure for development in drawn])
        # The standard error of 200 draws is 0.2 / sqrt(200) = 0.014.
        assert logs.mean() == pytest.approx(np.log(WHITE_LEVEL), abs=0.06)
        assert logs.std() == pytest.approx(camera.STOPS, rel=0.2)


class TestWhiteBalance:
    def test_full_adaptation_takes_out_the_cast(self):
        """Typical() adapts fully: the light's color times the balance is gray, of the light's luminance."""
        color = np.array([1.2, 1.0, 0.6])
        irradiance = np.broadcast_to(np.pi * color, (3, 3, 3))
        development = sample_development(irradiance, np.ones((3, 3), bool), Typical())
        np.testing.assert_allclose(color * development.white_balance, color @ LUMINANCE)

    def test_is_bounded_under_gels(self):
        irradiance = np.broadcast_to([0.0, 0.01, 3.0], (3, 3, 3)) + 1e-9
        for seed in range(10):
            balance = sample_development(irradiance, np.ones((3, 3), bool), np.random.default_rng(seed)).white_balance
            assert balance.min() >= 0.3 and balance.max() <= 4 and np.isfinite(balance).all()

    def test_takes_out_half_to_all(self):
        """Of the light's log chroma, what is left is between none and half, and a little noise."""
        color = np.array([1.3, 1.0, 0.5])
        irradiance = np.broadcast_to(np.pi * color, (3, 3, 3))
        light = np.log(color[0] / color[2])
        left = []
        for seed in range(100):
            balance = sample_development(irradiance, np.ones((3, 3), bool), np.random.default_rng(seed)).white_balance
            seen = color * balance
            left.append(np.log(seen[0] / seen[2]) / light)
        assert min(left) > -0.2 and max(left) < 0.7 and np.mean(left) == pytest.approx(0.25, abs=0.05)


def test_developments_stay_in_their_ranges():
    drawn = [
        sample_development(np.ones((2, 2, 3)), np.ones((2, 2), bool), np.random.default_rng(i)) for i in range(200)
    ]
    for development in drawn:
        assert all(type(getattr(development, f.name)) in (float, int, tuple, np.ndarray) for f in fields(development))
        assert 0 <= development.contrast < 0.9 and 0.7 < development.gamma < 1.4
        assert 0.5 < development.saturation < 2.5 and 0 <= development.blur < 4
        shot, read = development.noise
        assert 0 <= shot < 0.03 and 0 <= read < 0.006
        assert development.quality == 0 or 55 <= development.quality < 97
    # A quarter is not compressed: four standard deviations of 200 draws.
    assert np.mean([development.quality == 0 for development in drawn]) == pytest.approx(0.25, abs=0.125)


class TestRespond:
    def test_neutral_settings_only_encode(self):
        linear = np.random.default_rng(0).uniform(-0.2, 1.4, (50, 3))
        np.testing.assert_allclose(respond(linear, NEUTRAL), linear_to_srgb(np.clip(linear, 0, 1)), atol=1e-7)

    @pytest.mark.parametrize("contrast", [0.0, 0.45, 0.9])
    @pytest.mark.parametrize("gamma", [0.8, 1.0, 1.25])
    @pytest.mark.parametrize("saturation", [0.6, 1.0, 2.0])
    def test_brighter_stays_brighter(self, contrast, gamma, saturation):
        """Grays, and any one color that is exposed more and more, until a channel clips."""
        development = replace(NEUTRAL, contrast=contrast, gamma=gamma, saturation=saturation)
        gray = respond(np.linspace(0, 1, 201)[:, None].repeat(3, axis=1), development)
        assert (np.diff(gray, axis=0) > 0).all()
        np.testing.assert_allclose(gray[[0, -1]], [[0] * 3, [1] * 3], atol=1e-6)
        np.testing.assert_allclose(gray, gray[:, :1].repeat(3, axis=1), atol=1e-6)
        skin = respond(np.linspace(0.05, 1.2, 101)[:, None] * [0.8, 0.5, 0.35], development)
        assert skin.min() >= 0 and skin.max() <= 1
        assert (np.diff(skin @ LUMINANCE) > -1e-6).all()

    def test_contrast_keeps_black_middle_and_white(self):
        def gray(value, contrast):
            linear = ((value + 0.055) / 1.055) ** 2.4 if value else 0.0  # the sRGB curve
            return respond(np.full((1, 3), linear), replace(NEUTRAL, contrast=contrast))[0, 0]

        for value in (0.0, 0.5, 1.0):
            assert gray(value, 0.8) == pytest.approx(value, abs=1e-6)
        assert gray(0.25, 0.8) == pytest.approx(0.25 - 0.8 * 0.25 * 0.75 * 0.5, abs=1e-6)
        assert gray(0.75, 0.8) == pytest.approx(0.75 + 0.8 * 0.75 * 0.25 * 0.5, abs=1e-6)

    def test_saturation_by_hand(self):
        linear = np.array([[0.5, 0.3, 0.2]])
        encoded = linear_to_srgb(linear)
        gray = encoded @ LUMINANCE
        for saturation in (0.0, 0.5, 1.3):
            expected = gray[:, None] + saturation * (encoded - gray[:, None])
            np.testing.assert_allclose(respond(linear, replace(NEUTRAL, saturation=saturation)), expected, atol=1e-7)

    def test_gamma_darkens(self):
        linear = np.full((1, 3), 0.2)
        expected = linear_to_srgb(linear) ** 1.2
        np.testing.assert_allclose(respond(linear, replace(NEUTRAL, gamma=1.2)), expected, atol=1e-7)


class TestView:
    def test_form(self, views):
        for view in views:
            width, height = view.camera.image_size
            assert view.uv.shape == (height, width, 2) and view.uv.dtype == np.float32
            assert view.pixels.shape == (N, N, 2) and np.isfinite(view.pixels).all()
            assert view.sizes.shape == view.weight.shape == (N, N) and view.weight.dtype == np.float32
            assert view.weight.min() >= 0 and view.weight.max() == 1
            assert np.isfinite(view.sizes).all() and (view.sizes[view.weight > 0] > 0).all()
            low, high = PIXELS_PER_TEXEL
            assert low * N - 1 <= width <= high * N + 1 and width == height
            # The head is in the picture, and there is air around it.
            share = np.isfinite(view.uv[..., 0]).mean()
            assert 0.3 < share < 0.9

    def test_cameras_stand_in_front(self, views, geometry):
        middle = (geometry.vertices.min(axis=0) + geometry.vertices.max(axis=0)) / 2
        for view in views:
            offset = view.camera.center - middle
            distance = np.linalg.norm(offset)
            assert DISTANCE[0] - 1e-6 <= distance <= DISTANCE[1] + 1e-6
            yaw, pitch = np.degrees([np.arctan2(offset[0], offset[2]), np.arcsin(offset[1] / distance)])
            assert abs(yaw) <= MAX_YAW + 1e-6 and abs(pitch) <= MAX_PITCH + 1e-6
        assert np.std([view.camera.center[0] for view in views]) > 0.05

    def test_pixels_are_projections(self, views, atlas, surface):
        for view in views:
            expected = view.camera.project(surface.positions[atlas.inside].astype(float))
            np.testing.assert_allclose(view.pixels[atlas.inside], expected, atol=1e-6)

    def test_the_pixel_of_a_texel_shows_that_texel(self, views):
        """Where a texel is well seen, the pixel that it projects to shows a place no farther than a pixel from it."""
        centers = np.stack(np.meshgrid(*2 * [(np.arange(N) + 0.5) / N]), axis=-1)
        for view in views:
            # At the rim of the neck the head ends, and half of a pixel shows what is behind it.
            shown = (view.weight > 0.9) & (np.arange(N)[:, None] < 0.9 * N)
            column, row = np.floor(view.pixels[shown]).astype(int).T
            assert shown.sum() > 400
            found = view.uv[row, column]
            apart = np.abs(found - centers[shown]).max(axis=-1) * N
            per_pixel = 1 / view.sizes[shown]
            # Half a pixel in each direction; oblique texels are longer across than along.
            close = apart < 0.5 + 1.5 * per_pixel
            assert np.isfinite(found).all(axis=-1).mean() > 0.995 and close.mean() > 0.98

    def test_weight_is_zero_where_nothing_is_seen(self, views, atlas, surface, head):
        inside = atlas.inside
        region = np.where(inside, head.atlas.triangle_regions[atlas.triangle], INSIDE)
        for view in views:
            toward = view.camera.center - surface.positions
            cosine = (surface.smooth * toward).sum(-1) / np.linalg.norm(toward, axis=-1)
            assert (view.weight[region == INSIDE] == 0).all()
            assert (view.weight[inside & (cosine <= MIN_COSINE)] == 0).all()
            back = inside & (surface.positions[..., 2] < -0.04)
            assert back.sum() > 100 and (view.weight[back] == 0).all()
            share = (view.weight[inside] > 0).mean()
            assert 0.2 < share < 0.6

    def test_sizes_are_pixels_across_a_texel(self, views, atlas):
        """Of a texel and its neighbor to the right, in the middle of the face: about as far apart as the size says."""
        for view in views:
            block = np.s_[28:34, 28:34]
            across = np.linalg.norm(np.diff(view.pixels[28:34, 28:35], axis=1), axis=-1)
            down = np.linalg.norm(np.diff(view.pixels[28:35, 28:34], axis=0), axis=-1)
            ratio = np.sqrt(across * down) / view.sizes[block]
            assert np.median(ratio) == pytest.approx(1, abs=0.15)

    def test_deterministic_and_drawn(self, head, atlas, geometry, surface, views):
        again = sample_view(head, atlas, geometry, surface, np.random.default_rng([1, 3]))
        np.testing.assert_array_equal(again.uv, views[3].uv)
        np.testing.assert_array_equal(again.weight, views[3].weight)
        assert len({view.camera.image_size for view in views}) > 8

    def test_draws_do_not_depend_on_the_resolution(self, head, texels, geometry, surface, views):
        """At 32 texels the same camera, with half as many pixels."""
        sampler = SurfaceSampler.of(head, texels)
        coarse = sample_surface(head, sampler, region_masks(head, 32, texels), geometry, np.random.default_rng(0))
        view = sample_view(head, texels, geometry, coarse, np.random.default_rng([1, 3]))
        np.testing.assert_allclose(view.camera.world_to_camera, views[3].camera.world_to_camera)
        assert view.camera.image_size[0] == pytest.approx(views[3].camera.image_size[0] / 2, abs=1)


class TestPhotograph:
    def test_gives_back_a_smooth_radiance(self, atlas, surface, views, sharp):
        """A good camera: what is unwrapped from the photo is what was lit, but for the pixels' size and 8 bits."""
        radiance = smooth_radiance(surface)
        truth = linear_to_srgb(radiance)
        for view in [*views[:6], sharp]:
            texture = shoot(radiance, atlas, view, NEUTRAL)
            assert texture.shape == (N, N, 3) and texture.dtype == np.float32
            well = view.weight == 1
            error = np.abs(texture - truth)[well]
            assert well.sum() > 300 and error.mean() < 0.008 and np.quantile(error, 0.98) < 0.05

    def test_unseen_texels_are_exact(self, atlas, surface, views):
        """They do not come from the photo: no pixels, no 8 bits."""
        radiance = smooth_radiance(surface)
        for view in views[:4]:
            unseen = atlas.inside & (view.weight == 0)
            texture = shoot(radiance, atlas, view, NEUTRAL)
            assert unseen.sum() > 500
            np.testing.assert_allclose(texture[unseen], linear_to_srgb(radiance)[unseen], atol=1e-6)

    def test_unseen_texels_are_developed_alike(self, atlas, surface, views):
        """The same exposure, balance and tone curve there, by hand."""
        development = replace(
            NEUTRAL, exposure=1.4, white_balance=np.array([1.1, 1.0, 0.8]), contrast=0.5, gamma=1.1, saturation=1.3
        )
        radiance = smooth_radiance(surface)
        unseen = atlas.inside & (views[0].weight == 0)
        expected = respond(radiance * 1.4 * np.array([1.1, 1.0, 0.8]), development)
        texture = shoot(radiance, atlas, views[0], development)
        np.testing.assert_allclose(texture[unseen], expected[unseen], atol=1e-5)
        well = views[0].weight == 1
        assert np.abs(texture - expected)[well].mean() < 0.012

    def test_between_the_two_is_a_blend(self, atlas, surface, sharp):
        """No step at the border of what the photo shows."""
        radiance = smooth_radiance(surface)
        border = (sharp.weight > 0) & (sharp.weight < 1)
        texture = shoot(radiance, atlas, sharp, NEUTRAL)
        assert border.sum() > 50
        error = np.abs(texture - linear_to_srgb(radiance)).mean(axis=-1)
        assert error[border].mean() < 0.03

    @pytest.mark.parametrize(
        "change", [{"noise": (0.03, 0.006)}, {"quality": 55}, {"noise": (0.03, 0.006), "quality": 55}]
    )
    def test_noise_and_compression_add_error(self, atlas, surface, sharp, change):
        radiance, truth = smooth_radiance(surface), linear_to_srgb(smooth_radiance(surface))
        well = sharp.weight == 1
        clean, worse = (
            np.abs(shoot(radiance, atlas, sharp, development) - truth)[well].mean()
            for development in (NEUTRAL, replace(NEUTRAL, **change))
        )
        assert clean + 5e-4 < worse < 0.05

    def test_noise_reaches_the_unseen_and_depends_on_the_seed(self, atlas, surface, sharp):
        radiance = smooth_radiance(surface)
        noisy = replace(NEUTRAL, noise=(0.02, 0.005))
        first, same, other = (shoot(radiance, atlas, sharp, noisy, seed) for seed in (0, 0, 1))
        np.testing.assert_array_equal(first, same)
        unseen = atlas.inside & (sharp.weight == 0)
        assert np.abs(first - other)[unseen].mean() > 1e-3

    def test_shot_noise_by_hand(self):
        """At a quarter of white, a quarter of the shot noise's variance and the read noise's (Foi et al. 2008)."""
        development = replace(NEUTRAL, noise=(0.04, 0.01))
        flat = np.full((100, 100, 3), 0.25, np.float32)
        noise = camera._noisy(flat, development, np.random.default_rng(0)) - flat
        assert noise.std() == pytest.approx(np.sqrt(0.25 * 0.04**2 + 0.01**2), rel=0.02)
        assert abs(noise.mean()) < 1e-3
        black = camera._noisy(np.zeros_like(flat), development, np.random.default_rng(0))
        assert black.std() == pytest.approx(0.01, rel=0.02)

    def test_a_blurred_lens_blurs(self, atlas, surface, sharp):
        """Checkered skin loses contrast where the photo shows it, and keeps it elsewhere."""
        rows, columns = np.mgrid[:N, :N]
        checker = np.where((rows // 2 + columns // 2) % 2, 0.6, 0.2)[..., None].repeat(3, axis=-1)
        well, unseen = sharp.weight == 1, atlas.inside & (sharp.weight == 0)
        sharpness, elsewhere = [], []
        for blur in (0.0, 2.0):
            texture = shoot(checker, atlas, sharp, replace(NEUTRAL, blur=blur))
            sharpness.append(texture[well].std())
            elsewhere.append(texture[unseen].std())
        assert sharpness[1] < 0.75 * sharpness[0]
        assert elsewhere[0] == pytest.approx(elsewhere[1])

    def test_overexposed_is_white(self, atlas, surface, views):
        texture = shoot(smooth_radiance(surface), atlas, views[0], replace(NEUTRAL, exposure=100.0))
        well = (views[0].weight == 1) & (np.arange(N)[:, None] < 0.9 * N)
        np.testing.assert_allclose(texture[well], 1, atol=0.02)

    def test_the_radiance_given_is_not_changed(self, atlas, surface, views):
        radiance = smooth_radiance(surface)
        kept = radiance.copy()
        shoot(radiance, atlas, views[0], replace(NEUTRAL, exposure=0.5, noise=(0.02, 0.005), quality=80))
        np.testing.assert_array_equal(radiance, kept)
