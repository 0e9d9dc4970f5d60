"""Random facial expressions, as combinations of actions that occur together."""

from __future__ import annotations

import numpy as np

from relightify_diffusers.head.model import HeadModel

# Combinations of facial actions that occur together, with their largest weights; "Both" stands for Left and Right.
EXPRESSIONS = {
    "neutral": {},
    "smile": {"mouthSmileBoth": 0.9, "cheekSquintBoth": 0.5, "mouthUpperUpBoth": 0.3, "jawOpen": 0.12},
    "laugh": {"mouthSmileBoth": 1.0, "jawOpen": 0.35, "cheekSquintBoth": 0.7, "eyeSquintBoth": 0.5},
    "surprise": {"browInnerUp": 0.8, "browOuterUpBoth": 0.8, "eyeWideBoth": 0.7, "jawOpen": 0.4},
    "frown": {"browDownBoth": 0.8, "mouthFrownBoth": 0.6, "eyeSquintBoth": 0.4},
    "talk": {"jawOpen": 0.3, "mouthFunnel": 0.4, "mouthLowerDownBoth": 0.4},
    "pucker": {"mouthPucker": 0.8, "mouthFunnel": 0.3},
    "disgust": {"noseSneerBoth": 0.8, "mouthUpperUpBoth": 0.5, "browDownBoth": 0.4},
    "squint": {"eyeSquintBoth": 0.9, "browDownBoth": 0.3},
}
EXPRESSION_ODDS = (0.34, 0.22, 0.08, 0.06, 0.07, 0.10, 0.04, 0.03, 0.06)


def sample_expression(head: HeadModel, rng: np.random.Generator) -> np.ndarray:
    """Expression weights (E,) in [0, 1]: one of EXPRESSIONS at a random strength, slightly uneven, with a blink."""
    weights = dict.fromkeys(head.expression_names, 0.0)
    chosen = list(EXPRESSIONS.values())[rng.choice(len(EXPRESSIONS), p=EXPRESSION_ODDS)]
    strength = rng.uniform(0.2, 1.0)
    for name, largest in chosen.items():
        value = strength * largest * rng.uniform(0.7, 1.0)
        for side in ("Left", "Right") if name.endswith("Both") else ("",):
            full = name.removesuffix("Both") + side
            weights[full] = value * (rng.uniform(0.85, 1.0) if side else 1.0)
    blink = rng.uniform(0, 0.35)
    for side in ("Left", "Right"):
        weights[f"eyeBlink{side}"] = blink * (1 - weights[f"eyeWide{side}"])
    return np.array([weights[name] for name in head.expression_names])
