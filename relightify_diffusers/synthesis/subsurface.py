"""Light below the skin: it leaves beside where it entered, red light farthest."""

from __future__ import annotations

import numpy as np
from scipy.ndimage import gaussian_filter1d

# Millimeters that a texel of the face covers at 256 texels; it goes with 1 / N.
TEXEL_MM = 1.2

# The six Gaussians of skin: variance in mm^2, weights in red, green and blue (d'Eon & Luebke 2007, GPU Gems 3,
# chapter 14, figure 14-13).
SKIN_PROFILE = (
    (0.0064, (0.233, 0.455, 0.649)),
    (0.0484, (0.100, 0.336, 0.344)),
    (0.187, (0.118, 0.198, 0.000)),
    (0.567, (0.113, 0.007, 0.007)),
    (1.99, (0.358, 0.004, 0.000)),
    (7.41, (0.078, 0.000, 0.000)),
)

# Gaussians narrower than this in texels change nothing that the texels could show.
MIN_BLUR = 0.4


def scatter_below(image: np.ndarray, inside: np.ndarray, eyes: np.ndarray) -> np.ndarray:
    """Spread light that enters the skin by SKIN_PROFILE, in texture space, within the skin alone.

    image: (N, N, 3) irradiance. inside: (N, N) bool, of the atlas. eyes: (N, N), not zero on the eyes, which keep
    their light. Returns (N, N, 3); what is even stays even, up to the borders.
    """
    skin = (inside & (eyes == 0)).astype(np.float32)
    texel = TEXEL_MM * 256 / inside.shape[0]
    result, weights = np.zeros_like(image), np.zeros(3, np.float32)
    for variance, weight in SKIN_PROFILE:
        sigma = np.sqrt(variance) / texel
        if sigma < MIN_BLUR:
            continue
        share = np.array(weight, np.float32)
        channels = np.flatnonzero(share > 0.01)
        stack = np.concatenate([image[..., channels], np.ones_like(skin)[..., None]], axis=-1) * skin[..., None]
        for axis in (0, 1):
            stack = gaussian_filter1d(stack, sigma, axis=axis, mode="constant", truncate=3)
        result[..., channels] += share[channels] * stack[..., :-1] / np.maximum(stack[..., -1:], 1e-6)
        weights[channels] += share[channels]
    result += (1 - weights) * image
    return np.where(skin[..., None] > 0, result, image)
