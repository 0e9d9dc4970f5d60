"""Measures of recovered maps against the truth."""

from __future__ import annotations

import numpy as np

from relightify_diffusers.maps import decode_normals
from relightify_diffusers.rendering.mesh import normalize


def psnr(predicted: np.ndarray, truth: np.ndarray, where: np.ndarray) -> float:
    """Peak signal-to-noise ratio in dB of values in [0, 1] over a mask: (N, N, C), (N, N, C), (N, N) bool."""
    return float(-10 * np.log10(np.mean((predicted[where] - truth[where]) ** 2) + 1e-12))


def angular_error(predicted: np.ndarray, truth: np.ndarray, where: np.ndarray) -> float:
    """Mean angle in degrees between encoded normals (N, N, 3) over a mask (N, N)."""
    a, b = (normalize(decode_normals(normals[where])) for normals in (predicted, truth))
    return float(np.degrees(np.arccos(np.clip((a * b).sum(-1), -1, 1))).mean())


def border_step(texture: np.ndarray, observed: np.ndarray, inside: np.ndarray) -> float:
    """Mean color difference between neighboring texels of which one was observed and one was not.

    texture: (N, N, 3). observed, inside: (N, N) bool, `inside` being the chart. Compare with the truth's own value: a
    visible seam is a larger one.
    """
    steps = []
    for axis in (0, 1):
        first, second = (np.take(observed, range(k, len(observed) - 1 + k), axis) for k in (0, 1))
        valid = (first != second) & np.take(inside, range(len(inside) - 1), axis)
        valid &= np.take(inside, range(1, len(inside)), axis)
        steps.append(np.abs(np.diff(texture, axis=axis)).mean(-1)[valid])
    values = np.concatenate(steps)
    return float(values.mean()) if len(values) else 0.0


def correlation(first: np.ndarray, second: np.ndarray) -> float:
    """Pearson correlation of two series (S,); 0 if either is constant."""
    first, second = first - first.mean(), second - second.mean()
    scale = np.sqrt((first**2).sum() * (second**2).sum())
    return float((first * second).sum() / scale) if scale > 1e-12 else 0.0
