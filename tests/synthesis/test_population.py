"""Random people: the stated distributions, and identities that go with them and keep the model's spread."""

from __future__ import annotations

import numpy as np
import pytest

from relightify_diffusers.head.phenotypes import phenotype_features
from relightify_diffusers.synthesis.population import (
    AGE_TAIL,
    AGES,
    DEVIATION_LIMIT,
    IDENTITY_LIMIT,
    WEIGHT_RANGE,
    Person,
    identity_of,
    sample_person,
)

COUNT = 3000


@pytest.fixture(scope="module")
def people(head) -> list[Person]:
    rng = np.random.default_rng(0)
    return [sample_person(head, rng) for _ in range(COUNT)]


@pytest.fixture(scope="module")
def identities(people) -> np.ndarray:
    return np.stack([person.identity for person in people])


def test_age_has_the_stated_density(people):
    age = np.array([person.age for person in people])
    assert AGES[0] <= age.min() < 21 and 83 < age.max() <= AGES[-1]
    even, falling = AGES[1] - AGES[0], (AGES[2] - AGES[1]) * (1 + AGE_TAIL) / 2
    assert (age < AGES[1]).mean() == pytest.approx(even / (even + falling), abs=0.03)
    assert (age < 40).mean() == pytest.approx(20 / (even + falling), abs=0.03)
    assert (age > 80).mean() > 0.02


def test_gender_weight_and_ancestry(people):
    gender = np.array([person.gender for person in people])
    assert gender.min() >= 0 and gender.max() <= 1
    assert (gender < 0.2).mean() == pytest.approx((gender > 0.8).mean(), abs=0.05)
    assert 0.03 < ((gender > 0.3) & (gender < 0.7)).mean() < 0.08
    weight = np.array([person.weight for person in people])
    assert weight.min() >= WEIGHT_RANGE[0] and weight.max() <= WEIGHT_RANGE[1]
    assert weight.mean() == pytest.approx(0.5, abs=0.02) and 0.18 < weight.std() < 0.24
    ancestry = np.stack([person.ancestry for person in people])
    np.testing.assert_allclose(ancestry.sum(axis=1), 1)
    np.testing.assert_allclose(ancestry.mean(axis=0), 1 / 3, atol=0.03)
    assert 0.2 < (ancestry.max(axis=1) > 0.9).mean() < 0.5  # many of mostly one ancestry, most mixed


def test_identity_keeps_the_spread_of_the_model(identities):
    """Near unit variance and uncorrelated, as every other user of the components assumes; nothing extreme."""
    spread = identities.std(axis=0)
    assert spread.min() > 0.7 and spread.max() < 1.3
    assert np.sqrt((spread**2).mean()) == pytest.approx(0.9, abs=0.05)
    assert np.abs(identities.mean(axis=0)).max() < 0.3
    correlation = np.corrcoef(identities.T) - np.eye(identities.shape[1])
    assert np.abs(correlation).max() < 0.5 and np.sqrt((correlation**2).mean()) < 0.06
    assert np.abs(identities).max() <= IDENTITY_LIMIT


def test_identity_goes_with_the_person(head, people, identities):
    """Regressing the drawn identities on the features finds the file's regression again."""
    features = np.stack([phenotype_features(p.age, p.gender, p.weight, p.ancestry) for p in people])
    predicted = features @ head.phenotype_regression
    share = 1 - ((identities - predicted) ** 2).sum() / (identities**2).sum()
    assert 0.1 < share < 0.4
    # It does so for the right person: anybody else's features tell nothing.
    other = 1 - ((identities - np.roll(predicted, 1, axis=0)) ** 2).sum() / (identities**2).sum()
    assert other < 0.3 * share
    man = np.array([person.gender > 0.5 for person in people])
    gap = identities[man].mean(axis=0) - identities[~man].mean(axis=0)
    expected = predicted[man].mean(axis=0) - predicted[~man].mean(axis=0)
    np.testing.assert_allclose(gap, expected, atol=0.15)
    assert np.abs(expected).max() > 1


def test_identity_of_by_hand(head):
    ancestry = np.array([0.1, 0.2, 0.7])
    none = np.zeros(len(head.identity_basis))
    mean = identity_of(head, 33.0, 0.25, 0.6, ancestry, none)
    expected = phenotype_features(33.0, 0.25, 0.6, ancestry) @ head.phenotype_regression
    np.testing.assert_allclose(mean, expected)
    one = none.copy()
    one[4] = DEVIATION_LIMIT
    moved = identity_of(head, 33.0, 0.25, 0.6, ancestry, one) - mean
    np.testing.assert_allclose(moved, DEVIATION_LIMIT * head.phenotype_residual[:, 4], atol=1e-6)


def test_the_same_seed_gives_the_same_person(head):
    first, again, other = (sample_person(head, np.random.default_rng(seed)) for seed in (5, 5, 6))
    np.testing.assert_array_equal(first.identity, again.identity)
    assert (first.age, first.gender, first.weight) == (again.age, again.gender, again.weight)
    assert np.abs(first.identity - other.identity).max() > 0.5 and first.age != other.age
