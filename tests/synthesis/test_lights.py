"""Random light: odds, levels and directions of what is drawn."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest

from relightify_diffusers.maps import LUMINANCE
from relightify_diffusers.rendering.lights import DirectionalLight, PointLight
from relightify_diffusers.rendering.spherical_harmonics import irradiance
from relightify_diffusers.synthesis import lights
from relightify_diffusers.synthesis.environments import FACE, Environment, seen_from_face
from relightify_diffusers.synthesis.geometry import DIRECTIONS
from relightify_diffusers.synthesis.lights import (
    KIND_ODDS,
    STUDIOS,
    Illumination,
    sample_flash,
    sample_illumination,
    sample_studio,
)

# A photographed place: bright in front, with a lamp there.
PLACE = Environment(
    "place",
    np.maximum(DIRECTIONS[:, 2:], 0.1) * np.array([1.0, 0.9, 0.8]),
    (DirectionalLight(np.array([0.1, 0.4, 1.0]), np.array([2.0, 2, 2]), 0.02, 4),),
)


@pytest.fixture(scope="module")
def drawn():
    return [sample_illumination((), np.random.default_rng(seed)) for seed in range(300)]


def level(light):
    return Environment("", light.radiance, light.sources).level @ LUMINANCE


def test_the_kinds_have_their_odds(drawn):
    counts = Counter(light.kind for light in drawn)
    assert set(counts) == set(KIND_ODDS)
    for kind, odds in KIND_ODDS.items():
        share = odds / sum(KIND_ODDS.values())
        assert abs(counts[kind] / 300 - share) < 4 * np.sqrt(share * (1 - share) / 300)


def test_the_same_seed_gives_the_same_light(drawn):
    again = sample_illumination((), np.random.default_rng(7))
    assert again.kind == drawn[7].kind
    np.testing.assert_array_equal(again.radiance, drawn[7].radiance)
    np.testing.assert_array_equal(again.sh, drawn[7].sh)


def test_values_are_sound(drawn):
    for light in drawn:
        assert light.radiance.shape == (192, 3) and light.sh.shape == (9, 3)
        assert np.isfinite(light.radiance).all() and (light.radiance >= 0).all()
        assert (light.sh[0] > 0).all()
        for source in light.sources:
            _, facing = seen_from_face(source)
            assert np.isfinite(facing).all() and (facing >= 0).all() and facing.max() > 0
            if isinstance(source, PointLight):
                # A lamp is not inside the head.
                assert np.linalg.norm(source.position - FACE) > 0.25 and source.radius > 0


def test_the_level_is_around_pi(drawn):
    levels = np.log([level(light) / np.pi for light in drawn])
    assert abs(levels.mean()) < 0.05 and 0.2 < levels.std() < 0.3


def test_light_is_mostly_on_the_face_and_favors_no_side(drawn):
    sh = np.stack([light.sh @ LUMINANCE / level(light) for light in drawn])
    axes = np.array([[0, 0, 1.0], [0, 0, -1], [0, 1, 0], [0, -1, 0], [1, 0, 0], [-1, 0, 0]])
    front, back, top, bottom, left, right = irradiance(sh.T, axes).mean(axis=1)
    assert front > 1.2 * back and top > bottom
    assert abs(left - right) < 0.15 * (left + right)
    # But not always.
    frontal = irradiance(sh.T, axes[:2])
    assert 0.03 < (frontal[0] < frontal[1]).mean() < 0.45


def test_maps_are_used_in_half_of_the_cases_and_turned():
    drawn = [sample_illumination((PLACE,), np.random.default_rng(seed)) for seed in range(120)]
    placed = [light for light in drawn if light.kind == "hdri"]
    assert 0.38 < len(placed) / 120 < 0.62
    suns = np.array([s.direction for light in placed for s in light.sources if isinstance(s, DirectionalLight)])
    assert len(suns) == len(placed)
    np.testing.assert_allclose(suns[:, 1] / np.linalg.norm(suns, axis=1), 0.4 / np.sqrt(1.17), rtol=1e-6)
    assert (suns[:, 2] > 0).mean() > 0.6 and (suns[:, 2] < 0).any()


def test_gels_color_the_light(monkeypatch):
    def chroma(odds):
        monkeypatch.setattr(lights, "GEL_ODDS", odds)
        colors = [sample_illumination((), np.random.default_rng(seed)).sh[0] for seed in range(40)]
        return np.median([np.ptp(color) / color.mean() for color in colors])

    assert chroma(1.0) > 1.5 * chroma(0.0)


def test_uniform_light_comes_from_everywhere(drawn):
    for light in drawn:
        if light.kind == "uniform":
            np.testing.assert_allclose(light.radiance, light.radiance[:1] * np.ones((192, 1)))


def test_flash_comes_from_the_camera():
    for seed in range(30):
        environment = sample_flash(np.random.default_rng(seed))
        flash = environment.sources[0]
        offset = flash.position - FACE
        assert 0.28 < np.linalg.norm(offset) < 1.65 and offset[2] > 0.8 * np.linalg.norm(offset)
        # More than all the rest on a face that looks into it.
        assert seen_from_face(flash)[1] @ LUMINANCE > 1.3 * environment.level @ LUMINANCE


def test_studios():
    drawn = [sample_studio(np.random.default_rng(seed)) for seed in range(80)]
    counts = Counter(len(studio.sources) for studio in drawn)
    assert set(counts) == {len(setup) for setup in STUDIOS.values()}
    sides = np.array([studio.sources[0].position[0] for studio in drawn])
    assert 0.3 < (sides > 0).mean() < 0.7


def test_harmonics_hold_cells_and_sources():
    """Light from the front: on a surface that looks there it is the cells' pi plus the source's irradiance."""
    source = DirectionalLight(np.array([0, 0, 1.0]), np.full(3, 2.0))
    light = Illumination("studio", np.ones((192, 3)), (source,))
    bare = Illumination("studio", np.ones((192, 3)), ())
    front = np.array([[0, 0, 1.0]])
    np.testing.assert_allclose(irradiance(bare.sh, front), np.pi, rtol=0.02)
    # A cosine lobe's bands to order 2 at its center: (1/4 + 1/2 + 5/16) of the irradiance.
    gained = irradiance(light.sh - bare.sh, front)
    np.testing.assert_allclose(gained, 2 * (1 / 4 + 1 / 2 + 5 / 16), rtol=1e-4)
