"""Smooth random fields."""

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
    return result / np.sqrt(total)
