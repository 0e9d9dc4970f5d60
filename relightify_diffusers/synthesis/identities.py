"""Random people: identity, expression, and the geometry that shading needs."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from relightify_diffusers.head.model import EYES, HeadModel
from relightify_diffusers.rendering.mesh import vertex_normals
from relightify_diffusers.rendering.rasterizer import EmbreeRasterizer
from relightify_diffusers.rendering.spherical_harmonics import COSINE_LOBE, sh_basis
from relightify_diffusers.rendering.visibility import EYE_OPENNESS, radiance_transfer

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


@dataclass(frozen=True)
class Geometry:
    """A sampled head.

    identity: (K,). expression: (E,). vertices, normals: (V, 3). transfer: (V, 9), spherical-harmonic light to shadowed
    irradiance. rasterizer: for shadow rays.
    """

    identity: np.ndarray
    expression: np.ndarray
    vertices: np.ndarray
    normals: np.ndarray
    transfer: np.ndarray
    rasterizer: EmbreeRasterizer


def sample_geometry(head: HeadModel, rng: np.random.Generator, directions: int = 96) -> Geometry:
    """Draw an identity (normal scores, clipped at 2.5) and an expression, and trace the head's self-visibility."""
    identity = np.clip(rng.normal(0, 1, len(head.identity_basis)), -2.5, 2.5)
    expression = sample_expression(head, rng)
    vertices = head.vertices(identity, expression)
    normals = vertex_normals(vertices, head.triangles)
    rasterizer = EmbreeRasterizer(vertices, head.triangles)
    transfer = radiance_transfer(vertices, normals, rasterizer, directions)
    eyes = eye_vertices(head)
    transfer[eyes] = EYE_OPENNESS * sh_basis(normals[eyes]) * np.array(COSINE_LOBE)
    return Geometry(identity, expression, vertices, normals, transfer, rasterizer)


def eye_vertices(head: HeadModel) -> np.ndarray:
    """Indices of the vertices of both eyeballs."""
    return np.unique(head.triangles[head.atlas.triangle_regions == EYES])


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
