"""Hair painted on skin: its colors, who has which, and where it grows."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
from scipy.ndimage import center_of_mass

from relightify_diffusers.maps import LUMINANCE
from relightify_diffusers.rendering.atlas import bake_atlas
from relightify_diffusers.synthesis.hair import (
    BEARD_ODDS,
    BEARDS,
    GRAY,
    HAIR_COLORS,
    ODDS_ON_DARK,
    ODDS_ON_LIGHT,
    _brows,
    _lash_line,
    hair_color,
    paint_hair,
)
from relightify_diffusers.synthesis.noise import atlas_grid
from relightify_diffusers.synthesis.population import Person
from relightify_diffusers.synthesis.sources import SkinSources

N = 32
COUNT = 60
BEARDED = set(BEARDS) - {"none"}


@pytest.fixture(scope="module")
def sources(head, texels):
    return SkinSources.load(head, texels)


@pytest.fixture(scope="module")
def cutouts(sources):
    """Sources with one brow cut-out: a thin wedge that is thick at its inner end."""
    columns, rows = np.meshgrid(np.linspace(0, 1, 80), np.linspace(0, 1, 24))
    wedge = (np.abs(rows - 0.6) < 0.35 - 0.3 * columns).astype(np.float32)
    return replace(sources, brows=(wedge,))


def person(head, age=40.0, gender=1.0) -> Person:
    return Person(age, gender, 0.5, np.full(3, 1 / 3), np.zeros(len(head.identity_basis)))


def paint(head, sources, who, seed, level=0.5, paper=1.0):
    """Hair on paper: the picture (N, N, 3) and Hair."""
    blank = np.full((*sources.masks["skin"].shape, 3), paper)
    return paint_hair(blank, sources, head.landmark_uv, who, level, np.random.default_rng([2, seed]))


@pytest.fixture(scope="module")
def men(head, sources):
    return [paint(head, sources, person(head), seed) for seed in range(COUNT)]


@pytest.fixture(scope="module")
def women(head, sources):
    return [paint(head, sources, person(head, gender=0.0), seed) for seed in range(COUNT)]


class TestColor:
    def draw(self, head, age, level, count=300):
        return np.array([hair_color(person(head, age), level, np.random.default_rng([3, i])) for i in range(count)])

    def test_table(self):
        assert HAIR_COLORS.shape == (len(ODDS_ON_LIGHT), 3) and HAIR_COLORS.min() > 0 and HAIR_COLORS.max() < 0.5
        for odds in (ODDS_ON_LIGHT, ODDS_ON_DARK, np.array(BEARD_ODDS)):
            assert odds.min() >= 0 and odds.sum() == pytest.approx(1)
        assert len(BEARD_ODDS) == len(BEARDS)

    def test_of_the_young_are_those_of_the_table(self, head):
        """At 15 nobody is gray: a color is one of the table, lighter or darker."""
        for level, odds in ((0.0, ODDS_ON_LIGHT), (1.0, ODDS_ON_DARK)):
            colors = self.draw(head, 15, level)
            hue = colors / colors.sum(axis=1, keepdims=True)
            table = HAIR_COLORS / HAIR_COLORS.sum(axis=1, keepdims=True)
            apart = np.linalg.norm(hue[:, None] - table, axis=-1)
            assert apart.min(axis=1).max() < 1e-9
            share = np.bincount(apart.argmin(axis=1), minlength=len(odds)) / len(colors)
            # Four standard deviations of 300 draws.
            assert (np.abs(share - odds) <= 4 * np.sqrt(odds * (1 - odds) / 300) + 1e-9).all()

    def test_darker_on_dark_skin(self, head):
        light, dark = (np.median(self.draw(head, 25, level) @ LUMINANCE) for level in (0.0, 1.0))
        assert dark < 0.6 * light

    def test_gray_comes_with_age(self, head):
        def gray(age):
            colors = self.draw(head, age, 0.8)
            return np.mean((np.ptp(colors, axis=1) < 0.25 * colors.max(axis=1)) & (colors.mean(axis=1) > 0.06))

        shares = [gray(age) for age in (20, 45, 60, 85)]
        assert shares[0] < 0.02 < shares[1] < shares[2] < shares[3] and shares[3] > 0.8

    def test_range(self, head):
        for age in (20, 90):
            colors = self.draw(head, age, 0.0)
            assert colors.min() > 0.001 and colors.max() < 0.7

    def test_the_oldest_are_gray_to_white(self, head):
        colors = self.draw(head, 95, 0.0)
        assert 0.3 * GRAY.mean() < np.median(colors.mean(axis=1)) < 1.6 * GRAY.mean()


class TestWho:
    def test_women_have_no_beard(self, women, sources):
        beard = (sources.masks["beard"] > 0.6) & (np.abs(atlas_grid(N)[0] - 0.5) < 0.15)
        assert beard.sum() > 20
        for picture, hair in women:
            assert not BEARDED & set(hair.names)
            if not {"fringe", "side hair"} & set(hair.names):
                assert hair.opacity[beard].max() < 0.02 and picture[beard].min() > 0.95

    def test_boys_have_none(self, head, sources):
        for seed in range(20):
            _, hair = paint(head, sources, person(head, age=18.0), seed)
            assert not BEARDED & set(hair.names)

    def test_beards_have_their_odds(self, men):
        """Within three standard deviations of 60 draws."""
        for kind, odds in zip(BEARDS, BEARD_ODDS):
            share = np.mean(
                [kind in hair.names or (kind == "none" and not BEARDED & set(hair.names)) for _, hair in men]
            )
            assert abs(share - odds) < 3 * np.sqrt(odds * (1 - odds) / COUNT)

    def test_beards_cover(self, men, sources):
        """A full beard covers chin and cheeks, a mustache the upper lip; stubble lets the skin through."""
        masks = sources.masks
        chin = masks["beard"] * (masks["chin"] > 0.5) > 0.5
        coverage = {kind: [h.opacity[chin].mean() for _, h in men if kind in h.names] for kind in BEARDED}
        coverage["none"] = [h.opacity[chin].mean() for _, h in men if not BEARDED & set(h.names)]
        means = {kind: np.mean(values) for kind, values in coverage.items()}
        assert max(means["none"], means["mustache"]) < 0.1 < means["stubble"] < means["beard"]
        assert means["beard"] > 0.4 and means["goatee"] > 0.4
        _, v = atlas_grid(N)
        lip = (masks["beard"] > 0.5) & (v < 0.7) & (np.abs(atlas_grid(N)[0] - 0.5) < 0.07)
        assert lip.sum() >= 3
        assert np.mean([h.opacity[lip].mean() for _, h in men if "mustache" in h.names]) > 0.3

    def test_bald_men_are_old(self, head, sources):
        def bald(age, gender, count=40):
            who = person(head, age, gender)
            return np.mean(["bald" in paint(head, sources, who, seed)[1].names for seed in range(count)])

        assert bald(80.0, 1.0) > bald(22.0, 1.0) + 0.05
        assert bald(80.0, 0.0) < 0.12

    def test_each_head_is_one_of_three(self, men, women):
        kinds = {"hair", "shaved", "bald"}
        names = [set(hair.names) for _, hair in men + women]
        assert all(len(kinds & found) == 1 for found in names)
        assert {"hair", "shaved", "bald", "fringe", "side hair"} <= set().union(*names)
        # What lies over a face hangs from a head of hair.
        assert all("hair" in found for found in names if {"fringe", "side hair"} & found)
        assert all(type(name) is str for found in names for name in found)

    def test_most_have_brows(self, men, women):
        """All but one in thirty."""
        share = np.mean(["brows" in hair.names for _, hair in men + women])
        assert 0.9 < share < 1


class TestWhere:
    def test_blending_by_hand(self, men):
        """On white paper the picture is between white and the hair's color, as far as the opacity says."""
        for picture, hair in men:
            assert hair.opacity.dtype == np.float32 and hair.opacity.shape == (N, N)
            assert hair.opacity.min() >= 0 and hair.opacity.max() <= 1
            alpha = hair.opacity[..., None]
            assert (picture >= 1 - alpha - 1e-5).all() and (picture <= 1 - 0.2 * alpha + 1e-5).all()
            assert (picture[hair.opacity == 0] == 1).all()

    def test_the_paper_given_is_not_changed(self, head, sources):
        blank = np.ones((N, N, 3))
        paint_hair(blank, sources, head.landmark_uv, person(head), 0.5, np.random.default_rng(0))
        assert (blank == 1).all()

    def test_opacity_does_not_depend_on_the_skin(self, head, sources):
        (_, light), (_, dark) = (paint(head, sources, person(head), 4, paper=paper) for paper in (1.0, 0.1))
        np.testing.assert_array_equal(light.opacity, dark.opacity)
        assert light.names == dark.names

    def test_nothing_grows_on_the_nose(self, men, women, sources):
        masks = sources.masks
        nose = (masks["nose"] > 0.9) & (masks["beard"] < 0.01) & (masks["lids"] < 0.1)
        assert nose.sum() > 5
        for picture, hair in men + women:
            assert hair.opacity[nose].max() < 0.02 and picture[nose].min() > 0.98

    def test_nothing_grows_beside_the_skin(self, men, women, sources):
        off = sources.masks["skin"] == 0
        for _, hair in men + women:
            assert not hair.opacity[off].any()

    def test_a_head_of_hair_covers_and_a_bald_one_does_not(self, men, women, sources):
        u, v = atlas_grid(N)
        top = (sources.masks["scalp"] > 0.95) & (v < 0.12) & (np.abs(u - 0.5) < 0.25)
        assert top.sum() > 20
        cover = {kind: [h.opacity[top].mean() for _, h in men + women if kind in h.names] for kind in ("hair", "bald")}
        assert min(cover["hair"]) > 0.6 and max(cover["bald"]) < 0.05

    def test_the_forehead_is_bare(self, men, women, sources):
        """But for those whose hair lies over it."""
        forehead = (
            (sources.masks["forehead"] > 0.8) & (sources.masks["scalp"] < 0.02) & (sources.masks["brows"] < 0.02)
        )
        free = [h.opacity[forehead].mean() for _, h in men + women if not {"fringe", "side hair"} & set(h.names)]
        assert len(free) > 60 and np.median(free) < 0.02 and np.max(free) < 0.35
        fringes = [h.opacity[forehead].mean() for _, h in men + women if "fringe" in h.names]
        assert fringes and max(fringes) > 0.4

    @pytest.mark.parametrize("size", [64, 256])
    def test_lash_lines_rim_the_eyes(self, head, size):
        """Dark on the edges of the lids, most above, and nowhere else."""
        u, v = np.broadcast_arrays(*atlas_grid(size))
        points = head.landmark_uv[36:48]
        distance = np.min([np.hypot(u - x, v - y) for x, y in points], axis=0)
        for seed in range(4):
            lashes = _lash_line(head.landmark_uv, size, person(head, gender=0.0), np.random.default_rng(seed))
            assert lashes.max() <= 0.85 and lashes[distance > 0.05].max() < 1e-6
            upper, lower = (
                np.mean([lashes[int(y * size), int(x * size)] for x, y in head.landmark_uv[list(points)]])
                for points in ((37, 38, 43, 44), (40, 41, 46, 47))
            )
            # On coarse maps both rims reach into the same texels.
            assert upper > (1.5 if size == 256 else 1.1) * lower > 0.02
            man = _lash_line(head.landmark_uv, size, person(head, gender=1.0), np.random.default_rng(seed))
            assert (man <= lashes).all()

    def test_lash_lines_are_as_dark_on_coarse_maps(self, head):
        """The same darkness over more or fewer texels, where it is too weak to saturate."""
        totals = [
            _lash_line(head.landmark_uv, size, person(head, gender=1.0), np.random.default_rng(1)).mean()
            for size in (64, 256)
        ]
        assert totals[0] == pytest.approx(totals[1], rel=0.35)


class TestBrows:
    @pytest.mark.parametrize("kind", ["sources", "cutouts"])
    def test_lie_on_the_brow_line_on_both_sides(self, head, request, kind):
        found = request.getfixturevalue(kind)
        size, present = N, 0
        for seed in range(20):
            brows = _brows(found, head.landmark_uv, np.random.default_rng([4, seed]))
            if not brows.any():
                continue
            present += 1
            assert brows.shape == (size, size) and brows.min() >= 0 and brows.max() <= 0.96
            np.testing.assert_allclose(brows, brows[:, ::-1], atol=0.02)
            row, column = center_of_mass(brows[:, size // 2 :])
            middle = head.landmark_uv[22:27].mean(axis=0)
            at = np.array([(column + 0.5) / size + 0.5, (row + 0.5) / size])
            assert np.abs(at - middle).max() < 0.03
            # Neither between the brows nor over the eyes.
            u, v = atlas_grid(size)
            assert brows[np.broadcast_to(np.abs(u - 0.5) < 0.02, brows.shape)].max() < 0.25
            assert not brows[np.broadcast_to((v < middle[1] - 0.1) | (v > middle[1] + 0.1), brows.shape)].any()
        assert present >= 17

    def test_differ_between_people_and_with_cutouts(self, head, sources, cutouts):
        stroked = [_brows(sources, head.landmark_uv, np.random.default_rng([4, seed])) for seed in range(8)]
        cut = [_brows(cutouts, head.landmark_uv, np.random.default_rng([4, seed])) for seed in range(8)]
        assert np.mean([np.abs(a - b).max() > 0.05 for a, b in zip(stroked, cut)]) >= 0.5
        assert all(np.abs(a - b).max() > 0.05 for a, b in pairwise(stroked))

    def test_a_cutout_is_thick_at_the_inner_end(self, head, cutouts):
        fine = SkinSources.load(head, bake_atlas(head.atlas.uv, head.atlas.uv_triangles, 64))
        fine = replace(fine, brows=cutouts.brows)
        ends = head.landmark_uv[[22, 26], 0]
        u, _ = atlas_grid(64)
        inner, outer = (np.abs(u[0] - (ends[0] + t * (ends[1] - ends[0]))) < 0.02 for t in (0.25, 0.85))
        # One pick in five is stroked all the same: the mean over people.
        brows = np.mean([_brows(fine, head.landmark_uv, np.random.default_rng([5, i])) for i in range(12)], axis=0)
        assert brows[:, inner].sum() / inner.sum() > 1.3 * brows[:, outer].sum() / outer.sum()


def test_same_generator_same_hair(head, sources):
    (first, hair), (second, again), (other, _) = (paint(head, sources, person(head), seed) for seed in (5, 5, 6))
    np.testing.assert_array_equal(first, second)
    np.testing.assert_array_equal(hair.opacity, again.opacity)
    assert hair.names == again.names and not np.array_equal(first, other)


def test_the_same_hair_at_two_resolutions(head, sources):
    fine = SkinSources.load(head, bake_atlas(head.atlas.uv, head.atlas.uv_triangles, 64))
    for seed in range(6):
        for gender in (0.0, 1.0):
            (small, few), (large, many) = (paint(head, s, person(head, 50, gender), seed) for s in (sources, fine))
            assert few.names == many.names
            mean = many.opacity.reshape(32, 2, 32, 2).mean(axis=(1, 3))
            inside = sources.masks["skin"] > 0
            assert np.abs(mean - few.opacity)[inside].mean() < 0.06
            assert np.abs(large.reshape(32, 2, 32, 2, 3).mean(axis=(1, 3)) - small)[inside].mean() < 0.06
