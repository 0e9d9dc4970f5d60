"""The .glb as another program (trimesh) reads it, and its tangent space."""

from __future__ import annotations

import io
import json
import struct

import numpy as np
import trimesh

from relightify_diffusers.export.gltf import bake_normals_tangent, build_glb, textures
from relightify_diffusers.rendering.atlas import bake_atlas
from relightify_diffusers.rendering.mesh import normalize, vertex_normals
from relightify_diffusers.rendering.tangents import (
    from_tangent_space,
    split_vertices,
    tangent_frames,
    to_tangent_space,
    vertex_tangents,
)


def document(glb: bytes) -> dict:
    length = struct.unpack("<I", glb[12:16])[0]
    return json.loads(glb[20 : 20 + length])


def test_trimesh_reads_it_back(ball, ball_avatar):
    glb = build_glb(ball, ball_avatar.maps, {"seed": 7})
    loaded = trimesh.load(io.BytesIO(glb), file_type="glb", process=False).geometry["head"]
    pairs, triangles = split_vertices(ball.triangles, ball.uv_triangles)
    np.testing.assert_array_equal(loaded.vertices, ball.vertices[pairs[:, 0]])
    np.testing.assert_array_equal(loaded.faces, triangles)
    np.testing.assert_allclose(loaded.visual.uv, ball.uv[pairs[:, 1]] * [1, -1] + [0, 1], atol=1e-6)
    assert np.asarray(loaded.visual.material.baseColorTexture).shape == (64, 64, 3)
    assert build_glb(ball, ball_avatar.maps, {"seed": 7}) == glb


def test_header_and_material(ball, ball_avatar):
    glb = build_glb(ball, ball_avatar.maps, {"seed": 7})
    magic, version, length = struct.unpack("<4sII", glb[:12])
    assert (magic, version, length) == (b"glTF", 2, len(glb)) and length % 4 == 0
    content = document(glb)
    assert content["asset"]["extras"] == {"seed": 7}
    specular = content["materials"][0]["extensions"]["KHR_materials_specular"]
    # F0 = 0.04 * specularColor: with s = 1 in the texture it must be 0.08.
    assert 0.04 * specular["specularColorFactor"][0] * specular["specularFactor"] == 0.08
    assert content["materials"][0]["pbrMetallicRoughness"]["metallicFactor"] == 0


def test_texture_encodings(ball, ball_avatar):
    s = np.full((64, 64, 3), 0.5, np.float32)
    images = textures(ball_avatar.maps | {"specular_albedo": s, "roughness": np.full((64, 64), 0.4)}, ball)
    assert images["metallic_roughness"][32, 32].tolist() == [0, 102, 0]
    assert images["specular_color"][32, 32].tolist() == [188] * 3  # the sRGB encoding of 0.5
    assert images["normal"].shape == (64, 64, 3)


def test_smooth_normals_are_flat_in_tangent_space(ball, ball_avatar):
    tangent = bake_normals_tangent(ball_avatar.maps["normals"], ball)
    np.testing.assert_allclose(tangent[8:-8], np.broadcast_to([0.5, 0.5, 1], tangent[8:-8].shape), atol=1e-3)


def test_green_points_up_and_red_points_right_in_the_image(ball):
    # At the front of the ball (+Z), u grows along +X and the image's up is +Y.
    texels = bake_atlas(ball.uv, ball.uv_triangles, 64)
    frames = tangent_frames(ball, texels)
    np.testing.assert_allclose(frames[32, 32], np.eye(3), atol=0.12)
    tilted = np.broadcast_to(normalize(np.array([0.3, 0, 1])), (64, 64, 3))
    assert to_tangent_space(tilted, frames)[32, 32, 0] > 0.2
    tilted = np.broadcast_to(normalize(np.array([0, 0.3, 1])), (64, 64, 3))
    assert to_tangent_space(tilted, frames)[32, 32, 1] > 0.2


def test_tangent_space_round_trip(ball):
    texels = bake_atlas(ball.uv, ball.uv_triangles, 64)
    frames = tangent_frames(ball, texels)
    normals = normalize(frames[..., 2, :] + np.random.default_rng(0).normal(scale=0.3, size=(64, 64, 3)))
    back = from_tangent_space(to_tangent_space(normals, frames), frames)
    np.testing.assert_allclose(back[texels.inside], normals[texels.inside], atol=1e-5)


def test_mirrored_islands_get_a_negative_sign():
    positions = np.array([[0.0, 0, 0], [1, 0, 0], [0, 1, 0]])
    normals, triangles = np.tile([0.0, 0, 1], (3, 1)), np.array([[0, 1, 2]])
    upright = np.array([[0.0, 1], [1, 1], [0, 0]])  # v downwards
    tangents, signs = vertex_tangents(positions, normals, upright, triangles)
    np.testing.assert_allclose(tangents, np.tile([1, 0, 0], (3, 1)), atol=1e-12)
    assert (signs == 1).all()
    tangents, signs = vertex_tangents(positions, normals, upright * [-1, 1] + [1, 0], triangles)
    np.testing.assert_allclose(tangents, np.tile([-1, 0, 0], (3, 1)), atol=1e-12)
    assert (signs == -1).all()


def test_tangents_are_orthogonal_to_normals(ball):
    pairs, triangles = split_vertices(ball.triangles, ball.uv_triangles)
    normals = vertex_normals(ball.vertices.astype(float), ball.triangles)[pairs[:, 0]]
    tangents, _ = vertex_tangents(ball.vertices[pairs[:, 0]], normals, ball.uv[pairs[:, 1]], triangles)
    np.testing.assert_allclose(np.sum(tangents * normals, axis=-1), 0, atol=1e-9)
    np.testing.assert_allclose(np.linalg.norm(tangents, axis=-1), 1, atol=1e-9)
