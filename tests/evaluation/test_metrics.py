"""The measures, by hand."""

from __future__ import annotations

import numpy as np
import pytest

from relightify_diffusers.evaluation.metrics import angular_error, border_step, correlation, psnr


def test_psnr():
    """An error of 0.1 in each value is 20 dB; values outside the mask do not count."""
    truth = np.full((4, 4, 3), 0.5)
    where = np.zeros((4, 4), bool)
    where[:2] = True
    predicted = np.where(where[..., None], 0.6, 5.0) * np.ones(3)
    assert psnr(predicted, truth, where) == pytest.approx(20)
    predicted[0, 0] = 0.5 + 0.1 * np.sqrt(8 + 1)  # eight texels: the mean square doubles
    assert psnr(predicted, truth, where) == pytest.approx(20 - 10 * np.log10(2))
    assert psnr(truth, truth, where) == pytest.approx(120)


def test_angular_error():
    """Half the normals turned by 90 degrees, half right; lengths do not matter."""
    truth = np.tile([0.5, 0.5, 1.0], (2, 2, 1))
    predicted = truth.copy()
    predicted[0] = [1.0, 0.5, 0.5]
    predicted[1] = [0.5, 0.5, 0.75]
    everywhere = np.ones((2, 2), bool)
    assert angular_error(predicted, truth, everywhere) == pytest.approx(45)
    assert angular_error(predicted, truth, np.array([[True, True], [False, False]])) == pytest.approx(90)
    slightly = truth + [0.5 * np.tan(np.radians(5)), 0, 0]
    assert angular_error(slightly, truth, everywhere) == pytest.approx(5, abs=1e-6)


def test_border_step():
    """Columns at 0.2, 0.2 | 0.5, 0.5: only the step over the border counts, and only inside the chart."""
    texture = np.repeat(np.array([0.2, 0.2, 0.5, 0.5])[None, :, None], 4, axis=0) * np.ones(3)
    observed = np.zeros((4, 4), bool)
    observed[:, :2] = True
    inside = np.ones((4, 4), bool)
    assert border_step(texture, observed, inside) == pytest.approx(0.3)
    assert border_step(texture, ~observed, inside) == pytest.approx(0.3)
    texture[0, 2] = 0.2  # a row without a step
    assert border_step(texture, observed, inside) == pytest.approx(0.3 * 3 / 4)
    inside[0] = False
    assert border_step(texture, observed, inside) == pytest.approx(0.3)
    # Along rows as along columns.
    assert border_step(texture.swapaxes(0, 1), observed.T, inside.T) == pytest.approx(0.3)


def test_border_step_without_a_border():
    assert (
        border_step(np.random.default_rng(0).uniform(size=(4, 4, 3)), np.ones((4, 4), bool), np.ones((4, 4), bool))
        == 0
    )


def test_correlation():
    first = np.array([1.0, 2.0, 3.0])
    assert correlation(first, 5 - 2 * first) == pytest.approx(-1)
    assert correlation(first, np.array([1.0, 3.0, 2.0])) == pytest.approx(0.5)
    assert correlation(first, np.array([1.0, 0.0, 1.0])) == pytest.approx(0)
    assert correlation(first, np.full(3, 7.0)) == 0
