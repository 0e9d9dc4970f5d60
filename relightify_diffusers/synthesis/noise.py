"""Smooth random fields, and shapes at places of the atlas."""

from __future__ import annotations

import numpy as np
from PIL import Image


def fractal_noise(
    size: int, rng: np.random.Generator, octaves: int, persistence: float, coarsest: int = 4
) -> np.ndarray:
    """Sum of octaves of interpolated noise (size, size), of about unit variance, the first `coarsest` cells a side."""
    result = np.zeros((size, size), np.float32)
    total = 0.0
    for octave in range(octaves):
        cells = coarsest * 2**octave
        amplitude = persistence**octave
        # Octaves finer than the map are drawn all the same, so that the random stream does not depend on the size.
        grid = rng.normal(size=(cells, cells)).astype(np.float32)
        total += amplitude**2
        if cells > 2 * size:
            continue
        result += amplitude * np.asarray(Image.fromarray(grid).resize((size, size), Image.Resampling.BICUBIC))
    return result / np.float32(np.sqrt(total))


def atlas_grid(size: int) -> tuple[np.ndarray, np.ndarray]:
    """Positions u (1, size) and v (size, 1) of the texel centers."""
    centers = (np.arange(size) + 0.5) / size
    return centers[None], centers[:, None]


def spots(
    size: int, centers: np.ndarray, radii: np.ndarray, heights: np.ndarray, squareness: float = 2.0
) -> np.ndarray:
    """Sum of round bumps (size, size).

    centers: (S, 2) u and v. radii: (S,) atlas widths. heights: (S,). squareness: 2 = gaussian, larger = flatter top
    and sharper rim. Bumps smaller than a texel keep their integral.
    """
    result = np.zeros((size, size), np.float32)
    for (cu, cv), radius, height in zip(centers, radii, heights):
        # A texel averages: a bump narrower than it grows to it and pales.
        wide = np.hypot(radius, 0.35 / size)
        reach = 3 * wide
        rows = slice(max(0, int((cv - reach) * size)), max(0, int((cv + reach) * size) + 2))
        columns = slice(max(0, int((cu - reach) * size)), max(0, int((cu + reach) * size) + 2))
        u, v = atlas_grid(size)
        distance = np.hypot(u[:, columns] - cu, v[rows] - cv) / wide
        result[rows, columns] += height * (radius / wide) ** 2 * np.exp(-0.5 * distance**squareness)
    return result
