"""Features of skin: each painter changes its own place and nothing else; odds; streams that do not meet."""

from __future__ import annotations

import itertools
from dataclasses import replace

import numpy as np
import pytest
from scipy.ndimage import maximum_filter

from relightify_diffusers.head.regions import region_masks
from relightify_diffusers.rendering.atlas import bake_atlas
from relightify_diffusers.synthesis import features
from relightify_diffusers.synthesis.features import FEATURES, Canvas, Layers, paint_features
from relightify_diffusers.synthesis.noise import atlas_grid
from relightify_diffusers.synthesis.population import Person

N = 64
SEEDS = range(6)
MAKE_UP = ("foundation", "blush", "eyeshadow", "eyeliner", "lipstick")


@pytest.fixture(scope="module")
def masks64(head):
    return region_masks(head, N, bake_atlas(head.atlas.uv, head.atlas.uv_triangles, N))


@pytest.fixture(scope="module")
def canvas(head, masks64):
    """A middle-aged woman of medium tone with a wrinkle across the forehead."""
    creases = np.zeros((N, N), np.float32)
    creases[15, 20:44] = 0.5
    person = Person(50.0, 0.0, 0.5, np.full(3, 1 / 3), np.zeros(len(head.identity_basis)))
    return Canvas(masks64, head.landmark_uv, creases, person, 0.5)


def blank(canvas) -> Layers:
    return Layers(np.zeros((canvas.size, canvas.size)), np.zeros((canvas.size, canvas.size)), [])


def paint(name, canvas, seed=0) -> Layers:
    """What one painter does to blank layers."""
    layers = blank(canvas)
    FEATURES[name][1](layers, canvas, np.random.default_rng([4, seed]))
    return layers


def pigment(layers: Layers) -> np.ndarray:
    """Where pigment changed (N, N) bool."""
    return (layers.melanin != 0) | (layers.hemoglobin != 0)


def near(points: np.ndarray, reach: float) -> np.ndarray:
    """Texels (N, N) bool within `reach` atlas widths of the polyline through points (P, 2)."""
    u, v = atlas_grid(N)
    steps = np.linspace(0, 1, 20)[:, None]
    dense = np.concatenate([a + steps * (b - a) for a, b in itertools.pairwise(points)])
    return (np.hypot(u[..., None] - dense[:, 0], v[..., None] - dense[:, 1]) < reach).any(axis=-1)


class TestPainters:
    @pytest.mark.parametrize("name", FEATURES)
    def test_changes_something_and_only_on_skin(self, canvas, name):
        changed = 0
        for seed in SEEDS:
            layers = paint(name, canvas, seed)
            assert np.isfinite(layers.melanin).all() and np.isfinite(layers.hemoglobin).all()
            assert 0 <= layers.evenness < 1
            off = canvas.masks["skin"] == 0
            assert not pigment(layers)[off].any()
            for color, opacity in layers.paint:
                assert np.shape(color) == (3,) and np.min(color) >= 0 and np.max(color) < 1
                assert opacity.shape == (N, N) and opacity.min() >= 0 and opacity.max() <= 1
                assert not opacity[off].any()
            painted = any(opacity.max() > 0.02 for _, opacity in layers.paint)
            changed += pigment(layers).any() or painted or layers.evenness > 0
        # Spots may all fall beside the face, patches may all be clipped: rarely.
        assert changed >= len(SEEDS) - 2

    @pytest.mark.parametrize("name", FEATURES)
    def test_moderate(self, canvas, name):
        """Pigments stay within what skin shows: a mole at most adds 1.4 where nothing overlaps."""
        for seed in SEEDS:
            layers = paint(name, canvas, seed)
            assert np.abs(layers.melanin).max() < 3 and np.abs(layers.hemoglobin).max() < 3
            assert abs(layers.melanin).mean() < 0.3 and abs(layers.hemoglobin).mean() < 0.3

    @pytest.mark.parametrize("name", FEATURES)
    def test_deterministic(self, canvas, name):
        first, second = paint(name, canvas), paint(name, canvas)
        np.testing.assert_array_equal(first.melanin, second.melanin)
        np.testing.assert_array_equal(first.hemoglobin, second.hemoglobin)
        for (color, opacity), (again, same) in zip(first.paint, second.paint):
            np.testing.assert_array_equal(color, again)
            np.testing.assert_array_equal(opacity, same)

    @pytest.mark.parametrize(
        ("name", "regions"),
        [
            ("redness", ("cheeks", "nose", "chin", "ears", "forehead")),
            ("rosacea", ("cheeks", "nose")),
            ("melasma", ("cheeks", "forehead", "chin")),
            ("lids", ("lids",)),
        ],
    )
    def test_stays_in_its_regions(self, canvas, name, regions):
        where = sum(canvas.masks[region] for region in regions)
        for seed in SEEDS:
            assert not pigment(paint(name, canvas, seed))[where == 0].any()

    def test_redness_and_rosacea_are_blood(self, canvas):
        for name, seed in itertools.product(("redness", "rosacea"), SEEDS):
            layers = paint(name, canvas, seed)
            assert not layers.melanin.any()
            cheeks = layers.hemoglobin[canvas.masks["cheeks"] > 0.5]
            assert cheeks.mean() > 0

    @pytest.mark.parametrize("name", ["freckles", "moles", "age spots", "melasma"])
    def test_spots_are_melanin(self, canvas, name):
        for seed in SEEDS:
            layers = paint(name, canvas, seed)
            assert not layers.hemoglobin.any() and layers.melanin.min() >= 0

    def test_lips_have_no_freckles(self, canvas):
        lips = canvas.masks["lips"] >= 1
        assert lips.sum() > 10
        assert not any(paint("freckles", canvas, seed).melanin[lips].any() for seed in SEEDS)

    def test_blemishes_leave_brown_marks_on_dark_skin(self, canvas):
        for seed in SEEDS:
            light, dark = (paint("blemishes", replace(canvas, level=level), seed) for level in (0.0, 1.0))
            assert not light.melanin.any() and dark.melanin.max() > 0
            np.testing.assert_array_equal(light.hemoglobin, dark.hemoglobin)
            assert light.hemoglobin.min() >= 0
            assert not light.hemoglobin[canvas.masks["scalp"] >= 1].any()

    def test_age_spots_become_more(self, head, canvas):
        def amount(age):
            older = replace(canvas, person=replace(canvas.person, age=age))
            return np.mean([paint("age spots", older, seed).melanin.sum() for seed in range(10)])

        assert amount(80.0) > 2 * amount(45.0) > 0

    def test_vitiligo_is_light_and_not_on_the_scalp(self, canvas):
        for seed in SEEDS:
            layers = paint("vitiligo", canvas, seed)
            ((color, opacity),) = layers.paint
            assert color.min() > 0.35 and not pigment(layers).any()
            assert not opacity[canvas.masks["scalp"] >= 1].any()

    def test_a_scar_is_a_line(self, canvas):
        drawn = 0
        for seed in range(12):
            rows, columns = np.nonzero(np.abs(paint("scar", canvas, seed).hemoglobin) > 0.01)
            if not len(rows):
                continue
            drawn += 1
            # As long as 0.07 atlas widths and its own width, and thinner across.
            assert max(np.ptp(rows), np.ptp(columns)) < 0.07 * N + 5
            spread = np.linalg.eigvalsh(np.cov(np.stack([rows, columns]) + 0.0)) if len(rows) > 3 else np.zeros(2)
            assert spread[0] < 2.5
        assert drawn > 6

    def test_scars_are_paler_on_dark_skin(self, canvas):
        dark = replace(canvas, level=1.0)
        assert min(paint("scar", dark, seed).melanin.min() for seed in SEEDS) < -0.02
        assert max(paint("scar", dark, seed).melanin.max() for seed in SEEDS) <= 0
        assert not any(paint("scar", replace(canvas, level=0.0), seed).melanin.any() for seed in SEEDS)

    def test_shade_under_the_eyes(self, canvas):
        """Below both eyes, above the nostrils; not above the eyes."""
        _, v = atlas_grid(N)
        v = np.broadcast_to(v, (N, N))
        eyes = canvas.landmarks[36:48, 1]
        for seed in SEEDS:
            shade = paint("under-eye shade", canvas, seed)
            assert shade.melanin.min() >= 0 and shade.hemoglobin.min() >= 0
            strong = shade.melanin > 0.25 * shade.melanin.max()
            assert v[strong].min() > eyes.min() and v[strong].max() < eyes.max() + 0.1
            halves = shade.melanin[:, : N // 2].sum(), shade.melanin[:, N // 2 :].sum()
            assert min(halves) > 0.4 * max(halves)
            below = near(canvas.landmarks[[41, 40]] + [0, 0.02], 0.01)
            assert shade.melanin[below].mean() > 0.4 * shade.melanin.max()

    def test_creases_are_their_map(self, canvas):
        """Proportional to it, in both pigments."""
        for seed in SEEDS:
            layers = paint("creases", canvas, seed)
            for density, most in ((layers.melanin, 0.22), (layers.hemoglobin, 0.25)):
                factor = density[15, 30] / 0.5
                assert 0.05 <= factor <= most
                np.testing.assert_allclose(density, factor * canvas.creases, rtol=1e-5)

    def test_lips(self, canvas):
        """Red in the lips, brown at their rim at most."""
        lips = canvas.masks["lips"]
        around = maximum_filter(lips, 7) > 0
        for seed in SEEDS:
            layers = paint("lips", replace(canvas, level=0.0), seed)
            assert not layers.hemoglobin[lips == 0].any()
            assert layers.hemoglobin[lips > 0.9].mean() > 0.15
            assert np.abs(layers.melanin[~around]).max() < 1e-3

    def test_dark_lips_are_darker_above_than_below(self, canvas):
        _, v = atlas_grid(N)
        lower = np.broadcast_to(v > canvas.landmarks[[60, 64], 1].mean(), (N, N))
        lips = canvas.masks["lips"] > 0.9
        light, dark = (
            np.mean([paint("lips", replace(canvas, level=level), seed).melanin for seed in range(12)], axis=0)
            for level in (0.0, 1.0)
        )
        contrast = [values[lips & ~lower].mean() - values[lips & lower].mean() for values in (light, dark)]
        assert abs(contrast[0]) < 0.1 and contrast[1] > contrast[0] + 0.2


class TestMakeUp:
    def test_foundation_evens(self, canvas):
        for seed in SEEDS:
            layers = paint("foundation", canvas, seed)
            assert 0.3 <= layers.evenness <= 0.8 and not layers.paint and not pigment(layers).any()

    @pytest.mark.parametrize("name", MAKE_UP[1:])
    def test_is_one_coat_of_paint(self, canvas, name):
        layers = paint(name, canvas)
        assert len(layers.paint) == 1 and not pigment(layers).any() and layers.evenness == 0

    def test_blush_follows_the_cheeks(self, canvas):
        for seed in SEEDS:
            ((color, opacity),) = paint("blush", canvas, seed).paint
            assert color[0] > 1.5 * color[1]
            strength = opacity.max() / canvas.masks["cheeks"].max()
            assert 0.06 <= strength <= 0.24
            np.testing.assert_allclose(opacity, strength * canvas.masks["cheeks"], atol=1e-6)

    def test_lipstick_is_on_the_lips(self, canvas):
        lips = canvas.masks["lips"]
        for seed in SEEDS:
            ((color, opacity),) = paint("lipstick", canvas, seed).paint
            assert color[0] > color[1] and color[0] > color[2]
            assert not opacity[lips < 1 / 6].any()
            full = opacity[lips > 0.9]
            assert full.min() == full.max() >= 0.35

    def test_eyeshadow_lies_between_eye_and_brow(self, canvas):
        landmarks = canvas.landmarks
        _, v = atlas_grid(N)
        v = np.broadcast_to(v, (N, N))
        for seed in SEEDS:
            ((_, opacity),) = paint("eyeshadow", canvas, seed).paint
            strong = opacity > 0.3 * opacity.max()
            assert v[strong].max() < landmarks[36:48, 1].max() + 0.01
            assert v[strong].min() > landmarks[17:27, 1].min()
            assert near(landmarks[[36, 37, 38, 39]], 0.06)[strong & (np.arange(N) < N // 2)].all()
            halves = opacity[:, : N // 2].sum(), opacity[:, N // 2 :].sum()
            assert min(halves) > 0.3 * max(halves) > 0

    def test_eyeliner_follows_the_upper_lids(self, canvas):
        landmarks = canvas.landmarks
        lids = near(landmarks[[36, 37, 38, 39]], 0.03) | near(landmarks[[42, 43, 44, 45]], 0.03)
        for seed in SEEDS:
            ((color, opacity),) = paint("eyeliner", canvas, seed).paint
            assert color.max() < 0.03
            assert opacity.max() > 0.05 and opacity[~lids].max() < 0.02
            # Painted on both.
            assert opacity[:, : N // 2].max() > 0.05 and opacity[:, N // 2 :].max() > 0.05


def people(head):
    rng = np.random.default_rng(0)
    identity = np.zeros(len(head.identity_basis))
    for age, gender in itertools.product((18.0, 20.0, 35.0, 50.0, 85.0, 95.0), (0.0, 0.3, 1.0)):
        yield Person(age, gender, rng.uniform(), rng.dirichlet([1, 1, 1]), identity)


class TestOdds:
    def test_are_probabilities(self, head, canvas):
        for person, level in itertools.product(people(head), (0.0, 0.4, 1.0)):
            for name, (odds, _) in FEATURES.items():
                assert 0 <= odds(replace(canvas, person=person, level=level)) <= 1, name

    def test_by_hand(self, canvas):
        def odds(name, **person):
            level = person.pop("level", 0.5)
            return FEATURES[name][0](replace(canvas, person=replace(canvas.person, **person), level=level))

        assert odds("freckles", level=0.0) == pytest.approx(0.22) and odds("freckles", level=1.0) == 0
        assert odds("rosacea", level=0.25) == pytest.approx(0.06)
        assert odds("age spots", age=30.0) == 0 and odds("age spots", age=50.0) == pytest.approx(0.3)
        assert odds("age spots", age=90.0) == pytest.approx(0.6)
        assert odds("blemishes", age=20.0) > 3 * odds("blemishes", age=50.0)
        assert odds("lipstick", gender=0.0) == pytest.approx(0.45)
        for name in MAKE_UP:
            assert odds(name, gender=1.0) == pytest.approx(odds(name, gender=0.0) / 20)

    def test_are_what_comes_out(self, canvas, monkeypatch):
        """Over 400 skins, with the painters left out: within four standard deviations."""
        still = {name: (odds, lambda *_: None) for name, (odds, _) in FEATURES.items()}
        monkeypatch.setattr(features, "FEATURES", still)
        drawn = [paint_features(blank(canvas), canvas, np.random.default_rng([6, i])) for i in range(400)]
        for name, (odds, _) in FEATURES.items():
            expected = odds(canvas)
            share = np.mean([name in names for names in drawn])
            assert abs(share - expected) <= 4 * np.sqrt(expected * (1 - expected) / 400) + 1e-9, name

    def test_features_are_drawn_independently(self, canvas, monkeypatch):
        """No two of them always come together: correlations of 400 draws stay within 4 / sqrt(400)."""
        even = {name: (lambda canvas: 0.5, lambda *_: None) for name in FEATURES}
        monkeypatch.setattr(features, "FEATURES", even)
        drawn = [paint_features(blank(canvas), canvas, np.random.default_rng([7, i])) for i in range(400)]
        has = np.array([[name in names for name in FEATURES] for names in drawn], float)
        correlation = np.corrcoef(has.T) - np.eye(len(FEATURES))
        assert np.abs(correlation).max() < 0.2


class TestPaintFeatures:
    def test_names_come_in_order(self, canvas):
        names = paint_features(blank(canvas), canvas, np.random.default_rng(0))
        assert type(names) is tuple and {"lips", "lids", "creases"} <= set(names)
        assert names == tuple(name for name in FEATURES if name in names)

    @pytest.mark.parametrize("left_out", ["redness", "freckles", "scar", "lipstick", "foundation"])
    def test_streams_are_independent(self, canvas, monkeypatch, left_out):
        """Without one of the features the others are painted as before, spot by spot."""
        always = {name: (lambda canvas: 1.0, painter) for name, (_, painter) in FEATURES.items()}
        never = always | {left_out: (lambda canvas: 0.0, FEATURES[left_out][1])}
        only = {name: (lambda canvas, name=name: float(name == left_out), p) for name, (_, p) in FEATURES.items()}
        found = []
        for table in (always, never, only):
            monkeypatch.setattr(features, "FEATURES", table)
            layers = blank(canvas)
            names = paint_features(layers, canvas, np.random.default_rng(3))
            found.append((layers, names))
        (whole, _), (rest, names), (alone, name) = found
        assert name == (left_out,) and names == tuple(n for n in FEATURES if n != left_out)
        np.testing.assert_allclose(whole.melanin, rest.melanin + alone.melanin, atol=1e-5)
        np.testing.assert_allclose(whole.hemoglobin, rest.hemoglobin + alone.hemoglobin, atol=1e-5)
        assert whole.evenness == max(rest.evenness, alone.evenness)
        assert len(whole.paint) == len(rest.paint) + len(alone.paint)
        for color, opacity in rest.paint + alone.paint:
            assert any(np.array_equal(color, c) and np.array_equal(opacity, o) for c, o in whole.paint)

    def test_layers_are_added_to(self, canvas):
        """What a skin has already stays below the features."""
        layers = blank(canvas)
        layers.melanin += 0.3
        paint_features(layers, canvas, np.random.default_rng(5))
        other = blank(canvas)
        paint_features(other, canvas, np.random.default_rng(5))
        np.testing.assert_allclose(layers.melanin - 0.3, other.melanin, atol=1e-6)
        np.testing.assert_array_equal(layers.hemoglobin, other.hemoglobin)

    @pytest.mark.parametrize("name", FEATURES)
    def test_the_same_at_two_resolutions(self, head, masks, canvas, name):
        """Averaged over 2 x 2 texels, a feature at 64 texels is nearly that at 32."""
        small = replace(canvas, masks=masks, creases=canvas.creases.reshape(32, 2, 32, 2).mean(axis=(1, 3)))
        for seed in (0, 1):
            fine, coarse = paint(name, canvas, seed), paint(name, small, seed)
            assert coarse.evenness == fine.evenness and len(coarse.paint) == len(fine.paint)
            pairs = [(fine.melanin, coarse.melanin), (fine.hemoglobin, coarse.hemoglobin)]
            pairs += [(a[1], b[1]) for a, b in zip(fine.paint, coarse.paint)]
            for large, little in pairs:
                mean = large.reshape(32, 2, 32, 2).mean(axis=(1, 3))
                assert np.abs(mean - little).mean() < 0.02
                assert mean.sum() == pytest.approx(little.sum(), rel=0.25, abs=1.0)
