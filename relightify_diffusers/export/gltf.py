"""Binary glTF 2.0 of an avatar, with KHR_materials_specular."""

from __future__ import annotations

import io
import json
import struct
from pathlib import Path

import numpy as np
from PIL import Image

from relightify_diffusers.export.images import to_uint8
from relightify_diffusers.maps import encode_normals, linear_to_srgb
from relightify_diffusers.rendering.atlas import bake_atlas, dilate
from relightify_diffusers.rendering.mesh import vertex_normals
from relightify_diffusers.rendering.tangents import (
    split_vertices,
    tangent_frames,
    to_tangent_space,
    vertex_tangents,
)

_ARRAY_BUFFER, _ELEMENT_ARRAY_BUFFER = 34962, 34963
_FLOAT, _UNSIGNED_INT = 5126, 5125


class _Buffer:
    """The binary chunk under construction, with its buffer views and accessors."""

    def __init__(self):
        self.content, self.views, self.accessors = bytearray(), [], []

    def view(self, data: bytes, target: int | None = None) -> int:
        self.content += b"\0" * (-len(self.content) % 4)
        view = {"buffer": 0, "byteOffset": len(self.content), "byteLength": len(data)}
        self.views.append(view | ({"target": target} if target else {}))
        self.content += data
        return len(self.views) - 1

    def attribute(self, values: np.ndarray, kind: str, bounds: bool = False) -> int:
        values = np.ascontiguousarray(values, "<f4")
        accessor = {
            "bufferView": self.view(values.tobytes(), _ARRAY_BUFFER),
            "componentType": _FLOAT,
            "count": len(values),
            "type": kind,
        }
        if bounds:
            accessor |= {"min": values.min(axis=0).tolist(), "max": values.max(axis=0).tolist()}
        self.accessors.append(accessor)
        return len(self.accessors) - 1

    def indices(self, triangles: np.ndarray) -> int:
        view = self.view(np.ascontiguousarray(triangles, "<u4").tobytes(), _ELEMENT_ARRAY_BUFFER)
        self.accessors.append(
            {"bufferView": view, "componentType": _UNSIGNED_INT, "count": triangles.size, "type": "SCALAR"}
        )
        return len(self.accessors) - 1


def textures(maps: dict[str, np.ndarray], mesh) -> dict[str, np.ndarray]:
    """The four images of the material, (N, N, 3) uint8, filled beyond the atlas against seams in mipmaps.

    maps: those of an Avatar; `normals_tangent` is baked here if it is missing. base_color is the diffuse albedo in
    sRGB; metallic_roughness has the roughness in green and zero metalness in blue; specular_color is the parameter s
    encoded as sRGB, which KHR_materials_specular prescribes for it; normal is in tangent space.
    """
    resolution = maps["diffuse_albedo"].shape[0]
    texels = bake_atlas(mesh.uv, mesh.uv_triangles, resolution)
    tangent = maps.get("normals_tangent")
    if tangent is None:
        tangent = bake_normals_tangent(maps["normals"], mesh)
    roughness = np.broadcast_to(maps["roughness"][..., None], (*maps["roughness"].shape, 3)) * [0.0, 1.0, 0.0]
    images = {
        "base_color": maps["diffuse_albedo"],
        "metallic_roughness": roughness,
        "specular_color": linear_to_srgb(maps["specular_albedo"]),
        "normal": tangent,
    }
    return {name: to_uint8(dilate(image, texels.inside)) for name, image in images.items()}


def bake_normals_tangent(normals: np.ndarray, mesh) -> np.ndarray:
    """The tangent-space normal map of a head-frame one; both (N, N, 3) in [0, 1] as n * 0.5 + 0.5."""
    frames = tangent_frames(mesh, bake_atlas(mesh.uv, mesh.uv_triangles, normals.shape[0]))
    return encode_normals(to_tangent_space(normals * 2.0 - 1.0, frames)).astype(np.float32)


def _material() -> dict:
    # F0 = min(0.04 * specularColor, 1) * specularFactor at the default index of refraction of 1.5 and F90 =
    # specularFactor (KHR_materials_specular, "Implementation"). Our F0 is 0.08 s with F90 = 1, so the factor is 1 and
    # the color 2 s; specularColorFactor may exceed 1.
    specular = {"specularFactor": 1.0, "specularColorFactor": [2.0, 2.0, 2.0], "specularColorTexture": {"index": 2}}
    return {
        "name": "skin",
        "pbrMetallicRoughness": {
            "baseColorTexture": {"index": 0},
            "metallicFactor": 0.0,
            "metallicRoughnessTexture": {"index": 1},
        },
        "normalTexture": {"index": 3},
        "extensions": {"KHR_materials_specular": specular},
    }


def build_glb(mesh, maps: dict[str, np.ndarray], extras: dict | None = None) -> bytes:
    """A whole .glb file of a Mesh and its maps; the same input gives the same bytes.

    maps: as in Avatar. extras: JSON for asset.extras (licenses and provenance).
    """
    buffer = _Buffer()
    pairs, triangles = split_vertices(mesh.triangles, mesh.uv_triangles)
    normals = vertex_normals(np.asarray(mesh.vertices, np.float64), mesh.triangles)[pairs[:, 0]]
    # The format wants unit vectors, also for a vertex whose triangles have no area.
    normals[np.linalg.norm(normals, axis=-1) < 0.5] = [0, 0, 1]
    positions, uv = mesh.vertices[pairs[:, 0]], mesh.uv[pairs[:, 1]]
    tangents, signs = vertex_tangents(positions, normals, uv, triangles)
    attributes = {
        "POSITION": buffer.attribute(positions, "VEC3", bounds=True),
        "NORMAL": buffer.attribute(normals, "VEC3"),
        "TANGENT": buffer.attribute(np.concatenate([tangents, signs[:, None]], axis=1), "VEC4"),
        "TEXCOORD_0": buffer.attribute(uv, "VEC2"),
    }
    primitive = {"attributes": attributes, "indices": buffer.indices(triangles), "material": 0}
    images = []
    for name, image in textures(maps, mesh).items():
        encoded = io.BytesIO()
        Image.fromarray(image).save(encoded, format="PNG")
        images.append({"name": name, "mimeType": "image/png", "bufferView": buffer.view(encoded.getvalue())})
    content = bytes(buffer.content) + b"\0" * (-len(buffer.content) % 4)
    document = {
        "asset": {"version": "2.0", "generator": "relightify_diffusers"} | ({"extras": extras} if extras else {}),
        "extensionsUsed": ["KHR_materials_specular"],
        "scene": 0,
        "scenes": [{"name": "avatar", "nodes": [0]}],
        "nodes": [{"name": "head", "mesh": 0}],
        "meshes": [{"name": "head", "primitives": [primitive]}],
        "materials": [_material()],
        # Linear with mipmaps; the atlas does not repeat (clamp to edge).
        "samplers": [{"magFilter": 9729, "minFilter": 9987, "wrapS": 33071, "wrapT": 33071}],
        "textures": [{"source": index, "sampler": 0} for index in range(len(images))],
        "images": images,
        "accessors": buffer.accessors,
        "bufferViews": buffer.views,
        "buffers": [{"byteLength": len(content)}],
    }
    text = json.dumps(document, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 4)
    # GLB: a 12-byte header, then chunks of length, type and data (glTF 2.0, section 4.4).
    total = 12 + 8 + len(text) + 8 + len(content)
    chunks = struct.pack("<I4s", len(text), b"JSON") + text + struct.pack("<I4s", len(content), b"BIN\0") + content
    return struct.pack("<4sII", b"glTF", 2, total) + chunks


def write_glb(path: str | Path, mesh, maps: dict[str, np.ndarray], extras: dict | None = None) -> None:
    """Write `build_glb` to a file."""
    Path(path).write_bytes(build_glb(mesh, maps, extras))
