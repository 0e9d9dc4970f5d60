"""Random people: age, gender, weight, ancestry, and the shape of the head that goes with them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from relightify_diffusers.head.model import HeadModel
from relightify_diffusers.head.phenotypes import phenotype_features

# Adults. The density of age is even up to the second value and falls from there in a straight line to AGE_TAIL of
# that at the last: roughly the adult part of an aging population.
AGES = (20.0, 60.0, 85.0)
AGE_TAIL = 0.4
# Most people lie near one end, off it by half a normal deviate; the others anywhere between. Both ends are alike.
GENDER_BETWEEN = 0.1
GENDER_SPREAD = 0.08
# That of the population that the head model was built from (head/build.py).
WEIGHT_MEAN, WEIGHT_SPREAD = 0.5, 0.22
WEIGHT_RANGE = (0.05, 1.0)
# Dirichlet: a quarter of the people are nearly of one ancestry, and all mixtures occur.
ANCESTRY_CONCENTRATION = (0.35, 0.35, 0.35)
# What phenotypes do not fix makes about four fifths of the head model's variance, more than living faces show: it is
# drawn a little narrower. The limits are in standard deviations; beyond, components add up to malformed heads.
DEVIATION_SPREAD = 0.85
DEVIATION_LIMIT, IDENTITY_LIMIT = 2.5, 3.0


@dataclass(frozen=True)
class Person:
    """A sampled person.

    age: years. gender: 0 = female, 1 = male. weight: in [0, 1], 0.5 average. ancestry: (3,) shares of African, Asian
    and European features, which sum to 1. identity: (K,) coefficients of the head model.
    """

    age: float
    gender: float
    weight: float
    ancestry: np.ndarray
    identity: np.ndarray


def sample_person(head: HeadModel, rng: np.random.Generator) -> Person:
    """Draw a person from the distributions above, and a head as people of that kind have it."""
    age = _age_at(rng.uniform())
    gender = _sample_gender(rng)
    weight = float(np.clip(rng.normal(WEIGHT_MEAN, WEIGHT_SPREAD), *WEIGHT_RANGE))
    ancestry = rng.dirichlet(ANCESTRY_CONCENTRATION)
    deviation = np.clip(rng.normal(size=len(head.identity_basis)), -DEVIATION_LIMIT, DEVIATION_LIMIT)
    identity = identity_of(head, age, gender, weight, ancestry, DEVIATION_SPREAD * deviation)
    return Person(age, gender, weight, ancestry, np.clip(identity, -IDENTITY_LIMIT, IDENTITY_LIMIT))


def identity_of(
    head: HeadModel, age: float, gender: float, weight: float, ancestry: np.ndarray, deviation: np.ndarray
) -> np.ndarray:
    """Identity (K,) of a person: the mean of such people and a deviation (K,) in standard deviations from it."""
    features = phenotype_features(age, gender, weight, ancestry)
    return features @ head.phenotype_regression + head.phenotype_residual @ deviation


def _age_at(quantile: float) -> float:
    """Inverse of the cumulative distribution of age, tabulated."""
    years = np.linspace(AGES[0], AGES[-1], 521)
    density = np.interp(years, AGES, (1, 1, AGE_TAIL))
    cumulative = np.concatenate([[0], np.cumsum(density[1:] + density[:-1])])
    return float(np.interp(quantile, cumulative / cumulative[-1], years))


def _sample_gender(rng: np.random.Generator) -> float:
    between, end, off = rng.uniform(), rng.uniform(), rng.uniform()
    near = min(abs(rng.normal(0, GENDER_SPREAD)), 1.0)
    if between < GENDER_BETWEEN:
        return float(off)
    return float(near if end < 0.5 else 1 - near)
