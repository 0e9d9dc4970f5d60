"""Wavefront OBJ and MTL: written for other programs, and read back exactly."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from relightify_diffusers.errors import AssetError
from relightify_diffusers.rendering.mesh import vertex_normals

# Names of the groups, in the order of Mesh.triangle_regions.
REGION_NAMES = ("skin", "eyes", "inside")


def write_obj(path: str | Path, mesh, material_library: str | None = None, material: str = "head") -> None:
    """Write a Mesh with smooth normals, its UVs (OBJ's v grows upwards: flipped here) and its regions as groups.

    Vertices (float32) and UVs come back exactly from `read_obj`. material_library: name of an .mtl file beside it.
    """
    lines = ["# relightify_diffusers: meters, +Y up, +Z out of the face, +X to the subject's left"]
    if material_library:
        lines.append(f"mtllib {material_library}")
    vertices = np.asarray(mesh.vertices, np.float32)
    lines += [f"v {x:.9g} {y:.9g} {z:.9g}" for x, y, z in vertices]
    # 1 - v is exact in float64 for float32 values above 2e-9 (and for 0), so 17 digits bring v back.
    uv = np.asarray(mesh.uv, np.float32).astype(np.float64)
    lines += [f"vt {u:.17g} {1 - v:.17g}" for u, v in uv]
    lines += [f"vn {x:.6f} {y:.6f} {z:.6f}" for x, y, z in vertex_normals(vertices, mesh.triangles)]
    if material_library:
        lines.append(f"usemtl {material}")
    regions = mesh.triangle_regions
    for index, (corner, texel) in enumerate(zip(mesh.triangles + 1, mesh.uv_triangles + 1)):
        if regions is not None and (index == 0 or regions[index] != regions[index - 1]):
            lines.append(f"g {REGION_NAMES[regions[index]]}")
        lines.append("f " + " ".join(f"{v}/{t}/{v}" for v, t in zip(corner, texel)))
    Path(path).write_text("\n".join(lines) + "\n", encoding="ascii")


def write_mtl(path: str | Path, material: str, diffuse_texture: str, roughness: float) -> None:
    """Write a material: a diffuse texture and the mean roughness (the `Pr` of the common PBR extension)."""
    lines = [f"newmtl {material}", "Kd 1 1 1", "Ks 0.04 0.04 0.04", "Ni 1.5", "illum 2", f"Pr {roughness:.4g}"]
    Path(path).write_text("\n".join([*lines, f"map_Kd {diffuse_texture}"]) + "\n", encoding="ascii")


def read_obj(path: str | Path) -> dict[str, Any]:
    """Read a file of `write_obj`: the fields of a Mesh by name.

    Raises AssetError if the file is missing, damaged or not made of textured triangles.
    """
    vertices: list = []
    uv: list = []
    corners: list = []
    regions: list = []
    region = None
    try:
        for line in Path(path).read_text(encoding="ascii").splitlines():
            key, _, rest = line.partition(" ")
            if key == "v":
                vertices.append(rest.split())
            elif key == "vt":
                uv.append(rest.split())
            elif key == "f":
                corners.append([corner.split("/")[:2] for corner in rest.split()])
                regions.append(region)
            elif key == "g":
                region = REGION_NAMES.index(rest)
        faces = np.array(corners, np.int64) - 1  # (F, 3, 2)
        texture = np.array(uv, np.float64) * [1, -1] + [0, 1]
        if faces.ndim != 3 or faces.shape[1:] != (3, 2) or (faces.max(axis=(0, 1)) >= [len(vertices), len(uv)]).any():
            raise ValueError("it has no triangles with texture coordinates")
        return {
            "vertices": np.array(vertices, np.float32).reshape(-1, 3),
            "triangles": faces[..., 0],
            "uv": texture.astype(np.float32),
            "uv_triangles": faces[..., 1],
            "triangle_regions": None if None in regions else np.array(regions, np.int64),
        }
    except (OSError, ValueError) as error:
        raise AssetError(f"cannot read the mesh {path}: {error}") from error
