"""Random skin: diffuse albedo and specular parameter in the atlas, over the whole range of skin tones."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image
from scipy.ndimage import distance_transform_edt, gaussian_filter, map_coordinates
from scipy.special import expit

from relightify_diffusers.errors import AssetError
from relightify_diffusers.head.model import HeadModel
from relightify_diffusers.head.regions import region_masks
from relightify_diffusers.maps import individual_typology_angle, srgb_to_linear
from relightify_diffusers.rendering.atlas import AtlasTexels, interpolate
from relightify_diffusers.synthesis.hair import paint_hair
from relightify_diffusers.synthesis.noise import fractal_noise

# Unit vectors of melanin and hemoglobin in the space of -log(R, G, B): Tsumura et al. 2003, "Image-based skin color
# and texture analysis/synthesis by extracting hemoglobin and melanin information in the skin".
MELANIN = np.array([0.4143, 0.3570, 0.8372])
HEMOGLOBIN = np.array([0.2988, 0.6838, 0.6657])

# Linear albedos of very light and very dark skin, and how far their straight connection in log space is bent toward
# yellow half-way. Set so that the individual typology angle runs from about 65 to -60 degrees, as measured populations
# do (Del Bino & Bernerd 2013), with b* largest at medium tones.
LIGHTEST = np.array([0.78, 0.53, 0.42])
DARKEST = np.array([0.095, 0.046, 0.030])
YELLOW_BEND = np.array([0.10, -0.02, -0.28])
TONE_RANGE = (-55.0, 62.0)


@dataclass(frozen=True)
class Skin:
    """A sampled skin. diffuse_albedo: (N, N, 3) linear. specular: (N, N), the parameter s. tone: ITA in degrees."""

    diffuse_albedo: np.ndarray
    specular: np.ndarray
    tone: float


@dataclass(frozen=True)
class SkinSources:
    """What skins are sampled from, at one resolution.

    masks: region name → (N, N). details: (S, N, N, 3) log-albedo detail of CC0 skins, S = 0 without assets.
    texels: the atlas.
    """

    masks: dict[str, np.ndarray]
    details: np.ndarray
    texels: AtlasTexels

    @classmethod
    def load(cls, head: HeadModel, texels: AtlasTexels, assets: str | Path | None) -> SkinSources:
        """Prepare the region masks and, from a folder with skins/*.png in MakeHuman's head chart, the skin details."""
        resolution = texels.triangle.shape[0]
        masks = region_masks(head, resolution, texels)
        details = np.zeros((0, resolution, resolution, 3), np.float32)
        if assets is not None:
            paths = sorted((Path(assets) / "skins").glob("*.png"))
            if not paths:
                raise AssetError(f"no skins/*.png in {assets}; give a folder with MakeHuman's head-chart skins")
            details = np.stack([_skin_detail(head, texels, masks["skin"], path) for path in paths])
        return cls(masks, details, texels)


def tone_color(melanin: float | np.ndarray) -> np.ndarray:
    """Linear albedo (..., 3) of even skin for a melanin level in [0, 1], from LIGHTEST to DARKEST."""
    m = np.asarray(melanin)[..., None]
    return np.exp((1 - m) * np.log(LIGHTEST) + m * np.log(DARKEST) + 4 * m * (1 - m) * YELLOW_BEND * 0.5)


def melanin_for_tone(tone: float) -> float:
    """Melanin level whose even skin has an individual typology angle of `tone` degrees."""
    levels = np.linspace(0, 1, 256)
    angles = individual_typology_angle(tone_color(levels))
    return float(np.interp(-tone, -angles, levels))


def sample_skin(sources: SkinSources, rng: np.random.Generator) -> Skin:
    """Draw a skin whose tone is uniform in individual typology angle over TONE_RANGE."""
    masks, size = sources.masks, sources.texels.triangle.shape[0]
    tone = rng.uniform(*TONE_RANGE)
    melanin = melanin_for_tone(tone)
    log_albedo = np.broadcast_to(np.log(tone_color(melanin)), (size, size, 3)).copy()

    log_albedo += _detail(sources, rng)
    blood = 0.05 * fractal_noise(size, rng, 4, 0.6)
    redness = {"cheeks": 0.20, "nose": 0.16, "chin": 0.06, "ears": 0.18}
    blood += sum(rng.uniform(-0.3, 1) * amount * masks[name] for name, amount in redness.items())
    blood += masks["lips"] * rng.uniform(0.3, 1.1) * (1 - 0.3 * melanin)
    log_albedo -= (blood * (1 - 0.5 * melanin))[..., None] * HEMOGLOBIN
    pigment = 0.06 * fractal_noise(size, rng, 3, 0.5) + masks["lids"] * rng.uniform(0, 0.3)
    pigment += masks["lips"] * rng.uniform(0.05, 0.45) + masks["forehead"] * rng.uniform(-0.05, 0.1)
    pigment += _spots(size, rng, melanin)
    log_albedo -= pigment[..., None] * MELANIN

    albedo = np.exp(log_albedo)
    albedo = albedo * (1 - 0.75 * masks["nostrils"][..., None])
    albedo = paint_hair(albedo, masks, rng)
    albedo = _paint_eyes(albedo, sources, rng)
    specular = _specular(sources, rng)
    return Skin(np.clip(albedo, 0.004, 0.95).astype(np.float32), specular.astype(np.float32), tone)


def _skin_detail(head, texels: AtlasTexels, skin: np.ndarray, path: Path) -> np.ndarray:
    """Log-albedo of a photo-based skin minus its own low frequencies: the painted soft shading goes with them."""
    from relightify_diffusers.head.build_landmarks import makehuman_to_pixels

    try:
        image = srgb_to_linear(np.asarray(Image.open(path).convert("RGB"), np.float32) / 255)
    except OSError as error:
        raise AssetError(f"cannot read the skin {path}: {error}") from error
    uv = interpolate(head.makehuman_uv, head.atlas.uv_triangles, texels)
    known = (skin > 0) & np.isfinite(uv).all(-1)
    resolution = len(skin)
    # The source has several pixels per texel: it is blurred to the texel's footprint before it is sampled.
    footprint = image.shape[0] / resolution * 0.35
    blurred = np.stack([gaussian_filter(image[..., c], footprint) for c in range(3)], -1)
    pixels = makehuman_to_pixels(np.where(known[..., None], uv, 0.8), image.shape)
    color = np.stack([map_coordinates(blurred[..., c], pixels, order=1, mode="nearest") for c in range(3)], -1)
    log_color = np.log(np.clip(color, 0.01, 1))
    nearest = distance_transform_edt(~known, return_distances=False, return_indices=True)
    log_color = log_color[nearest[0], nearest[1]]
    low = np.stack([gaussian_filter(log_color[..., c], 0.045 * resolution) for c in range(3)], -1)
    detail = log_color - low
    # The painted hues of lids and folds are not to be trusted: most of the detail is kept as lightness.
    lightness = detail.mean(axis=-1, keepdims=True)
    detail = lightness + 0.35 * (detail - lightness)
    # Detail of lids, lips and nostrils is painted an order of magnitude darker than pores: bound it.
    return (np.clip(detail, -0.35, 0.25) * known[..., None]).astype(np.float32)


def _detail(sources: SkinSources, rng: np.random.Generator) -> np.ndarray:
    size = sources.texels.triangle.shape[0]
    grain = 0.035 * rng.uniform(0.3, 1.2) * fractal_noise(size, rng, 7, 0.9)[..., None] * np.array([0.8, 1.0, 1.1])
    if not len(sources.details):
        return grain
    first, second = rng.choice(len(sources.details), 2)
    mix = np.clip(0.5 + fractal_noise(size, rng, 2, 0.5), 0, 1)[..., None]
    detail = mix * sources.details[first] + (1 - mix) * sources.details[second]
    if rng.uniform() < 0.5:
        detail = detail[:, ::-1]
    # A painted scalp is not skin: hair is painted later, where there is any.
    return detail * rng.uniform(0.5, 1.1) * (1 - 0.9 * sources.masks["scalp"][..., None]) + 0.5 * grain


def _spots(size: int, rng: np.random.Generator, melanin: float) -> np.ndarray:
    """Freckles (on light skin mostly) and a few moles, as melanin."""
    result = np.zeros((size, size))
    v, u = np.meshgrid(*(2 * [(np.arange(size) + 0.5) / size]), indexing="ij")
    freckled = rng.uniform() < 0.25 * (1 - melanin)
    count = (int(rng.uniform(50, 250)) if freckled else 0) + rng.poisson(4)
    for _ in range(count):
        cu, cv = rng.normal(0.5, 0.16), rng.normal(0.55, 0.16)
        radius = rng.uniform(0.002, 0.005) if freckled else rng.uniform(0.003, 0.008)
        # Only the texels near a spot are touched.
        rows = slice(max(0, int((cv - 4 * radius) * size)), max(0, int((cv + 4 * radius) * size) + 2))
        columns = slice(max(0, int((cu - 4 * radius) * size)), max(0, int((cu + 4 * radius) * size) + 2))
        distance = (u[rows, columns] - cu) ** 2 + (v[rows, columns] - cv) ** 2
        result[rows, columns] += rng.uniform(0.15, 0.6) * np.exp(-distance / (2 * radius**2))
    return result


def _paint_eyes(albedo: np.ndarray, sources: SkinSources, rng: np.random.Generator) -> np.ndarray:
    """Sclera, iris and pupil on the eye islands with a common gaze; mouth and sockets in the colors of mucosa."""
    size = albedo.shape[0]
    v, u = np.meshgrid(*(2 * [(np.arange(size) + 0.5) / size]), indexing="ij")
    gaze = rng.normal(0, 0.006, 2)
    iris = np.array(
        [(0.06, 0.03, 0.015), (0.16, 0.09, 0.04), (0.10, 0.16, 0.22), (0.12, 0.15, 0.08), (0.2, 0.22, 0.24)]
    )
    color = iris[rng.choice(5, p=(0.45, 0.2, 0.15, 0.12, 0.08))] * rng.uniform(0.7, 1.3)
    sclera = np.array([0.62, 0.55, 0.50]) * rng.uniform(0.85, 1.1)
    result = albedo.copy()
    for center in (0.052, 0.948):
        eye = (sources.masks["eyes"] > 0) & (np.abs(u - center) < 0.08)
        radius = np.hypot(u - center - gaze[0], v - 0.944 - gaze[1])
        # The islands are azimuthal: the iris (about 28 of the 90 degrees shown) takes a third of the radius.
        inside = expit((0.0155 - radius) / 0.0012)[..., None]
        pupil = expit((0.006 - radius) / 0.0008)[..., None]
        veins = 1 + 0.05 * fractal_noise(size, rng, 5, 0.8)[..., None] * np.array([0, 1, 1])
        painted = sclera * veins * (1 - inside) + color * inside * (1 - pupil) + 0.008 * pupil
        result[eye] = painted[eye]
    cavity = np.array([0.32, 0.11, 0.09]) * rng.uniform(0.7, 1.1)
    inside = sources.masks["inside"][..., None]
    return result * (1 - inside) + cavity * inside


def _specular(sources: SkinSources, rng: np.random.Generator) -> np.ndarray:
    """Specular parameter s: F0 = 0.08 s is 0.028 for skin (index of refraction 1.4, Weyrich et al. 2006)."""
    masks, size = sources.masks, sources.texels.triangle.shape[0]
    oil = rng.uniform(0.8, 1.25)
    s = 0.35 * oil * (1 + 0.10 * fractal_noise(size, rng, 5, 0.8))
    for name, factor in (("nose", 1.25), ("forehead", 1.15), ("lips", 1.2), ("cheeks", 0.95), ("beard", 0.95)):
        s *= 1 + (factor - 1) * rng.uniform(0.5, 1.3) * masks[name]
    s *= 1 - 0.7 * masks["nostrils"]
    s += masks["scalp"] * (0.3 - s) * 0.6
    s += masks["eyes"] * (0.31 - s) + masks["inside"] * (0.3 - s)
    return np.clip(s, 0, 1)
