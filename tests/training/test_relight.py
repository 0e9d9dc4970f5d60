"""Relit batches: light, tone and background by hand, and results that depend on the sample's own generator alone."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from map_dataset import sample_generator
from random_masks import random_masks
from relight import LOBES, Draws, Lights, Relighter, photograph, sample_lights

from relightify_diffusers.errors import AssetError
from relightify_diffusers.maps import (
    BACKGROUND,
    LAYOUT,
    encode_normals,
    individual_typology_angle,
    linear_to_srgb,
    srgb_to_linear,
)
from relightify_diffusers.rendering.atlas import bake_atlas, interpolate
from relightify_diffusers.rendering.mesh import normalize, vertex_normals
from relightify_diffusers.rendering.spherical_harmonics import fibonacci_sphere, irradiance, project, sh_basis
from relightify_diffusers.synthesis.chromophores import TONE_RANGE

SIZE = 32
TEXTURE, ALBEDO = LAYOUT.slice("texture"), LAYOUT.slice("diffuse_albedo")


@pytest.fixture(scope="module")
def texels(head):
    return bake_atlas(head.atlas.uv, head.atlas.uv_triangles, SIZE)


@pytest.fixture(scope="module")
def relighter(head) -> Relighter:
    return Relighter(head, SIZE)


@pytest.fixture(scope="module")
def transfer(open_transfer) -> torch.Tensor:
    return torch.from_numpy(open_transfer)[None].half()


@pytest.fixture(scope="module")
def batch(head, texels) -> torch.Tensor:
    """One sample (1, 12, R, R) of the mean head with even skin of a light, a medium or a dark tone each: (3, ...)."""
    normals = normalize(interpolate(vertex_normals(head.template, head.triangles), head.triangles, texels))
    inside, samples = texels.inside[..., None], []
    for albedo in ((0.62, 0.42, 0.33), (0.32, 0.19, 0.12), (0.1, 0.05, 0.035)):
        maps = {
            "texture": np.full((SIZE, SIZE, 3), 0.3),
            "diffuse_albedo": np.broadcast_to(linear_to_srgb(np.array(albedo)), (SIZE, SIZE, 3)),
            "specular_albedo": np.full((SIZE, SIZE, 3), 0.35),
            "normals": encode_normals(normals),
        }
        maps = {name: np.where(inside, m, BACKGROUND).transpose(2, 0, 1) for name, m in maps.items()}
        samples.append(LAYOUT.join(maps))
    return torch.from_numpy(np.stack(samples)).float() * 2 - 1


def generators(count: int, seed: int = 0) -> list[torch.Generator]:
    return [sample_generator(seed, 0, i) for i in range(count)]


def test_only_texture_and_albedo_change_and_only_inside(relighter, batch, transfer, texels):
    original = batch.clone()
    relit = relighter(batch, transfer.expand(3, -1, -1), generators(3))
    assert torch.equal(batch, original) and relit.shape == batch.shape
    outside = torch.from_numpy(~texels.inside)
    assert torch.equal(relit[..., outside], batch[..., outside])
    for name in ("specular_albedo", "normals"):
        assert torch.equal(relit[:, LAYOUT.slice(name)], batch[:, LAYOUT.slice(name)])
    assert relit.min() >= -1 and relit.max() <= 1 and torch.isfinite(relit).all()
    change = (relit - batch)[..., torch.from_numpy(texels.inside)].abs().mean(-1)  # (B, 12)
    assert change[:, TEXTURE].min() > 0.01


def test_a_sample_depends_on_its_own_generator_alone(relighter, batch, transfer):
    together = relighter(batch, transfer.expand(3, -1, -1), generators(3))
    alone = [relighter(batch[i : i + 1], transfer, [sample_generator(0, 0, i)])[0] for i in range(3)]
    torch.testing.assert_close(torch.stack(alone), together, atol=1e-5, rtol=0)
    assert torch.equal(relighter(batch, transfer.expand(3, -1, -1), generators(3)), together)
    other = relighter(batch, transfer.expand(3, -1, -1), generators(3, seed=1))
    assert (other - together).abs().mean() > 0.02


def test_the_generator_is_drawn_from_alike_at_every_resolution(head, relighter, batch, transfer):
    drawn = []
    small = torch.nn.functional.interpolate(batch, size=(16, 16), mode="area")
    for one, maps in ((relighter, batch), (Relighter(head, 16), small)):
        own = generators(3)
        one(maps, transfer.expand(3, -1, -1), own)
        drawn.append(torch.stack([torch.rand((), generator=g) for g in own]))
    assert torch.equal(*drawn)


def test_tones_reach_the_whole_range_whatever_they_were(relighter, batch):
    many = batch.repeat_interleave(64, dim=0)
    maps, _ = relighter.unpack(many)
    recolored = relighter.recolor(maps["diffuse_albedo"], Draws(generators(len(many)), "cpu"))
    cheek = relighter.reference.argmax()
    before = individual_typology_angle(maps["diffuse_albedo"][:, cheek])
    after = individual_typology_angle(recolored[:, cheek])
    same = (before - after).abs() < 1e-3
    assert 0.1 < same.float().mean() < 0.3  # 1 - RECOLORED
    for i in range(3):
        tones = after[64 * i : 64 * (i + 1)][~same[64 * i : 64 * (i + 1)]]
        assert abs(tones.mean().item() - sum(TONE_RANGE) / 2) < 15
        assert tones.min() < TONE_RANGE[0] + 15 and tones.max() > TONE_RANGE[1] - 15


def test_recoloring_keeps_eyes_hair_and_the_contrast_of_detail(relighter, batch):
    maps, _ = relighter.unpack(batch[:1].expand(32, -1, -1, -1))
    albedo = maps["diffuse_albedo"].clone()
    plain = ((relighter.follows_tone == 1) & (relighter.grows_hair < 1e-3)).nonzero()[:, 0]
    brow = (relighter.grows_hair > 0.99).nonzero()[:, 0][:20]
    albedo[:, plain[::2]] *= 0.9  # detail
    albedo[:, brow[:10]] = 0.02  # black hair
    albedo[:, brow[10:]] = 0.45  # gray hair
    recolored = relighter.recolor(albedo, Draws(generators(32), "cpu"))
    eyes = relighter.eyes > 0
    torch.testing.assert_close(recolored[:, eyes], albedo[:, eyes])
    torch.testing.assert_close(recolored[:, brow], albedo[:, brow], atol=1e-3, rtol=0)
    free = (recolored[:, plain] < 0.94).all((1, 2))
    assert free.sum() > 16
    contrast = recolored[free][:, plain[::2]].mean(1) / recolored[free][:, plain[1::2]].mean(1)
    torch.testing.assert_close(contrast, torch.full_like(contrast, 0.9), atol=1e-4, rtol=0)


def test_typology_angle_of_tensors_is_that_of_arrays():
    colors = np.random.default_rng(0).uniform(0.02, 0.9, (50, 3))
    expected = individual_typology_angle(colors)
    np.testing.assert_allclose(individual_typology_angle(torch.from_numpy(colors)), expected, atol=1e-6)


def test_lobes_of_strength_one_give_pi_and_bend_with_their_width():
    direction = torch.tensor([[[0.0, 0.0, 1.0], [1.0, 0.0, 0.0], [0.6, 0.0, 0.8]]])
    lights = Lights(torch.ones(1, 1 + LOBES, 3), direction, torch.tensor([[0.05, 0.3, 0.5]]))
    facing = torch.cat([direction[0, :1], direction[0]])
    for part in range(1 + LOBES):
        found = irradiance(lights.coefficients[0, :, part : part + 1], facing[part])
        assert found.item() == pytest.approx(math.pi, rel=1e-5)
    # By brute force: the heat kernel's clamped-cosine integral over many directions, on the side of the second lobe.
    around = fibonacci_sphere(20000)
    radiance = sh_basis(around) @ lights.coefficients[0, :, 2].double().numpy()
    normal = normalize(np.array([0.8, 0.0, 0.6]))
    expected = (radiance * np.maximum(around @ normal, 0)).mean() * 4 * np.pi
    exact = irradiance(lights.coefficients[0, :, 2:3].double(), torch.from_numpy(normal)).item()
    assert exact == pytest.approx(expected, rel=1e-3)
    assert project(radiance[:, None], around, np.full(20000, 4 * np.pi / 20000))[:, 0] == pytest.approx(
        lights.coefficients[0, :, 2].numpy(), abs=1e-3
    )


def _even_light(monkeypatch, level: float) -> None:
    def lights(draws: Draws) -> Lights:
        colors = torch.zeros(3, 1 + LOBES, 3)
        colors[:, 0] = level
        return Lights(colors, torch.eye(3).expand(3, -1, -1), torch.full((3, LOBES), 0.2))

    monkeypatch.setattr("relight.sample_lights", lights)


def test_even_light_shows_the_albedo(relighter, batch, transfer, monkeypatch):
    """Radiance of a convex head without specular reflection under L = 2 is 2 albedo, and a white surface shows 2."""
    _even_light(monkeypatch, 2.0)
    maps, _ = relighter.unpack(batch)
    convex = torch.zeros(3, transfer.shape[1], 9)
    convex[..., 0] = math.pi * 0.282095
    normals, albedo = maps["normals"], maps["diffuse_albedo"]
    draws = Draws(generators(3), "cpu")
    radiance, white = relighter.shade(albedo, torch.zeros_like(albedo[..., 0]), normals, convex, draws)
    torch.testing.assert_close(white, torch.full_like(white, 2.0), rtol=1e-4, atol=0)
    # With F0 = 0 only Schlick's grazing reflection is left: it takes and gives, and never more than arrives.
    front = normals[..., 2] > 0.9
    torch.testing.assert_close(radiance[front], 2 * albedo[front], rtol=0.05, atol=0.02)
    bright, _ = relighter.shade(torch.ones_like(albedo), torch.ones_like(albedo[..., 0]), normals, convex, draws)
    assert bright.max() <= 2.0 * 1.001 and bright.min() >= 2.0 * 0.9


def test_the_texture_grows_with_light_and_albedo(relighter, batch, transfer, monkeypatch):
    maps, _ = relighter.unpack(batch)
    albedo, s = maps["diffuse_albedo"], maps["specular_albedo"][..., 0]
    radiance = []
    for level in (0.5, 1.0, 1.5):
        _even_light(monkeypatch, level)
        draws = Draws(generators(3), "cpu")
        radiance.append(relighter.shade(albedo, s, maps["normals"], transfer.expand(3, -1, -1), draws)[0])
    torch.testing.assert_close(radiance[1], 2 * radiance[0])
    torch.testing.assert_close(radiance[2], 3 * radiance[0])
    light, medium, dark = radiance[1][:, relighter.skin > 0]
    assert (light > medium).all() and (medium > dark).all()


def test_light_from_one_side_lights_that_side(relighter, batch, transfer, monkeypatch):
    def from_the_left(draws: Draws) -> Lights:
        colors = torch.zeros(3, 1 + LOBES, 3)
        colors[:, 1] = 1.0
        return Lights(colors, torch.tensor([[1.0, 0, 0]]).expand(3, LOBES, 3), torch.full((3, LOBES), 0.1))

    monkeypatch.setattr("relight.sample_lights", from_the_left)
    maps, _ = relighter.unpack(batch)
    _, white = relighter.shade(
        maps["diffuse_albedo"],
        maps["specular_albedo"][..., 0],
        maps["normals"],
        transfer.expand(3, -1, -1),
        Draws(generators(3), "cpu"),
    )
    toward, away = maps["normals"][0, :, 0] > 0.7, maps["normals"][0, :, 0] < -0.7
    skin = relighter.skin > 0
    assert white[0, toward & skin].mean() > 10 * white[0, away & skin].mean()
    # Columns to the right show the subject's left, +X.
    assert relighter.uv[toward & skin, 0].mean() > 0.6


def test_shadowed_transfer_darkens(relighter, batch, transfer):
    maps, _ = relighter.unpack(batch)
    arguments = maps["diffuse_albedo"], maps["specular_albedo"][..., 0], maps["normals"]
    bare = relighter.shade(*arguments, transfer.float().expand(3, -1, -1), Draws(generators(3), "cpu"))[1]
    half = relighter.shade(*arguments, 0.5 * transfer.float().expand(3, -1, -1), Draws(generators(3), "cpu"))[1]
    assert (half <= bare + 1e-6).all() and half.mean() < 0.7 * bare.mean()


def test_detail_of_the_normals_is_lit(relighter, batch, transfer):
    """A bump that turns toward the light gets brighter than the mesh below it, one that turns away darker."""
    maps, _ = relighter.unpack(batch[:1])
    lights = Lights(torch.ones(1, 1 + LOBES, 3), torch.tensor([[[1.0, 0, 0]] * LOBES]), torch.full((1, LOBES), 0.1))
    texel = int(relighter.reference.argmax())
    found = []
    for tilt in (-0.4, 0.0, 0.4):
        normals = maps["normals"].clone()
        normals[0, texel, 0] += tilt
        normals = torch.nn.functional.normalize(normals, dim=-1)
        found.append(relighter.irradiance(lights, normals, transfer)[0][0, texel, 1].item())
    assert found[0] < found[1] < found[2]
    assert found[2] / found[0] > 1.2


def test_border_texels_of_averaged_maps_keep_their_share_of_background(head, batch, transfer):
    """Maps averaged from twice the size: the border is unmixed, relit and mixed again."""
    small = torch.nn.functional.interpolate(batch, size=(16, 16), mode="area")
    relighter = Relighter(head, 16)
    maps, cover = relighter.unpack(small)
    mixed = (cover[0, :, 0] > 0.3) & (cover[0, :, 0] < 0.8) & (relighter.skin > 0)
    assert mixed.sum() > 5
    expected = srgb_to_linear(batch[:, ALBEDO].amax((2, 3)) * 0.5 + 0.5)  # only the light skin is above the background
    torch.testing.assert_close(
        maps["diffuse_albedo"][0, mixed], expected[0].expand(int(mixed.sum()), 3), rtol=0.06, atol=0
    )
    packed = relighter.pack(small, {"diffuse_albedo": linear_to_srgb(maps["diffuse_albedo"])}, cover)
    torch.testing.assert_close(packed, small, atol=2e-3, rtol=0)


def test_exposure_puts_bright_white_near_the_top():
    draws = Draws(generators(200), "cpu")
    white = torch.full((200, 50, 3), 7.0)
    values = photograph(white * 0.2, white, draws)
    level = srgb_to_linear(values.mean((1, 2)))
    assert level.median().item() == pytest.approx(0.17, rel=0.25)
    assert level.std() / level.mean() > 0.1


def test_white_balance_takes_out_most_of_the_cast():
    color = torch.tensor([1.4, 1.0, 0.5])
    white = color.expand(100, 20, 3)
    values = srgb_to_linear(photograph(white * 0.2, white, Draws(generators(100), "cpu")))
    ratio = values[..., 0].mean(1) / values[..., 2].mean(1)
    assert 1 < ratio.median() < 2.0 < 1.4 / 0.5


def test_lights_are_bounded_and_varied():
    lights = sample_lights(Draws(generators(300), "cpu"))
    lit = (lights.colors[:, 1:].sum(-1) > 0).sum(1)
    assert sorted(set(lit.tolist())) == [1, 2, 3]
    assert (lights.colors >= 0).all()
    torch.testing.assert_close(lights.directions.norm(dim=-1), torch.ones(300, LOBES))
    assert 0.5 < (lights.directions[..., 2] > 0).float().mean() < 0.9


def test_a_head_of_another_size_is_refused(relighter):
    relighter.check((3, relighter.vertex_count, 9))
    with pytest.raises(AssetError, match="make the data again"):
        relighter.check((3, 100, 9))


def test_masks_see_the_front_and_differ(relighter, batch, transfer):
    many = batch[:1].expand(48, -1, -1, -1)
    masks = random_masks(relighter, many, transfer.expand(48, -1, -1), generators(48))
    assert masks.shape == (48, 1, SIZE, SIZE) and set(masks.unique().tolist()) == {0.0, 1.0}
    again = random_masks(relighter, many[5:6], transfer, [sample_generator(0, 0, 5)])
    assert torch.equal(again[0], masks[5])
    share = masks.mean((1, 2, 3))
    assert 0.2 < share.mean() < 0.5 and share.std() > 0.03
    hidden = torch.ones(SIZE**2, dtype=torch.bool)
    hidden[relighter.texels] = (relighter.skin + relighter.eyes == 0) | (relighter.scalp > 0.5)
    assert masks.flatten(1)[:, hidden].sum() == 0
    nose = int(relighter.texels[(relighter.uv - torch.tensor([0.5, 0.55])).norm(dim=-1).argmin()])
    assert masks.flatten(1)[:, nose].mean() > 0.6


def test_masks_hide_what_the_transfer_says_is_hidden(relighter, batch, transfer):
    """A head that no light reaches on one side: nothing there is seen."""
    side = transfer.float().clone()
    head_left = transfer[0, :, 3] > 0.3  # the x component of the normal
    side[:, head_left] = 0
    own = generators(1)
    mask = random_masks(relighter, batch[:1], side, own).flatten(1)[:, relighter.texels]
    dark = relighter.at_texels(head_left.float()[None, :, None])[0, :, 0] > 0.99
    assert mask[0, dark].sum() == 0 and mask.sum() > 50
