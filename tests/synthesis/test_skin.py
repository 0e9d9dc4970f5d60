"""Random skin: the whole range of tones, plausible albedos, skins read from files."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from relightify_diffusers.errors import AssetError
from relightify_diffusers.maps import individual_typology_angle
from relightify_diffusers.synthesis.hair import HAIR_COLORS, HAIR_ODDS, paint_hair
from relightify_diffusers.synthesis.noise import fractal_noise
from relightify_diffusers.synthesis.skin import (
    DARKEST,
    LIGHTEST,
    TONE_RANGE,
    SkinSources,
    melanin_for_tone,
    sample_skin,
    tone_color,
)


@pytest.fixture(scope="module")
def skins(sources):
    return [sample_skin(sources, np.random.default_rng([0, 1, i])) for i in range(40)]


def test_tone_color_ends():
    np.testing.assert_allclose(tone_color(0.0), LIGHTEST)
    np.testing.assert_allclose(tone_color(1.0), DARKEST)
    colors = tone_color(np.linspace(0, 1, 50))
    assert (np.diff(colors[:, :2], axis=0) < 0).all()  # more melanin is darker
    assert (colors[:, 0] > colors[:, 1]).all() and (colors[:, 1] > colors[:, 2]).all()


@pytest.mark.parametrize("tone", [*TONE_RANGE, -30, 0, 28, 41, 55])
def test_melanin_for_tone_is_the_inverse(tone):
    melanin = melanin_for_tone(tone)
    assert 0 <= melanin <= 1
    assert individual_typology_angle(tone_color(melanin)) == pytest.approx(tone, abs=1)


def test_tones_cover_the_range(skins):
    """Uniform over very light to dark: a good number in each of the six groups of Chardon et al."""
    tones = np.array([skin.tone for skin in skins])
    assert tones.min() < -40 and tones.max() > 48
    counts = np.histogram(tones, bins=np.linspace(*TONE_RANGE, 5))[0]
    assert counts.min() >= 4


def test_albedo_follows_the_tone(skins, sources):
    face = (sources.masks["cheeks"] > 0.5) | (sources.masks["forehead"] > 0.5)
    means = np.array([skin.diffuse_albedo[face].mean(axis=0) for skin in skins])
    tones = np.array([skin.tone for skin in skins])
    assert np.corrcoef(means.mean(axis=1), tones)[0, 1] > 0.9
    measured = individual_typology_angle(means)
    assert np.abs(measured - tones).mean() < 12 and np.corrcoef(measured, tones)[0, 1] > 0.95
    assert (means[:, 0] > means[:, 2]).all()  # no blue skin


def test_ranges(skins):
    for skin in skins:
        assert skin.diffuse_albedo.dtype == np.float32 and skin.specular.dtype == np.float32
        assert skin.diffuse_albedo.min() >= 0.004 and skin.diffuse_albedo.max() <= 0.95
        assert skin.specular.min() >= 0 and skin.specular.max() <= 1
    # F0 = 0.08 s of skin is about 0.028.
    typical = np.median([np.median(skin.specular) for skin in skins])
    assert typical == pytest.approx(0.35, abs=0.06)


def test_same_generator_same_skin(sources):
    first, second, other = (sample_skin(sources, np.random.default_rng(seed)) for seed in (3, 3, 4))
    np.testing.assert_array_equal(first.diffuse_albedo, second.diffuse_albedo)
    assert first.tone == second.tone != other.tone


def test_lips_are_redder_and_eyes_whiter(skins, sources):
    lips, chin = sources.masks["lips"] > 0.9, sources.masks["forehead"] > 0.5
    ratios = [s.diffuse_albedo[lips].mean(axis=0) / s.diffuse_albedo[chin].mean(axis=0) for s in skins]
    redness = np.mean([ratio[0] / ratio[1] for ratio in ratios])
    assert redness > 1.1
    eyes = sources.masks["eyes"] > 0
    brightest = [np.quantile(skin.diffuse_albedo[eyes].mean(axis=1), 0.9) for skin in skins]
    assert min(brightest) > 0.35  # sclera, whatever the skin


def test_hair_colors():
    assert HAIR_COLORS.shape == (len(HAIR_ODDS), 3) and sum(HAIR_ODDS) == pytest.approx(1)
    assert HAIR_COLORS.min() > 0 and HAIR_COLORS.max() < 1


def test_hair_grows_where_hair_grows(sources):
    """White paper painted with hair: nose and cheeks stay white, brows and scalp darken in most draws."""
    paper = np.ones((32, 32, 3))
    painted = np.array([paint_hair(paper, sources.masks, np.random.default_rng(i)).mean(axis=-1) for i in range(20)])
    assert painted.min() >= 0 and painted.max() <= 1 + 1e-6
    bare = (sources.masks["nose"] > 0.9) & (sources.masks["beard"] < 0.01) & (sources.masks["lids"] < 0.1)
    assert bare.sum() > 5 and np.abs(painted[:, bare] - 1).max() < 0.02
    darkened = {name: painted[:, sources.masks[name] > 0.5].mean(axis=1) < 0.9 for name in ("brows", "scalp", "beard")}
    assert darkened["brows"].mean() > 0.6 and darkened["scalp"].mean() > 0.6
    assert 0.1 < darkened["beard"].mean() < 0.7  # not everybody has one


def test_fractal_noise():
    values = np.stack([fractal_noise(32, np.random.default_rng(i), 4, 0.7) for i in range(30)])
    assert abs(values.mean()) < 0.1 and 0.5 < values.std() < 1.2
    # Smooth: neighbors resemble each other, more so with the fine octaves turned down.
    smooth = np.stack([fractal_noise(32, np.random.default_rng(i), 4, 0.2) for i in range(30)])
    roughness, calm = (np.abs(np.diff(v, axis=2)).mean() / v.std() for v in (values, smooth))
    assert calm < roughness < 1


def test_noise_draws_the_same_numbers_at_every_size():
    small, large = np.random.default_rng(0), np.random.default_rng(0)
    fractal_noise(8, small, 6, 0.8)
    fractal_noise(64, large, 6, 0.8)
    assert small.uniform() == large.uniform()


@pytest.fixture
def assets(tmp_path):
    """A folder with one skin in MakeHuman's chart: checkered, with a slow change of brightness."""
    (tmp_path / "skins").mkdir()
    y, x = np.mgrid[:128, :128]
    checker = 150 + 60 * ((x // 8 + y // 8) % 2) - 40 * (x / 128)
    Image.fromarray(np.repeat(checker[..., None], 3, -1).astype(np.uint8)).save(tmp_path / "skins" / "a.png")
    return tmp_path


def test_skins_from_files(head, texels, assets):
    """The detail of a skin is kept, its overall brightness is not."""
    loaded = SkinSources.load(head, texels, assets)
    assert loaded.details.shape == (1, 32, 32, 3) and loaded.details.dtype == np.float32
    detail = loaded.details[0]
    assert detail.min() >= -0.35 and detail.max() <= 0.25
    assert detail.std() > 0.02 and abs(detail[loaded.masks["skin"] > 0].mean()) < 0.05
    assert (detail[loaded.masks["skin"] == 0] == 0).all()
    skin = sample_skin(loaded, np.random.default_rng(0))
    plain = sample_skin(SkinSources(loaded.masks, detail[None][:0], texels), np.random.default_rng(0))
    assert skin.tone == plain.tone and not np.array_equal(skin.diffuse_albedo, plain.diffuse_albedo)


def test_skins_that_cannot_be_read(head, texels, assets, tmp_path):
    with pytest.raises(AssetError, match="no skins"):
        SkinSources.load(head, texels, tmp_path / "elsewhere")
    (assets / "skins" / "a.png").write_bytes(b"not a picture")
    with pytest.raises(AssetError, match=r"a\.png"):
        SkinSources.load(head, texels, assets)
