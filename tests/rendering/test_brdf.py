"""The reflectance model: closed forms, reciprocity and energy."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from relightify_diffusers.rendering.brdf import (
    brdf,
    ggx_distribution,
    schlick_fresnel,
    smith_visibility,
    specular_albedo_terms,
    specular_f0,
)
from relightify_diffusers.rendering.mesh import normalize
from relightify_diffusers.rendering.spherical_harmonics import fibonacci_sphere

UP = np.array([0.0, 0.0, 1.0])
HEMISPHERE = fibonacci_sphere(40000)[fibonacci_sphere(40000)[:, 2] > 0]
SOLID_ANGLE = 4 * np.pi / 40000


def reflected_share(view: np.ndarray, albedo: float, s: float, roughness: float) -> float:
    """Share of a unit white environment's light that goes to the viewer, by numeric integration."""
    ones = np.ones(len(HEMISPHERE))
    values = brdf(UP[None], HEMISPHERE, view[None], albedo * np.ones((len(ones), 3)), s * ones, roughness * ones)
    return float((values[:, 0] * HEMISPHERE[:, 2]).sum() * SOLID_ANGLE)


def test_fresnel_at_normal_and_grazing_incidence():
    assert specular_f0(np.array(0.5)) == 0.04  # an index of refraction of 1.5
    assert schlick_fresnel(np.array(1.0), 0.04) == 0.04
    assert schlick_fresnel(np.array(0.0), 0.04) == 1.0


@pytest.mark.parametrize("roughness", [0.2, 0.5, 1.0])
def test_ggx_normalization(roughness):
    # The projected area of all microfacets is the area of the surface: Walter et al. 2007, equation 4.
    density = ggx_distribution(HEMISPHERE[:, 2], np.array(roughness))
    assert (density * HEMISPHERE[:, 2]).sum() * SOLID_ANGLE == pytest.approx(1, abs=0.02)


def test_smith_without_shadowing_is_the_bare_denominator():
    # Light and viewer at the zenith: G = 1, so the visibility is 1 / (4 n.l n.v).
    assert smith_visibility(np.array(1.0), np.array(1.0), np.array(0.5)) == pytest.approx(0.25)


def test_perpendicular_reflection_by_hand():
    # l = v = n = h: (1 - F0) albedo / pi + F0 D V with D = 1 / (pi alpha^2), V = 1/4 and alpha = 0.25.
    value = brdf(UP, UP, UP, np.full(3, 0.5), np.array(0.5), np.array(0.5))
    np.testing.assert_allclose(value, 0.96 * 0.5 / np.pi + 0.04 / (np.pi * 0.0625) / 4)


def test_reciprocity():
    rng = np.random.default_rng(0)
    light, view = (normalize(np.abs(rng.normal(size=(100, 3))) * [1, 1, 0.5]) for _ in range(2))
    material = rng.random((100, 3)), rng.random(100), rng.random(100)
    normals = np.broadcast_to(UP, light.shape)
    np.testing.assert_allclose(brdf(normals, light, view, *material), brdf(normals, view, light, *material), rtol=1e-9)


def test_below_the_horizon_nothing_is_reflected():
    below = np.array([0.6, 0, -0.8])
    assert not brdf(UP, below, UP, np.ones(3), np.array(1.0), np.array(0.5)).any()
    assert not brdf(UP, UP, below, np.ones(3), np.array(1.0), np.array(0.5)).any()


@pytest.mark.parametrize("cosine", [0.05, 0.3, 0.7, 1.0])
@pytest.mark.parametrize("roughness", [0.25, 0.5, 0.8, 1.0])
def test_energy(cosine, roughness):
    view = np.array([np.sqrt(1 - cosine**2), 0, cosine])
    # The specular lobe alone, and the whole on skin, reflect no more than they get; glTF's mix of the two gains a
    # little at grazing angles on smooth surfaces.
    assert reflected_share(view, 0, 1, roughness) < 1.0
    if cosine > 0.2:
        assert reflected_share(view, 0.7, 0.5, roughness) < 1.0


def test_white_furnace_of_the_diffuse_part():
    # Without specular reflection at normal incidence nearly all light comes back from a white surface.
    assert reflected_share(UP, 1, 0, 0.5) == pytest.approx(1, abs=0.02)


@pytest.mark.parametrize("roughness, cosine, s", [(0.3, 0.9, 0.5), (0.5, 0.4, 1.0), (0.9, 0.7, 0.2)])
def test_albedo_table_matches_integration(roughness, cosine, s):
    view = np.array([np.sqrt(1 - cosine**2), 0, cosine])
    scale, bias = specular_albedo_terms(np.array([cosine]), np.array([roughness]))
    assert specular_f0(s) * scale[0] + bias[0] == pytest.approx(reflected_share(view, 0, s, roughness), abs=4e-3)


def test_numpy_and_torch_agree():
    rng = np.random.default_rng(1)
    args = [normalize(rng.normal(size=(50, 3))) for _ in range(3)] + [rng.random((50, 3)), rng.random(50)]
    args.append(rng.random(50))
    np.testing.assert_allclose(brdf(*map(torch.from_numpy, args)).numpy(), brdf(*args), rtol=1e-9)
