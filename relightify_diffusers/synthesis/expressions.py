"""Random facial expressions, as combinations of actions that occur together."""

from __future__ import annotations

import numpy as np

from relightify_diffusers.head.model import HeadModel

# Combinations of facial actions with their largest weights. The emotions follow the prototypes of Ekman, Friesen and
# Hager 2002 ("Facial Action Coding System", investigator's guide, table 10-1), told in ARKit's actions; the weights
# are ours. "Both" stands for Left and Right alike, "One" for a side that is drawn once for all actions.
EXPRESSIONS = {
    "neutral": {},
    "smile": {"mouthSmileBoth": 0.8, "cheekSquintBoth": 0.5, "mouthUpperUpBoth": 0.3, "jawOpen": 0.12},
    "closed smile": {"mouthSmileBoth": 0.6, "mouthPressBoth": 0.25, "mouthDimpleBoth": 0.15, "cheekSquintBoth": 0.25},
    "laugh": {"mouthSmileBoth": 0.9, "jawOpen": 0.35, "cheekSquintBoth": 0.7, "eyeSquintBoth": 0.5},
    "surprise": {"browInnerUp": 0.8, "browOuterUpBoth": 0.8, "eyeWideBoth": 0.7, "jawOpen": 0.4},
    "sad": {"browInnerUp": 0.9, "browDownBoth": 0.15, "mouthFrownBoth": 0.7, "mouthShrugLower": 0.4},
    "angry": {
        "browDownBoth": 1.0,
        "eyeSquintBoth": 0.5,
        "mouthPressBoth": 0.6,
        "noseSneerBoth": 0.3,
        "jawForward": 0.2,
    },
    "fear": {"browInnerUp": 0.9, "browOuterUpBoth": 0.5, "eyeWideBoth": 0.7, "mouthStretchBoth": 0.6, "jawOpen": 0.2},
    "disgust": {"noseSneerBoth": 0.8, "mouthUpperUpBoth": 0.5, "browDownBoth": 0.4, "mouthFrownBoth": 0.3},
    "contempt": {"mouthSmileOne": 0.45, "mouthDimpleOne": 0.6, "cheekSquintOne": 0.25},
    "frown": {"browDownBoth": 0.8, "mouthFrownBoth": 0.5, "eyeSquintBoth": 0.4},
    "squint": {"eyeSquintBoth": 0.9, "browDownBoth": 0.3, "cheekSquintBoth": 0.3},
    "brows up": {"browInnerUp": 0.6, "browOuterUpBoth": 0.8},
    "one brow up": {"browOuterUpOne": 0.9, "browInnerUp": 0.2},
    "wink": {"eyeBlinkOne": 1.0, "cheekSquintOne": 0.6, "mouthSmileOne": 0.4},
    "eyes closed": {"eyeBlinkBoth": 1.0},
    "ah": {"jawOpen": 0.45, "mouthLowerDownBoth": 0.3, "mouthUpperUpBoth": 0.15},
    "ee": {"mouthStretchBoth": 0.4, "mouthSmileBoth": 0.3, "mouthLowerDownBoth": 0.4, "jawOpen": 0.12},
    "oh": {"jawOpen": 0.3, "mouthFunnel": 0.6, "mouthPucker": 0.3},
    "eh": {"jawOpen": 0.25, "mouthLowerDownBoth": 0.4, "mouthFunnel": 0.2},
    "eff": {"mouthRollLower": 0.5, "mouthUpperUpBoth": 0.3, "jawOpen": 0.06},
    "pucker": {"mouthPucker": 0.8, "mouthFunnel": 0.3},
    "lips pressed": {"mouthPressBoth": 0.7, "mouthRollLower": 0.3, "mouthRollUpper": 0.3, "mouthShrugLower": 0.2},
    "pout": {"mouthShrugLower": 0.7, "mouthShrugUpper": 0.3, "mouthFrownBoth": 0.3},
    "cheeks puffed": {"cheekPuff": 0.7, "mouthPressBoth": 0.3},
    "mouth aside": {"mouthOne": 0.5, "mouthPressOne": 0.3},
}
# How often each is drawn, in percent, in the order of EXPRESSIONS: portraits are mostly neutral, smile or talk.
EXPRESSION_ODDS = (30, 15, 6, 6, 3, 2.5, 2, 1.5, 2, 2, 3, 3, 2, 1.5, 1, 2, 3, 3, 3, 3, 1, 1.5, 1, 1, 0.5, 0.5)
# Actions that also occur on their own with any of these, from a second, weaker expression of the upper face.
UPPER_FACE = ("brows up", "frown", "squint", "one brow up", "sad")
UPPER_ODDS, UPPER_STRENGTH = 0.25, 0.6
# Faces at rest are not slack: every one of these has a half-normal weight of this spread.
REST = ("browDown", "browInnerUp", "eyeSquint", "eyeWide", "mouthFrown", "mouthPress", "mouthSmile", "mouthShrugLower")
REST_SPREAD = 0.05
# People pull more with one side of the face (normal, limited), and each action differs a little more (uniform).
LEAN_SPREAD, LEAN_LIMIT, UNEVENNESS = 0.07, 0.2, 0.06
# In one-sided expressions the other side takes part by at most this.
OTHER_SIDE = 0.25
# How far relaxed lids hang: most little, few by the largest (a beta distribution).
DROOP_SHAPE, DROOP_LARGEST = (1.5, 4.0), 0.45
# Where the head's lids meet; further, the upper one passes over the lower.
CLOSED = (0.77, 0.86)
# Muscles that pull against each other: the weaker one of each pair gives way.
OPPONENTS = (
    ("browDown", "browOuterUp"),
    ("eyeWide", "eyeSquint"),
    ("eyeWide", "eyeBlink"),
    ("eyeSquint", "eyeBlink"),
    ("mouthSmile", "mouthFrown"),
)
SIDES = ("Left", "Right")


def sample_expression(head: HeadModel, rng: np.random.Generator) -> np.ndarray:
    """Expression weights (E,) in [0, 1]: one of EXPRESSIONS at a random strength, uneven, on a face at rest."""
    odds = np.array(EXPRESSION_ODDS) / sum(EXPRESSION_ODDS)
    chosen = list(EXPRESSIONS)[rng.choice(len(EXPRESSIONS), p=odds)]
    upper, with_upper = UPPER_FACE[rng.integers(len(UPPER_FACE))], rng.uniform() < UPPER_ODDS
    return pose_expression(head, chosen, rng.uniform(0.2, 1.0), rng, upper if with_upper else None)


def pose_expression(
    head: HeadModel, name: str, strength: float, rng: np.random.Generator, upper: str | None = None
) -> np.ndarray:
    """Expression weights (E,) in [0, 1] of an entry of EXPRESSIONS at a strength in [0, 1].

    upper: another entry, whose actions of brows and eyes are added.
    """
    weights = dict.fromkeys(head.expression_names, 0.0)
    lean = float(np.clip(rng.normal(0, LEAN_SPREAD), -LEAN_LIMIT, LEAN_LIMIT))
    side = int(rng.integers(2))
    for action in REST:
        _raise(weights, action if action in weights else action + "Both", abs(rng.normal(0, REST_SPREAD)), lean, rng)
    for action, largest in EXPRESSIONS[name].items():
        _raise(weights, action, strength * largest * rng.uniform(0.7, 1.0), lean, rng, side)
    for action, largest in (EXPRESSIONS[upper] if upper else {}).items():
        if action.startswith(("brow", "eye")):
            _raise(weights, action, UPPER_STRENGTH * largest * rng.uniform(), lean, rng, side)
    droop = DROOP_LARGEST * rng.beta(*DROOP_SHAPE)
    # An eye that closes on purpose shuts; one held halfway looks broken.
    shut = {"wink": ("One",), "eyes closed": ("Both",)}.get(name, ())
    for at, end in enumerate(SIDES):
        closes = "Both" in shut or ("One" in shut and at == side)
        weights[f"eyeBlink{end}"] = rng.uniform(*CLOSED) if closes else droop
    _settle(weights)
    return np.array([weights[action] for action in head.expression_names])


def _raise(weights: dict, action: str, value: float, lean: float, rng: np.random.Generator, side: int = 0) -> None:
    """Raise the weights of an action of the table to at least `value` on the sides it names.

    lean: positive = more on the left. side: index into SIDES that "One" stands for.
    """
    uneven = rng.uniform(1 - UNEVENNESS, 1, 2)
    other = rng.uniform(0, OTHER_SIDE)
    if not action.endswith(("Both", "One")):
        weights[action] = max(weights[action], value)
        return
    stem = action.removesuffix("Both").removesuffix("One")
    for at, end in enumerate(SIDES):
        share = 1.0 if action.endswith("Both") or at == side else other
        pull = 1 + (lean if end == "Left" else -lean)
        weights[stem + end] = max(weights[stem + end], min(value * share * pull * uneven[at], 1.0))


def _settle(weights: dict) -> None:
    for pair in OPPONENTS:
        for end in SIDES:
            weaker, stronger = sorted((name + end for name in pair), key=weights.__getitem__)
            weights[weaker] *= 1 - weights[stronger]
