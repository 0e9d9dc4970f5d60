"""The layout of the channels and the color conversions, against published values."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from relightify_diffusers.maps import (
    BACKGROUND,
    LAYOUT,
    SPECULAR_F0_SCALE,
    MapLayout,
    decode_normals,
    encode_normals,
    individual_typology_angle,
    linear_to_lab,
    linear_to_srgb,
    srgb_to_linear,
)


def test_layout():
    assert LAYOUT.names == ("texture", "diffuse_albedo", "specular_albedo", "normals")
    assert LAYOUT.channels == 12
    assert [LAYOUT.slice(name) for name in LAYOUT.names] == [slice(0, 3), slice(3, 6), slice(6, 9), slice(9, 12)]
    assert MapLayout(("a", "b"), (1, 3)).slice("b") == slice(1, 4)
    with pytest.raises(KeyError, match="unknown map 'albedo'"):
        LAYOUT.slice("albedo")


@pytest.mark.parametrize("batch", [(), (2,), (2, 3)])
@pytest.mark.parametrize("make", [np.asarray, torch.as_tensor])
def test_split_and_join(batch, make):
    shape = (*batch, 12, 4, 5)
    sample = make(np.arange(np.prod(shape), dtype=np.float32).reshape(shape))
    maps = LAYOUT.split(sample)
    assert list(maps) == list(LAYOUT.names)
    assert all(values.shape == (*batch, 3, 4, 5) for values in maps.values())
    assert (maps["specular_albedo"] == sample[..., 6:9, :, :]).all()
    joined = LAYOUT.join(dict(reversed(maps.items())))  # by name, not by order
    assert type(joined) is type(sample) and (joined == sample).all()


def test_split_refuses_other_channels():
    with pytest.raises(ValueError, match=r"12 channels.*\(9, 4, 4\)"):
        LAYOUT.split(np.zeros((9, 4, 4)))


# IEC 61966-2-1: both ends, the knee, 8-bit 118 (about 18 % gray) and the middle.
SRGB = np.array([0, 0.02, 0.04045, 118 / 255, 0.5, 1.0])
LINEAR = np.array([0, 0.02 / 12.92, 0.0031308, 0.181164, 0.214041, 1.0])


@pytest.mark.parametrize("make", [np.asarray, torch.as_tensor])
def test_srgb(make):
    np.testing.assert_allclose(np.asarray(srgb_to_linear(make(SRGB))), LINEAR, atol=1e-6)
    np.testing.assert_allclose(np.asarray(linear_to_srgb(make(LINEAR))), SRGB, atol=1e-5)


def test_srgb_round_trip_and_order():
    values = np.linspace(0, 1, 4097)
    np.testing.assert_allclose(linear_to_srgb(srgb_to_linear(values)), values, atol=1e-6)
    assert (np.diff(srgb_to_linear(values)) > 0).all()
    # Every 8-bit value survives.
    codes = np.arange(256)
    np.testing.assert_array_equal((linear_to_srgb(srgb_to_linear(codes / 255)) * 255).round(), codes)


def test_srgb_gradients_are_finite():
    for convert in (srgb_to_linear, linear_to_srgb):
        x = torch.tensor([-0.1, 0.0, 1e-8, 0.04, 0.5, 1.0], requires_grad=True)
        convert(x).sum().backward()
        assert torch.isfinite(x.grad).all() and (x.grad > 0).all()


def test_float32_stays_float32():
    x = np.linspace(0, 1, 5, dtype=np.float32)
    assert srgb_to_linear(x).dtype == np.float32 and linear_to_srgb(x).dtype == np.float32


def test_normals():
    np.testing.assert_allclose(encode_normals(np.array([0.0, -1.0, 1.0])), [0.5, 0, 1])
    vectors = np.random.default_rng(0).uniform(-1, 1, (5, 3))
    np.testing.assert_allclose(decode_normals(encode_normals(vectors)), vectors, atol=1e-12)


def test_constants():
    """An index of refraction of 1.5 reflects 4 % head-on, which is s = 0.5; the background is 8-bit 128."""
    assert abs(0.5 * SPECULAR_F0_SCALE - ((1.5 - 1) / (1.5 + 1)) ** 2) < 1e-12
    assert round(BACKGROUND * 255) == 128


@pytest.mark.parametrize(
    ("rgb", "lab"),
    [
        ((1, 1, 1), (100, 0, 0)),
        ((0, 0, 0), (0, 0, 0)),
        ((0.184187, 0.184187, 0.184187), (50, 0, 0)),
        ((1, 0, 0), (53.24, 80.09, 67.20)),
        ((0, 1, 0), (87.73, -86.18, 83.18)),
        ((0, 0, 1), (32.30, 79.19, -107.86)),
    ],
)
def test_lab(rgb, lab):
    np.testing.assert_allclose(linear_to_lab(np.array(rgb, float)), lab, atol=0.06)


def test_individual_typology_angle():
    """Light skin is above 55 degrees, dark skin below -30; the tangent is that of the definition."""
    skins = srgb_to_linear(np.array([[240, 200, 180], [200, 150, 120], [70, 45, 35]]) / 255)
    angles = individual_typology_angle(skins)
    assert angles[0] > 55 and 10 < angles[1] < 41 and angles[2] < -30
    lab = linear_to_lab(skins)
    np.testing.assert_allclose(np.tan(np.radians(angles)), (lab[:, 0] - 50) / lab[:, 2])
    assert individual_typology_angle(skins.reshape(3, 1, 3)).shape == (3, 1)
