"""Hair as painted on skin: brows, lashes, beard, scalp."""

from __future__ import annotations

import numpy as np
from PIL import Image, ImageDraw
from scipy.ndimage import gaussian_filter

from relightify_diffusers.synthesis.noise import fractal_noise

# Linear albedo of hair: black, dark brown, brown, dark blond, blond, red, gray, white; and how often each is drawn.
HAIR_COLORS = np.array(
    [(0.012, 0.010, 0.009), (0.028, 0.018, 0.012), (0.07, 0.042, 0.024), (0.14, 0.09, 0.05), (0.30, 0.21, 0.12)]
    + [(0.20, 0.075, 0.03), (0.22, 0.21, 0.20), (0.55, 0.53, 0.50)]
)
HAIR_ODDS = (0.34, 0.24, 0.15, 0.07, 0.05, 0.04, 0.07, 0.04)


def paint_hair(albedo: np.ndarray, masks: dict[str, np.ndarray], rng: np.random.Generator) -> np.ndarray:
    """Blend brows, lashes, beard or stubble and scalp hair over an albedo (N, N, 3), each with its own odds.

    masks: the regions by name, (N, N).
    """
    size = albedo.shape[0]
    color = HAIR_COLORS[rng.choice(len(HAIR_COLORS), p=HAIR_ODDS)] * rng.uniform(0.8, 1.3)
    # Brows are mostly darker than the hair of the head.
    brow_color = color * rng.uniform(0.4, 1.0) if color.mean() > 0.1 else color
    result = _blend(albedo, brow_color, _brows(masks["brows"], rng))
    result = _blend(result, np.array([0.01, 0.008, 0.008]), _lash_line(masks["lids"], rng))

    kind = rng.choice(["none", "stubble", "beard", "mustache"], p=(0.58, 0.2, 0.16, 0.06))
    grain = fractal_noise(size, rng, 4, 1.0, coarsest=32)
    if kind == "stubble":
        alpha = masks["beard"] * np.clip(rng.uniform(0.15, 0.45) * (1 + 0.6 * grain), 0, 0.8)
    elif kind == "beard":
        alpha = masks["beard"] ** rng.uniform(0.7, 1.5) * np.clip(rng.uniform(0.6, 1.0) + 0.35 * grain, 0, 0.97)
    elif kind == "mustache":
        v = (np.arange(size) + 0.5)[:, None] / size
        alpha = masks["beard"] * (v < 0.74) * (v > 0.6) * np.clip(0.8 + 0.3 * grain, 0, 0.95)
        alpha[:, np.abs((np.arange(size) + 0.5) / size - 0.5) > 0.12] = 0
        alpha = gaussian_filter(alpha, 0.004 * size)
    else:
        alpha = np.zeros((size, size))
    result = _blend(result, color, alpha)

    if rng.uniform() < 0.85:
        strands = fractal_noise(size, rng, 4, 0.9, coarsest=24)
        density = np.clip(rng.uniform(0.8, 1.1) + 0.15 * strands, 0, 0.99)
        # The hairline wanders: the mask is shifted and roughened where it is soft.
        edge = np.clip(masks["scalp"] * 4 - 1.5 + rng.uniform(-0.6, 0.6) + 0.5 * grain, 0, 1) * (masks["scalp"] > 0.02)
        shade = np.clip(1 + 0.5 * strands, 0.3, 2.2)[..., None]
        result = _blend(result, color * shade, edge * density)
    return result


def _blend(albedo: np.ndarray, color: np.ndarray, alpha: np.ndarray) -> np.ndarray:
    return albedo * (1 - alpha[..., None]) + color * alpha[..., None]


def _brows(region: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Brows as short strokes inside the brow mask, drawn at high resolution and mirrored with small differences."""
    size = region.shape[0]
    canvas = max(512, 2 * size)
    image = Image.new("L", (canvas, canvas))
    draw = ImageDraw.Draw(image)
    mask = np.asarray(Image.fromarray(region).resize((canvas, canvas), Image.Resampling.BILINEAR))
    rows, columns = np.nonzero(mask > rng.uniform(0.25, 0.6))
    if not len(rows):  # maps of few texels have no texel that is mostly brow
        return np.zeros((size, size), np.float32)
    chosen = rng.choice(len(rows), int(rng.uniform(120, 600)))
    thickness = max(1, canvas // 400)
    for row, column in zip(rows[chosen], columns[chosen]):
        side = 1 if column > canvas / 2 else -1
        length = canvas * rng.uniform(0.008, 0.02)
        along = rng.normal(0.75, 0.15)
        end = (column + side * along * length, row - (1 - along) * length + rng.normal(0, 0.002) * canvas)
        draw.line([(column, row), end], fill=int(rng.uniform(140, 255)), width=thickness)
    strokes = np.asarray(image.resize((size, size), Image.Resampling.BOX), np.float32) / 255
    return np.clip(strokes * rng.uniform(0.8, 1.5), 0, 0.95) if rng.uniform() > 0.03 else np.zeros_like(strokes)


def _lash_line(lids: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """The dark rim of the lids: where the lid mask meets the hole of the eye."""
    size = lids.shape[0]
    hole = (gaussian_filter((lids <= 0).astype(np.float32), 0.0035 * size)) * (lids > 0.5)
    return np.clip(hole * rng.uniform(0.5, 2.2), 0, 0.85)
