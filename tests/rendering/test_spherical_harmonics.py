"""The basis against its closed forms and against numeric integration."""

from __future__ import annotations

import numpy as np
import torch

from relightify_diffusers.rendering.spherical_harmonics import (
    fibonacci_sphere,
    irradiance,
    project,
    rotation_matrix,
    sh_basis,
)


def test_order_and_normalization():
    np.testing.assert_allclose(
        sh_basis(np.array([0.0, 0.0, 1.0])), [0.282095, 0, 0.488603, 0, 0, 0, 0.630784, 0, 0], atol=1e-6
    )
    assert sh_basis(np.array([0.0, 1, 0]))[1] == 0.488603 and sh_basis(np.array([1.0, 0, 0]))[3] == 0.488603


def test_basis_is_orthonormal():
    basis = sh_basis(fibonacci_sphere(4000))
    np.testing.assert_allclose(basis.T @ basis * 4 * np.pi / 4000, np.eye(9), atol=2e-3)


def test_constant_light_gives_pi_times_radiance():
    light = np.zeros((9, 3))
    light[0] = np.array([1.0, 0.5, 0.25]) / 0.282095
    normals = fibonacci_sphere(20)
    np.testing.assert_allclose(irradiance(light, normals), np.pi * np.tile([1, 0.5, 0.25], (20, 1)), rtol=1e-5)


def test_irradiance_matches_numeric_integration():
    light = np.random.default_rng(0).normal(size=(9, 3))
    directions = fibonacci_sphere(20000)
    radiance = sh_basis(directions) @ light
    for normal in fibonacci_sphere(7):
        cosine = np.maximum(directions @ normal, 0)
        expected = 4 * np.pi / 20000 * (cosine[:, None] * radiance).sum(axis=0)
        np.testing.assert_allclose(irradiance(light, normal), expected, atol=5e-3)


def test_projection_returns_the_coefficients():
    light = np.random.default_rng(1).normal(size=(9, 3))
    directions = fibonacci_sphere(4000)
    recovered = project(sh_basis(directions) @ light, directions, np.full(4000, 4 * np.pi / 4000))
    np.testing.assert_allclose(recovered, light, atol=5e-3)


def test_rotation_moves_the_light():
    rotation = np.linalg.qr(np.random.default_rng(2).normal(size=(3, 3)))[0]
    rotation *= np.sign(np.linalg.det(rotation))
    light = np.random.default_rng(3).normal(size=(9, 3))
    directions = fibonacci_sphere(50)
    turned = sh_basis(directions @ rotation.T) @ (rotation_matrix(rotation) @ light)
    np.testing.assert_allclose(turned, sh_basis(directions) @ light, atol=1e-5)


def test_numpy_and_torch_agree():
    generator = torch.Generator().manual_seed(0)
    normals = torch.nn.functional.normalize(torch.randn(5, 3, generator=generator), dim=-1)
    light = torch.randn(9, 3, generator=generator)
    np.testing.assert_allclose(irradiance(light, normals), irradiance(light.numpy(), normals.numpy()), atol=1e-5)
