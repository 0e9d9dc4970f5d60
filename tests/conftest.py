"""Fixtures that several packages' tests share."""

from __future__ import annotations

import numpy as np
import pytest

from relightify_diffusers.avatar import Avatar, Mesh
from relightify_diffusers.rendering.atlas import bake_atlas, interpolate
from relightify_diffusers.rendering.cameras import Camera
from relightify_diffusers.rendering.mesh import normalize, vertex_normals


def globe(rows: int = 24, columns: int = 48, radius: float = 0.1) -> Mesh:
    """A ball with an equirectangular atlas: +Z at the center of the image, +Y up, a seam at the back."""
    positions, index = [], np.zeros((rows + 1, columns + 1), np.int64)
    for row in range(rows + 1):
        pole = row in (0, rows)
        for column in range(1 if pole else columns):
            azimuth, elevation = (column / columns - 0.5) * 2 * np.pi, (0.5 - row / rows) * np.pi
            index[row, column] = len(positions)
            positions.append(
                [np.sin(azimuth) * np.cos(elevation), np.sin(elevation), np.cos(azimuth) * np.cos(elevation)]
            )
        index[row] = index[row, 0] if pole else np.append(index[row, :-1], index[row, 0])
    u, v = np.meshgrid(np.linspace(0, 1, columns + 1), np.linspace(0, 1, rows + 1))
    cells = np.arange(u.size).reshape(u.shape)
    a, b, c, d = cells[:-1, :-1], cells[1:, :-1], cells[1:, 1:], cells[:-1, 1:]
    uv_triangles = np.concatenate(
        [np.stack([a, b, c], -1)[:-1].reshape(-1, 3), np.stack([a, c, d], -1)[1:].reshape(-1, 3)]
    )
    vertices = (np.array(positions) * radius).astype(np.float32)
    uv = np.stack([u.ravel(), v.ravel()], axis=-1).astype(np.float32)
    return Mesh(vertices, index.ravel()[uv_triangles], uv, uv_triangles, np.zeros(len(uv_triangles), np.int64))


@pytest.fixture(scope="session")
def ball() -> Mesh:
    return globe()


@pytest.fixture(scope="session")
def ball_avatar(ball) -> Avatar:
    """The ball as a white Lambertian of 64 x 64 maps, seen from 1 m in front, in a constant light of radiance 1."""
    texels = bake_atlas(ball.uv, ball.uv_triangles, 64)
    normals = interpolate(vertex_normals(ball.vertices, ball.triangles), ball.triangles, texels)
    normals = normalize(normals)
    maps = {
        "texture": np.full((64, 64, 3), 0.5),
        "diffuse_albedo": np.ones((64, 64, 3)),
        "specular_albedo": np.zeros((64, 64, 3)),
        "roughness": np.full((64, 64), 0.5),
        "normals": normals * 0.5 + 0.5,
        "observed": texels.inside.astype(np.float32),
    }
    light = np.zeros((9, 3), np.float32)
    light[0] = 1 / 0.282095
    camera = Camera(
        np.array([[300.0, 0, 40], [0, 300, 32], [0, 0, 1]]), np.c_[np.diag([1.0, -1, -1]), [0, 0, 1.0]], (80, 64)
    )
    photo = np.full((64, 80, 3), 0.25, np.float32)
    return Avatar(ball, {k: v.astype(np.float32) for k, v in maps.items()}, camera, light, photo, {"seed": 7})
