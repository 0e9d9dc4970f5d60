"""Soft masks of the face's regions in the atlas, placed by the landmarks."""

from __future__ import annotations

import numpy as np
from PIL import Image, ImageDraw
from scipy.ndimage import gaussian_filter

from relightify_diffusers.head.model import EYES, INSIDE, SKIN, HeadModel
from relightify_diffusers.rendering.atlas import AtlasTexels, bake_atlas

SUPERSAMPLING = 4

# Centers in the atlas of the islands of the subject's right and left eyeball.
EYE_ISLANDS = ((0.052, 0.944), (0.948, 0.944))

# Microfacet roughness (glTF's perceptual roughness) by region. Weyrich et al. 2006 ("Analysis of human faces using a
# measurement-based skin reflectance model", section 6) measured Torrance-Sparrow slopes between about 0.2 and 0.4 that
# fall from the cheeks to the forehead, nose and lips; perceptual roughness is the square root of that slope. The
# values inside this range are ours; eyes and hair are not from that source.
ROUGHNESS = {
    "skin": 0.56, "forehead": 0.51, "nose": 0.47, "lips": 0.46, "beard": 0.60, "scalp": 0.62, "ears": 0.55,
    "eyes": 0.12, "inside": 0.35,
}  # fmt: skip


def region_masks(head: HeadModel, resolution: int, texels: AtlasTexels | None = None) -> dict[str, np.ndarray]:
    """Masks (N, N) in [0, 1] by name: skin, eyes, inside, iris, lips, brows, lids, nose, nostrils, forehead, cheeks,
    chin, beard, scalp, ears; the parts of the skin overlap softly."""
    texels = texels or bake_atlas(head.atlas.uv, head.atlas.uv_triangles, resolution)
    region = np.where(texels.inside, head.atlas.triangle_regions[texels.triangle], -1)
    uv = head.landmark_uv
    v, u = np.meshgrid(*(2 * [(np.arange(resolution) + 0.5) / resolution]), indexing="ij")
    side = np.abs(u - 0.5)

    def polygon(*polygons, soft=0.006):
        return polygon_mask([p for one in polygons for p in (one, _mirror(one))], resolution, soft)

    def blob(cu, cv, ru, rv):
        return np.exp(-(((side - abs(cu - 0.5)) / ru) ** 2 + ((v - cv) / rv) ** 2))

    # The hairline and sideburns: a parabola that passes above the forehead and before the ears.
    hairline = 1 / (1 + np.exp((v - (0.15 + 2.0 * side**2)) / 0.012))
    behind = 1 / (1 + np.exp(-(side - 0.385) / 0.008)) / (1 + np.exp((v - 0.66) / 0.015))
    ears = blob(uv[0, 0] - 0.012, 0.47, 0.03, 0.12)
    brow_line = uv[17:22]
    masks = {
        "lips": polygon(uv[48:60], soft=0.004),
        "brows": polygon(np.concatenate([brow_line - [0, 0.012], brow_line[::-1] + [0, 0.014]]), soft=0.008),
        "lids": polygon(_grow(uv[36:42], 1.45), soft=0.01),
        "nose": polygon(np.array([uv[27], uv[27] - [0.03, 0], uv[31] - [0.03, 0.02], uv[31], uv[33]]), soft=0.015),
        "nostrils": blob(0.468, 0.634, 0.013, 0.010),
        "forehead": polygon(np.array([[0.5, 0.17], [0.36, 0.2], [0.28, 0.3], [0.4, 0.29], [0.5, 0.3]]), soft=0.03),
        "cheeks": blob(0.32, 0.57, 0.075, 0.09),
        "chin": blob(0.5, 0.86, 0.07, 0.035),
        "beard": _beard(uv, resolution),
        "ears": ears,
        "scalp": np.clip(np.maximum(hairline, behind) - ears, 0, 1),
    }
    skin = (region == SKIN).astype(np.float32)
    masks = {name: (mask * skin).astype(np.float32) for name, mask in masks.items()}
    masks |= {
        "skin": skin,
        "eyes": (region == EYES).astype(np.float32),
        "inside": (region == INSIDE).astype(np.float32),
    }
    return masks


def roughness_map(masks: dict[str, np.ndarray]) -> np.ndarray:
    """Perceptual roughness (N, N) in [0, 1] from the table ROUGHNESS, blended at the regions' soft borders."""
    result = np.full_like(masks["skin"], ROUGHNESS["skin"])
    for name in ("forehead", "nose", "beard", "ears", "scalp", "lips", "eyes", "inside"):
        result += masks[name] * (ROUGHNESS[name] - result)
    return result


def _beard(uv: np.ndarray, resolution: int) -> np.ndarray:
    half = np.array(
        [[0.5, 0.655], [0.44, 0.665], [0.39, 0.74], [0.34, 0.73], [0.26, 0.66], [0.205, 0.52], [0.18, 0.52]]
        + [[0.19, 0.66], [0.23, 0.80], [0.32, 0.90], [0.42, 0.94], [0.5, 0.95]]
    )
    mouth = polygon_mask([_grow(uv[48:60], 1.05)], resolution, 0.006)
    return polygon_mask([half, _mirror(half)], resolution, 0.018) * (1 - mouth)


def _mirror(polygon: np.ndarray) -> np.ndarray:
    return polygon * [-1, 1] + [1, 0]


def _grow(polygon: np.ndarray, factor: float) -> np.ndarray:
    center = polygon.mean(axis=0)
    return center + (polygon - center) * factor


def polygon_mask(polygons: list[np.ndarray], resolution: int, soft: float) -> np.ndarray:
    """Antialiased union (resolution, resolution) of polygons (P, 2) in the atlas; edges blurred by `soft` widths."""
    size = resolution * SUPERSAMPLING
    image = Image.new("L", (size, size))
    draw = ImageDraw.Draw(image)
    for polygon in polygons:
        draw.polygon([tuple(p) for p in polygon * size], fill=255)
    small = np.asarray(image.resize((resolution, resolution), Image.Resampling.BOX), np.float32) / 255
    return gaussian_filter(small, soft * resolution)
