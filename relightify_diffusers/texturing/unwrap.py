"""Unwrap a photo onto the atlas: visibility, a guard against hair and background, the partial texture."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.ndimage import binary_erosion, binary_opening, gaussian_filter, label

from relightify_diffusers.fitting.light import estimate_light
from relightify_diffusers.head.model import INSIDE, SKIN, HeadModel
from relightify_diffusers.maps import LUMINANCE, linear_to_srgb, srgb_to_linear
from relightify_diffusers.rendering.atlas import AtlasTexels, interpolate
from relightify_diffusers.rendering.cameras import Camera
from relightify_diffusers.rendering.mesh import normalize, vertex_normals
from relightify_diffusers.rendering.rasterizer import EmbreeRasterizer
from relightify_diffusers.rendering.visibility import seen_from
from relightify_diffusers.texturing.sampling import footprint, sample_filtered

# Islands smaller than this share of the observed skin are dropped.
SMALLEST_ISLAND = 0.02


@dataclass(frozen=True)
class TexturingConfig:
    """Thresholds.

    min_cosine: texels seen flatter than this are dropped. chroma_sigma, luma_low, luma_high: how far skin may be from
    the median skin in log chromaticity (standard deviations) and from the fitted shading (ratio). margin: texels
    eroded at the border of what was seen, in 1/256 of the atlas.
    """

    min_cosine: float = 0.28
    chroma_sigma: float = 5.5
    luma_low: float = 0.32
    luma_high: float = 2.6
    margin: float = 2.0


@dataclass(frozen=True)
class PartialTexture:
    """What the photo shows of the atlas.

    texture: (N, N, 3) sRGB-encoded, 0 where unobserved. observed: (N, N) bool. pixels: (N, N, 2) photo position of
    each texel. cosine: (N, N) of the viewing angle. visible: (N, N) bool, before the guard against hair and
    background.
    """

    texture: np.ndarray
    observed: np.ndarray
    pixels: np.ndarray
    cosine: np.ndarray
    visible: np.ndarray

    @property
    def observed_fraction(self) -> float:
        """Share of the atlas' skin and eye texels that were observed (texels that the photo faces or not)."""
        return float(self.observed.sum() / max(np.isfinite(self.cosine).sum(), 1))


def unwrap(
    image: np.ndarray,
    camera: Camera,
    vertices: np.ndarray,
    head: HeadModel,
    texels: AtlasTexels,
    masks: dict[str, np.ndarray],
    transfer: np.ndarray,
    config: TexturingConfig = TexturingConfig(),
) -> PartialTexture:
    """Sample a photo (H, W, 3), sRGB-encoded in [0, 1], at every texel that it shows.

    vertices: (V, 3) fitted. masks: the head's region masks at the atlas' resolution. transfer: (V, 9) of the fitted
    head, for the shading that the guard expects.
    """
    inside = texels.inside
    region = head.atlas.regions_at(texels.triangle)
    points = interpolate(vertices, head.triangles, texels)
    normals = normalize(interpolate(vertex_normals(vertices, head.triangles), head.triangles, texels))
    cosine = np.where(inside & (region != INSIDE), (normals * normalize(camera.center - points)).sum(-1), np.nan)
    pixels = camera.project(np.where(inside[..., None], points, vertices[0]))

    width, height = camera.image_size
    in_frame = ((pixels > 1) & (pixels < np.array([width, height]) - 1)).all(-1)
    facing = in_frame & (np.nan_to_num(cosine, nan=-1) > config.min_cosine)
    visible = seen_from(camera.center, points, normals, facing, EmbreeRasterizer(vertices, head.triangles))

    linear = np.zeros((*inside.shape, 3))
    sizes = footprint(np.where(inside[..., None], pixels, 0))
    linear[visible] = sample_filtered(srgb_to_linear(image), pixels[visible], _interior(sizes, inside)[visible])
    shading = interpolate(transfer, head.triangles, texels)
    observed = visible & _looks_like_face(linear, visible, shading, masks, config)
    observed = _clean(observed, region == SKIN, config.margin * len(inside) / 256)
    texture = np.where(observed[..., None], linear_to_srgb(np.clip(linear, 0, 1)), 0).astype(np.float32)
    return PartialTexture(texture, observed, pixels, cosine, visible)


def _interior(sizes: np.ndarray, inside: np.ndarray) -> np.ndarray:
    """Footprints without the jumps at chart borders: a texel at the border takes the size of its inner neighbors."""
    trusted = binary_erosion(inside, iterations=2)
    weight = gaussian_filter(trusted.astype(float), 2)
    smooth = gaussian_filter(np.where(trusted, sizes, 0), 2) / np.maximum(weight, 1e-6)
    return np.where(trusted, sizes, np.where(weight > 1e-3, smooth, np.median(sizes[trusted])))


def _looks_like_face(linear, visible, shading, masks, config: TexturingConfig) -> np.ndarray:
    """Texels whose color the person's own skin under one smooth light explains; brows, lips, eyes and beard pass.

    The reference is the central face (cheeks, nose, chin), which hair and background rarely cover.
    """
    core = visible & ((masks["cheeks"] + masks["nose"] + masks["chin"]) > 0.5)
    if core.sum() < 50:
        return visible
    log_color = np.log(np.maximum(linear, 1e-3))
    chroma = np.stack([log_color[..., 0] - log_color[..., 1], log_color[..., 1] - log_color[..., 2]], -1)
    median = np.median(chroma[core], axis=0)
    spread = 1.4826 * np.median(np.abs(chroma[core] - median), axis=0) + 0.05
    skin_chroma = (np.abs(chroma - median) / spread < config.chroma_sigma).all(-1)

    luminance = linear @ LUMINANCE
    skin = visible & (masks["skin"] > 0) & (masks["scalp"] < 0.5)
    # One gray albedo under one light: what remains is the shading that skin here would have.
    weights = core[skin] * 1.0 + 0.05
    gray = np.full((skin.sum(), 3), 0.4)
    light = estimate_light(np.repeat(luminance[skin][:, None], 3, 1), gray, shading[skin], weights)
    expected = np.maximum(0.4 / np.pi * (shading @ light.sh[:, 0]), 0.15 * np.median(luminance[core]))
    ratio = luminance / expected
    skin_luma = (ratio > config.luma_low) & (ratio < config.luma_high)
    # Features that are rightly darker or of another hue than skin.
    feature = (
        masks["lips"] + masks["brows"] + masks["eyes"] + 1.5 * masks["lids"] + masks["nostrils"] + masks["beard"] > 0.3
    )
    return feature | (skin_chroma & skin_luma)


def _clean(observed: np.ndarray, skin: np.ndarray, margin: float) -> np.ndarray:
    """Drop specks and small islands and step back from the border; the eye islands are left as they are."""
    steps = max(1, round(margin))
    kept = binary_opening(observed & skin, iterations=steps)
    kept = without_islands(kept)
    # Outside the skin chart counts as seen here: lids and lips end at holes of the chart, not at hair or background.
    kept = binary_erosion(kept | ~skin, iterations=steps, border_value=1) & skin & kept
    return kept | (observed & ~skin)


def without_islands(observed: np.ndarray) -> np.ndarray:
    """Drop the islands of a mask (N, N) that hold less than SMALLEST_ISLAND of it."""
    parts, count = label(observed)
    if not count:
        return observed
    sizes = np.bincount(parts.ravel())
    sizes[0] = 0
    return sizes[parts] > SMALLEST_ISLAND * sizes.sum()
