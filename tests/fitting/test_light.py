"""estimate_light recovers known light, also from texels of which some are wrong."""

from __future__ import annotations

import numpy as np
import pytest

from relightify_diffusers.fitting import estimate_light
from relightify_diffusers.rendering.spherical_harmonics import COSINE_LOBE, fibonacci_sphere, sh_basis

COUNT = 2000
SH = np.zeros((9, 3))
SH[:4] = [[2.5, 2.2, 2.0], [0.5, 0.4, 0.3], [0.8, 0.8, 0.9], [-0.6, -0.4, -0.2]]
SH[[4, 6, 8]] = [[0.1, 0.1, 0.0], [-0.15, 0.1, 0.1], [0.05, 0.1, 0.15]]


@pytest.fixture(scope="module")
def scene() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Radiance, albedo and transfer of a ball of varied albedo in the light SH."""
    transfer = sh_basis(fibonacci_sphere(COUNT)) * np.array(COSINE_LOBE)
    albedo = np.random.default_rng(0).uniform(0.1, 0.7, (COUNT, 3))
    radiance = albedo / np.pi * (transfer @ SH)
    assert radiance.min() > 0
    return radiance, albedo, transfer


def test_exact_data(scene):
    fit = estimate_light(*scene, np.ones(COUNT))
    # The prior toward smooth light costs the higher bands a few per cent.
    np.testing.assert_allclose(fit.sh[0], SH[0], rtol=0.01)
    np.testing.assert_allclose(fit.sh, SH, atol=0.06)
    assert fit.residual < 0.01


def test_outliers(scene):
    """A tenth of the texels blown out by highlights and a tenth black: the light stays."""
    radiance, albedo, transfer = scene
    rng = np.random.default_rng(1)
    kind = rng.uniform(size=COUNT)
    dirty = np.where((kind < 0.1)[:, None], 1.0, np.where((kind > 0.9)[:, None], 0.0, radiance))
    fit = estimate_light(dirty, albedo, transfer, np.ones(COUNT))
    np.testing.assert_allclose(fit.sh[0], SH[0], rtol=0.04)
    np.testing.assert_allclose(fit.sh, SH, atol=0.15)
    plain = estimate_light(dirty, albedo, transfer, np.ones(COUNT), rounds=1)
    assert np.abs(fit.sh - SH).max() < 0.5 * np.abs(plain.sh - SH).max()


def test_noise(scene):
    radiance, albedo, transfer = scene
    noisy = radiance * np.exp(np.random.default_rng(2).normal(0, 0.05, radiance.shape))
    fit = estimate_light(noisy, albedo, transfer, np.ones(COUNT))
    np.testing.assert_allclose(fit.sh, SH, atol=0.08)
    assert 0.02 < fit.residual < 0.06


def test_weights_choose_the_texels(scene):
    """Texels of weight zero have no say, in the light or in the residual."""
    radiance, albedo, transfer = scene
    half = np.arange(COUNT) % 2 == 0
    spoiled = np.where(half[:, None], radiance, 5.0)
    fit = estimate_light(spoiled, albedo, transfer, half.astype(float))
    np.testing.assert_allclose(fit.sh, SH, atol=0.06)
    assert fit.residual < 0.01
    other = estimate_light(np.where(half[:, None], radiance, 0.1), albedo, transfer, half.astype(float))
    np.testing.assert_allclose(other.sh, fit.sh, rtol=1e-9, atol=1e-12)


def test_light_scales_with_the_photo(scene):
    """Twice the radiance is twice the light; twice the albedo is half of it."""
    radiance, albedo, transfer = scene
    once = estimate_light(radiance, albedo, transfer, np.ones(COUNT)).sh
    np.testing.assert_allclose(estimate_light(2 * radiance, albedo, transfer, np.ones(COUNT)).sh, 2 * once, atol=0.01)
    np.testing.assert_allclose(estimate_light(radiance, 2 * albedo, transfer, np.ones(COUNT)).sh, once / 2, atol=0.01)


def test_half_a_ball_stays_smooth(scene):
    """Only the front is seen: the light explains it, and is not driven to extremes where nothing was seen."""
    radiance, albedo, transfer = scene
    front = fibonacci_sphere(COUNT)[:, 2] > 0.3
    noisy = radiance * np.exp(np.random.default_rng(3).normal(0, 0.05, radiance.shape))
    fit = estimate_light(noisy[front], albedo[front], transfer[front], np.ones(front.sum()))
    assert fit.residual < 0.06
    assert np.abs(fit.sh).max() < 1.5 * SH.max()
    shading = albedo[front] / np.pi * (transfer[front] @ fit.sh)
    assert np.median(np.abs(shading / radiance[front] - 1)) < 0.02
