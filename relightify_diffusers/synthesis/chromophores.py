"""Skin color as densities of melanin and hemoglobin, and skin tones by individual typology angle."""

from __future__ import annotations

import numpy as np

from relightify_diffusers.maps import individual_typology_angle

# Unit vectors of melanin and hemoglobin in the space of -log(R, G, B): Tsumura et al. 2003, "Image-based skin color
# and texture analysis/synthesis by extracting hemoglobin and melanin information in the skin".
MELANIN = np.array([0.4143, 0.3570, 0.8372])
HEMOGLOBIN = np.array([0.2988, 0.6838, 0.6657])

# Linear albedos of very light and very dark skin, and how far their straight connection in log space is bent toward
# yellow half-way. Set so that the individual typology angle runs from about 65 to -60 degrees, as measured populations
# do (Del Bino & Bernerd 2013), with b* largest at medium tones.
LIGHTEST = np.array([0.78, 0.53, 0.42])
DARKEST = np.array([0.095, 0.046, 0.030])
YELLOW_BEND = np.array([0.10, -0.02, -0.28])
TONE_RANGE = (-58.0, 64.0)


def absorb(melanin, hemoglobin) -> np.ndarray:
    """Change of log albedo (..., 3) by densities (...) of the two pigments: Tsumura et al. 2003, equation 3."""
    return -np.asarray(melanin)[..., None] * MELANIN - np.asarray(hemoglobin)[..., None] * HEMOGLOBIN


def unmix(log_color: np.ndarray) -> np.ndarray:
    """Melanin, hemoglobin and shading (..., 3) of log colors (..., 3): the inverse of absorb() + shading (Tsumura et
    al. 2003, equation 5, where shading changes all channels alike)."""
    basis = np.stack([-MELANIN, -HEMOGLOBIN, np.ones(3)], axis=1)
    return log_color @ np.linalg.inv(basis).T


def tone_color(melanin: float | np.ndarray) -> np.ndarray:
    """Linear albedo (..., 3) of even skin for a melanin level in [0, 1], from LIGHTEST to DARKEST."""
    m = np.asarray(melanin)[..., None]
    return np.exp((1 - m) * np.log(LIGHTEST) + m * np.log(DARKEST) + 4 * m * (1 - m) * YELLOW_BEND * 0.5)


def melanin_for_tone(tone: float) -> float:
    """Melanin level whose even skin has an individual typology angle of `tone` degrees."""
    levels = np.linspace(0, 1, 256)
    angles = individual_typology_angle(tone_color(levels))
    return float(np.interp(-tone, -angles, levels))
