"""Filtered sampling: exact on constants and ramps, without aliases where a texel covers many pixels."""

from __future__ import annotations

import numpy as np
import pytest

from relightify_diffusers.texturing.sampling import footprint, sample_filtered


def ramp(height: int, width: int) -> np.ndarray:
    """An image whose color is linear in the pixel position (centers at + 0.5)."""
    y, x = np.mgrid[:height, :width] + 0.5
    return np.stack([x / 100, y / 50, 0.3 + (x - 2 * y) / 300], axis=-1)


def test_footprint_of_an_affine_map():
    """Texels of 3 x 2 pixels, sheared and turned: the side of a square of the same area."""
    rows, columns = np.mgrid[:5, :6].astype(float)
    pixels = np.stack([3 * columns + rows, 2 * rows], axis=-1)
    np.testing.assert_allclose(footprint(pixels), np.sqrt(6))
    np.testing.assert_allclose(footprint(pixels[..., ::-1]), np.sqrt(6))  # a mirrored chart has no negative size
    np.testing.assert_allclose(footprint(np.stack([0.1 * columns, 0.1 * rows], -1)), 0.1)


@pytest.mark.parametrize("size", [0.2, 1.0, 1.5, 2.0, 3.7, 8.0])
def test_constant(size):
    image = np.full((40, 60, 3), [0.2, 0.5, 0.9])
    pixels = np.array([[0.1, 0.1], [59.9, 39.9], [30, 20], [7.3, 33.3]])
    result = sample_filtered(image, pixels, np.full(4, size))
    np.testing.assert_allclose(result, np.tile([0.2, 0.5, 0.9], (4, 1)), atol=1e-12)


@pytest.mark.parametrize("size", [0.5, 1.0, 1.4, 2.0, 3.0, 4.0])
def test_linear_ramp(size):
    """A symmetric filter leaves a ramp as it is: no shift of half a pixel at any level, nor between levels."""
    pixels = np.random.default_rng(0).uniform([40, 40], [88, 56], (50, 2))
    result = sample_filtered(ramp(96, 128), pixels, np.full(50, size))
    x, y = pixels.T
    np.testing.assert_allclose(result, np.stack([x / 100, y / 50, 0.3 + (x - 2 * y) / 300], -1), atol=1e-9)


def test_pixel_centers_are_exact():
    """A texel as small as a pixel, at a pixel's center, has the pixel's value; half-way it has the mean."""
    image = np.random.default_rng(1).uniform(size=(9, 7, 3))
    y, x = np.mgrid[:9, :7]
    pixels = np.stack([x, y], -1).reshape(-1, 2) + 0.5
    np.testing.assert_allclose(sample_filtered(image, pixels, np.ones(63)), image.reshape(-1, 3), atol=1e-12)
    between = sample_filtered(image, np.array([[3.0, 2.5]]), np.ones(1))
    np.testing.assert_allclose(between[0], (image[2, 2] + image[2, 3]) / 2, atol=1e-12)


def test_checkerboard_turns_gray():
    y, x = np.mgrid[:64, :64]
    board = ((x + y) % 2).astype(float)[..., None]
    pixels = np.random.default_rng(2).integers(16, 48, (200, 2)) + 0.5
    sharp = sample_filtered(board, pixels, np.ones(200))
    assert set(np.unique(sharp.round(9))) == {0, 1}
    for size in (2.0, 3.0, 5.0):
        np.testing.assert_allclose(sample_filtered(board, pixels, np.full(200, size)), 0.5, atol=1e-6)


def test_fine_stripes_do_not_alias():
    """Stripes of 2.7 pixels sampled every 5.4: a point sample sees one phase of them, the filtered one their mean."""
    x = np.arange(256) + 0.5
    stripes = np.tile(0.5 + 0.5 * np.cos(2 * np.pi * x / 2.7), (64, 1))[..., None]
    pixels = np.stack([40 + 5.4 * np.arange(30), np.full(30, 32.0)], -1)
    point = sample_filtered(stripes, pixels, np.ones(30))
    filtered = sample_filtered(stripes, pixels, np.full(30, 5.4))
    assert abs(point.mean() - 0.5) > 0.1
    assert np.abs(filtered - 0.5).max() < 0.02


def test_coarse_structure_survives():
    """What is wide compared to the texel is not blurred away."""
    x = np.arange(256) + 0.5
    wave = np.tile(0.5 + 0.5 * np.sin(2 * np.pi * x / 64), (64, 1))[..., None]
    pixels = np.stack([np.linspace(40, 216, 50), np.full(50, 32.0)], -1)
    truth = 0.5 + 0.5 * np.sin(2 * np.pi * pixels[:, 0] / 64)
    filtered = sample_filtered(wave, pixels, np.full(50, 3.0))[:, 0]
    assert np.abs(filtered - truth).max() < 0.05


def test_each_texel_has_its_own_size():
    y, x = np.mgrid[:64, :64]
    board = ((x + y) % 2).astype(float)[..., None]
    result = sample_filtered(board, np.full((3, 2), 32.5), np.array([1.0, 2.0, 2**0.5]))
    np.testing.assert_allclose(result[:, 0], [0, 0.5, 0.25], atol=1e-6)  # the last lies half-way between two levels


def test_tiny_images_and_huge_texels():
    image = np.full((5, 3, 3), 0.25)
    np.testing.assert_allclose(sample_filtered(image, np.array([[1.0, 2.0]]), np.array([100.0])), 0.25)
    assert sample_filtered(image, np.zeros((0, 2)), np.zeros(0)).shape == (0, 3)
