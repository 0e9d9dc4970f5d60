"""Random people: age, gender, weight, ancestry, and the shape of the head that goes with them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from relightify_diffusers.head.model import HeadModel


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
    """Placeholder."""
    identity = np.clip(rng.normal(0, 1, len(head.identity_basis)), -2.5, 2.5)
    return Person(rng.uniform(20, 85), float(rng.integers(2)), rng.uniform(), rng.dirichlet([0.6] * 3), identity)
