"""Random skin: all tones, none tied to anything else; plausible maps; the same person at every resolution."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from relightify_diffusers.maps import individual_typology_angle
from relightify_diffusers.rendering.atlas import bake_atlas
from relightify_diffusers.synthesis.chromophores import TONE_RANGE, absorb, melanin_for_tone, tone_color
from relightify_diffusers.synthesis.features import FEATURES
from relightify_diffusers.synthesis.noise import fractal_noise
from relightify_diffusers.synthesis.population import Person, sample_person
from relightify_diffusers.synthesis.relief import Relief
from relightify_diffusers.synthesis.skin import EYE_S, HAIR_ROUGHNESS, SKIN_S, sample_skin
from relightify_diffusers.synthesis.sources import SkinDetail, SkinSources

COUNT = 80


@pytest.fixture(scope="module")
def sources(head, texels):
    return SkinSources.load(head, texels)


@pytest.fixture(scope="module")
def detailed(sources):
    """Sources with the detail of three invented people."""
    details = []
    for seed in range(3):
        rng = np.random.default_rng([9, seed])
        fields = [0.1 * fractal_noise(32, rng, 3, 0.8, coarsest=8) * sources.masks["skin"] for _ in range(3)]
        details.append(SkinDetail(*(field.astype(np.float32) for field in fields)))
    return replace(sources, details=tuple(details))


def flat(size: int) -> Relief:
    return Relief(*np.zeros((2, size, size), np.float32))


def person(head, age: float = 40.0, gender: float = 0.0) -> Person:
    return Person(age, gender, 0.5, np.full(3, 1 / 3), np.zeros(len(head.identity_basis)))


def draw(head, sources, who, seed, tone=None, relief=None):
    relief = relief or flat(sources.resolution)
    return sample_skin(head, sources, who, relief, np.random.default_rng([1, seed]), tone)


@pytest.fixture(scope="module")
def people(head):
    return [sample_person(head, np.random.default_rng([0, i])) for i in range(COUNT)]


@pytest.fixture(scope="module")
def skins(head, detailed, people):
    """Skins of tones drawn by themselves, one for each of many people."""
    return [draw(head, detailed, who, seed) for seed, who in enumerate(people)]


def drawn_tone(seed: int) -> float:
    """The tone that a skin's first stream draws."""
    return np.random.default_rng([1, seed]).spawn(1)[0].uniform(*TONE_RANGE)


def bare(sources):
    """Skin without scalp, lips, lids and beard (N, N)."""
    masks = sources.masks
    return (masks["skin"] > 0) & (masks["scalp"] + masks["lips"] + masks["lids"] + masks["beard"] < 0.1)


class TestTone:
    def test_covers_the_range_evenly(self, skins):
        tones = np.sort([skin.tone for skin in skins])
        assert all(type(skin.tone) is float for skin in skins)
        # Kolmogorov's test: 80 uniform draws stay within 1.63 / sqrt(80) of the even distribution 99 times in 100.
        share = (tones - TONE_RANGE[0]) / (TONE_RANGE[1] - TONE_RANGE[0])
        assert np.abs(share - (np.arange(COUNT) + 0.5) / COUNT).max() < 0.18
        # All six groups of Chardon et al. occur.
        assert np.histogram(tones, bins=[-np.inf, -30, 10, 28, 41, 55, np.inf])[0].min() >= 1

    def test_measured_tone_follows_the_drawn(self, skins):
        drawn, measured = np.array([(drawn_tone(i), skin.tone) for i, skin in enumerate(skins)]).T
        assert np.corrcoef(drawn, measured)[0, 1] > 0.99
        assert np.abs(measured - drawn).mean() < 2.5 and np.abs(measured - drawn).max() < 12
        assert abs((measured - drawn).mean()) < 1

    @pytest.mark.parametrize("tone", [*TONE_RANGE, 30.0, 0.0])
    def test_a_given_tone_is_painted(self, head, sources, tone):
        measured = [draw(head, sources, person(head), seed, tone).tone for seed in range(4)]
        np.testing.assert_allclose(measured, tone, atol=6)

    def test_tone_is_that_of_the_albedo(self, skins, sources):
        """Where nothing is painted over forehead and cheeks, it can be measured again."""
        masks = sources.masks
        even = (masks["cheeks"] > 0.4) | ((masks["forehead"] > 0.5) & (masks["scalp"] < 0.1))
        for skin in skins:
            if not {"fringe", "side hair"} & set(skin.features):
                again = individual_typology_angle(np.median(skin.diffuse_albedo[even], axis=0))
                assert again == pytest.approx(skin.tone, abs=6)

    def test_tone_does_not_depend_on_age_or_gender(self, head, sources):
        """The same draws for a young woman and an old man: make-up and spots move it by a degree at most."""
        young = np.array([draw(head, sources, person(head, 22, 0.0), seed).tone for seed in range(12)])
        old = np.array([draw(head, sources, person(head, 80, 1.0), seed).tone for seed in range(12)])
        assert abs((young - old).mean()) < 1 and np.abs(young - old).max() < 4

    def test_tone_is_uncorrelated_with_people_and_sharpness(self, skins, people):
        """The correlation of 80 independent pairs has a standard deviation of 1 / sqrt(79) = 0.113: three of them."""
        tones = [skin.tone for skin in skins]
        others = {
            "sharpness": [skin.sharpness for skin in skins],
            "age": [who.age for who in people],
            "gender": [who.gender for who in people],
            "weight": [who.weight for who in people],
            **{f"ancestry {k}": [who.ancestry[k] for who in people] for k in range(3)},
        }
        for name, values in others.items():
            assert abs(np.corrcoef(tones, values)[0, 1]) < 0.34, name

    def test_dark_and_light_are_equally_sharp(self, head, detailed):
        """The same draws at both ends: fine variation of log albedo is alike, within a factor."""
        sharpness = np.array(
            [[draw(head, detailed, person(head), seed, tone).sharpness for tone in (-50, 5, 60)] for seed in range(8)]
        )
        assert sharpness.min() > 0
        means = sharpness.mean(axis=0)
        assert means.max() < 1.35 * means.min()


class TestAlbedo:
    def test_ranges(self, skins):
        for skin in skins:
            for values in (skin.diffuse_albedo, skin.specular, skin.roughness):
                assert values.dtype == np.float32 and np.isfinite(values).all()
            assert skin.diffuse_albedo.shape == (32, 32, 3) and skin.specular.shape == skin.roughness.shape == (32, 32)
            assert skin.diffuse_albedo.min() >= np.float32(0.004) and skin.diffuse_albedo.max() <= np.float32(0.95)

    def test_skin_is_never_blue_nor_green(self, skins, sources):
        masks = sources.masks
        face = (masks["cheeks"] > 0.5) | (masks["forehead"] > 0.5) & (masks["scalp"] < 0.1)
        medians = np.array([np.median(skin.diffuse_albedo[face], axis=0) for skin in skins])
        assert (medians[:, 0] > medians[:, 1]).all() and (medians[:, 1] > 0.9 * medians[:, 2]).all()

    def test_lighter_tones_are_lighter(self, skins, sources):
        light = [np.median(skin.diffuse_albedo[bare(sources)].mean(axis=1)) for skin in skins]
        assert np.corrcoef(light, [skin.tone for skin in skins])[0, 1] > 0.9

    def test_even_skin_is_the_tone_by_hand(self, head, sources, monkeypatch):
        """Without features and noise: tone_color, shifted by an undertone that is common to the whole face."""
        monkeypatch.setattr("relightify_diffusers.synthesis.features.FEATURES", {})
        monkeypatch.setattr("relightify_diffusers.synthesis.skin.fractal_noise", lambda size, *rest, **more: 0.0)
        monkeypatch.setattr("relightify_diffusers.synthesis.skin._detail", lambda s, r: np.zeros((3, 32, 32)))
        monkeypatch.setattr("relightify_diffusers.synthesis.skin.paint_hair", no_hair)
        skin = draw(head, sources, person(head), 0, 20.0)
        assert skin.features == () and skin.sharpness == pytest.approx(0, abs=1e-6)
        where = bare(sources) & (sources.masks["nostrils"] < 1e-4)
        colors = skin.diffuse_albedo[where]
        np.testing.assert_allclose(colors, colors[:1].repeat(len(colors), axis=0), rtol=1e-3)
        # The undertone is the rest: mean log albedo is the tone's, and pigments alone explain the difference.
        expected = np.log(tone_color(melanin_for_tone(20.0)))
        shift = np.log(colors[0]) - expected
        assert shift.mean() == pytest.approx(0, abs=1e-3)
        shift = shift - np.array([shift.mean()] * 3)
        pigments = np.stack([absorb(1, 0), absorb(0, 1), np.ones(3)], axis=1)
        melanin, hemoglobin, _ = np.linalg.solve(pigments, shift)
        assert abs(melanin) < 0.2 and abs(hemoglobin) < 0.36  # four standard deviations

    def test_lips_are_redder(self, skins, sources):
        lips, forehead = sources.masks["lips"] > 0.9, sources.masks["forehead"] > 0.5
        ratios = np.array(
            [s.diffuse_albedo[lips].mean(axis=0) / np.median(s.diffuse_albedo[forehead], axis=0) for s in skins]
        )
        redder = ratios[:, 0] / ratios[:, 1]
        assert redder.mean() > 1.15 and (redder > 1).mean() > 0.8

    def test_sclera_is_light_whatever_the_skin(self, skins, sources):
        eyes = sources.masks["eyes"] > 0
        assert min(np.quantile(skin.diffuse_albedo[eyes].mean(axis=1), 0.9) for skin in skins) > 0.3

    def test_nostrils_are_dark(self, head, texels):
        fine = SkinSources.load(head, bake_atlas(head.atlas.uv, head.atlas.uv_triangles, 64))
        nostrils, nose = fine.masks["nostrils"] > 0.6, (fine.masks["nose"] > 0.8) & (fine.masks["nostrils"] < 0.05)
        for seed in range(6):
            albedo = draw(head, fine, person(head), seed).diffuse_albedo
            assert albedo[nostrils].mean() < 0.8 * albedo[nose].mean()

    def test_details_are_used(self, head, sources, detailed):
        plain, rich = (draw(head, s, person(head), 0, 30.0) for s in (sources, detailed))
        assert np.abs(np.log(plain.diffuse_albedo / rich.diffuse_albedo))[bare(sources)].mean() > 0.01
        assert abs(plain.tone - rich.tone) < 6

    def test_creases_darken(self, head, sources):
        """The same draws with and without wrinkles over a cheek."""
        where = sources.masks["cheeks"] > 0.3
        creased = Relief(np.zeros((32, 32), np.float32), where.astype(np.float32))
        for seed in range(3):
            smooth, wrinkled = (
                draw(head, sources, person(head), seed, 30.0, relief=relief) for relief in (flat(32), creased)
            )
            change = np.log(wrinkled.diffuse_albedo / smooth.diffuse_albedo).mean(axis=-1)
            assert change[where].mean() < change[bare(sources) & ~where].mean() - 0.02
            assert wrinkled.specular[where].mean() < 0.75 * smooth.specular[where].mean()


def no_hair(albedo, *_):
    from relightify_diffusers.synthesis.hair import Hair

    return albedo, Hair(np.zeros(albedo.shape[:2], np.float32), ())


class TestGloss:
    def test_specular(self, skins, sources):
        masks = sources.masks
        specular = np.stack([skin.specular for skin in skins])
        assert specular.min() >= 0 and specular.max() <= 1
        # F0 = 0.08 s of skin is about 0.028.
        assert np.median(specular[:, bare(sources)]) == pytest.approx(SKIN_S, abs=0.05)
        nose, cheeks = (specular[:, bare(sources) & (masks[name] > 0.7)].mean(axis=1) for name in ("nose", "cheeks"))
        assert nose.mean() > 1.1 * cheeks.mean() and (nose > cheeks).mean() > 0.8
        np.testing.assert_allclose(specular[:, masks["eyes"] > 0], EYE_S, atol=1e-6)

    def test_people_differ_in_oil(self, skins, sources):
        """Oily skin is both stronger and sharper in its highlights."""
        cheeks = sources.masks["cheeks"] > 0.5
        specular, roughness = (
            np.array([np.median(getattr(skin, name)[cheeks]) for skin in skins]) for name in ("specular", "roughness")
        )
        assert 0.08 < np.log(specular).std() < 0.35
        assert np.corrcoef(np.log(specular), np.log(roughness))[0, 1] < -0.4

    def test_roughness(self, skins, sources):
        masks = sources.masks
        roughness = np.stack([skin.roughness for skin in skins])
        assert roughness.min() >= np.float32(0.08) and roughness.max() <= 1
        face = np.median(roughness[:, bare(sources)], axis=1)
        assert face.min() > 0.3 and face.max() < 0.9
        assert np.median(face) == pytest.approx(0.56, abs=0.06)
        np.testing.assert_allclose(roughness[:, masks["eyes"] > 0], 0.12, atol=1e-6)
        # Noses shine more sharply than cheeks.
        nose, cheeks = (roughness[:, bare(sources) & (masks[name] > 0.7)].mean() for name in ("nose", "cheeks"))
        assert nose < cheeks - 0.03

    def test_hair_pulls_roughness_to_its_own(self, skins, sources):
        scalp = sources.masks["scalp"] > 0.95
        covered = [skin for skin in skins if "hair" in skin.features]
        shaven = [skin for skin in skins if "bald" in skin.features]
        hairy = np.median([np.median(skin.roughness[scalp]) for skin in covered])
        assert len(covered) > 50 and abs(hairy - HAIR_ROUGHNESS) < 0.1
        assert shaven and np.median([np.median(skin.roughness[scalp]) for skin in shaven]) > hairy + 0.03


class TestDeterminism:
    def test_same_generator_same_skin(self, head, detailed):
        first, second, other = (draw(head, detailed, person(head), seed) for seed in (3, 3, 4))
        for name in ("diffuse_albedo", "specular", "roughness"):
            np.testing.assert_array_equal(getattr(first, name), getattr(second, name))
            assert not np.array_equal(getattr(first, name), getattr(other, name))
        assert (first.tone, first.sharpness, first.features) == (second.tone, second.sharpness, second.features)
        assert first.tone != other.tone

    def test_a_given_tone_changes_no_other_draw(self, head, sources):
        """Two tones of one person: the same features, but for those whose odds follow the tone, and the same gloss."""
        light, dark = (draw(head, sources, person(head), 7, tone) for tone in (50.0, -40.0))
        pigments = {"freckles", "rosacea"}
        assert set(light.features) - pigments == set(dark.features) - pigments
        # The odds of the hair's color follow the tone, the hair's shape does not.
        np.testing.assert_allclose(light.specular, dark.specular, atol=1e-6)
        np.testing.assert_allclose(light.roughness, dark.roughness, atol=1e-6)

    def test_the_same_person_at_two_resolutions(self, head, sources):
        fine = SkinSources.load(head, bake_atlas(head.atlas.uv, head.atlas.uv_triangles, 64))
        where = bare(sources)
        for seed in range(6):
            coarse, large = (draw(head, s, person(head, 50, seed % 2), seed) for s in (sources, fine))
            assert coarse.features == large.features
            assert coarse.tone == pytest.approx(large.tone, abs=3)
            albedo = large.diffuse_albedo.reshape(32, 2, 32, 2, 3).mean(axis=(1, 3))
            assert np.abs(np.log(albedo / coarse.diffuse_albedo))[where].mean() < 0.06
            for name, bound in (("specular", 0.02), ("roughness", 0.02)):
                mean = getattr(large, name).reshape(32, 2, 32, 2).mean(axis=(1, 3))
                assert np.abs(mean - getattr(coarse, name))[where].mean() < bound


def test_feature_names(skins):
    """What is said to be painted are names of features and of hair."""
    known = {*FEATURES, "brows", "stubble", "beard", "mustache", "goatee", "hair", "shaved", "bald"}
    known |= {"fringe", "side hair"}
    for skin in skins:
        assert isinstance(skin.features, tuple) and set(skin.features) <= known
        assert all(type(name) is str for name in skin.features)
        assert len(set(skin.features)) == len(skin.features)
        assert {"lips", "lids", "creases"} <= set(skin.features)
    assert len({name for skin in skins for name in skin.features}) > 20
