"""The columns of a synthesized set: their types and meanings, and how samples become encoded rows of them."""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from PIL import Image

from relightify_diffusers.head.model import HeadModel
from relightify_diffusers.maps import LAYOUT
from relightify_diffusers.rendering.atlas import bake_atlas
from relightify_diffusers.synthesis.sample import Sample, generate, geometry_of
from relightify_diffusers.synthesis.sources import SkinSources

IMAGES = (*LAYOUT.names, "observed")
TRANSFER = "transfer"
# Level 4 takes less than half the time of the default, 6, for files that are 4 % larger.
PNG_LEVEL = 4

# Column → (type, meaning). "float32[]" is a list of numbers, "float32[][]" a list of such lists. The order is that of
# the files.
COLUMNS: dict[str, tuple[str, str]] = {
    "texture": ("image", "what a photo would show of the skin: shaded, exposed, sRGB-encoded"),
    "diffuse_albedo": ("image", "diffuse albedo, sRGB-encoded"),
    "specular_albedo": ("image", "the parameter s of F0 = 0.08 s, linear, repeated over the three channels"),
    "normals": ("image", "unit normals n in the head frame (+X to the subject's left, +Y up, +Z out of the face), "
                         "stored as n * 0.5 + 0.5"),
    "observed": ("image", "255 where a random photo of this head would show the texel, one channel"),
    "index": ("int64", "number of the sample in the set"),
    "seed": ("int64", "seed of the set"),
    "subject": ("int64", "number of the person: its samples share geometry and normals"),
    "age": ("float32", "years"),
    "gender": ("float32", "0 female to 1 male"),
    "weight": ("float32", "0 thin to 1 heavy, 0.5 average"),
    "ancestry": ("float32[]", "shares of African, Asian and European features, which sum to 1"),
    "identity": ("float32[]", "identity coefficients of the bundled head model"),
    "expression": ("float32[]", "expression weights of the bundled head model, in the order of its ARKit names"),
    "tone": ("float32", "individual typology angle of the even skin, degrees"),
    "features": ("string[]", "what was painted on the skin: freckles, beard, ..."),
    "light_kind": ("string", "what kind of light it is"),
    "light_sh": ("float32[]", "order-2 spherical harmonics of all of the light: 9 coefficients x RGB"),
    "sources": ("float32[][]", "compact sources, head frame: 0, direction, irradiance RGB, angular radius in "
                             "radians; or 1, position, intensity RGB, radius in meters"),
    "exposure": ("float32", "factor from radiance to the camera's linear value"),
    "white_balance": ("float32[]", "the camera's factors of the three channels"),
    "camera_K": ("float32[]", "3 x 3 intrinsic matrix of the camera, row by row"),
    "camera_world_to_camera": ("float32[]", "3 x 4 matrix [R t] from the head frame to the camera, row by row"),
    "mask_yaw": ("float32", "yaw of the camera that sees the observed texels, degrees"),
    "mask_pitch": ("float32", "pitch of that camera, degrees"),
    "occluders": ("string[]", "what hides texels in the observed mask: glasses, hand, hair, ..."),
    "observed_share": ("float32", "observed share of the atlas's texels"),
    "shadowed": ("float32", "share of the face's texels in cast shadow"),
    "clipped": ("float32", "share of the face's texels at 1.0 in some channel of the texture"),
    "light_saturation": ("float32", "chroma of the light, 0 is gray"),
    "light_level": ("float32", "mean linear value that a white diffuse face would have in the picture"),
    "sharpness": ("float32", "RMS of the high-passed log albedo on skin"),
    TRANSFER: ("binary", "float16 (V, 9): order-2 spherical-harmonic radiance to self-shadowed irradiance at the "
                         "vertices of the bundled head model; the same bytes for all samples of a subject"),
}  # fmt: skip


def columns(transfer: bool) -> dict[str, tuple[str, str]]:
    """The columns of a set made with or without `transfer`: name → (type, meaning)."""
    return {name: column for name, column in COLUMNS.items() if transfer or name != TRANSFER}


def features(transfer: bool = False):
    """The columns as `datasets.Features`; their arrow_schema makes parquet files load as images and lists."""
    import datasets

    def feature(kind: str):
        if kind == "image":
            return datasets.Image()
        return datasets.Sequence(feature(kind[:-2])) if kind.endswith("[]") else datasets.Value(kind)

    return datasets.Features({name: feature(kind) for name, (kind, _) in columns(transfer).items()})


def parquet_options(transfer: bool) -> dict:
    """Options of pyarrow's ParquetWriter: PNGs as they are, the rest compressed, what repeats stored once."""
    leaves = {"image": (".bytes", ".path"), "[][]": (".list.element.list.element",), "[]": (".list.element",)}
    compression, dictionary = {}, []
    for name, (kind, _) in columns(transfer).items():
        ending = next((ending for ending in leaves if kind.endswith(ending)), "")
        for leaf in leaves.get(ending, ("",)):
            compression[name + leaf] = "none" if kind == "image" else "zstd"
            if kind.startswith("string") or name == TRANSFER:
                dictionary.append(name + leaf)
    # Beyond its default size a dictionary would be given up for plain, repeated values.
    return {"compression": compression, "use_dictionary": dictionary, "dictionary_pagesize_limit": 2**28}


@dataclass(frozen=True)
class EngineSettings:
    """What the rows of a set follow from, besides the sample's number; hashable and small, for worker processes.

    assets: folders of skins, light maps and others; procedural without. transfer: whether rows hold the transfer.
    """

    resolution: int
    seed: int
    assets: tuple[str, ...] = ()
    transfer: bool = False


@dataclass(frozen=True)
class Engine:
    """The loaded head and sources, which turn sample numbers into encoded rows."""

    settings: EngineSettings
    head: HeadModel
    sources: SkinSources

    @classmethod
    def load(cls, settings: EngineSettings) -> Engine:
        """Load the bundled head and the sources; raises AssetError for assets that cannot be read."""
        head = HeadModel.bundled()
        texels = bake_atlas(head.atlas.uv, head.atlas.uv_triangles, settings.resolution)
        return cls(settings, head, SkinSources.load(head, texels, settings.assets or None))

    def rows(self, indices: Sequence[int]) -> list[dict]:
        """The encoded rows of samples that share one subject."""
        seed, inside = self.settings.seed, self.sources.texels.inside
        subject = geometry_of(self.head, self.sources, seed, indices[0])
        transfer = None
        result = []
        for index in indices:
            sample = generate(self.head, self.sources, seed, index, subject)
            row = sample_row(sample, seed, index, inside)
            if self.settings.transfer:
                # The same bytes for the whole subject, so that the file's dictionary stores them once.
                transfer = transfer or sample.geometry.transfer.astype(np.float16).tobytes()
                row[TRANSFER] = transfer
            result.append(row)
        return result


@lru_cache(maxsize=1)
def loaded_engine(settings: EngineSettings) -> Engine:
    """The engine of these settings, loaded once in each worker process; with one thread."""
    import torch

    torch.set_num_threads(1)
    return Engine.load(settings)


def engine_rows(settings: EngineSettings, indices: Sequence[int]) -> list[dict]:
    """`Engine.rows` for worker processes."""
    return loaded_engine(settings).rows(indices)


def sample_row(sample: Sample, seed: int, index: int, inside: np.ndarray) -> dict:
    """The row of a sample: PNG bytes of its maps and mask, and its record. inside: (N, N), the texels of the atlas."""
    images = {name: png(quantized(sample.maps[name])) for name in LAYOUT.names}
    images["observed"] = png(np.where(sample.observed, 255, 0).astype(np.uint8))
    row: dict = {name: {"bytes": data, "path": None} for name, data in images.items()}
    share = float(sample.observed[inside].mean())
    return row | sample.record | {"index": index, "seed": seed, "observed_share": share}


def quantized(values: np.ndarray) -> np.ndarray:
    """[0, 1] values of any shape as uint8, rounded to the nearest of 256 levels."""
    return (values * 255).round().astype(np.uint8)


def png(pixels: np.ndarray) -> bytes:
    """Lossless PNG of uint8 (H, W, 3) or (H, W)."""
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG", compress_level=PNG_LEVEL)
    return buffer.getvalue()
