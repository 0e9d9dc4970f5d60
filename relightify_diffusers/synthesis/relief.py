"""Mesoscale relief of skin: what the mesh is too coarse for, as a height map in the atlas."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.ndimage import gaussian_filter, map_coordinates

from relightify_diffusers.head.model import SKIN, HeadModel
from relightify_diffusers.rendering.atlas import AtlasTexels, dilate, interpolate
from relightify_diffusers.synthesis.noise import fractal_noise
from relightify_diffusers.synthesis.population import Person
from relightify_diffusers.synthesis.wrinkles import Stroke, sample_wrinkles

# Strokes are drawn on at least this many texels a side and averaged down: below it short ones would alias.
DRAWING_SIZE = 256

# Standard deviation, in texels of the drawing, of the filter that strokes are convolved with before they are sampled.
PIXEL_FILTER = 0.5

# The bulge beside a wrinkle is this much wider than its groove.
RIM_WIDTH = 2.6

# Groove depth, in mm, at which `creases` reaches 1 - 1/e. Static wrinkles of aged faces are 0.1-0.8 mm deep.
CREASE_DEPTH = 0.25

# Grooves wider than this, in mm, count less as creases.
CREASE_WIDTH = 0.8

# Height, in mm, that the sum of all strokes approaches where many cross.
HEIGHT_LIMIT = 2.2

# Steepest slope that a height map may give to a normal: the tangent of 60 degrees.
STEEPEST = 1.73

# RMS height in mm of the fine grain on even skin. Furrows of the skin's fine net are some tens of micrometers deep and
# less than a millimeter apart; averaged over a texel of about a millimeter some ten micrometers remain (ours).
GRAIN = 0.012

# RMS height in mm of the soft unevenness, of 5-30 mm, that fat and muscle under the skin cause.
UNEVENNESS = 0.07


@dataclass(frozen=True)
class Relief:
    """Fine relief of a head's surface.

    height: (N, N) float32, meters along the normal, 0 outside the skin. creases: (N, N) float32 in [0, 1], how deep in
    a wrinkle or crease a texel lies.
    """

    height: np.ndarray
    creases: np.ndarray


def sample_relief(
    head: HeadModel,
    texels: AtlasTexels,
    masks: dict[str, np.ndarray],
    person: Person,
    expression: np.ndarray,
    rng: np.random.Generator,
) -> Relief:
    """Draw the wrinkles, folds and grain of a person of some age with an expression.

    masks: as head.regions.region_masks gives them at the atlas' N. expression: (E,) weights by head.expression_names.
    The same generator places the same wrinkles at every age, expression and N: these change depth and presence only.
    """
    scale = atlas_scale(head, texels)
    strokes = sample_wrinkles(head, scale, person, expression, rng)
    size = len(texels.triangle)
    folds, grooves = draw_strokes(strokes, scale, size)
    skin = masks["skin"] * (1 - masks["nostrils"])
    height = HEIGHT_LIMIT * np.tanh(folds / HEIGHT_LIMIT) + _grain(size, masks, person, head, expression, rng)
    creases = (1 - np.exp(-grooves / CREASE_DEPTH)) * skin
    return Relief((1e-3 * height * skin).astype(np.float32), creases.astype(np.float32))


def displaced_normals(
    positions: np.ndarray, normals: np.ndarray, height: np.ndarray, inside: np.ndarray
) -> np.ndarray:
    """Unit normals (N, N, 3) of a surface moved by a small height along its normals.

    positions: (N, N, 3) meters. normals: (N, N, 3) unit. height: (N, N) meters. inside: (N, N) bool; the others keep
    their normals and are not differentiated across. Blinn 1978, "Simulation of wrinkled surfaces", equation 4: the
    normal loses the gradient of the height in the tangent plane.
    """
    fields = np.concatenate([positions, height[..., None]], axis=-1).astype(np.float64)
    across, down = (_masked_gradient(fields, inside, axis) for axis in (1, 0))
    normals = np.asarray(normals, np.float64)
    left, right = np.cross(down[..., :3], normals), np.cross(normals, across[..., :3])
    area = np.einsum("...k,...k", normals, np.cross(across[..., :3], down[..., :3]))
    gradient = across[..., 3:] * left + down[..., 3:] * right
    # The tiniest of areas belong to triangles seen edge-on in the atlas: their gradients are noise.
    lengths = np.linalg.norm(across[..., :3], axis=-1) * np.linalg.norm(down[..., :3], axis=-1)
    usable = inside & (np.abs(area) > 0.05 * lengths) & (lengths > 0)
    gradient = np.where(usable[..., None], gradient / np.where(usable, area, 1)[..., None], 0)
    slope = np.linalg.norm(gradient, axis=-1, keepdims=True)
    gradient /= np.maximum(1, slope / STEEPEST)
    result = normals - gradient
    length = np.linalg.norm(result, axis=-1, keepdims=True)
    return np.where(inside[..., None], result / np.maximum(length, 1e-12), normals).astype(np.float32)


def atlas_scale(head: HeadModel, texels: AtlasTexels) -> np.ndarray:
    """Millimeters per atlas width (M, M, 2), across and down, on the average head; M is at most 64."""
    step = max(1, len(texels.triangle) // 64)
    coarse = AtlasTexels(texels.triangle[::step, ::step], texels.bary[::step, ::step])
    skin = coarse.inside & (head.atlas.triangle_regions[coarse.triangle] == SKIN)
    positions = interpolate(head.template, head.triangles, coarse)
    gradients = [np.linalg.norm(_masked_gradient(positions, skin, axis), axis=-1) for axis in (1, 0)]
    scale = 1e3 * len(skin) * np.stack(gradients, axis=-1)
    known = skin & (scale.min(axis=-1) > 0)
    smooth = [gaussian_filter(np.log(dilate(scale[..., k], known)), 0.015 * len(skin)) for k in (0, 1)]
    return np.clip(np.exp(np.stack(smooth, axis=-1)), 100, 1000)


def draw_strokes(strokes: list[Stroke], scale: np.ndarray, size: int) -> tuple[np.ndarray, np.ndarray]:
    """Heights and groove depths, both (size, size) in mm, of the sum of strokes; scale: as from atlas_scale."""
    factor = max(1, -(-DRAWING_SIZE // size))
    fine = size * factor
    height, groove = np.zeros((2, fine * fine))
    for axis in (0, 1):
        chosen = [s for s in strokes if (abs(s.end[0] - s.start[0]) < abs(s.end[1] - s.start[1])) == bool(axis)]
        if chosen:
            cells, heights, grooves = _stroke_cells(chosen, scale, fine, axis)
            height += np.bincount(cells, heights, fine * fine)
            groove += np.bincount(cells, grooves, fine * fine)
    shape = (size, factor, size, factor)
    return height.reshape(shape).mean(axis=(1, 3)), groove.reshape(shape).mean(axis=(1, 3))


def _stroke_cells(
    strokes: list[Stroke], scale: np.ndarray, size: int, axis: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Flat texel indices, heights and groove depths of strokes that are graphs over an axis (0 across, 1 down)."""
    table = {name: np.array([getattr(s, name) for s in strokes]) for name in Stroke.__dataclass_fields__}
    start, end = table["start"] * size, table["end"] * size
    swap = start[:, axis] > end[:, axis]
    start, end = np.where(swap[:, None], end, start), np.where(swap[:, None], start, end)
    # One sample in each texel that a stroke passes along its main axis.
    first = np.ceil(np.maximum(start[:, axis], 0) - 0.5).astype(int)
    counts = np.maximum(np.floor(np.minimum(end[:, axis], size) - 0.5).astype(int) - first + 1, 0)
    which = np.repeat(np.arange(len(strokes)), counts)
    along = first[which] + _ramp(counts)
    one = {name: values[which] for name, values in table.items()}
    span = (end - start)[which]
    t = (along + 0.5 - start[which, axis]) / span[:, axis]
    straight = start[which, 1 - axis] + span[:, 1 - axis] * t
    places = np.stack([straight, along + 0.5] if axis == 0 else [along + 0.5, straight]) * len(scale) / size - 0.5
    local = [map_coordinates(scale[..., k], places, order=1, mode="nearest") / size for k in (0, 1)]  # mm per texel
    main, cross = local[axis], local[1 - axis]
    phase = 2 * np.pi * (t[:, None] * one["frequencies"] + one["phases"])
    bend = 4 * one["sag"] * t * (1 - t) + one["wave"] * np.sin(2 * np.pi * t)
    center = straight + (bend + one["wobble"] * np.sin(phase).mean(axis=1)) / cross
    turn = 4 * one["sag"] * (1 - 2 * t) + 2 * np.pi * one["wave"] * np.cos(2 * np.pi * t)
    slope = (span[:, 1 - axis] * cross + turn) / (span[:, axis] * main)
    stretch = np.sqrt(1 + slope**2)
    texel = np.hypot(cross, slope * main) / stretch  # the texel's size across the stroke
    unevenness = np.clip(1 + one["ragged"] * np.sin(1.7 * phase[:, ::-1]).sum(axis=1), 0, 2)
    # Wide folds run out more slowly, and hide less light for their depth, than narrow lines.
    taper = np.sin(np.pi * t) ** np.clip(one["width"], 1.1, 2)
    depth = one["depth"] * taper * unevenness
    crease = np.maximum(depth, 0) * np.minimum(1, CREASE_WIDTH / one["width"]) ** 1.5
    # The texels beside each sample, out to three widths of the widest part of the profile.
    half = np.ceil(3 * np.hypot(RIM_WIDTH * one["width"], PIXEL_FILTER * texel) * stretch / cross).astype(int)
    beside = np.repeat(np.arange(len(t)), 2 * half + 1)
    across = np.floor(center[beside]).astype(int) - half[beside] + _ramp(2 * half + 1)
    distance = (across + 0.5 - center[beside]) * (cross / stretch)[beside]
    height, groove = _profile(
        distance, one["width"][beside], one["rim"][beside], one["skew"][beside], PIXEL_FILTER * texel[beside]
    )
    valid = (across >= 0) & (across < size)
    rows, columns = (along[beside], across) if axis else (across, along[beside])
    return (rows * size + columns)[valid], (depth[beside] * height)[valid], (crease[beside] * groove)[valid]


def _profile(
    distance: np.ndarray, width: np.ndarray, rim: np.ndarray, skew: np.ndarray, filtered: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Height and groove of a wrinkle of depth 1 at signed distances from it, convolved with a Gaussian `filtered`.

    The groove is a Gaussian; the bulge beside it a wider one; the skew raises one side and lowers the other.
    """
    narrow, wide = width**2 + filtered**2, (RIM_WIDTH * width) ** 2 + filtered**2
    groove = width / np.sqrt(narrow) * np.exp(-(distance**2) / (2 * narrow))
    bulge = RIM_WIDTH * width / np.sqrt(wide) * np.exp(-(distance**2) / (2 * wide))
    return -groove + (rim + skew * distance / np.sqrt(wide)) * bulge, groove


def _grain(
    size: int,
    masks: dict[str, np.ndarray],
    person: Person,
    head: HeadModel,
    expression: np.ndarray,
    rng: np.random.Generator,
) -> np.ndarray:
    """Height (N, N) in mm of pores and furrows, of the soft unevenness below, and of a contracted chin's dimples."""
    weights = dict(zip(head.expression_names, expression))
    strength = GRAIN * rng.uniform(0.6, 1.5) * np.interp(person.age, (20, 50, 85), (0.8, 1.0, 1.5))
    where = 1 + 0.8 * masks["nose"] + 0.5 * masks["cheeks"] + 0.3 * masks["chin"] - 0.5 * masks["lids"]
    where = where * (1 - 0.6 * masks["lips"]) * (1 - 0.5 * masks["scalp"])
    grain = strength * where * fractal_noise(size, rng, 4, 1.0, coarsest=96)
    softness = UNEVENNESS * rng.uniform(0.5, 1.3) * np.interp(person.age, (20, 50, 85), (0.5, 0.9, 1.8))
    soft = softness * fractal_noise(size, rng, 3, 0.6, coarsest=12) * (1 - 0.7 * masks["lips"]) * (1 - masks["scalp"])
    contracted = max(weights.get("mouthShrugLower", 0.0), 0.6 * weights.get("mouthPucker", 0.0))
    old = float(np.interp(person.age, (45, 85), (0, 1)))
    lines = 0.045 * old * rng.uniform(0.5, 1.5) * _network(size, rng) * (1 - masks["lips"]) * (1 - masks["scalp"])
    dimples = 0.25 * contracted * masks["chin"] * fractal_noise(size, rng, 2, 0.8, coarsest=56)
    return grain + soft + dimples - lines


def _network(size: int, rng: np.random.Generator, cells: int = 56, width: float = 0.0012) -> np.ndarray:
    """Depth (N, N) in [0, 1] of an irregular net of lines, about `width` atlas widths wide: aged skin's crosshatch.

    The lines are the zeros of two noises of different grain, drawn by their distance to first order.
    """
    result = np.zeros((size, size))
    for k in (1, 2):
        noise = fractal_noise(size, rng, 1, 1.0, coarsest=cells * k)
        strength = np.clip(fractal_noise(size, rng, 2, 0.7, coarsest=10) * 0.6 + 0.4, 0, 1)
        distance = np.abs(noise) / (np.hypot(*np.gradient(noise)) + 0.2 * cells * k / size)
        filtered = np.hypot(width * size, PIXEL_FILTER)
        # Where lines lie closer than two texels they only average.
        shown = np.clip(size / (cells * k) - 1, 0, 1) * width * size / filtered
        result += shown * strength * np.exp(-(distance**2) / (2 * filtered**2)) / k
    return np.minimum(result, 1)


def _masked_gradient(values: np.ndarray, inside: np.ndarray, axis: int) -> np.ndarray:
    """Derivatives (N, N, C) by texel: central differences, one-sided at a border, zero where both neighbors lack."""
    step = np.diff(values, axis=axis)
    usable = (np.delete(inside, 0, axis) & np.delete(inside, -1, axis))[..., None].astype(values.dtype)
    pad = [(0, 0)] * 3
    before, after = list(pad), list(pad)
    before[axis], after[axis] = (1, 0), (0, 1)
    total = np.pad(step * usable, before) + np.pad(step * usable, after)
    return total / np.maximum(np.pad(usable, before) + np.pad(usable, after), 1)


def _ramp(counts: np.ndarray) -> np.ndarray:
    """0, 1, …, n - 1 for every n of counts, one after the other."""
    ends = np.cumsum(counts)
    return np.arange(ends[-1] if len(ends) else 0) - np.repeat(ends - counts, counts)
