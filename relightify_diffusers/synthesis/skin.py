"""Random skin: diffuse albedo, specular parameter and roughness in the atlas, over the whole range of skin tones."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.ndimage import gaussian_filter

from relightify_diffusers.head.model import HeadModel
from relightify_diffusers.head.regions import roughness_map
from relightify_diffusers.maps import LUMINANCE, individual_typology_angle
from relightify_diffusers.synthesis.chromophores import TONE_RANGE, absorb, melanin_for_tone, tone_color
from relightify_diffusers.synthesis.eyes import paint_eyes
from relightify_diffusers.synthesis.features import Canvas, Layers, paint_features
from relightify_diffusers.synthesis.hair import paint_hair
from relightify_diffusers.synthesis.noise import fractal_noise
from relightify_diffusers.synthesis.population import Person
from relightify_diffusers.synthesis.relief import Relief
from relightify_diffusers.synthesis.sources import SkinSources

# Specular parameter of skin: F0 = 0.08 s is 0.028 for an index of refraction of 1.4 (Weyrich et al. 2006, section 4).
SKIN_S = 0.35
# Factors by region: Weyrich et al. 2006 measured the strongest specular reflection on nose, forehead and lips, the
# weakest on cheeks and chin; the values are ours.
SPECULAR_FACTORS = {
    "nose": 1.28,
    "forehead": 1.15,
    "lips": 1.22,
    "cheeks": 0.94,
    "chin": 0.93,
    "beard": 0.95,
    "ears": 0.95,
}
# Parameter s of hair and of the wet eye (index of refraction 1.55 and 1.376: ((n - 1) / (n + 1))^2 / 0.08).
HAIR_S, EYE_S, MUCOSA_S = 0.58, 0.31, 0.33
HAIR_ROUGHNESS = 0.45


@dataclass(frozen=True)
class Skin:
    """A sampled skin.

    diffuse_albedo: (N, N, 3) linear. specular: (N, N), the parameter s. roughness: (N, N). tone: individual typology
    angle in degrees of forehead and cheeks, measured on the albedo. sharpness: root mean square of the fine variation
    of log luminance on bare skin. features: names of what was painted.
    """

    diffuse_albedo: np.ndarray
    specular: np.ndarray
    roughness: np.ndarray
    tone: float
    sharpness: float
    features: tuple[str, ...]


def sample_skin(
    head: HeadModel,
    sources: SkinSources,
    person: Person,
    relief: Relief,
    rng: np.random.Generator,
    tone: float | None = None,
) -> Skin:
    """Draw a skin, whose tone says nothing of the person.

    tone: individual typology angle in degrees of the even skin; uniform over TONE_RANGE if None.
    """
    masks = sources.masks
    streams = rng.spawn(8)
    tone = streams[0].uniform(*TONE_RANGE) if tone is None else tone
    level = melanin_for_tone(tone)
    canvas = Canvas(masks, head.landmark_uv, relief.creases, person, level)

    melanin, hemoglobin, lightness = _detail(sources, streams[1])
    layers = Layers(melanin, hemoglobin, [])
    names = paint_features(layers, canvas, streams[2])
    kept = 1 - layers.evenness * masks["skin"] * (1 - masks["lips"])
    log_albedo = np.log(tone_color(level)) + absorb(layers.melanin * kept, layers.hemoglobin * kept)
    undertone = streams[3].normal(0, [0.05, 0.09], 2)
    log_albedo += absorb(*undertone) + (lightness * kept)[..., None]
    # A head that is seen from afar has one tone: what the layers add on average is taken back.
    even = _even_skin(masks)
    log_albedo += np.log(tone_color(level)).mean() - log_albedo[even].mean()

    albedo = np.exp(log_albedo)
    for color, opacity in layers.paint:
        albedo = albedo * (1 - opacity[..., None]) + color * opacity[..., None]
    albedo = albedo * (1 - streams[4].uniform(0.4, 0.85) * masks["nostrils"][..., None])
    measured = float(individual_typology_angle(np.median(albedo[even], axis=0)))
    sharpness = _sharpness(albedo, even)

    albedo, hair = paint_hair(albedo, sources, head.landmark_uv, person, level, streams[5])
    albedo = paint_eyes(albedo, sources, streams[6])
    specular, roughness = _gloss(sources, relief, layers, hair.opacity, streams[7])
    return Skin(
        np.clip(albedo, 0.004, 0.95).astype(np.float32), specular, roughness, measured, sharpness, names + hair.names
    )


def _even_skin(masks: dict[str, np.ndarray]) -> np.ndarray:
    """Texels (N, N) of forehead and cheeks, where a tone is measured; all of the skin on the coarsest maps."""
    even = (masks["cheeks"] > 0.4) | ((masks["forehead"] > 0.5) & (masks["scalp"] < 0.1))
    return even if even.any() else masks["skin"] > 0


def _sharpness(albedo: np.ndarray, where: np.ndarray) -> float:
    luminance = np.log(np.maximum(albedo @ LUMINANCE, 1e-4))
    fine = luminance - gaussian_filter(luminance, 0.012 * len(where))
    return float(np.sqrt(np.mean(fine[where] ** 2)))


def _detail(sources: SkinSources, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Melanin, hemoglobin and log lightness (N, N) of a new person: two people's, mixed by regions; or noise."""
    size = sources.resolution
    cloud = 0.07 * fractal_noise(size, rng, 4, 0.6) * rng.uniform(0.5, 1.5)
    blood = 0.06 * fractal_noise(size, rng, 5, 0.7) * rng.uniform(0.5, 1.5)
    grain = 0.03 * fractal_noise(size, rng, 4, 0.9, coarsest=48) * rng.uniform(0.4, 1.3)
    # Foreheads are yellower, chins and jaws less so (Weyrich et al. 2006 measured such zones; the amounts are ours).
    zones = rng.normal(0, 0.06) * sources.masks["forehead"] + rng.normal(0, 0.05) * sources.masks["chin"]
    share = rng.uniform(0, 1, 3)
    picks, mix = rng.integers(2**31, size=2), fractal_noise(size, rng, 2, 0.5, coarsest=3)
    flips = rng.uniform(size=2) < 0.5
    if not sources.details:
        return cloud + zones, blood, grain
    weight = np.clip(0.5 + 0.8 * mix, 0, 1)
    first, second = (sources.details[pick % len(sources.details)] for pick in picks)
    parts = []
    for name, least, amount in zip(("melanin", "hemoglobin", "lightness"), (0.3, 0.3, 0.5), share):
        a, b = (
            values[:, ::-1] if flip else values
            for values, flip in zip((getattr(first, name), getattr(second, name)), flips)
        )
        parts.append((least + amount * (1.15 - least)) * ((1 - weight) * a + weight * b))
    return 0.6 * cloud + zones + parts[0], 0.6 * blood + parts[1], 0.5 * grain + parts[2]


def _gloss(
    sources: SkinSources, relief: Relief, layers: Layers, hair: np.ndarray, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """Specular parameter and roughness (N, N): by region, oilier or drier, modulated by pores, wrinkles and hair."""
    masks, size = sources.masks, sources.resolution
    oil = rng.normal(0, 1)
    zone = masks["nose"] + masks["forehead"] + 0.5 * masks["chin"]
    pores = fractal_noise(size, rng, 3, 0.9, coarsest=64)
    s = SKIN_S * np.exp(0.16 * oil + 0.05 * fractal_noise(size, rng, 4, 0.7) + 0.06 * pores)
    for name, factor in SPECULAR_FACTORS.items():
        s = s * (1 + (factor - 1) * rng.uniform(0.5, 1.3) * masks[name])
    s = s * (1 - 0.7 * masks["nostrils"]) * (1 - 0.35 * relief.creases) * (1 - 0.25 * layers.evenness * masks["skin"])
    roughness = roughness_map(masks) * np.exp(-0.12 * oil * (0.6 + 0.6 * zone) + 0.03 * pores)
    roughness = roughness * (1 + 0.12 * layers.evenness * masks["skin"])
    lips = masks["lips"] * rng.uniform(0, 0.3) ** 1.5 * 3
    roughness = roughness * (1 - 0.35 * lips)
    s, roughness = s + hair * (HAIR_S - s) * 0.6, roughness + hair * (HAIR_ROUGHNESS - roughness) * 0.6
    for name, value in (("eyes", EYE_S), ("inside", MUCOSA_S)):
        s = s + masks[name] * (value - s)
    roughness = roughness * (1 - masks["eyes"]) + 0.12 * masks["eyes"]
    return np.clip(s, 0, 1).astype(np.float32), np.clip(roughness, 0.08, 1).astype(np.float32)
