"""Pigments: mixing and unmixing, the line of even skin tones and its inverse."""

from __future__ import annotations

import numpy as np
import pytest

from relightify_diffusers.maps import LUMINANCE, individual_typology_angle, linear_to_lab
from relightify_diffusers.synthesis.chromophores import (
    DARKEST,
    HEMOGLOBIN,
    LIGHTEST,
    MELANIN,
    TONE_RANGE,
    absorb,
    melanin_for_tone,
    tone_color,
    unmix,
)


def test_absorb_by_hand():
    np.testing.assert_allclose(absorb(1, 0), [-0.4143, -0.3570, -0.8372])
    np.testing.assert_allclose(absorb(0, 2), [-0.5976, -1.3676, -1.3314])
    np.testing.assert_allclose(absorb(0.5, -1), [0.09165, 0.5053, 0.2471])
    assert absorb(np.zeros((4, 5)), np.zeros((4, 5))).shape == (4, 5, 3)


def test_the_pigments_have_unit_length():
    assert np.linalg.norm(MELANIN) == pytest.approx(1, abs=1e-3)
    assert np.linalg.norm(HEMOGLOBIN) == pytest.approx(1, abs=1e-3)


def test_unmix_inverts_absorption_and_shading():
    rng = np.random.default_rng(0)
    melanin, hemoglobin, shading = rng.normal(size=(3, 6, 7))
    found = unmix(absorb(melanin, hemoglobin) + shading[..., None])
    np.testing.assert_allclose(found, np.stack([melanin, hemoglobin, shading], axis=-1), atol=1e-10)


def test_unmix_calls_gray_shading():
    """A picture twice as bright has the same pigments: only the third value tells them apart."""
    np.testing.assert_allclose(unmix(np.full((2, 3), np.log(2))), [[0, 0, np.log(2)]] * 2, atol=1e-12)


def test_tone_color_ends():
    np.testing.assert_allclose(tone_color(0.0), LIGHTEST)
    np.testing.assert_allclose(tone_color(1.0), DARKEST)
    # Half-way: the geometric mean, bent by half the yellow bend.
    np.testing.assert_allclose(tone_color(0.5), np.sqrt(LIGHTEST * DARKEST) * np.exp([0.05, -0.01, -0.14]), rtol=1e-12)
    assert tone_color(0.3).shape == (3,) and tone_color(np.zeros((4, 2))).shape == (4, 2, 3)


def test_more_melanin_is_darker_and_skin_is_never_blue():
    colors = tone_color(np.linspace(0, 1, 101))
    assert (np.diff(colors, axis=0) < 0).all()
    assert (np.diff(individual_typology_angle(colors)) < 0).all()
    assert (colors[:, 0] > colors[:, 1]).all() and (colors[:, 1] > colors[:, 2]).all()


def test_medium_skin_is_the_yellowest():
    yellow = linear_to_lab(tone_color(np.linspace(0, 1, 101)))[:, 2]
    assert 20 < np.argmax(yellow) < 70
    assert yellow.max() > yellow[0] + 3 and yellow.max() > yellow[-1] + 3


def test_melanin_for_tone_is_the_inverse_over_the_range():
    for tone in np.linspace(*TONE_RANGE, 62):
        level = melanin_for_tone(tone)
        assert type(level) is float and 0 < level < 1
        assert individual_typology_angle(tone_color(level)) == pytest.approx(tone, abs=0.1)


def test_tones_out_of_reach_give_the_ends():
    lightest, darkest = individual_typology_angle(tone_color(np.array([0.0, 1.0])))
    assert lightest > TONE_RANGE[1] and darkest < TONE_RANGE[0]
    assert (melanin_for_tone(89), melanin_for_tone(-89)) == (0, 1)


def test_tones_of_the_six_groups_are_in_order():
    """A tone in the middle of each group (Chardon et al. 1991), from very light to dark: each darker than the last."""
    levels = np.array([melanin_for_tone(tone) for tone in (60, 48, 34, 19, -10, -45)])
    assert (np.diff(levels) > 0).all()
    assert (np.diff(tone_color(levels) @ LUMINANCE) < 0).all()
