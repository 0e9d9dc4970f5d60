"""What samples are made of: the atlas, its regions, and the skins, eyebrows, irises and lights that a user names."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image
from scipy.ndimage import distance_transform_edt, gaussian_filter, map_coordinates

from relightify_diffusers.errors import AssetError, RelightifyError
from relightify_diffusers.head.build_landmarks import makehuman_to_pixels
from relightify_diffusers.head.model import HeadModel
from relightify_diffusers.head.regions import region_masks
from relightify_diffusers.maps import LUMINANCE, srgb_to_linear
from relightify_diffusers.rendering.atlas import AtlasTexels, interpolate
from relightify_diffusers.rendering.mesh import vertex_normals
from relightify_diffusers.rendering.rasterizer import EmbreeRasterizer
from relightify_diffusers.rendering.visibility import radiance_transfer
from relightify_diffusers.synthesis.chromophores import unmix
from relightify_diffusers.synthesis.environments import Environment
from relightify_diffusers.synthesis.surface import SurfaceSampler

# Width in atlas widths above which variation of lightness counts as shading that somebody painted, not as pigment.
PAINTED_SHADING = 0.03
# Below this median luminance 8-bit colors are too coarse to tell pigments apart: such skins give lightness only.
DARKEST_UNMIXED = 0.12
# Standard deviations of melanin and hemoglobin over a face, to which each skin's are scaled; measured on those of the
# CC0 skins that are light enough.
MELANIN_SPREAD, HEMOGLOBIN_SPREAD = 0.10, 0.20
# The center of the upper right iris on an eye map, its radius, and half the side of what is cut out, as shares of
# the map's side.
IRIS_CENTER, IRIS_RADIUS, IRIS_EXTENT = (0.705, 0.303), 0.115, 0.29
# Radius of an iris in atlas widths: the islands are azimuthal and show 90 degrees over 0.048, of which the iris, about
# 29 degrees, takes a third.
ATLAS_IRIS = 0.0155


@dataclass(frozen=True)
class SkinDetail:
    """What one person's skin map tells beyond its mean color, all (N, N) float32 with zero mean over the face.

    melanin, hemoglobin: densities (zero for skins too dark to unmix). lightness: log luminance without its low
    frequencies, which are painted shading.
    """

    melanin: np.ndarray
    hemoglobin: np.ndarray
    lightness: np.ndarray


@dataclass(frozen=True)
class SkinSources:
    """What samples are drawn from, at one resolution.

    texels: the atlas. masks: region name → (N, N). sampler: for the smooth surface. openness: (N, N), the share of the
    surroundings that the mean head sees. details: of CC0 skins. brows: (B, H, W) opacity of left eyebrows, inner end
    to the left. irises: (I, H, H) lightness relative to the mean. environments: measured light. The last four may be
    empty.
    """

    texels: AtlasTexels
    masks: dict[str, np.ndarray]
    sampler: SurfaceSampler
    openness: np.ndarray
    details: tuple[SkinDetail, ...] = ()
    brows: tuple[np.ndarray, ...] = ()
    irises: tuple[np.ndarray, ...] = ()
    environments: tuple[Environment, ...] = ()

    @property
    def resolution(self) -> int:
        """Texels a side, N."""
        return len(self.openness)

    @classmethod
    def load(
        cls, head: HeadModel, texels: AtlasTexels, assets: str | Path | Sequence[str | Path] | None = None
    ) -> SkinSources:
        """Prepare the regions, and read the assets.

        assets: folders that hold, at the top or one level down, skins/*.png in MakeHuman's head chart,
        eyebrows/*.png, irises/*.png or *.hdr. Raises AssetError for a folder without any of them or a damaged file.
        """
        masks = region_masks(head, len(texels.triangle), texels)
        normals = vertex_normals(head.template, head.triangles)
        transfer = radiance_transfer(head.template, normals, EmbreeRasterizer(head.template, head.triangles), 64)
        openness = np.clip(interpolate(transfer[:, :1], head.triangles, texels)[..., 0] / 0.886227, 0, 1)
        chart = _Chart.of(head, texels, masks["skin"])
        found = _find([] if assets is None else [assets] if isinstance(assets, (str, Path)) else list(assets))
        return cls(
            texels,
            masks,
            SurfaceSampler.of(head, texels),
            openness.astype(np.float32),
            tuple(_skin_detail(chart, masks, openness, path) for path in found["skins"]),
            tuple(_brow(path) for path in found["eyebrows"]),
            tuple(_iris(path, len(openness)) for path in found["irises"]),
            tuple(_environment(path) for path in found["hdris"]),
        )


def _find(roots: list) -> dict[str, list[Path]]:
    """The files of each kind under the folders given, sorted by name so that a seed means the same everywhere."""
    found: dict[str, list[Path]] = {"skins": [], "eyebrows": [], "irises": [], "hdris": []}
    for root in map(Path, roots):
        if not root.is_dir():
            raise AssetError(f"there is no asset folder {root}")
        before = sum(map(len, found.values()))
        for kind in ("skins", "eyebrows", "irises"):
            found[kind] += sorted([*root.glob(f"{kind}/*.png"), *root.glob(f"*/{kind}/*.png")])
        found["hdris"] += sorted([*root.glob("*.hdr"), *root.glob("*/*.hdr")])
        if sum(map(len, found.values())) == before:
            raise AssetError(f"no skins/*.png, eyebrows/*.png, irises/*.png or *.hdr in {root}; give another folder")
    return found


def _read(path: Path, mode: str) -> np.ndarray:
    try:
        with Image.open(path) as image:
            return np.asarray(image.convert(mode), np.float32) / 255
    except (OSError, SyntaxError, ValueError) as error:
        raise AssetError(f"cannot read {path}: {error}") from error


def _environment(path: Path) -> Environment:
    try:
        return Environment.from_hdr(path)
    except RelightifyError as error:
        raise AssetError(str(error)) from error


def _brow(path: Path) -> np.ndarray:
    """Opacity of the left eyebrow, the upper one of a cut-out, cropped to what is drawn."""
    alpha = _read(path, "RGBA")[..., 3]
    rows = np.flatnonzero((alpha > 0.1).any(axis=1))
    if not len(rows):
        raise AssetError(f"{path} is an empty eyebrow cut-out")
    # The two brows are separated by the widest gap of empty rows, if there are two.
    gaps = np.diff(rows)
    last = rows[np.argmax(gaps)] if gaps.max(initial=0) > 1 else rows[-1]
    upper = alpha[rows[0] : last + 1]
    columns = np.flatnonzero((upper > 0.1).any(axis=0))
    return np.ascontiguousarray(upper[:, columns[0] : columns[-1] + 1])


def _iris(path: Path, resolution: int) -> np.ndarray:
    """Lightness of the upper right eyeball of an eye map around its pupil, 1 on average over the iris, blurred to the
    texels; the hue of these pictures is no natural one."""
    image = srgb_to_linear(_read(path, "RGB")) @ LUMINANCE
    size = image.shape[0]
    if image.shape != (size, size) or size < 64 or not image.any():
        raise AssetError(f"{path} is no eye map: it should be square, of 64 pixels or more, and not black")
    x, y, extent = (round(value * size) for value in (*IRIS_CENTER, IRIS_EXTENT))
    image = image[max(y - extent, 0) : y + extent, max(x - extent, 0) : x + extent]
    rows, columns = np.mgrid[: image.shape[0], : image.shape[1]] + 0.5
    radius = np.hypot(rows - extent, columns - extent) / (IRIS_RADIUS * size)
    image = image / image[(radius > 0.45) & (radius < 0.9)].mean()
    return gaussian_filter(image, max(0.5, 0.35 * IRIS_RADIUS * size / (ATLAS_IRIS * resolution))).astype(np.float32)


@dataclass(frozen=True)
class _Chart:
    """Where the texels lie in MakeHuman's head chart.

    uv: (N, N, 2), any value where not known. known: (N, N) bool. nearest: (2, N, N), the nearest known texel.
    """

    uv: np.ndarray
    known: np.ndarray
    nearest: np.ndarray

    @classmethod
    def of(cls, head: HeadModel, texels: AtlasTexels, skin: np.ndarray) -> _Chart:
        uv = interpolate(head.makehuman_uv, head.atlas.uv_triangles, texels)
        known = (skin > 0) & np.isfinite(uv).all(-1)
        nearest = distance_transform_edt(~known, return_distances=False, return_indices=True)
        return cls(np.where(known[..., None], uv, 0.8), known, nearest)


def _skin_detail(chart: _Chart, masks: dict, openness: np.ndarray, path: Path) -> SkinDetail:
    """Read a skin map, sample it in the atlas and take it apart; the shading painted into it goes."""
    image = srgb_to_linear(_read(path, "RGB"))
    size = len(openness)
    # The source has several pixels per texel: it is blurred to the texel's footprint before it is sampled.
    blurred = gaussian_filter(image, (*2 * [0.2 * image.shape[0] / size], 0))
    pixels = makehuman_to_pixels(chart.uv, image.shape)
    color = np.stack([map_coordinates(blurred[..., c], pixels, order=1, mode="nearest") for c in range(3)], -1)
    color = np.clip(color[chart.nearest[0], chart.nearest[1]], 0.004, 1)

    face = chart.known & (masks["scalp"] < 0.1)
    lightness = np.log(color @ LUMINANCE)
    lightness = _unshaded(lightness - gaussian_filter(lightness, PAINTED_SHADING * size), face, openness)
    melanin, hemoglobin, _ = np.moveaxis(unmix(np.log(color)), -1, 0)
    if np.median((color @ LUMINANCE)[face]) < DARKEST_UNMIXED:
        melanin, hemoglobin = np.zeros((2, size, size))
    # Lids are drawn with the outlines of another head's eyes.
    lightness = lightness * (1 - 0.7 * masks["lids"])
    # A painted scalp is not skin: hair is painted later, where there is any.
    keep = chart.known * (1 - 0.95 * masks["scalp"])
    lips = masks["lips"] > 0.2
    return SkinDetail(
        _even(melanin, face & ~lips, openness, MELANIN_SPREAD) * keep,
        _even(hemoglobin, face & ~lips, openness, HEMOGLOBIN_SPREAD) * keep,
        (np.clip(lightness, -0.3, 0.2) * keep).astype(np.float32),
    )


def _unshaded(values: np.ndarray, face: np.ndarray, openness: np.ndarray) -> np.ndarray:
    """Values (N, N) without the part that follows the openness over the face (N, N), and with zero median there."""
    # Deep folds are painted as lines of their own: they say little about the soft shading around them.
    bounded = np.clip(openness, 0.5, 1)
    shade = bounded - bounded[face].mean()
    slope = (values[face] * shade[face]).sum() / max((shade[face] ** 2).sum(), 1e-9)
    rest = values - slope * shade
    return rest - np.median(rest[face])


def _even(density: np.ndarray, face: np.ndarray, openness: np.ndarray, spread: float) -> np.ndarray:
    """A density without painted shading, which is tinted too, at a given standard deviation over the face."""
    rest = _unshaded(density, face, openness)
    rest = rest * (spread / max(float(rest[face].std()), 1e-6))
    return np.clip(rest, -3 * spread, 4 * spread).astype(np.float32)
