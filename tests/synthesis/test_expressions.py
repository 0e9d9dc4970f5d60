"""Random expressions: they name the head's actions, occur as often as stated, and hold together."""

from __future__ import annotations

import numpy as np
import pytest

from relightify_diffusers.synthesis.expressions import (
    EXPRESSION_ODDS,
    EXPRESSIONS,
    LEAN_LIMIT,
    OPPONENTS,
    OTHER_SIDE,
    REST,
    REST_SPREAD,
    SIDES,
    UNEVENNESS,
    UPPER_FACE,
    pose_expression,
    sample_expression,
)


@pytest.fixture(scope="module")
def samples(head) -> np.ndarray:
    return np.array([sample_expression(head, np.random.default_rng(i)) for i in range(600)])


def posed(head, name: str, seed: int = 0, strength: float = 1.0, upper: str | None = None) -> dict[str, float]:
    weights = pose_expression(head, name, strength, np.random.default_rng(seed), upper)
    return dict(zip(head.expression_names, weights))


def test_tables_name_actions_of_the_head(head):
    names = set(head.expression_names)
    for actions in EXPRESSIONS.values():
        for action, largest in actions.items():
            stem = action.removesuffix("Both").removesuffix("One")
            sides = SIDES if stem != action else ("",)
            assert {stem + side for side in sides} <= names
            assert 0 < largest <= 1
    assert all(name in names or {name + side for side in SIDES} <= names for name in REST)
    assert all(name + side in names for pair in OPPONENTS for name in pair for side in SIDES)
    assert set(UPPER_FACE) <= set(EXPRESSIONS)
    assert len(EXPRESSION_ODDS) == len(EXPRESSIONS) and min(EXPRESSION_ODDS) > 0
    assert sum(EXPRESSION_ODDS) == pytest.approx(100) and max(EXPRESSION_ODDS) == EXPRESSION_ODDS[0]


def test_samples(head, samples):
    assert samples.shape == (600, 52) and samples.min() >= 0 and samples.max() <= 1
    used = dict(zip(head.expression_names, samples.max(axis=0)))
    for name in (
        "mouthSmileLeft",
        "browDownRight",
        "browInnerUp",
        "eyeBlinkLeft",
        "mouthPressRight",
        "mouthFrownLeft",
    ):
        assert used[name] > 0.5, name
    assert used["jawOpen"] > 0.3 and used["mouthPucker"] > 0.4 and used["cheekPuff"] > 0.1
    # Gaze turns eyeballs, which the atlas paints; the jaw does not wander sideways.
    assert used["eyeLookUpLeft"] == used["jawLeft"] == used["tongueOut"] == 0
    jaw = samples[:, head.expression_names.index("jawOpen")]
    assert 0.3 < (jaw == 0).mean() < 0.75
    assert len(np.unique(samples, axis=0)) == 600


def test_at_rest_a_face_is_nearly_still(head):
    for seed in range(20):
        weights = posed(head, "neutral", seed)
        moving = {n: w for n, w in weights.items() if w > 0 and not n.startswith("eyeBlink")}
        assert {n.removesuffix("Left").removesuffix("Right") for n in moving} <= set(REST)
        assert max(moving.values()) < 5 * REST_SPREAD
    assert len(moving) > 5


@pytest.mark.parametrize("name", [n for n, a in EXPRESSIONS.items() if any(k.endswith("Both") for k in a)])
def test_both_sides_do_nearly_the_same(head, name):
    """Off by no more than twice the lean and the unevenness, where no opponent takes away from one side."""
    limit = (1 - LEAN_LIMIT) * (1 - UNEVENNESS) / (1 + LEAN_LIMIT)
    opposed = {muscle for pair in OPPONENTS for muscle in pair}
    stems = [action.removesuffix("Both") for action in EXPRESSIONS[name] if action.endswith("Both")]
    for seed in range(10):
        weights = posed(head, name, seed)
        for stem in set(stems) - opposed - set(REST):
            left, right = weights[stem + "Left"], weights[stem + "Right"]
            assert limit - 1e-9 <= left / right <= 1 / limit + 1e-9


@pytest.mark.parametrize(
    ("name", "action"), [("wink", "eyeBlink"), ("contempt", "mouthDimple"), ("mouth aside", "mouth")]
)
def test_one_sided_expressions(head, name, action):
    """One side leads clearly, and over many draws either side does."""
    leading = []
    for seed in range(20):
        weights = posed(head, name, seed)
        pair = np.array([weights[action + side] for side in SIDES])
        assert pair.min() < (2 * OTHER_SIDE) * pair.max()
        leading.append(int(pair.argmax()))
    assert 3 < sum(leading) < 17


def test_lids(head):
    """Closed eyes close; others hang a little; wide eyes open."""
    closed = posed(head, "eyes closed")
    assert min(closed["eyeBlinkLeft"], closed["eyeBlinkRight"]) > 0.7
    for seed in range(20):
        weights = posed(head, "fear", seed)
        wide, blink = weights["eyeWideLeft"], weights["eyeBlinkLeft"]
        assert wide > 0.3 and blink < 0.45 * (1 - wide) + 1e-9
    # At no strength does a purposeful blink stop halfway.
    assert posed(head, "eyes closed", strength=0.2)["eyeBlinkLeft"] > 0.7


def test_opponents_give_way(head, samples):
    """What is left of the weaker one fits into what the stronger one leaves."""
    for a, b in OPPONENTS:
        for side in SIDES:
            pair = samples[:, [head.expression_names.index(name + side) for name in (a, b)]]
            weaker, stronger = pair.min(axis=1), pair.max(axis=1)
            assert (weaker <= 1 - stronger + 1e-9).all()


def test_strength_and_upper_face(head):
    weak, strong = (posed(head, "smile", 3, s)["mouthSmileLeft"] for s in (0.3, 0.9))
    assert strong == pytest.approx(3 * weak, rel=0.25)
    plain, raised = posed(head, "smile", 4), posed(head, "smile", 4, upper="brows up")
    assert raised["browOuterUpLeft"] > plain["browOuterUpLeft"]
    assert raised["mouthSmileLeft"] == plain["mouthSmileLeft"]
    # Only brows and eyes are taken from the second expression.
    assert posed(head, "neutral", 5, upper="sad")["mouthShrugLower"] == posed(head, "neutral", 5)["mouthShrugLower"]


def test_the_head_stays_whole(head, samples):
    """No vertex leaves by more than the jaw can move it, and the face keeps its landmarks' order."""
    zero = np.zeros(len(head.identity_basis))
    rest = head.vertices(zero, np.zeros(52))
    for weights in samples[:80]:
        vertices = head.vertices(zero, weights)
        assert np.linalg.norm(vertices - rest, axis=1).max() < 0.04
        points = head.landmarks(vertices)
        assert (points[[61, 62, 63], 1] > points[[67, 66, 65], 1] - 0.004).all()  # the lips do not pass each other
        assert (points[[37, 38, 43, 44], 1] > points[[41, 40, 47, 46], 1] - 0.0025).all()  # nor do the lids
