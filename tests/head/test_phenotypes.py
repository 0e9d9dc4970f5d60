"""Phenotype features and the regression in the head file: hand values, and what people of a kind look like."""

from __future__ import annotations

import numpy as np
import pytest

from relightify_diffusers.head.model import HeadModel
from relightify_diffusers.head.phenotypes import (
    FEATURES,
    anny_gender,
    explained_share,
    fit_regression,
    phenotype_features,
    years_of_anny_age,
)

EVEN = np.full(3, 1 / 3)


@pytest.fixture(scope="module")
def head() -> HeadModel:
    return HeadModel.bundled()


def mean_head(head, age=40.0, gender=0.5, weight=0.5, ancestry=EVEN) -> np.ndarray:
    identity = phenotype_features(age, gender, weight, ancestry) @ head.phenotype_regression
    return head.vertices(identity, np.zeros(len(head.expression_names)))


def test_years_of_anny_age():
    np.testing.assert_allclose(years_of_anny_age(np.array([1 / 3, 2 / 3, 1.0, 5 / 6])), [10, 25, 90, 57.5])
    np.testing.assert_allclose(anny_gender(np.array([0.0, 1.0, 0.3])), [1, 0, 0.7])


def test_features_by_hand():
    """A 57.5-year-old man is half young, half old; of average weight, the last twelve features vanish."""
    features = phenotype_features(57.5, 1.0, 0.5, np.array([0.2, 0.0, 0.8]))
    expected = np.zeros((3, 2, 3))
    expected[0, 1, 1:], expected[2, 1, 1:] = 0.1, 0.4
    np.testing.assert_allclose(features[:18], expected.ravel(), atol=1e-12)
    assert (features[18:] == 0).all()
    light = phenotype_features(25.0, 0.0, 0.25, EVEN)[18:].reshape(2, 3, 2)
    assert light[0, 1, 0] == 0.5 and light.sum() == 0.5


def test_features_of_many_people():
    rng = np.random.default_rng(0)
    age, gender, weight = rng.uniform(5, 100, (4, 25)), rng.uniform(0, 1, (4, 25)), rng.uniform(0, 1, (4, 25))
    ancestry = rng.dirichlet([1, 1, 1], (4, 25))
    features = phenotype_features(age, gender, weight, ancestry)
    assert features.shape == (4, 25, FEATURES) and features.min() >= 0
    np.testing.assert_allclose(features[..., :18].sum(-1), 1, atol=1e-12)
    np.testing.assert_allclose(features[..., 18:].sum(-1), np.abs(weight - 0.5) * 2, atol=1e-12)
    one = phenotype_features(age[2, 3], gender[2, 3], weight[2, 3], ancestry[2, 3])
    np.testing.assert_array_equal(one, features[2, 3])


def test_regression_finds_what_made_the_scores():
    rng = np.random.default_rng(0)
    features, matrix = rng.uniform(size=(4000, 5)), rng.normal(size=(5, 3))
    factor = np.array([[0.5, 0, 0], [0.2, 0.3, 0], [-0.1, 0.1, 0.2]])
    scores = features @ matrix + rng.normal(size=(4000, 3)) @ factor.T
    found, residual = fit_regression(features, scores)
    np.testing.assert_allclose(found, matrix, atol=0.06)
    np.testing.assert_allclose(residual, factor, atol=0.02)
    signal, noise = (features @ matrix).var(0).sum(), (factor**2).sum()
    assert explained_share(features, scores, np.ones(3)) == pytest.approx(signal / (signal + noise), abs=0.02)
    assert explained_share(features, features @ matrix, np.ones(3)) == pytest.approx(1)


def test_regression_in_the_file(head):
    count = len(head.identity_basis)
    assert head.phenotype_regression.shape == (FEATURES, count)
    assert head.phenotype_residual.shape == (count, count)
    assert (np.triu(head.phenotype_residual, 1) == 0).all() and (np.diag(head.phenotype_residual) > 0.3).all()
    # Scores have unit variance in the population: what is left of it cannot be more.
    variance = (head.phenotype_residual**2).sum(1)
    assert variance.max() < 1.02 and 0.8 < variance.mean() < 0.95


def test_men_are_larger_and_have_stronger_jaws(head):
    """Which end of gender is male: a larger head, a wider jaw and a longer lower face at 1."""
    female, male = (mean_head(head, gender=g) for g in (0.0, 1.0))
    assert (np.ptp(male, axis=0) > np.ptp(female, axis=0) + 0.002).all()
    points = {g: head.landmarks(v) for g, v in (("female", female), ("male", male))}
    jaw = {g: p[12, 0] - p[4, 0] for g, p in points.items()}
    lower = {g: p[33, 1] - p[8, 1] for g, p in points.items()}
    assert jaw["male"] > jaw["female"] + 0.003 and lower["male"] > lower["female"] + 0.003


def test_age_and_ancestry_move_the_face(head):
    young, middle, old = (mean_head(head, age=a) for a in (22.0, 45.0, 80.0))
    shift = [1000 * np.sqrt(((v - young) ** 2).sum(1).mean()) for v in (middle, old)]
    assert 0.3 < shift[0] < shift[1] < 8
    african, asian, european = (mean_head(head, ancestry=a) for a in np.eye(3))
    wings = [np.ptp(head.landmarks(v)[31:36, 0]) for v in (african, asian, european)]
    assert wings[0] > wings[2] + 0.001  # the nose is wider
    for a, b in ((african, asian), (asian, european), (african, european)):
        assert 1000 * np.sqrt(((a - b) ** 2).sum(1).mean()) > 2
