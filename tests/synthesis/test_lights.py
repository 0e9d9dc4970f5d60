"""Random light and the texture it gives."""

from __future__ import annotations

import numpy as np
import pytest

from relightify_diffusers.maps import srgb_to_linear
from relightify_diffusers.rendering.atlas import interpolate
from relightify_diffusers.rendering.lights import DirectionalLight
from relightify_diffusers.rendering.mesh import normalize
from relightify_diffusers.rendering.spherical_harmonics import fibonacci_sphere, project
from relightify_diffusers.synthesis.lights import Illumination, lobe_coefficients, sample_light, shade_texture
from relightify_diffusers.synthesis.skin import Skin


def test_lobe_coefficients_are_a_projected_clamped_cosine():
    directions = fibonacci_sphere(20000)
    for axis in np.array([[0, 0, 1.0], [1, 0, 0], [0.6, -0.48, 0.64]]):
        cosine = np.maximum(directions @ axis, 0)[:, None]
        expected = project(cosine, directions, np.full(len(directions), 4 * np.pi / len(directions)))[:, 0]
        np.testing.assert_allclose(lobe_coefficients(axis), expected, atol=1e-3)


def test_sampled_lights():
    lights = [sample_light(np.random.default_rng(i)) for i in range(400)]
    again = sample_light(np.random.default_rng(7))
    np.testing.assert_array_equal(again.sh, lights[7].sh)
    assert all(light.sh.shape == (9, 3) and (light.sh[0] > 0).all() for light in lights)
    with_sun = [light for light in lights if light.suns]
    assert 0.35 < len(with_sun) / len(lights) < 0.55
    for light in with_sun:
        (sun,) = light.suns
        assert np.linalg.norm(sun.direction) == pytest.approx(1)
        assert (np.asarray(sun.irradiance) > 0).all()
    # From the front and above, mostly, as the mean over many shows.
    mean = np.mean([light.sh[:, 1] for light in lights], axis=0)
    assert mean[2] > 0.2 and mean[1] > 0.1 and abs(mean[3]) < 0.1


@pytest.fixture(scope="module")
def surface(head, geometry, texels):
    """Normals, and a matte gray skin without specular reflection, whose roughness does not matter."""
    normals = normalize(interpolate(geometry.normals, head.triangles, texels))
    size = len(normals)
    return normals, Skin(np.full((size, size, 3), 0.4, np.float32), np.zeros((size, size), np.float32), 20.0)


def shade(head, geometry, texels, surface, light, seed=0):
    normals, skin = surface
    roughness = np.full(normals.shape[:2], 0.6)
    rng = np.random.default_rng(seed)
    return shade_texture(head, geometry, texels, skin, normals, roughness, light, rng)


def uniform(level: float) -> Illumination:
    sh = np.zeros((9, 3))
    sh[0] = level / 0.282095
    return Illumination(sh, ())


def test_exposure_takes_out_the_level(head, geometry, texels, surface):
    """Four times the light at a quarter of the exposure is the same texture."""
    texture, exposure = shade(head, geometry, texels, surface, uniform(0.5))
    bright, short = shade(head, geometry, texels, surface, uniform(2.0))
    assert short == pytest.approx(exposure / 4)
    np.testing.assert_allclose(bright, texture, atol=1e-5)
    assert texture.min() >= 0 and texture.max() <= 1 and texture.dtype == np.float32
    assert (texture[~texels.inside] == 0).all()


def test_exposure_by_hand(head, geometry, texels, surface):
    """Uniform light L makes an open white surface L: the exposure puts it near 0.85, give or take the variation."""
    values = [shade(head, geometry, texels, surface, uniform(2.0), seed)[1] for seed in range(12)]
    assert np.exp(np.mean(np.log(values))) == pytest.approx(0.85 / 2, rel=0.2)
    assert 0.08 < np.std(np.log(values)) < 0.35


def test_exposure_is_for_the_face(head, geometry, texels, surface):
    """A strong light from behind does not darken the face: it hardly changes the exposure."""
    front = uniform(0.5)
    behind = Illumination(front.sh + 2 * lobe_coefficients(np.array([0, 0, -1.0]))[:, None], ())
    exposures = [shade(head, geometry, texels, surface, light)[1] for light in (front, behind)]
    assert 0.6 < exposures[1] / exposures[0] < 1.05


def test_uniform_light_leaves_ambient_occlusion_only(head, geometry, texels, surface):
    """On open skin the texture is flat; where the surroundings are hidden it is darker."""
    texture, _ = shade(head, geometry, texels, surface, uniform(1.0))
    linear = srgb_to_linear(texture)[..., 1]
    openness = interpolate(geometry.transfer, head.triangles, texels)[..., 0] / (np.pi * 0.282095)
    open_skin, hidden = texels.inside & (openness > 0.97), texels.inside & (openness < 0.4)
    assert open_skin.sum() > 100 and hidden.sum() > 5
    center = np.median(linear[open_skin])
    assert np.abs(linear[open_skin] / center - 1).mean() < 0.08
    assert np.median(linear[hidden]) < 0.6 * center


def test_light_from_the_left_brightens_the_left(head, geometry, texels, surface):
    """The subject's left is the right half of the atlas; a sun adds its light there, and shadow elsewhere."""
    for light in (
        Illumination(uniform(0.3).sh + lobe_coefficients(np.array([1.0, 0, 0]))[:, None], ()),
        Illumination(uniform(0.3).sh, (DirectionalLight(np.array([1.0, 0, 0.3]), np.full(3, 2.0), 0.05, samples=4),)),
    ):
        texture, _ = shade(head, geometry, texels, surface, light)
        face = slice(12, 26)
        right_cheek, left_cheek = texture[face, 6:13].mean(), texture[face, 19:26].mean()
        assert left_cheek > 1.3 * right_cheek


def test_highlights_need_a_specular_surface(head, geometry, texels, surface):
    normals, skin = surface
    glossy = Skin(skin.diffuse_albedo, np.full(skin.specular.shape, 1.0, np.float32), skin.tone)
    sun = DirectionalLight(np.array([0, 0.3, 1.0]), np.full(3, 3.0), 0.05, samples=4)
    light = Illumination(uniform(0.2).sh, (sun,))
    matte, exposure = shade(head, geometry, texels, surface, light)
    shiny, same = shade(head, geometry, texels, (normals, glossy), light)
    assert same == exposure  # exposure follows the light, not the skin
    gain = shiny[texels.inside] - matte[texels.inside]
    # What is reflected at the surface does not reach the pigment: where light grazes, a trifle is lost.
    assert gain.min() > -0.01 and np.median(gain) > 0.001 and gain.max() > 0.03
