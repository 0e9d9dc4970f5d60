"""The result of a reconstruction: a head mesh with its material maps, the photo's camera and its light."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from relightify_diffusers.errors import AssetError, RelightifyError, UsageError
from relightify_diffusers.rendering.cameras import Camera

SCHEMA_VERSION = 1

# Files of DIR/maps; an avatar may lack the last three.
REQUIRED_MAPS = ("texture", "diffuse_albedo", "specular_albedo", "roughness", "normals")
OPTIONAL_MAPS = ("normals_tangent", "observed", "uncertainty")

# What marks a directory as an avatar, and so as one that `overwrite` may replace.
RECORD = "avatar.json"


@dataclass(frozen=True)
class Mesh:
    """A textured triangle mesh.

    vertices: (V, 3) float32, meters in the head frame. triangles: (F, 3) int, counterclockwise from outside.
    uv: (T, 2) float32, (0, 0) = top-left corner of the image. uv_triangles: (F, 3) int into uv.
    triangle_regions: (F,) int or None; 0 = skin, 1 = eyes, 2 = inside of the mouth.
    """

    vertices: np.ndarray
    triangles: np.ndarray
    uv: np.ndarray
    uv_triangles: np.ndarray
    triangle_regions: np.ndarray | None = None


@dataclass(frozen=True)
class Avatar:
    """A relightable head.

    mesh: Mesh. maps: name to (N, N, 3) or (N, N) float32 in [0, 1]: texture and diffuse_albedo (sRGB),
    specular_albedo (the linear parameter s, repeated), roughness (N, N), normals (head frame, n * 0.5 + 0.5), and
    optionally normals_tangent, observed (N, N; 1 = seen in the photo) and uncertainty (N, N).
    camera: that of the photo. light_sh: (9, 3) float32, linear radiance coefficients in the head frame.
    photo: (H, W, 3) float32 sRGB in [0, 1] or None. record: the content of avatar.json.
    """

    mesh: Mesh
    maps: dict[str, np.ndarray]
    camera: Camera
    light_sh: np.ndarray
    photo: np.ndarray | None = None
    record: dict = field(default_factory=dict)

    def save(
        self, directory: str | Path, overwrite: bool = False, preview: np.ndarray | None = None, bits: int = 8
    ) -> Path:
        """Write the directory that `relightify reconstruct` documents, whole or not at all.

        preview: (H, W, 3) in [0, 1], for preview.png. bits: 8 or 16, of maps/*.png. Returns the absolute path. Raises
        UsageError if the directory exists and `overwrite` is false, if it holds something other than an avatar, or if
        it cannot be written.
        """
        from relightify_diffusers.export.directories import whole_directory
        from relightify_diffusers.export.gltf import bake_normals_tangent, write_glb
        from relightify_diffusers.export.images import write_png
        from relightify_diffusers.export.obj import write_mtl, write_obj

        missing = [name for name in REQUIRED_MAPS if name not in self.maps]
        if missing:
            raise UsageError(f"the avatar has no {', '.join(missing)}")
        maps = dict(self.maps)
        if "normals_tangent" not in maps:
            maps["normals_tangent"] = bake_normals_tangent(maps["normals"], self.mesh)
        with whole_directory(directory, overwrite, marker=RECORD) as target:
            (target / "maps").mkdir()
            for name in REQUIRED_MAPS + OPTIONAL_MAPS:
                if name in maps:
                    write_png(target / "maps" / f"{name}.png", maps[name], bits)
            write_obj(target / "mesh.obj", self.mesh, material_library="mesh.mtl")
            write_mtl(target / "mesh.mtl", "head", "maps/diffuse_albedo.png", float(maps["roughness"].mean()))
            write_glb(target / "mesh.glb", self.mesh, maps, self._provenance())
            for name, image in (("photo", self.photo), ("preview", preview)):
                if image is not None:
                    write_png(target / f"{name}.png", image)
            record = json.dumps(_plain(self._full_record()), indent=2, ensure_ascii=False, allow_nan=False)
            (target / RECORD).write_text(record + "\n", encoding="utf-8")
        return Path(directory).resolve()

    @classmethod
    def load(cls, directory: str | Path) -> Avatar:
        """Read a directory of `save`.

        Raises UsageError if it is no avatar, AssetError if a file of it is missing, damaged or of a newer version.
        """
        from relightify_diffusers.export.images import read_png
        from relightify_diffusers.export.obj import read_obj

        directory = Path(directory)
        if not (directory / RECORD).is_file():
            raise UsageError(f"{directory} is not an avatar (no {RECORD}); name an output of `relightify reconstruct`")
        try:
            record = json.loads((directory / RECORD).read_text(encoding="utf-8"))
            if record["schema_version"] > SCHEMA_VERSION:
                raise AssetError(f"{directory} was written by a newer version of relightify_diffusers; upgrade it")
            camera = Camera(
                np.array(record["camera"]["K"], np.float64).reshape(3, 3),
                np.array(record["camera"]["world_to_camera"], np.float64).reshape(3, 4),
                (int(record["image_size"][0]), int(record["image_size"][1])),
            )
            light = np.array(record["light"]["sh"], np.float32).reshape(9, 3)
        except (OSError, ValueError, KeyError, TypeError, IndexError) as error:
            raise AssetError(f"cannot read {directory / RECORD}: {error}") from error
        try:
            paths = {name: directory / "maps" / f"{name}.png" for name in REQUIRED_MAPS + OPTIONAL_MAPS}
            found = {name: path for name, path in paths.items() if name in REQUIRED_MAPS or path.exists()}
            maps = {name: read_png(path) for name, path in found.items()}
            photo = read_png(directory / "photo.png") if (directory / "photo.png").exists() else None
        except RelightifyError as error:
            raise AssetError(f"{error}") from error
        return cls(Mesh(**read_obj(directory / "mesh.obj")), maps, camera, light, photo, record)

    def _full_record(self) -> dict:
        """The record with the fields that the avatar itself holds."""
        light = dict(self.record.get("light") or {})
        light["sh"] = np.asarray(self.light_sh, np.float64).tolist()
        own = {
            "schema_version": SCHEMA_VERSION,
            "image_size": [int(side) for side in self.camera.image_size],
            "camera": {
                "K": np.asarray(self.camera.K, np.float64).tolist(),
                "world_to_camera": np.asarray(self.camera.world_to_camera, np.float64).tolist(),
            },
        }
        return own | {key: value for key, value in self.record.items() if key not in own} | {"light": light}

    def _provenance(self) -> dict:
        """What asset.extras of the .glb says: the assets with their licenses, the model and the seed."""
        kept = {key: self.record[key] for key in ("assets", "model", "seed") if key in self.record}
        return {"source": "reconstructed from one photo by relightify_diffusers"} | kept


def _plain(value):
    """The value as JSON has it: numpy arrays and numbers as Python's, a number that is not finite as null."""
    if isinstance(value, dict):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, np.ndarray | np.generic):
        value = value.tolist()
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    return None if isinstance(value, float) and not np.isfinite(value) else value
