"""Order-2 real spherical harmonics for environment light, in the basis of Ramamoorthi and Hanrahan 2001."""

from __future__ import annotations

import numpy as np
import torch

# Factors of the clamped-cosine lobe for orders 0, 1 and 2, repeated over the 9 coefficients: Ramamoorthi and Hanrahan
# 2001, "An Efficient Representation for Irradiance Environment Maps", equation 8.
COSINE_LOBE = (np.pi,) + (2 * np.pi / 3,) * 3 + (np.pi / 4,) * 5


def sh_basis(directions):
    """Evaluate the nine basis functions at unit directions, for numpy arrays and tensors.

    directions: (..., 3). Returns (..., 9) in the order Y00, Y1-1, Y10, Y11, Y2-2, Y2-1, Y20, Y21, Y22 (equation 3 of
    Ramamoorthi and Hanrahan 2001).
    """
    x, y, z = directions[..., 0], directions[..., 1], directions[..., 2]
    terms = [
        0.282095 + 0 * x,
        0.488603 * y,
        0.488603 * z,
        0.488603 * x,
        1.092548 * x * y,
        1.092548 * y * z,
        0.315392 * (3 * z * z - 1),
        1.092548 * x * z,
        0.546274 * (x * x - y * y),
    ]
    return torch.stack(terms, dim=-1) if torch.is_tensor(directions) else np.stack(terms, axis=-1)


def irradiance(coefficients, normals):
    """Unshadowed irradiance of surfaces in an environment, for numpy arrays or tensors (both of one kind).

    coefficients: (9, C) radiance. normals: (..., 3) unit vectors. Returns (..., C) in radiance times steradian (a
    constant environment L gives pi L), which the truncation at order 2 can make slightly negative.
    """
    lobe = coefficients.new_tensor(COSINE_LOBE) if torch.is_tensor(coefficients) else np.asarray(COSINE_LOBE)
    return sh_basis(normals) @ (lobe[:, None] * coefficients)


def project(radiance: np.ndarray, directions: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Coefficients of a light sampled in directions.

    radiance: (N, C). directions: (N, 3) unit vectors. weights: (N,) solid angles in steradian. Returns (9, C).
    """
    return (sh_basis(directions) * weights[:, None]).T @ radiance


def rotation_matrix(rotation: np.ndarray) -> np.ndarray:
    """The (9, 9) matrix that turns coefficients c of a light L(d) into those of the light turned by `rotation`.

    rotation: (3, 3). The turned light is L'(d) = L(rotation.T @ d); its coefficients are the matrix times c. Exact,
    since rotation keeps each order to itself.
    """
    # Any set of directions on which the basis has full rank determines the matrix.
    directions = fibonacci_sphere(64)
    before = sh_basis(directions @ rotation)  # rows: rotation.T @ d
    return np.linalg.lstsq(sh_basis(directions), before, rcond=None)[0]


def fibonacci_sphere(count: int) -> np.ndarray:
    """`count` well-spread unit directions (count, 3), each standing for 4 pi / count steradian.

    The spherical Fibonacci lattice: Gonzalez 2010, "Measurement of Areas on a Sphere Using Fibonacci and Latitude-
    Longitude Lattices", section 3.
    """
    index = np.arange(count)
    z = 1 - (2 * index + 1) / count
    angle = index * (np.pi * (3 - np.sqrt(5)))
    radius = np.sqrt(1 - z * z)
    return np.stack([radius * np.cos(angle), radius * np.sin(angle), z], axis=-1)
