"""Between the photo's resolution and the prior's: shrink the partial texture, and give completed maps its detail."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from scipy.ndimage import distance_transform_edt, gaussian_filter

from relightify_diffusers.maps import decode_normals, encode_normals, linear_to_srgb, srgb_to_linear
from relightify_diffusers.rendering.atlas import dilate
from relightify_diffusers.rendering.mesh import normalize

# Share of a coarse texel that must be observed for it to count as observed.
MIN_COVERAGE = 0.6
# Atlas widths: over which detail fades in from the border of the observed region, over which a difference of tone at
# that border fades out into the completed region, and within which that difference is measured.
FADE_IN, FADE_OUT, BAND = 0.03, 0.12, 0.04
# Width of the low-pass that separates detail from what the prior decides, in coarse texels: about what averaging over
# a coarse texel and interpolating bicubically amounts to.
LOW_PASS = 0.6
# Share of the logarithm of the photo's detail that is taken for pigment, the rest being fine shading. Chosen by eye.
PIGMENT_SHARE = 0.7
# Weight of the prior's low-frequency normals against those of the fitted mesh.
NORMAL_SHARE = 0.25


@dataclass(frozen=True)
class CoarseTexture:
    """A partial texture at the prior's resolution.

    texture: (3, R, R) float32 sRGB in [0, 1]. observed: (R, R) bool.
    """

    texture: np.ndarray
    observed: np.ndarray


def shrink(texture: np.ndarray, observed: np.ndarray, resolution: int) -> CoarseTexture:
    """Average the observed texels (N, N, 3) over the cells of a grid (R, R), R <= N."""
    weight = observed[None].astype(np.float32)
    coverage = _resize(weight, resolution)
    mean = _resize(texture.transpose(2, 0, 1) * weight, resolution) / np.maximum(coverage, 1e-6)
    seen = coverage[0] >= MIN_COVERAGE
    return CoarseTexture(np.where(seen, np.clip(mean, 0, 1), 0).astype(np.float32), seen)


def enlarge(coarse: np.ndarray, inside: np.ndarray, resolution: int) -> np.ndarray:
    """Upsample a map (R, R, C) to (N, N, C) after filling what lies outside the atlas from its border."""
    filled = dilate(coarse, inside)
    channels = np.ascontiguousarray(filled.transpose(2, 0, 1), np.float32)[None]
    scaled = torch.nn.functional.interpolate(
        torch.from_numpy(channels), size=(resolution, resolution), mode="bicubic", align_corners=False
    )
    return scaled[0].permute(1, 2, 0).numpy().clip(0, 1)


def merge(
    coarse: dict[str, np.ndarray],
    coarse_inside: np.ndarray,
    texture: np.ndarray,
    observed: np.ndarray,
    mesh_normals: np.ndarray,
    sharp: np.ndarray,
) -> dict[str, np.ndarray]:
    """Maps at the photo's resolution from completed coarse maps and the observed texture.

    coarse: name → (R, R, 3) in [0, 1]. coarse_inside: (R, R) bool, the atlas. texture: (N, N, 3), observed: (N, N).
    mesh_normals: (N, N, 3) unit, of the fitted mesh. sharp: (N, N) in [0, 1], where all detail is pigment (eyes,
    brows, lips). Observed texels of the texture come back exactly.
    """
    size = len(texture)
    large = {name: enlarge(values, coarse_inside, size) for name, values in coarse.items()}
    maps = {"specular_albedo": large["specular_albedo"]}
    depth = distance_transform_edt(observed) / size  # how far inside the observed region
    away = distance_transform_edt(~observed) / size

    band = observed & (depth < BAND)
    step = spread((texture - large["texture"]) * band[..., None], band)
    hidden = large["texture"] + step * np.exp(-away / FADE_OUT)[..., None]
    maps["texture"] = np.where(observed[..., None], texture, np.clip(hidden, 0, 1)).astype(np.float32)

    # The detail: what the texture has beyond its own low frequencies, which are taken from observed texels alone, so
    # that the border of the observed region is no edge.
    sigma = LOW_PASS * size / len(coarse_inside)
    linear = srgb_to_linear(texture)
    seen = gaussian_filter(observed.astype(np.float32), sigma)[..., None]
    smooth = gaussian_filter(linear * observed[..., None], (sigma, sigma, 0)) / np.maximum(seen, 1e-6)
    ratio = np.log((linear + 0.01) / (smooth + 0.01))
    share = PIGMENT_SHARE + (1 - PIGMENT_SHARE) * sharp
    # Sharp regions are narrow, and end at the holes of the atlas rather than at unseen skin: no fading there.
    weight = observed * np.maximum(np.clip(depth / FADE_IN, 0, 1), sharp) * share
    albedo = srgb_to_linear(large["diffuse_albedo"]) * np.exp(np.clip(ratio, -2, 1) * weight[..., None])
    maps["diffuse_albedo"] = linear_to_srgb(np.clip(albedo, 0, 1)).astype(np.float32)

    coarse_mesh = enlarge(_shrink_map(encode_normals(mesh_normals), len(coarse_inside)), coarse_inside, size)
    shift = decode_normals(large["normals"]) - decode_normals(coarse_mesh)
    maps["normals"] = encode_normals(normalize(mesh_normals + NORMAL_SHARE * shift)).astype(np.float32)
    return maps


def spread(values: np.ndarray, known: np.ndarray) -> np.ndarray:
    """Fill unknown texels of (N, N, C) smoothly from the known ones, by push and pull over a pyramid (Gortler et al.
    1996, "The Lumigraph", section 3.4); zero where nothing is known at all."""
    weight = known[..., None].astype(np.float32)
    return _push_pull(values.astype(np.float32) * weight, weight)


def _push_pull(values: np.ndarray, weight: np.ndarray) -> np.ndarray:
    size = len(values)
    mean = values / np.maximum(weight, 1e-6)
    if size == 1:
        return mean
    half = (size + 1) // 2
    stacked = _resize(np.concatenate([values, weight], -1).transpose(2, 0, 1), half).transpose(1, 2, 0)
    # Weights saturate: one known texel is enough to be believed at the next level.
    total = stacked[..., -1:]
    saturated = np.minimum(total * 4, 1)
    coarser = _push_pull(stacked[..., :-1] / np.maximum(total, 1e-6) * saturated, saturated)
    up = torch.nn.functional.interpolate(
        torch.from_numpy(np.ascontiguousarray(coarser.transpose(2, 0, 1)))[None], size=(size, size), mode="bilinear"
    )[0].permute(1, 2, 0)
    blend = np.minimum(weight, 1)
    return mean * blend + up.numpy() * (1 - blend)


def _shrink_map(values: np.ndarray, resolution: int) -> np.ndarray:
    return _resize(values.transpose(2, 0, 1), resolution).transpose(1, 2, 0)


def _resize(values: np.ndarray, resolution: int) -> np.ndarray:
    """Area average of (C, N, N) to (C, R, R)."""
    tensor = torch.from_numpy(np.ascontiguousarray(values, np.float32))[None]
    return torch.nn.functional.adaptive_avg_pool2d(tensor, resolution)[0].numpy()
