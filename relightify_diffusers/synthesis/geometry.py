"""The geometry that shading needs: a random head, what its points see of the surroundings, and its finer surface."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from relightify_diffusers.head.model import EYES, HeadModel
from relightify_diffusers.rendering.mesh import vertex_normals
from relightify_diffusers.rendering.rasterizer import EmbreeRasterizer
from relightify_diffusers.rendering.spherical_harmonics import fibonacci_sphere, sh_basis
from relightify_diffusers.rendering.visibility import EYE_OPENNESS, vertex_visibility
from relightify_diffusers.synthesis.expressions import sample_expression
from relightify_diffusers.synthesis.population import Person, sample_person

# Directions in which light arrives; each stands for SOLID_ANGLE steradian. 192 keep the irradiance of the sharpest
# light that is not a traced source within a few percent.
DIRECTIONS = fibonacci_sphere(192)
SOLID_ANGLE = 4 * np.pi / len(DIRECTIONS)


@dataclass(frozen=True)
class Geometry:
    """A sampled head, with its precomputed transfer.

    person: Person. expression: (E,) weights. vertices, normals: (V, 3). gather: (V, D) float32, radiance in DIRECTIONS
    to self-shadowed irradiance at the vertices: visibility, cosine and solid angle. openness: (V,) in [0, 1], the
    cosine-weighted share of the surroundings that is seen. rasterizer: for shadow rays.
    """

    person: Person
    expression: np.ndarray
    vertices: np.ndarray
    normals: np.ndarray
    gather: np.ndarray
    openness: np.ndarray
    rasterizer: EmbreeRasterizer

    @property
    def transfer(self) -> np.ndarray:
        """(V, 9) float32, spherical-harmonic radiance coefficients to self-shadowed irradiance."""
        return (self.gather @ sh_basis(DIRECTIONS)).astype(np.float32)


def sample_geometry(head: HeadModel, rng: np.random.Generator) -> Geometry:
    """Draw a person and an expression, and trace the head's self-visibility."""
    person = sample_person(head, rng)
    return trace_geometry(head, person, sample_expression(head, rng))


def trace_geometry(head: HeadModel, person: Person, expression: np.ndarray) -> Geometry:
    """Pose a person (expression: (E,)) and trace which part of the surroundings each vertex sees."""
    vertices = head.vertices(person.identity, expression)
    normals = vertex_normals(vertices, head.triangles)
    rasterizer = EmbreeRasterizer(vertices, head.triangles)
    cosine = np.maximum(normals @ DIRECTIONS.T, 0)
    # Scale each vertex's sum of cosines to its integral, pi: removes most of the error of few directions.
    weights = cosine * (np.pi / np.maximum(cosine.sum(axis=1, keepdims=True), 1e-9))
    gather = weights * vertex_visibility(vertices, normals, rasterizer, DIRECTIONS)
    eyes = eye_vertices(head)
    gather[eyes] = EYE_OPENNESS * weights[eyes]
    openness = gather.sum(axis=1) / np.pi
    return Geometry(
        person, expression, vertices, normals, gather.astype(np.float32), openness.astype(np.float32), rasterizer
    )


def eye_vertices(head: HeadModel) -> np.ndarray:
    """Indices of the vertices of both eyeballs."""
    return np.unique(head.triangles[head.atlas.triangle_regions == EYES])
