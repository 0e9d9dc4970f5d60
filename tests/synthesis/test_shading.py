"""Shading of the texels: energy, shadows, symmetry, bounces and light below the skin."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest

from relightify_diffusers.head.model import EYES
from relightify_diffusers.rendering.atlas import interpolate
from relightify_diffusers.rendering.brdf import brdf
from relightify_diffusers.rendering.lights import DirectionalLight, PointLight
from relightify_diffusers.rendering.mesh import normalize
from relightify_diffusers.rendering.rasterizer import offset_origins
from relightify_diffusers.rendering.spherical_harmonics import fibonacci_sphere
from relightify_diffusers.rendering.visibility import EYE_OPENNESS, VISIBILITY_OFFSET
from relightify_diffusers.synthesis.geometry import DIRECTIONS, eye_vertices, trace_geometry
from relightify_diffusers.synthesis.lights import Illumination
from relightify_diffusers.synthesis.population import Person
from relightify_diffusers.synthesis.shading import shade
from relightify_diffusers.synthesis.subsurface import SKIN_PROFILE, scatter_below

EYE = np.array([0, 0, 1.0])
SIZE = 32
DARK = np.zeros((192, 3), np.float32)
FRONT = DirectionalLight(np.array([0, 0, 1.0]), np.full(3, np.pi))


def surface_of(head, texels, geometry, creases=0.0):
    normals = normalize(interpolate(geometry.normals, head.triangles, texels)).astype(np.float32)
    positions = interpolate(geometry.vertices, head.triangles, texels).astype(np.float32)
    relief = SimpleNamespace(height=np.zeros((SIZE, SIZE)), creases=np.full((SIZE, SIZE), creases, np.float32))
    return SimpleNamespace(positions=positions, smooth=normals, normals=normals, relief=relief)


def skin_of(albedo=0.4, s=0.0, roughness=0.5):
    full = np.full((SIZE, SIZE), 1, np.float32)
    return SimpleNamespace(
        diffuse_albedo=full[..., None] * np.array(albedo, np.float32) * np.ones(3, np.float32),
        specular=s * full,
        roughness=roughness * full,
    )


@pytest.fixture(scope="module")
def surface(head, texels, geometry):
    return surface_of(head, texels, geometry)


@pytest.fixture(scope="module")
def lit(head, texels, geometry, surface):
    """Function of sources, radiance and skin to the Shading of the sampled head."""

    def result(sources=(), radiance=DARK, skin=None, on=surface, eye=EYE):
        light = Illumination("studio", np.asarray(radiance), tuple(sources))
        return shade(head, texels, geometry, on, light, skin or skin_of(), eye)

    return result


@pytest.fixture(scope="module")
def skin_texels(head, texels):
    return texels.inside & (head.atlas.triangle_regions[texels.triangle] != EYES)


def total(shading, skin):
    return skin.diffuse_albedo / np.pi * shading.irradiance + shading.specular


@pytest.mark.parametrize("s", [0.0, 0.5, 1.0])
def test_white_furnace(lit, skin_texels, texels, s):
    """White skin in uniform light of 1 shows 1, even in folds: what does not come from outside comes from skin."""
    skin = skin_of(albedo=1.0, s=s)
    shading = lit(radiance=np.ones((192, 3)), skin=skin)
    seen = total(shading, skin)[skin_texels]
    assert seen.max() < 1.02 and seen.min() >= 0
    assert np.median(seen) == pytest.approx(1, abs=0.02) and np.quantile(seen, 0.05) > 0.95
    if s:
        assert np.quantile(shading.specular[skin_texels], 0.05) > 0.02
    assert (shading.shadow == 0).all()
    for image in (shading.irradiance, shading.specular):
        assert image.shape == (SIZE, SIZE, 3) and image.dtype == np.float32 and (image[~texels.inside] == 0).all()


def test_gray_skin_is_darker_in_folds(lit, skin_texels, head, texels, geometry):
    openness = interpolate(geometry.openness[:, None], head.triangles, texels)[..., 0]
    seen = lit(radiance=np.ones((192, 3))).irradiance[..., 1] / np.pi
    wide, hidden = skin_texels & (openness > 0.97), skin_texels & (openness > 0.1) & (openness < 0.5)
    assert wide.sum() > 100 and hidden.sum() > 5
    assert np.median(seen[hidden]) < 0.7 * np.median(seen[wide])
    # Bright skin fills its folds with light.
    bright = lit(radiance=np.ones((192, 3)), skin=skin_of(albedo=0.8)).irradiance[..., 1] / np.pi
    assert np.median(bright[hidden]) > 1.15 * np.median(seen[hidden])


@pytest.mark.parametrize("roughness", [0.2, 0.45, 0.8])
@pytest.mark.parametrize("s", [0.0, 0.5, 1.0])
def test_the_brdf_creates_no_energy(roughness, s):
    """Integral of the BRDF times the cosine over the hemisphere: of its highlight, and of very bright skin.

    Where a view grazes, glTF's (1 - F) albedo / pi lets a perfectly white smooth surface reflect more than it gets;
    the shading of texels takes the integral of the highlight from what enters instead.
    """
    light = fibonacci_sphere(40000)
    light = light[light[:, 2] > 0]
    normal, flat = np.array([0, 0, 1.0]), np.ones(len(light))
    for n_dot_v in (0.35, 0.6, 0.95):
        view = np.array([np.sqrt(1 - n_dot_v**2), 0, n_dot_v])
        for albedo, low, high in ((0.0, 0.0, 0.3), (0.85, 0.75, 1.0)):
            value = brdf(normal, light, view, np.full(3, albedo), s * flat, roughness * flat)
            reflected = (value[:, 0] * light[:, 2]).sum() * 4 * np.pi / 40000
            assert low < reflected < high


@pytest.mark.parametrize("roughness", [0.45])
def test_many_sources_are_a_white_furnace(lit, skin_texels, surface, roughness):
    """A hundred equal sources around an open white forehead show 1 as uniform light does."""
    directions = fibonacci_sphere(100)
    sources = [DirectionalLight(d, np.full(3, 4 * np.pi / 100), samples=1) for d in directions]
    skin = skin_of(albedo=1.0, s=0.6, roughness=roughness)
    seen = total(lit(sources, skin=skin), skin)
    open_skin = skin_texels & (surface.normals[..., 2] > 0.9) & (np.arange(SIZE)[:, None] < 0.35 * SIZE)
    assert open_skin.sum() > 10
    np.testing.assert_allclose(seen[open_skin], 1, atol=0.06)


def test_transfer_against_rays(geometry, head):
    """The gather over cells agrees with four thousand rays of another set, in smooth light."""
    eyes = eye_vertices(head)
    chosen = np.setdiff1d(np.arange(0, len(geometry.vertices), 150), eyes)
    points, normals = geometry.vertices[chosen], geometry.normals[chosen]
    rays = fibonacci_sphere(4001)

    def radiance(d):
        return 1 + 0.7 * d @ np.array([0.6, 0.64, 0.48])

    cosine = np.maximum(normals @ rays.T, 0)
    origins = np.repeat(offset_origins(points, normals, VISIBILITY_OFFSET), len(rays), axis=0)
    free = ~geometry.rasterizer.occluded(origins, np.tile(rays, (len(points), 1))).reshape(cosine.shape)
    expected = (cosine * free * radiance(rays)).sum(axis=1) * 4 * np.pi / len(rays)
    found = geometry.gather[chosen] @ radiance(DIRECTIONS)
    assert np.abs(found - expected).mean() < 0.05 and np.abs(found - expected).max() < 0.35


def test_an_open_forehead_gets_the_cosine(lit, surface, skin_texels):
    """A source of irradiance pi shows a white surface as its cosine; at s = 0 nearly all enters."""
    shading = lit([FRONT])
    facing = skin_texels & (surface.normals[..., 2] > 0.9) & (shading.shadow == 0)
    assert facing.sum() > 40
    ratio = shading.irradiance[facing][:, 1] / np.pi / surface.normals[facing][:, 2]
    assert ratio.min() > 0.97 and ratio.max() < 1.25  # beside the nose, some light bounces
    assert np.median(ratio) == pytest.approx(1, abs=0.03)


def test_sources_add_up_and_scale(lit):
    side = PointLight(np.array([0.6, 0.3, 0.7]), np.array([1.0, 0.5, 0.2]), 0.1, 4)
    skin = skin_of(s=0.6)
    one, other, both = lit([FRONT], skin=skin), lit([side], skin=skin), lit([FRONT, side], skin=skin)
    np.testing.assert_allclose(both.irradiance, one.irradiance + other.irradiance, atol=1e-4)
    np.testing.assert_allclose(both.specular, one.specular + other.specular, atol=1e-4)
    radiance = np.maximum(DIRECTIONS[:, 1:2], 0.1) * np.ones(3)
    once, twice = lit(radiance=radiance, skin=skin), lit(radiance=2 * radiance, skin=skin)
    np.testing.assert_allclose(twice.irradiance, 2 * once.irradiance, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(twice.specular, 2 * once.specular, rtol=1e-4, atol=1e-5)


def test_a_source_behind_lights_no_face(lit, surface, skin_texels):
    behind = DirectionalLight(np.array([0.3, 0.2, -1.0]), np.full(3, np.pi), 0.1, 4)
    face = skin_texels & (surface.normals[..., 2] > 0.6)
    assert face.sum() > 50
    shading = lit([behind], skin=skin_of(s=0.8))
    assert shading.irradiance[face].max() < 0.05 and shading.specular[face].max() < 0.02
    assert shading.irradiance[skin_texels].max() > 1


def test_shadows_fall_where_the_nose_is_in_the_way(lit, head, surface, skin_texels):
    """Light from the subject's left: the right side of the nose is in shadow, and the shadow says how much."""
    hard = DirectionalLight(np.array([1.0, 0.3, 0.5]), np.full(3, np.pi))
    shading = lit([hard])
    dark = skin_texels & (shading.shadow > 0.9)
    assert 5 < dark.sum() < 0.4 * skin_texels.sum()
    lambert = np.maximum(surface.normals @ normalize(hard.direction), 0)
    open_texels = skin_texels & (shading.shadow == 0) & (lambert > 0.3)
    assert np.median((shading.irradiance[..., 1] / np.pi)[open_texels] / lambert[open_texels]) > 0.9
    # In shadow there is only what bounces, and what spreads from the edge.
    deep = dark & (lambert > 0.2)
    assert deep.sum() > 3
    assert np.median((shading.irradiance[..., 1] / np.pi)[deep] / lambert[deep]) < 0.5
    assert shading.shadow.min() >= 0 and shading.shadow.max() <= 1
    # The nose tip's right (image-left) neighborhood is darker than its left.
    column, row = (head.landmark_uv[30] * SIZE).astype(int)
    cheek = shading.irradiance[row - 2 : row + 1, :, 1]
    assert cheek[:, column + 2 : column + 5].mean() > 1.5 * cheek[:, column - 5 : column - 2].mean()


def test_a_wide_source_softens_its_shadow(lit, skin_texels):
    direction = np.array([1.0, 0.3, 0.5])
    hard = lit([DirectionalLight(direction, np.full(3, np.pi))]).shadow[skin_texels]
    soft = lit([DirectionalLight(direction, np.full(3, np.pi), np.radians(25), 16)]).shadow[skin_texels]
    assert ((soft > 0.1) & (soft < 0.9)).sum() > 1.5 * ((hard > 0.1) & (hard < 0.9)).sum()


def test_mirrored_light_gives_the_mirrored_irradiance(head, texels):
    """On the mean head, which is symmetric."""
    person = Person(40.0, 0.5, 0.5, np.full(3, 1 / 3), np.zeros(len(head.identity_basis)))
    geometry = trace_geometry(head, person, np.zeros(len(head.expression_names)))
    surface = surface_of(head, texels, geometry)
    images = []
    for side in (1, -1):
        sources = (
            DirectionalLight(np.array([side * 0.7, 0.3, 0.8]), np.array([3.0, 2, 1]), 0.1, 16),
            PointLight(np.array([side * 0.2, -0.1, 0.7]), np.full(3, 0.4), 0.05, 16),
        )
        radiance = (1.2 + DIRECTIONS @ np.array([side * 0.8, 0.4, 0.2]))[:, None] * np.ones(3)
        light = Illumination("room", radiance, sources)
        shading = shade(head, texels, geometry, surface, light, skin_of(s=0.5), EYE)
        images.append(total(shading, skin_of(s=0.5)))
    both = texels.inside & texels.inside[:, ::-1]
    difference = np.abs(images[0] - images[1][:, ::-1])[both]
    assert np.median(difference) < 0.01 * images[0][both].mean()
    assert difference.mean() < 0.04 * images[0][both].mean()
    # Which says something only because the two sides differ.
    assert np.abs(images[0] - images[0][:, ::-1])[both].mean() > 0.3 * images[0][both].mean()


def test_highlights(lit, surface, skin_texels):
    source = DirectionalLight(np.array([0, 0.3, 1.0]), np.full(3, np.pi), 0.05, 4)
    matte, glossy = lit([source]), lit([source], skin=skin_of(s=1.0))
    assert glossy.specular[skin_texels].max() > 3 * matte.specular[skin_texels].max()
    # What is reflected does not enter.
    assert (glossy.irradiance <= matte.irradiance + 1e-5).all()
    assert glossy.irradiance[skin_texels].sum() < 0.97 * matte.irradiance[skin_texels].sum()
    # A smoother skin has a smaller and brighter highlight.
    smooth = lit([source], skin=skin_of(s=1.0, roughness=0.3)).specular[skin_texels][:, 1]
    rough = lit([source], skin=skin_of(s=1.0, roughness=0.7)).specular[skin_texels][:, 1]
    assert smooth.max() > 2 * rough.max()
    assert (smooth > smooth.max() / 2).sum() < (rough > rough.max() / 2).sum()
    # The highlight moves with the eye.
    aside = lit([source], skin=skin_of(s=1.0), eye=np.array([0.8, 0, 0.6])).specular[..., 1]
    columns = np.arange(SIZE)
    assert (aside.sum(0) @ columns) / aside.sum() > 0.5 + (glossy.specular[..., 1].sum(0) @ columns) / (
        glossy.specular[..., 1].sum()
    )


def test_surroundings_are_mirrored(lit, surface, skin_texels):
    """Light cells ahead show on skin that faces ahead, at the reflectance that a white world has there."""
    ahead = np.where(DIRECTIONS[:, 2:] > 0.5, 1.0, 0.0) * np.ones(3)
    skin = skin_of(s=1.0, roughness=0.35)
    half, white = lit(radiance=ahead, skin=skin).specular, lit(radiance=np.ones((192, 3)), skin=skin).specular
    facing = skin_texels & (surface.normals[..., 2] > 0.97)
    away = skin_texels & (surface.normals[..., 2] < 0.3) & (surface.normals[..., 2] > 0)
    assert np.median(half[facing] / white[facing]) > 0.9
    assert np.median(half[away] / white[away]) < 0.2


def test_detail_normals_turn_the_light(lit, head, texels, geometry, surface, skin_texels):
    """Normals leant to the left get more light from the left, from cells and sources alike; never from behind."""
    leant = SimpleNamespace(**vars(surface))
    leant.normals = normalize(surface.normals + np.array([0.3, 0, 0], np.float32)) * texels.inside[..., None]
    facing = skin_texels & (surface.normals[..., 2] > 0.9)
    left = (1 + DIRECTIONS @ np.array([0.9, 0, 0.1]))[:, None] * np.ones(3)
    source = [DirectionalLight(np.array([0.8, 0, 0.6]), np.full(3, np.pi))]
    for arguments in ({"radiance": left}, {"sources": source}):
        assert lit(on=leant, **arguments).irradiance[facing].mean() > 1.1 * lit(**arguments).irradiance[facing].mean()
    behind = [DirectionalLight(np.array([1.0, 0, -0.35]), np.full(3, np.pi))]
    assert lit(behind, on=leant).irradiance[skin_texels & (surface.normals[..., 2] > 0.97)].max() < 0.1


def test_creases_are_darker(lit, head, texels, geometry, skin_texels):
    deep = surface_of(head, texels, geometry, creases=1.0)
    for arguments in ({"radiance": np.ones((192, 3))}, {"sources": [FRONT]}):
        flat, creased = lit(**arguments).irradiance[skin_texels], lit(on=deep, **arguments).irradiance[skin_texels]
        assert 0.3 < creased.sum() / flat.sum() < 0.9
    # Skin's own light fills them the more the brighter it is: they turn redder, not gray.
    red = skin_of(albedo=[0.7, 0.4, 0.3])
    creased = lit(on=deep, radiance=np.ones((192, 3)), skin=red).irradiance[skin_texels].mean(axis=0)
    assert creased[0] > 1.1 * creased[1] > 1.1 * creased[2]


def test_eyes(lit, head, texels, surface):
    """An eye sees a fixed share of a source that reaches it, and nothing when the head is in the way."""
    eyes = texels.inside & (head.atlas.triangle_regions[texels.triangle] == EYES)
    left = np.arange(SIZE)[None] > SIZE / 2
    front = lit([FRONT])
    facing = eyes & (surface.normals[..., 2] > 0.8)
    assert facing.any()
    expected = EYE_OPENNESS * surface.normals[facing][:, 2]
    np.testing.assert_allclose(front.irradiance[facing][:, 1] / np.pi, expected, atol=0.06)
    np.testing.assert_allclose(front.shadow[facing], 1 - EYE_OPENNESS, atol=1e-3)
    side = lit([DirectionalLight(np.array([1.0, 0, 0.05]), np.full(3, np.pi))]).irradiance[..., 1]
    assert side[eyes & left].max() > 0.3 and side[eyes & ~left].max() == 0


def test_light_below_the_skin_keeps_its_mean_and_softens_red_most():
    inside = np.ones((256, 256), bool)
    edge = np.zeros((256, 256, 3), np.float32)
    edge[:, 128:] = 1
    spread = scatter_below(edge, inside, np.zeros((256, 256)))
    np.testing.assert_allclose(spread.mean(axis=(0, 1)), 0.5, atol=1e-3)
    np.testing.assert_allclose(spread[:, [0, -1]], edge[:, [0, -1]])
    beyond = spread[128, 120:128].sum(axis=0)  # light that leaks into the shadow
    assert beyond[0] > 2 * beyond[1] and beyond[0] > 2 * beyond[2]
    assert (np.diff(spread[128], axis=0) > -1e-6).all()
    np.testing.assert_allclose(np.sum([weight for _, weight in SKIN_PROFILE], axis=0), 1, atol=2e-3)


def test_light_below_the_skin_stays_in_it():
    """Even light stays even up to the atlas' border; eyes keep theirs and give none."""
    inside, eyes = np.zeros((256, 256), bool), np.zeros((256, 256))
    inside[40:200, 60:180] = True
    eyes[100:110, 100:110] = 1
    image = np.where(inside[..., None], np.float32(0.8), np.float32(0))
    image = np.where(eyes[..., None] > 0, np.float32(5), image) * np.ones(3, np.float32)
    spread = scatter_below(image, inside, eyes)
    np.testing.assert_allclose(spread, image, atol=1e-5)
