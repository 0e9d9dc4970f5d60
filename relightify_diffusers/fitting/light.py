"""Estimate the light of a photo from its texture and the maps."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class LightFit:
    """sh: (9, 3) radiance coefficients in the head frame. residual: median relative error over the texels used."""

    sh: np.ndarray
    residual: float


def estimate_light(
    radiance: np.ndarray, albedo: np.ndarray, transfer: np.ndarray, weights: np.ndarray, rounds: int = 8
) -> LightFit:
    """Spherical-harmonic light that best explains observed texels, in closed form with robust weights.

    radiance: (P, 3) linear texture. albedo: (P, 3) linear diffuse albedo. transfer: (P, 9) light to self-shadowed
    irradiance. weights: (P,) confidence. Solves radiance = albedo / pi * transfer @ sh by weighted least squares with
    a weak prior towards smooth light; highlights and wrong texels lose weight (Cauchy). Albedo and light share one
    scale: a photo alone does not determine it.
    """
    sh = np.zeros((9, 3))
    # Bands 1 and 2 are held back a little: half a face leaves some directions of light undetermined.
    prior = np.repeat([1e-6, 2e-3, 1e-2], [1, 3, 5]) * weights.sum()
    relative = np.ones(len(radiance))
    robust = weights.astype(np.float64)
    for _ in range(rounds):
        for channel in range(3):
            design = albedo[:, channel, None] / np.pi * transfer
            normal = design.T @ (robust[:, None] * design) + np.diag(prior * np.mean(design[:, 0] ** 2))
            sh[:, channel] = np.linalg.solve(normal, design.T @ (robust * radiance[:, channel]))
        predicted = np.maximum(albedo / np.pi * (transfer @ sh), 1e-4)
        relative = np.abs(radiance - predicted).mean(axis=1) / (predicted.mean(axis=1) + 0.02)
        robust = weights / (1 + (relative / 0.15) ** 2)
    return LightFit(sh, float(np.median(relative[weights > 0])))
