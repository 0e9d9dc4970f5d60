"""Hair as painted on skin: brows, lashes, stubble, mustache, beard, scalp and strands over the face."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageDraw
from scipy.ndimage import affine_transform, gaussian_filter

from relightify_diffusers.synthesis.noise import atlas_grid, fractal_noise, spots
from relightify_diffusers.synthesis.population import Person
from relightify_diffusers.synthesis.sources import SkinSources

# Linear albedo of hair: black, dark brown, brown, dark blond, blond, red; and how often each is drawn on light and on
# dark skin. Gray and white come with age.
HAIR_COLORS = np.array(
    [(0.012, 0.010, 0.009), (0.028, 0.018, 0.012), (0.07, 0.042, 0.024), (0.14, 0.09, 0.05), (0.30, 0.21, 0.12)]
    + [(0.20, 0.075, 0.03)]
)
ODDS_ON_LIGHT, ODDS_ON_DARK = (
    np.array([0.22, 0.27, 0.22, 0.12, 0.10, 0.07]),
    np.array([0.8, 0.15, 0.03, 0, 0.01, 0.01]),
)
GRAY = np.array([0.32, 0.31, 0.30])
# Standard deviation in atlas widths of the rim of lashes, and marks along a lid.
LASH_WIDTH, LASH_MARKS = 0.0016, 48
# How often a man has none, stubble, a full beard, a mustache or a goatee.
BEARDS = ("none", "stubble", "beard", "mustache", "goatee")
BEARD_ODDS = (0.42, 0.27, 0.18, 0.06, 0.07)


@dataclass(frozen=True)
class Hair:
    """What paint_hair painted. opacity: (N, N) of all hair. names: of what there is."""

    opacity: np.ndarray
    names: tuple[str, ...]


def paint_hair(
    albedo: np.ndarray,
    sources: SkinSources,
    landmarks: np.ndarray,
    person: Person,
    level: float,
    rng: np.random.Generator,
) -> tuple[np.ndarray, Hair]:
    """Blend hair over an albedo (N, N, 3) linear; each kind with its own odds by gender, age and tone.

    landmarks: (68, 2) iBUG points in the atlas. level: melanin level in [0, 1]. Returns a new albedo and Hair.
    """
    masks, size = sources.masks, len(albedo)
    streams = rng.spawn(6)
    color = hair_color(person, level, streams[0])
    strands = _strands(size, streams[1])
    shaded = color * np.clip(1 + 0.32 * strands, 0.45, 1.8)[..., None]
    gray = GRAY * np.clip(1 + 0.22 * strands, 0.5, 1.5)[..., None]

    brow = _brows(sources, landmarks, streams[2])
    brow_color = color * streams[2].uniform(0.35, 0.9) if color.mean() > 0.08 else color
    beard_name, beard = _beard(masks, person, streams[3])
    scalp_name, scalp = _scalp(masks, person, streams[4])
    over_name, over = _over_face(masks, streams[5]) if scalp_name in ("hair",) else ("", np.zeros_like(scalp))

    layers = [
        (np.array([0.012, 0.009, 0.008]), _lash_line(landmarks, size, person, streams[5]) * (masks["skin"] > 0)),
        # Where the scalp is shaved or thin, the hair's color shows through the skin, bluish.
        (shaded * 0.6 + 0.4 * gray * streams[3].uniform(0, 1) ** 3, beard),
        (brow_color, brow),
        (shaded, scalp),
        (shaded, over),
    ]
    result, opacity = albedo, np.zeros((size, size))
    for paint, alpha in layers:
        result = result * (1 - alpha[..., None]) + paint * alpha[..., None]
        opacity = opacity * (1 - alpha) + alpha
    names = tuple(name for name in (beard_name, scalp_name, over_name) if name not in ("", "none"))
    return result, Hair(opacity.astype(np.float32), names + (("brows",) if brow.any() else ()))


def hair_color(person: Person, level: float, rng: np.random.Generator) -> np.ndarray:
    """Linear albedo (3,): darker on dark skin, gray with age."""
    odds = (1 - level) * ODDS_ON_LIGHT + level * ODDS_ON_DARK
    color = HAIR_COLORS[rng.choice(len(odds), p=odds / odds.sum())] * np.exp(rng.normal(0, 0.2))
    graying = np.clip((person.age - rng.normal(52, 10)) / 20, 0, 1) * rng.uniform(0.4, 1.0)
    return color * (1 - graying) + GRAY * rng.uniform(0.5, 1.6) * graying


def _strands(size: int, rng: np.random.Generator) -> np.ndarray:
    """Streaks (size, size) that run down the atlas, the way hair falls."""
    grid = rng.normal(size=(24, 192)).astype(np.float32)
    streaks = np.asarray(Image.fromarray(grid).resize((size, size), Image.Resampling.BICUBIC))
    return 0.7 * streaks + 0.5 * fractal_noise(size, rng, 4, 0.8, coarsest=8)


def _brows(sources: SkinSources, landmarks: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Opacity (N, N) of both brows: a cut-out bent to the landmarks, or strokes; absent one time in thirty."""
    size = sources.resolution
    pick, none, strength = rng.integers(2**31), rng.uniform() < 1 / 30, rng.uniform(0.75, 1.5)
    shift = rng.normal(0, [0.004, 0.006])
    stretch, thick = rng.uniform(0.9, 1.15), rng.uniform(1.0, 1.9)
    strokes = _stroked_brow(rng)
    cutout = sources.brows[pick % len(sources.brows)] if sources.brows and pick % 5 else strokes
    if none:
        return np.zeros((size, size), np.float32)
    # The picture shows the subject's left brow, inner end first; the other is its mirror image.
    inner, outer = landmarks[22] + [0.008, 0] + shift * [1, 1], landmarks[26] + [0, 0.006] + shift
    length = stretch * np.hypot(*(outer - inner))
    left = _place(cutout, inner, np.arctan2(*(outer - inner)[::-1]), length, thick, size)
    brows = left + left[:, ::-1]
    return np.clip(brows * strength, 0, 0.96) * (sources.masks["skin"] > 0)


def _place(picture: np.ndarray, inner: np.ndarray, angle: float, length: float, thick: float, size: int) -> np.ndarray:
    """Put a picture (H, W) on the atlas: its lower left corner region at `inner`, `length` wide, turned by `angle`."""
    height, width = picture.shape
    factor = max(1, min(4, 1024 // size))  # drawn finer than the map, then averaged
    canvas = size * factor
    pixels = width / (length * canvas)  # picture pixels per canvas pixel
    soft = gaussian_filter(np.pad(picture, 8), 0.45 * max(pixels, 0.3))
    cosine, sine = np.cos(angle), np.sin(angle)
    # Rows and columns of the picture from those of the canvas.
    matrix = pixels * np.array([[cosine / thick, -sine / thick], [sine, cosine]])
    # The ends of a brow lie at the lower part of its picture.
    anchor = np.array([0.72 * height + 8, 8.0])
    offset = anchor - matrix @ (inner[::-1] * canvas - 0.5)
    drawn = affine_transform(soft, matrix, offset, (canvas, canvas), order=1)
    return drawn.reshape(size, factor, size, factor).mean(axis=(1, 3)).astype(np.float32)


def _stroked_brow(rng: np.random.Generator) -> np.ndarray:
    """A brow drawn with short strokes on (160, 480): upright at the inner end, lying along the arch at the outer."""
    image = Image.new("L", (480, 160))
    draw = ImageDraw.Draw(image)
    arch, body, count = rng.uniform(20, 60), rng.uniform(18, 40), int(rng.uniform(250, 700))
    along = rng.beta(1.1, 1.3, count)
    spread = rng.normal(0, 0.33, count)
    lengths, tilts, tones = rng.uniform(18, 42, count), rng.normal(0, 0.15, count), rng.uniform(120, 255, count)
    for t, offset, length, tilt, tone in zip(along, spread, lengths, tilts, tones):
        x = 10 + 440 * t
        y = 118 - arch * np.sin(np.pi * min(t / 1.25 + 0.05, 1)) + offset * body * (1 - 0.75 * t)
        angle = -1.25 * (1 - t) ** 2 - 0.25 + 0.6 * t + tilt
        draw.line([(x, y), (x + length * np.cos(angle), y + length * np.sin(angle))], fill=int(tone), width=2)
    return np.asarray(image, np.float32) / 255


def _lash_line(landmarks: np.ndarray, size: int, person: Person, rng: np.random.Generator) -> np.ndarray:
    """Opacity (size, size) of the dark rim of the lids: strong above the eye, weak below.

    The landmarks lie on the edges of open lids. What lies between them and the hole of the atlas is hidden inside.
    """
    amount = rng.uniform(0.5, 1.8) + rng.uniform(0, 0.8) * (1 - person.gender)
    below = rng.uniform(0.15, 0.5)
    result = np.zeros((size, size), np.float32)
    for corners, strength in (
        ((36, 37, 38, 39), 1),
        ((42, 43, 44, 45), 1),
        ((36, 41, 40, 39), below),
        ((42, 47, 46, 45), below),
    ):
        along = np.linspace(0, 3, LASH_MARKS)
        line = np.stack([np.interp(along, range(4), landmarks[list(corners), axis]) for axis in (0, 1)], axis=-1)
        result += spots(size, line, np.full(LASH_MARKS, LASH_WIDTH), np.full(LASH_MARKS, 0.2 * strength * amount))
    return np.clip(result, 0, 0.85)


def _beard(masks: dict, person: Person, rng: np.random.Generator) -> tuple[str, np.ndarray]:
    """Name and opacity of facial hair; women have a trace at most."""
    kind = str(rng.choice(BEARDS, p=BEARD_ODDS))
    size = len(masks["beard"])
    grain = fractal_noise(size, rng, 4, 1.0, coarsest=48)
    patchy = fractal_noise(size, rng, 3, 0.7, coarsest=6)
    density, sharp, edge = rng.uniform(size=3)
    if person.gender < 0.5 or person.age < 19:
        kind = "none"
    region = np.clip(masks["beard"] * (1.2 + 0.3 * patchy), 0, 1) ** (0.7 + edge)
    u, v = atlas_grid(size)
    side = np.abs(u - 0.5)
    if kind == "stubble":
        return kind, region * np.clip((0.12 + 0.36 * density) * (1 + 0.7 * grain), 0, 0.8)
    if kind == "none":
        return kind, region * 0.06 * density * (person.gender > 0.5)
    wander = 0.15 * patchy + 0.1 * grain
    mustache = (side / 0.13) ** 2 + ((v - 0.67) / 0.055) ** 2 + wander < 1
    chin = (side / (0.05 + 0.05 * density)) ** 2 + ((v - 0.82) / 0.13) ** 2 + wander < 1
    where = {"beard": np.ones_like(mustache), "mustache": mustache, "goatee": mustache | chin}[kind]
    shape = gaussian_filter(where.astype(np.float32), (0.005 + 0.006 * sharp) * size)
    return kind, region * shape * np.clip(0.5 + 0.4 * density + (0.25 + 0.15 * sharp) * grain, 0, 0.97)


def _scalp(masks: dict, person: Person, rng: np.random.Generator) -> tuple[str, np.ndarray]:
    """Name and opacity of the hair of the head, with a hairline that wanders and, on men, recedes with age."""
    size = len(masks["scalp"])
    bald = 0.03 + 0.25 * person.gender * np.clip((person.age - 25) / 50, 0, 1)
    kind = str(rng.choice(["hair", "shaved", "bald"], p=[1 - bald - 0.06, 0.06, bald]))
    grain = fractal_noise(size, rng, 4, 0.9, coarsest=24)
    wave = fractal_noise(size, rng, 3, 0.6, coarsest=6)
    recession = person.gender * np.clip((person.age - 20) / 60, 0, 1) * rng.uniform(0, 1)
    density = rng.uniform(0.75, 1.0)
    u, v = atlas_grid(size)
    # Receding starts at the temples: the line rises beside the middle.
    temples = np.exp(-(((np.abs(u - 0.5) - 0.13) / 0.07) ** 2)) * (v < 0.3)
    scalp = masks["scalp"]
    # Long hair hangs down behind the ears to the border of the map.
    long = rng.uniform() < 0.15 + 0.55 * (1 - person.gender)
    behind = np.clip((np.abs(u - 0.5) - 0.37 - 0.03 * (wave + 0.5)) / 0.03, 0, 1) * np.clip((v - 0.4) / 0.1, 0, 1)
    scalp = np.maximum(scalp, behind * (masks["skin"] > 0) * (1 - masks["ears"])) if long else scalp
    nape = 1.0 if long else np.clip((0.66 + 0.04 * wave - v) / 0.05, 0, 1)
    ragged = rng.uniform(-0.6, 0.6) + 0.45 * grain + 0.35 * wave - 3 * recession * temples
    edge = np.clip(scalp * 4 - 1.4 + ragged, 0, 1)
    edge = edge * (scalp > 0.02) * nape
    if kind == "bald":
        # A fringe remains behind the ears and at the back.
        return kind, edge * np.clip((v - 0.3) / 0.1, 0, 1) * (np.abs(u - 0.5) > 0.3) * density * 0.8
    if kind == "shaved":
        return kind, edge * rng.uniform(0.25, 0.6) * np.clip(1 + 0.5 * grain, 0, 1.3)
    return "hair", edge * np.clip(density + 0.12 * grain, 0, 0.99)


def _over_face(masks: dict, rng: np.random.Generator) -> tuple[str, np.ndarray]:
    """Hair that lies over the face in a photo and would be unwrapped with it: a fringe, or strands at the sides."""
    kind = str(rng.choice(["", "fringe", "side hair"], p=(0.72, 0.12, 0.16)))
    size = len(masks["scalp"])
    u, v = atlas_grid(size)
    wisps = np.asarray(
        Image.fromarray(rng.normal(size=(6, 48)).astype(np.float32)).resize((size, size), Image.Resampling.BICUBIC)
    )
    low, lean, side, reach = rng.uniform(0.2, 0.33), rng.normal(0, 0.2), rng.choice([-1, 1]), rng.uniform(0.2, 0.3)
    soft, both = rng.uniform(0.006, 0.02), rng.uniform() < 0.5
    if kind == "":
        return "", np.zeros((size, size), np.float32)
    if kind == "fringe":
        edge = low + lean * (u - 0.5) + 0.02 * wisps - v
    else:
        distance = np.abs(u - 0.5) if both else side * (u - 0.5)
        edge = distance - reach - 0.10 * np.clip(v - 0.35, -1, 0.5) - 0.02 * wisps
    alpha = np.clip(0.5 + edge / (2 * soft), 0, 1) * (masks["skin"] > 0) * (1 - masks["ears"])
    return kind, (alpha * np.clip(0.92 + 0.1 * wisps, 0.4, 0.98)).astype(np.float32)
