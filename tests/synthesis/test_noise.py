"""Noise and spots: their statistics, and that they are the same thing at every resolution."""

from __future__ import annotations

import numpy as np
import pytest

from relightify_diffusers.synthesis.noise import atlas_grid, fractal_noise, spots


def averaged(values: np.ndarray, factor: int) -> np.ndarray:
    size = len(values) // factor
    return values.reshape(size, factor, size, factor).mean(axis=(1, 3))


def test_noise_has_zero_mean_and_about_unit_variance():
    values = np.stack([fractal_noise(32, np.random.default_rng(i), 4, 0.7) for i in range(60)])
    assert values.shape == (60, 32, 32)
    # 16 independent cells a field in the first octave: the mean of 60 fields is good to about 0.03.
    assert abs(values.mean()) < 0.1
    assert 0.6 < values.std() < 1.1


def test_noise_is_smooth_and_persistence_roughens_it():
    def step(persistence):
        fields = np.stack([fractal_noise(32, np.random.default_rng(i), 4, persistence) for i in range(30)])
        return np.abs(np.diff(fields, axis=2)).mean() / fields.std()

    calm, rough = step(0.2), step(0.9)
    # Independent texels would differ by 2 / sqrt(pi) = 1.13 standard deviations.
    assert calm < 0.6 * rough and rough < 1


def test_finer_cells_are_finer():
    def correlation(coarsest):
        fields = np.stack([fractal_noise(32, np.random.default_rng(i), 1, 1.0, coarsest) for i in range(30)])
        return np.corrcoef(fields[:, :, 4:].ravel(), fields[:, :, :-4].ravel())[0, 1]

    assert correlation(3) > 0.6
    assert abs(correlation(16)) < 0.3


@pytest.mark.parametrize(("octaves", "coarsest"), [(6, 4), (3, 64), (1, 4)])
def test_noise_draws_the_same_numbers_at_every_size(octaves, coarsest):
    after = []
    for size in (8, 33, 64):
        rng = np.random.default_rng(0)
        fractal_noise(size, rng, octaves, 0.8, coarsest)
        after.append(rng.uniform())
    assert len(set(after)) == 1


def test_noise_at_two_sizes_is_the_same_field():
    """Up to what a coarse map does not resolve."""
    for seed in range(5):
        small, large = (fractal_noise(size, np.random.default_rng(seed), 3, 0.6) for size in (32, 128))
        assert np.corrcoef(small.ravel(), averaged(large, 4).ravel())[0, 1] > 0.97
        assert np.abs(small - averaged(large, 4)).mean() < 0.15


def test_grid():
    u, v = atlas_grid(4)
    np.testing.assert_array_equal(u, [[0.125, 0.375, 0.625, 0.875]])
    np.testing.assert_array_equal(v, [[0.125], [0.375], [0.625], [0.875]])


def test_a_spot_by_hand():
    """One wide gaussian on the center of texel (row 8, column 20) of 32."""
    center = np.array([[20.5 / 32, 8.5 / 32]])
    spot = spots(32, center, np.array([0.1]), np.array([2.0]))
    wide = np.hypot(0.1, 0.35 / 32)
    assert np.unravel_index(spot.argmax(), spot.shape) == (8, 20)
    height = 2 * (0.1 / wide) ** 2
    assert spot[8, 20] == pytest.approx(height, rel=1e-5)
    # Three texels beside and two below.
    assert spot[8, 23] == pytest.approx(height * np.exp(-0.5 * (3 / 32 / wide) ** 2), rel=1e-5)
    assert spot[10, 20] == pytest.approx(height * np.exp(-0.5 * (2 / 32 / wide) ** 2), rel=1e-5)
    np.testing.assert_allclose(spot[8, 17], spot[8, 23], rtol=1e-5)


def test_spots_add_up():
    rng = np.random.default_rng(0)
    centers, radii, heights = rng.uniform(0, 1, (5, 2)), rng.uniform(0.02, 0.1, 5), rng.normal(size=5)
    one_by_one = sum(spots(32, centers[[i]], radii[[i]], heights[[i]]) for i in range(5))
    np.testing.assert_allclose(spots(32, centers, radii, heights), one_by_one, atol=1e-6)
    assert not spots(32, centers[:0], radii[:0], heights[:0]).any()


def test_square_spots_have_flatter_tops_and_sharper_rims():
    center, radius, height = np.array([[0.5, 0.5]]), np.array([0.2]), np.array([1.0])
    soft, hard = (spots(64, center, radius, height, squareness)[32] for squareness in (2, 6))
    assert hard[38] > soft[38]  # half a radius from the middle
    assert hard[54] < soft[54]  # 1.75 radii


def test_a_small_spot_keeps_its_integral():
    """Smaller than a texel: it pales instead of vanishing or keeping its full height."""
    rng = np.random.default_rng(1)
    centers = rng.uniform(0.2, 0.8, (40, 2))
    radii, heights = np.full(40, 0.006), np.ones(40)
    exact = 40 * 2 * np.pi * 0.006**2
    for size in (32, 64, 256):
        drawn = spots(size, centers, radii, heights)
        assert drawn.sum() / size**2 == pytest.approx(exact, rel=0.12)
    assert spots(32, centers[:1], radii[:1], heights[:1]).max() < 0.5


@pytest.mark.parametrize("center", [(-0.5, 0.5), (0.5, 1.7), (1.2, -0.3)])
def test_spots_beside_the_map_change_nothing(center):
    assert not spots(16, np.array([center]), np.array([0.02]), np.array([1.0])).any()


@pytest.mark.parametrize("center", [(0.0, 0.5), (0.5, 1.0), (1.0, 0.0)])
def test_spots_at_the_border_are_cut_off(center):
    spot = spots(16, np.array([center]), np.array([0.1]), np.array([1.0]))
    u, v = atlas_grid(16)
    wide = np.hypot(0.1, 0.35 / 16)
    distance = np.hypot(u - center[0], v - center[1]) / wide
    expected = (0.1 / wide) ** 2 * np.exp(-0.5 * distance**2)
    near = distance < 2.8
    np.testing.assert_allclose(spot[near], expected[near], rtol=1e-4)
