"""Sample a photo at texel positions with a filter as wide as each texel's footprint."""

from __future__ import annotations

import numpy as np
from scipy.ndimage import gaussian_filter, map_coordinates

# Standard deviation in pixels of the blur before each halving: suppresses what the halved grid cannot hold.
PYRAMID_SIGMA = 0.8


def footprint(pixels: np.ndarray) -> np.ndarray:
    """Side (N, N) in photo pixels of the square that each texel covers, from positions (N, N, 2) by differences."""
    du, dv = np.gradient(pixels, axis=1), np.gradient(pixels, axis=0)
    return np.sqrt(np.abs(du[..., 0] * dv[..., 1] - du[..., 1] * dv[..., 0]))


def sample_filtered(image: np.ndarray, pixels: np.ndarray, footprints: np.ndarray) -> np.ndarray:
    """Colors (P, C) of an image (H, W, C) at pixel positions (P, 2), centers at + 0.5, blurred to footprints (P,).

    Trilinear lookup in a pyramid of blurred copies (Williams 1983, "Pyramidal parametrics").
    """
    level = np.log2(np.maximum(footprints, 1.0))
    top = int(np.ceil(level.max(initial=0)))
    pyramid = [image]
    for _ in range(top):
        blurred = gaussian_filter(pyramid[-1], (PYRAMID_SIGMA, PYRAMID_SIGMA, 0), mode="nearest")
        if min(blurred.shape[:2]) < 4:
            break
        # Means of 2 x 2 pixels keep pixel centers where they were.
        trimmed = blurred[: blurred.shape[0] // 2 * 2, : blurred.shape[1] // 2 * 2]
        pyramid.append(trimmed.reshape(trimmed.shape[0] // 2, 2, trimmed.shape[1] // 2, 2, -1).mean(axis=(1, 3)))
    level = np.minimum(level, len(pyramid) - 1)
    lower = np.minimum(level.astype(int), len(pyramid) - 1)
    upper = np.minimum(lower + 1, len(pyramid) - 1)
    fraction = (level - lower)[:, None]
    result = np.zeros((len(pixels), image.shape[-1]))
    for index, layer in enumerate(pyramid):
        weight = (lower == index)[:, None] * (1 - fraction) + (upper == index)[:, None] * fraction
        used = weight[:, 0] > 0
        if used.any():
            result[used] += weight[used] * _bilinear(layer, pixels[used] / 2**index)
    return result


def _bilinear(image: np.ndarray, pixels: np.ndarray) -> np.ndarray:
    coordinates = [pixels[:, 1] - 0.5, pixels[:, 0] - 0.5]
    return np.stack(
        [map_coordinates(image[..., c], coordinates, order=1, mode="nearest") for c in range(image.shape[-1])], -1
    )
