"""The reflectance model: Lambert and GGX with Smith visibility and Schlick Fresnel, as glTF 2.0 has it.

The formulas are those of glTF 2.0, appendix B ("BRDF Implementation"), with the specular parameter of
KHR_materials_specular. All functions take numpy arrays or tensors that broadcast against each other.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np
import torch

from relightify_diffusers.maps import SPECULAR_F0_SCALE

# Below this the lobe is narrower than any sampling here resolves, and its peak overflows in float32.
MIN_ROUGHNESS = 0.03


def _dot(a, b):
    return (a * b).sum(-1)


def specular_f0(s):
    """Reflectance at normal incidence of the specular parameter s in [0, 1]: 0.08 s (Burley 2012, section 5.5)."""
    return SPECULAR_F0_SCALE * s


def schlick_fresnel(v_dot_h, f0):
    """Fresnel reflectance F0 + (1 - F0) (1 - v.h)^5 (Schlick 1994, equation 15; F90 = 1)."""
    return f0 + (1 - f0) * (1 - v_dot_h).clip(0, 1) ** 5


def ggx_distribution(n_dot_h, roughness):
    """GGX density of microfacet normals, in 1/sr; alpha = roughness^2 (Walter et al. 2007, equation 33)."""
    squared = roughness.clip(MIN_ROUGHNESS, 1) ** 4
    return squared / (np.pi * (n_dot_h**2 * (squared - 1) + 1) ** 2)


def smith_visibility(n_dot_l, n_dot_v, roughness):
    """Separable Smith masking and shadowing over 4 (n.l) (n.v) (Walter et al. 2007, equations 23 and 34)."""
    squared = roughness.clip(MIN_ROUGHNESS, 1) ** 4

    def term(cosine):
        return 1 / (cosine + (squared + (1 - squared) * cosine**2) ** 0.5)

    return term(n_dot_l) * term(n_dot_v)


def brdf(normals, light, view, diffuse_albedo, s, roughness):
    """Reflectance for light from one direction, in 1/sr.

    normals, light, view: (..., 3) unit vectors away from the surface. diffuse_albedo: (..., 3) linear. s, roughness:
    (...,) in [0, 1]. Returns (..., 3): (1 - F) albedo / pi + F D V, zero where the light or the viewer is below the
    surface. Reciprocal in light and view.
    """
    half = light + view
    half = half / (half**2).sum(-1)[..., None].clip(1e-12, None) ** 0.5
    n_dot_l, n_dot_v = _dot(normals, light), _dot(normals, view)
    fresnel = schlick_fresnel(_dot(view, half), specular_f0(s))
    lobe = ggx_distribution(_dot(normals, half).clip(0, 1), roughness) * smith_visibility(
        n_dot_l.clip(1e-4, 1), n_dot_v.clip(1e-4, 1), roughness
    )
    reflected = (1 - fresnel)[..., None] * diffuse_albedo / np.pi + (fresnel * lobe)[..., None]
    return reflected * ((n_dot_l > 0) & (n_dot_v > 0))[..., None]


@lru_cache(maxsize=1)
def _albedo_table(size: int = 32, samples: int = 1024) -> torch.Tensor:
    """Scale and bias of F0 over (roughness, n.v), (2, size, size): Karis 2013, "Real Shading in Unreal Engine 4"."""
    grid = (np.arange(size) + 0.5) / size
    index = np.arange(samples) + 0.5
    # Half vectors distributed as the GGX density, on a Fibonacci lattice (Karis 2013, ImportanceSampleGGX).
    angle, share = index * np.pi * (3 - np.sqrt(5)), index / samples
    table = np.zeros((2, size, size))
    for row, roughness in enumerate(grid.clip(MIN_ROUGHNESS, 1)):
        cosine = np.sqrt((1 - share) / (1 + (roughness**4 - 1) * share))
        sine = np.sqrt(1 - cosine**2)
        half = np.stack([sine * np.cos(angle), sine * np.sin(angle), cosine], axis=-1)
        view = np.stack([np.sqrt(1 - grid**2), 0 * grid, grid], axis=-1)
        v_dot_h = view @ half.T  # (size, samples)
        n_dot_l = 2 * v_dot_h * half[:, 2] - view[:, 2:]
        valid = (n_dot_l > 0) & (v_dot_h > 0)
        # BRDF n.l / pdf with pdf = D (n.h) / (4 v.h) leaves 4 V (n.l) (v.h) / (n.h) times the Fresnel term.
        visibility = smith_visibility(n_dot_l.clip(1e-4, 1), view[:, 2:], np.array(roughness))
        weight = np.where(valid, 4 * visibility * n_dot_l * v_dot_h / half[:, 2], 0)
        fresnel = (1 - v_dot_h).clip(0, 1) ** 5
        table[0, row] = (weight * (1 - fresnel)).mean(axis=1)
        table[1, row] = (weight * fresnel).mean(axis=1)
    return torch.from_numpy(table.astype(np.float32))


def specular_albedo_terms(n_dot_v: np.ndarray, roughness: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Scale and bias (P,) such that a unit white environment is reflected by F0 * scale + bias.

    n_dot_v, roughness: (P,). Looked up in a table that is integrated on the first call.
    """
    grid = np.stack([n_dot_v, roughness], axis=-1).astype(np.float32) * 2 - 1
    terms = torch.nn.functional.grid_sample(
        _albedo_table()[None], torch.from_numpy(grid)[None, None], padding_mode="border", align_corners=False
    )
    scale, bias = terms[0, :, 0].numpy()
    return scale, bias
