"""What makes skin a person's own: redness, freckles, moles, blemishes, scars, wrinkles, shade under the eyes, make-up.

Each feature of FEATURES has a probability that may depend on the person and a painter that changes the layers.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from scipy.ndimage import gaussian_filter

from relightify_diffusers.head.regions import polygon_mask
from relightify_diffusers.synthesis.noise import atlas_grid, fractal_noise, spots
from relightify_diffusers.synthesis.population import Person


@dataclass
class Layers:
    """A skin while it is painted, all (N, N) but the last.

    melanin, hemoglobin: densities added to the even tone. paint: opacity-weighted pigments over the skin, as (color
    (3,) linear, opacity (N, N)) from the bottom up. evenness: in [0, 1], how much a foundation hides.
    """

    melanin: np.ndarray
    hemoglobin: np.ndarray
    paint: list[tuple[np.ndarray, np.ndarray]]
    evenness: float = 0.0


@dataclass(frozen=True)
class Canvas:
    """Where to paint: region masks, iBUG landmarks (68, 2) in the atlas, creases (N, N), the person and its tone.

    level: melanin level of the tone in [0, 1].
    """

    masks: dict[str, np.ndarray]
    landmarks: np.ndarray
    creases: np.ndarray
    person: Person
    level: float

    @property
    def size(self) -> int:
        """Texels a side."""
        return len(self.creases)


def paint_features(layers: Layers, canvas: Canvas, rng: np.random.Generator) -> tuple[str, ...]:
    """Draw which features a skin has and paint them; returns their names."""
    chosen = []
    for name, (odds, painter) in FEATURES.items():
        # Every feature has its own stream: one more spot here does not change what is painted there.
        own = np.random.default_rng(rng.integers(2**63))
        if own.uniform() < odds(canvas):
            painter(layers, canvas, own)
            chosen.append(name)
    return tuple(chosen)


def _redness(layers: Layers, canvas: Canvas, rng) -> None:
    """Blood near the surface: cheeks, nose, ears, chin; blotchy."""
    amounts = {"cheeks": 0.26, "nose": 0.22, "chin": 0.10, "ears": 0.22, "forehead": 0.05}
    blotches = 1 + 0.35 * fractal_noise(canvas.size, rng, 4, 0.7)
    flush = rng.gamma(2.0, 0.35)
    for name, amount in amounts.items():
        layers.hemoglobin += flush * rng.uniform(0.3, 1.2) * amount * canvas.masks[name] * blotches


def _rosacea(layers: Layers, canvas: Canvas, rng) -> None:
    where = np.clip(canvas.masks["cheeks"] + canvas.masks["nose"], 0, 1)
    layers.hemoglobin += (
        rng.uniform(0.25, 0.6) * where * np.clip(0.6 + 0.7 * fractal_noise(canvas.size, rng, 5, 0.8), 0, 2)
    )


def _freckles(layers: Layers, canvas: Canvas, rng) -> None:
    count = int(rng.uniform(60, 420))
    centers = rng.normal([0.5, 0.5], [rng.uniform(0.10, 0.18), rng.uniform(0.08, 0.16)], (count, 2))
    sizes = rng.uniform(0.0012, rng.uniform(0.002, 0.0045), count)
    where = canvas.masks["skin"] * (1 - canvas.masks["lips"])
    layers.melanin += where * spots(canvas.size, centers, sizes, rng.uniform(0.15, 0.5, count), 3)


def _moles(layers: Layers, canvas: Canvas, rng) -> None:
    count = 1 + rng.poisson(3)
    centers = rng.normal([0.5, 0.55], [0.17, 0.2], (count, 2))
    layers.melanin += canvas.masks["skin"] * spots(
        canvas.size, centers, rng.uniform(0.002, 0.005, count), rng.uniform(0.4, 1.4, count), 4
    )


def _blemishes(layers: Layers, canvas: Canvas, rng) -> None:
    """Pimples and the marks that they leave."""
    count = 2 + rng.poisson(rng.choice([3, 14]))
    centers = rng.normal([0.5, 0.6], [0.15, 0.17], (count, 2))
    where = canvas.masks["skin"] * (1 - canvas.masks["scalp"])
    layers.hemoglobin += where * spots(
        canvas.size, centers, rng.uniform(0.002, 0.007, count), rng.uniform(0.1, 0.5, count)
    )
    # On darker skin the marks are brown (post-inflammatory hyperpigmentation).
    layers.melanin += (
        canvas.level
        * where
        * spots(canvas.size, centers, rng.uniform(0.002, 0.006, count), rng.uniform(0.1, 0.4, count))
    )


def _age_spots(layers: Layers, canvas: Canvas, rng) -> None:
    count = int(rng.uniform(5, 60) * np.clip((canvas.person.age - 35) / 45, 0.1, 1))
    centers = rng.normal([0.5, 0.42], [0.24, 0.22], (count, 2))
    sizes, heights = rng.uniform(0.003, 0.011, count), rng.uniform(0.06, 0.3, count)
    ragged = np.clip(1 + 0.6 * fractal_noise(canvas.size, rng, 4, 0.9, coarsest=32), 0, 2)
    layers.melanin += canvas.masks["skin"] * ragged * spots(canvas.size, centers, sizes, heights, 4)


def _melasma(layers: Layers, canvas: Canvas, rng) -> None:
    """Uneven pigment over cheeks and forehead."""
    cloud = np.clip(fractal_noise(canvas.size, rng, 4, 0.6, coarsest=6) - 0.2, 0, 2)
    where = np.clip(canvas.masks["cheeks"] + 0.7 * canvas.masks["forehead"] + canvas.masks["chin"], 0, 1)
    layers.melanin += rng.uniform(0.15, 0.4) * where * cloud


def _vitiligo(layers: Layers, canvas: Canvas, rng) -> None:
    patches = np.clip(4 * (fractal_noise(canvas.size, rng, 3, 0.6, coarsest=5) - rng.uniform(0.8, 1.4)), 0, 1)
    light = np.array([0.72, 0.50, 0.41])
    layers.paint.append((light, patches * canvas.masks["skin"] * (1 - canvas.masks["scalp"])))


def _scar(layers: Layers, canvas: Canvas, rng) -> None:
    start, angle, length = rng.normal([0.5, 0.5], [0.13, 0.16]), rng.uniform(0, np.pi), rng.uniform(0.01, 0.07)
    along = np.linspace(0, 1, 40)[:, None]
    bend = rng.normal(0, 0.006) * np.sin(np.pi * along)
    line = start + length * along * [np.cos(angle), np.sin(angle)] + bend * [-np.sin(angle), np.cos(angle)]
    width = rng.uniform(0.0012, 0.003)
    mark = np.clip(spots(canvas.size, line, np.full(40, width), np.full(40, 0.5)), 0, 1) * canvas.masks["skin"]
    layers.melanin -= 0.35 * canvas.level * mark
    layers.hemoglobin += rng.uniform(-0.25, 0.35) * mark


def _under_eyes(layers: Layers, canvas: Canvas, rng) -> None:
    """Dark circles: the thin skin below the eye, toward the nose."""
    amount = rng.gamma(2.0, 0.12) * (0.7 + 0.6 * np.clip((canvas.person.age - 30) / 40, 0, 1))
    half = []
    for inner, outer, below in ((39, 36, (40, 41)), (42, 45, (47, 46))):
        eye = canvas.landmarks[[inner, *below, outer]]
        drop = np.array([0, rng.uniform(0.035, 0.055)])
        half.append(np.concatenate([eye + [0, 0.004], (eye + drop * [[1], [1.1], [0.8], [0.4]])[::-1]]))
    shade = amount * polygon_mask(half, canvas.size, 0.012) * canvas.masks["skin"]
    layers.melanin += rng.uniform(0.3, 1) * shade
    layers.hemoglobin += rng.uniform(0.2, 1) * shade


def _lids(layers: Layers, canvas: Canvas, rng) -> None:
    """Upper and lower lids are a little darker and redder than the face."""
    layers.melanin += rng.uniform(0, 0.28) * canvas.masks["lids"]
    layers.hemoglobin += rng.uniform(0, 0.2) * canvas.masks["lids"]


def _creases(layers: Layers, canvas: Canvas, rng) -> None:
    """Skin in a wrinkle is a little darker and redder."""
    layers.melanin += rng.uniform(0.05, 0.22) * canvas.creases
    layers.hemoglobin += rng.uniform(0.05, 0.25) * canvas.creases


def _lips(layers: Layers, canvas: Canvas, rng) -> None:
    """The red of the lips; on dark skin more melanin on the upper lip and at the border, and a paler center below."""
    lips, level = canvas.masks["lips"], canvas.level
    layers.hemoglobin += lips * rng.uniform(0.35, 1.1) * (1 - 0.35 * level)
    layers.melanin += lips * (rng.uniform(0.02, 0.25) - 0.55 * level * rng.uniform(0, 0.9))
    _, v = atlas_grid(canvas.size)
    middle = canvas.landmarks[[60, 64], 1].mean()
    lower = lips * (v > middle)
    layers.melanin += level * rng.uniform(0, 0.5) * (lips - lower) - level * rng.uniform(0, 0.3) * lower
    rim = np.clip(gaussian_filter(lips, 0.006 * canvas.size) - 0.75 * lips, 0, 1) * canvas.masks["skin"]
    layers.melanin += rng.uniform(0, 0.5) * rim
    pale = np.clip(lips * (1 + 0.5 * fractal_noise(canvas.size, rng, 5, 0.8, coarsest=16)), 0, 1.5)
    layers.hemoglobin -= rng.uniform(0, 0.2) * pale


def _foundation(layers: Layers, canvas: Canvas, rng) -> None:
    layers.evenness = rng.uniform(0.3, 0.8)


def _blush(layers: Layers, canvas: Canvas, rng) -> None:
    color = np.array([0.62, 0.20, 0.18]) * rng.uniform(0.6, 1.1) * np.exp(rng.normal(0, 0.1, 3))
    layers.paint.append((color * (1 - 0.75 * canvas.level), rng.uniform(0.06, 0.24) * canvas.masks["cheeks"]))


def _eyeshadow(layers: Layers, canvas: Canvas, rng) -> None:
    color = np.array([(0.20, 0.12, 0.08), (0.06, 0.05, 0.06), (0.30, 0.12, 0.16), (0.12, 0.16, 0.28), (0.5, 0.4, 0.3)])
    halves = []
    for outer, upper, inner, brow in ((36, (37, 38), 39, (18, 20)), (45, (44, 43), 42, (25, 23))):
        lid = canvas.landmarks[[outer, *upper, inner]]
        reach = rng.uniform(0.3, 0.6)
        top = lid[1:3] + reach * (canvas.landmarks[list(brow)] - lid[1:3])
        halves.append(np.concatenate([lid, top[::-1]]))
    where = polygon_mask(halves, canvas.size, 0.008) * canvas.masks["skin"]
    layers.paint.append((color[rng.choice(5)] * rng.uniform(0.5, 1.2), rng.uniform(0.15, 0.6) * where))


def _eyeliner(layers: Layers, canvas: Canvas, rng) -> None:
    lines = []
    for corners in ((36, 37, 38, 39), (45, 44, 43, 42)):
        points = canvas.landmarks[list(corners)]
        along = np.linspace(0, 3, 60)
        lines.append(np.stack([np.interp(along, range(4), points[:, k]) for k in (0, 1)], -1) - [0, 0.003])
    marks = np.concatenate(lines)
    width = rng.uniform(0.0012, 0.003)
    mark = np.clip(spots(canvas.size, marks, np.full(len(marks), width), np.full(len(marks), 0.6)), 0, 1)
    layers.paint.append((np.full(3, 0.015), rng.uniform(0.5, 0.95) * mark * canvas.masks["skin"]))


def _lipstick(layers: Layers, canvas: Canvas, rng) -> None:
    colors = np.array(
        [
            (0.45, 0.03, 0.04),
            (0.30, 0.02, 0.05),
            (0.55, 0.12, 0.14),
            (0.50, 0.22, 0.18),
            (0.20, 0.03, 0.05),
            (0.6, 0.2, 0.3),
        ]
    )
    color = colors[rng.choice(6)] * rng.uniform(0.7, 1.2)
    # A painted mouth has a clean edge.
    lips = np.clip(1.5 * canvas.masks["lips"] - 0.25, 0, 1)
    layers.paint.append((color, rng.uniform(0.35, 0.9) * lips))


def _made_up(share: float) -> Callable[[Canvas], float]:
    """Odds of make-up: `share` for women, a twentieth of it for men."""
    return lambda canvas: share * (1 - 0.95 * canvas.person.gender)


# Name: (probability for a canvas, painter), in the order in which they are painted.
FEATURES: dict[str, tuple[Callable[[Canvas], float], Callable]] = {
    "redness": (lambda canvas: 0.95, _redness),
    "lids": (lambda canvas: 1.0, _lids),
    "lips": (lambda canvas: 1.0, _lips),
    "creases": (lambda canvas: 1.0, _creases),
    "under-eye shade": (lambda canvas: 0.75, _under_eyes),
    "rosacea": (lambda canvas: 0.08 * (1 - canvas.level), _rosacea),
    "freckles": (lambda canvas: 0.22 * (1 - canvas.level), _freckles),
    "moles": (lambda canvas: 0.6, _moles),
    "blemishes": (lambda canvas: 0.4 if canvas.person.age < 35 else 0.12, _blemishes),
    "age spots": (lambda canvas: 0.6 * np.clip((canvas.person.age - 35) / 30, 0, 1), _age_spots),
    "melasma": (lambda canvas: 0.1, _melasma),
    "vitiligo": (lambda canvas: 0.01, _vitiligo),
    "scar": (lambda canvas: 0.08, _scar),
    "foundation": (_made_up(0.4), _foundation),
    "blush": (_made_up(0.3), _blush),
    "eyeshadow": (_made_up(0.3), _eyeshadow),
    "eyeliner": (_made_up(0.35), _eyeliner),
    "lipstick": (_made_up(0.45), _lipstick),
}
