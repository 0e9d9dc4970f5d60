"""Where the wrinkles, folds and creases of a face run, and how deep they are at an age and with an expression."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from relightify_diffusers.head.model import HeadModel
from relightify_diffusers.synthesis.population import Person

# Static wrinkling by age in years, 1 = that of an average 72-year-old. The values are ours: first lines at 30, most
# from 45 on. Lemperle et al. 2001 ("A classification of facial wrinkles") measured depths from below 0.1 to 0.8 mm.
AGES = (18, 25, 30, 40, 50, 60, 70, 80, 90)
WRINKLING = (0.02, 0.05, 0.10, 0.23, 0.44, 0.68, 0.95, 1.2, 1.35)

# Strokes shallower than this, in mm, are left out.
SHALLOWEST = 0.008

# Millimeters per atlas width in the middle of the face, for what need not be exact.
MEAN_SCALE = 350.0

# Largest wobble of a line relative to its length.
STRAIGHTNESS = 0.035


@dataclass(frozen=True)
class Stroke:
    """A wrinkle: a curve in the atlas with a profile across it.

    start, end: (2,) atlas (u, v). depth: mm, negative for a ridge. width: mm, standard deviation of the groove. sag,
    wave, wobble: mm that the curve leaves its chord by, as an arc, an S and irregularly, along the atlas axis that the
    chord follows less. rim: height of the bulge beside the groove, relative to the depth. skew: how much the side of
    growing u or v is raised, relative to the depth. ragged: in [0, 1], unevenness of the depth. frequencies, phases:
    (3,) of the irregularities.
    """

    start: tuple[float, float]
    end: tuple[float, float]
    depth: float
    width: float
    sag: float = 0.0
    wave: float = 0.0
    wobble: float = 0.0
    rim: float = 0.3
    skew: float = 0.0
    ragged: float = 0.0
    frequencies: tuple[float, ...] = (1.0, 2.0, 3.0)
    phases: tuple[float, ...] = (0.0, 0.0, 0.0)


@dataclass
class _Sketch:
    """Collects strokes; points are given on the side of small u (the subject's right) and mirrored for the other."""

    head: HeadModel
    scale: np.ndarray
    rng: np.random.Generator
    age: float
    aging: float
    weights: dict[str, float]
    landmarks: np.ndarray
    strokes: list[Stroke] = field(default_factory=list)

    def sides(self, *names: str) -> np.ndarray:
        """Largest weight of some actions on the subject's right and left, (2,); names lack Right and Left."""
        both = [[self.weights.get(name + side, 0.0) for side in ("Right", "Left")] for name in names]
        return np.clip(np.max(both, axis=0), 0, 1)

    def at(self, landmark: int, across: float, down: float) -> np.ndarray:
        """The atlas point some millimeters toward the face's side and down from an iBUG landmark."""
        u, v = self.landmarks[landmark]
        size = len(self.scale)
        millimeters = self.scale[min(int(v * size), size - 1), min(int(u * size), size - 1)]
        return np.array([u - across / millimeters[0], v + down / millimeters[1]])

    def presence(self, severity: float | np.ndarray, latest: float = 0.7) -> np.ndarray:
        """How far a line has come, in [0, 1]: it starts at a random severity of at most `latest`."""
        return np.clip((np.asarray(severity) - self.rng.uniform(0, latest)) / 0.35, 0, 1)

    def single(self, start, end, depth: float, width: float, jitter: float = 0.8, **shape) -> None:
        """Add a stroke whose ends move by about `jitter` mm."""
        moved = self.rng.normal(0, jitter / MEAN_SCALE, (2, 2))
        irregular = self.irregular()
        if abs(depth) > SHALLOWEST:
            self.add(np.asarray([start, end]) + moved, depth, width, irregular | shape)

    def pair(self, start, end, depth: np.ndarray, width: float, jitter: float = 0.8, **shape) -> None:
        """Add a stroke on both sides, alike but not the same; depth: (2,) mm on the subject's right and left."""
        shared, irregular = self.rng.normal(0, jitter / MEAN_SCALE, (2, 2)), self.irregular()
        for side in (0, 1):
            moved = shared + self.rng.normal(0, 0.5 * jitter / MEAN_SCALE, (2, 2))
            uneven = float(depth[side]) * float(np.exp(self.rng.normal(0, 0.2)))
            if side:
                irregular = irregular | {"phases": tuple(p + 0.12 * i for i, p in enumerate(irregular["phases"]))}
            if abs(uneven) <= SHALLOWEST:
                continue
            ends = np.asarray([start, end]) + moved
            mirrored = dict(shape)
            if side:
                ends = ends * [-1, 1] + [1, 0]
                # Across a steep stroke the axis is u, which the mirror turns round; along a flat one t is.
                steep = abs(ends[1, 0] - ends[0, 0]) < abs(ends[1, 1] - ends[0, 1])
                for name in ("sag", "wave", "skew") if steep else ("wave",):
                    mirrored[name] = -shape.get(name, 0.0)
            self.add(ends, uneven, width, irregular | mirrored)

    def add(self, ends: np.ndarray, depth: float, width: float, shape: dict) -> None:
        # Short lines are straighter than long ones.
        length = np.linalg.norm(ends[1] - ends[0]) * MEAN_SCALE
        shape = shape | {"wobble": min(shape.get("wobble", 0.0), STRAIGHTNESS * length)}
        self.strokes.append(Stroke(tuple(ends[0]), tuple(ends[1]), float(depth), float(width), **shape))

    def irregular(self) -> dict[str, tuple[float, ...]]:
        frequencies = self.rng.uniform((0.4, 0.9, 1.6), (0.9, 1.6, 2.8))
        return {"frequencies": tuple(frequencies), "phases": tuple(self.rng.uniform(0, 1, 3))}


def sample_wrinkles(
    head: HeadModel, scale: np.ndarray, person: Person, expression: np.ndarray, rng: np.random.Generator
) -> list[Stroke]:
    """Draw the strokes of a face.

    scale: (M, M, 2) mm per atlas width, across and down. expression: (E,) weights by head.expression_names. How many
    random numbers are drawn does not depend on the age, the expression or M.
    """
    # Sun, smoking and inheritance: people of one age differ by a factor of about 1.4.
    aging = float(np.interp(person.age, AGES, WRINKLING) * np.clip(np.exp(rng.normal(0, 0.3)), 0.5, 1.8))
    weights = dict(zip(head.expression_names, np.clip(expression, 0, 1)))
    sketch = _Sketch(head, scale, rng, person.age, aging, weights, head.landmark_uv)
    for family in (_forehead, _glabella, _crows_feet, _under_eye, _lid_crease, _nose):
        family(sketch)
    for family in (_nasolabial, _mouth_corner, _perioral, _lips, _chin, _neck, _fine_lines):
        family(sketch)
    return sketch.strokes


def _forehead(s: _Sketch) -> None:
    """Lines across the forehead: the frontalis muscle, raised brows."""
    rng, inner = s.rng, s.weights.get("browInnerUp", 0.0)
    outer = s.sides("browOuterUp")
    raised = max(inner, float(outer.mean()))
    top, bottom = 0.195 + rng.normal(0, 0.006), 0.295 + rng.normal(0, 0.004)
    count = int(rng.integers(3, 7))
    dip = rng.uniform(-1.0, 3.5)
    for line in range(count):
        v = bottom - (bottom - top) * (line + rng.uniform(-0.25, 0.25)) / max(count - 1, 1)
        present = s.presence(max(s.aging, 1.1 * raised), 0.55)
        depth = present * (0.50 * s.aging + 0.60 * raised * (0.35 + 0.65 * min(s.aging + 0.3, 1)))
        width = rng.uniform(0.7, 1.3) * (1 + 0.3 * raised)
        pieces = int(rng.choice(3, p=(0.5, 0.35, 0.15))) + 1
        reach = rng.uniform(0.10, 0.15)
        edges = np.linspace(-reach, reach, pieces + 1) + rng.normal(0, 0.012, pieces + 1)[: pieces + 1]
        for k in range(pieces):
            lateral = float(outer[int(edges[k] + edges[k + 1] > 0)])
            central = abs(edges[k] + edges[k + 1]) < 0.05
            strength = depth * rng.uniform(0.5, 1.1) * (1 if central else 0.75 + lateral / 2)
            overlap = 0.35 * (edges[1] - edges[0]) if pieces > 1 else 0.0
            lift, wave = rng.normal(0, 0.003, 2), rng.normal(0, 0.8)
            start, end = (0.5 + edges[k] - overlap, v + lift[0]), (0.5 + edges[k + 1] + overlap, v + lift[1])
            s.single(
                start, end, float(strength), width, sag=dip / pieces, wave=wave, wobble=2.0, rim=0.45, ragged=0.22
            )


def _glabella(s: _Sketch) -> None:
    """Frown lines between the brows and lines across the root of the nose."""
    rng, down = s.rng, s.sides("browDown")
    uneven = rng.uniform(0.3, 1, 2)
    for line in range(2):
        present = np.array([s.presence(max(0.9 * s.aging, d), (0.35, 1.3)[line]) for d in down])
        depth = present * uneven * (0.50 * s.aging + 0.75 * down * (0.5 + 0.5 * min(s.aging + 0.2, 1)))
        aside = 5.5 + 5 * line + rng.normal(0, 0.8)
        start, end = s.at(27, aside + rng.uniform(0, 2.5), -26 + 4 * line), s.at(27, aside - 2, -5 - 4 * line)
        s.pair(start, end, depth * (1 - 0.4 * line), rng.uniform(0.7, 1.2), sag=1.2, wobble=1.0, rim=0.55, ragged=0.15)
    for line in range(2):
        depth = s.presence(max(0.8 * s.aging, float(down.mean())), 0.9) * (0.25 * s.aging + 0.45 * float(down.mean()))
        drop = -3.0 + 4.5 * line + rng.normal(0, 0.8)
        start, end = s.at(27, 8, drop + 1), s.at(27, -8, drop + 1)
        s.single(start, end, float(depth), rng.uniform(0.6, 0.9), sag=-1.2, wobble=0.8, rim=0.45, ragged=0.2)


def _crows_feet(s: _Sketch) -> None:
    """The fan of lines beside the outer corner of the eye."""
    rng = s.rng
    squint = np.maximum(s.sides("eyeSquint", "cheekSquint"), 0.7 * s.sides("mouthSmile"))
    count = int(rng.integers(3, 7))
    for line in range(count):
        angle = np.radians(-38 + 85 * (line + rng.uniform(-0.3, 0.3)) / max(count - 1, 1))
        near, far = rng.uniform(7, 11), rng.uniform(17, 29)
        present = np.array([s.presence(max(s.aging, 0.9 * q), 0.6) for q in squint])
        depth = present * (0.28 * s.aging + 0.28 * squint * (0.3 + 0.7 * min(s.aging + 0.2, 1)))
        direction = np.array([np.cos(angle), np.sin(angle)])
        bend = -1.5 * np.sin(angle) - 0.5 + rng.normal(0, 0.4)
        start, end = s.at(36, *(near * direction)), s.at(36, *(far * direction))
        s.pair(start, end, depth, rng.uniform(0.6, 1.0), sag=bend, wobble=1.0, rim=0.5, ragged=0.15)


def _under_eye(s: _Sketch) -> None:
    """The bag below the lid, the crease that bounds it, the tear trough, and fine lines on the lower lid."""
    rng = s.rng
    squint, bags = s.sides("eyeSquint", "cheekSquint", "mouthSmile"), rng.uniform(0.2, 1.0)
    aging = np.full(2, s.aging)
    drop = rng.uniform(8.5, 12)
    inner, outer = s.at(39, -1.0, 4.0), s.at(36, 0.0, drop - 3.0)
    s.pair(inner, outer, -bags * 0.7 * aging, 2.6, sag=0.6 * drop - 3.0, rim=0.0)
    crease = bags * (0.08 + 0.3 * aging) + 0.15 * squint * (0.5 + 0.5 * s.aging)
    s.pair(s.at(39, -2.0, 5.0), s.at(36, 2.0, drop - 1), crease, rng.uniform(1.2, 1.8), sag=4.0, wobble=0.8, rim=0.15)
    trough = rng.uniform(0.05, 0.25) + 0.3 * aging * rng.uniform(0.3, 1)
    s.pair(s.at(39, -2.5, 3.0), s.at(39, 11.0, 15.0), trough, rng.uniform(2.2, 3.0), sag=1.0, wobble=0.6, rim=0.1)
    for line in range(5):
        present = np.array([s.presence(max(s.aging, 0.8 * q), 0.8) for q in squint])
        below, left, right = 3.0 + 1.6 * line + rng.normal(0, 0.4), rng.uniform(-2, 4), rng.uniform(-1, 8)
        depth = present * (0.09 * s.aging + 0.14 * squint)
        start, end = s.at(39, 2 + left, below + 1), s.at(36, -right, below)
        s.pair(start, end, depth, rng.uniform(0.4, 0.6), sag=2.0, wobble=0.8, rim=0.4, ragged=0.25)


def _lid_crease(s: _Sketch) -> None:
    """The fold of the upper lid; heavier lids with age."""
    rng = s.rng
    blink = s.sides("eyeBlink")
    depth = rng.uniform(0.15, 0.45) * (1 - 0.7 * blink) * (1 + 0.4 * s.aging)
    s.pair(s.at(39, -1.0, -3.0), s.at(36, 2.0, -3.0), depth, 0.8, sag=-5.5, wave=0.4, wobble=0.3, rim=0.4, skew=-0.3)
    hood = 0.35 * np.full(2, s.presence(s.aging, 0.9)) * (1 - blink)
    s.pair(s.at(38, 1.0, -8.0), s.at(36, 7.0, 1.0), hood, 1.1, sag=-1.0, wobble=0.6, rim=0.5, skew=-0.3)


def _nose(s: _Sketch) -> None:
    """Bunny lines on the sides of the nose, and the crease around its wings."""
    rng, sneer = s.rng, s.sides("noseSneer")
    for line in range(3):
        present = np.array([s.presence(max(0.5 * s.aging, q), 0.6) for q in sneer])
        depth = present * (0.12 * s.aging + 0.45 * sneer)
        high = s.at(28, 2.5 + rng.normal(0, 0.7), -9 + 4 * line + rng.normal(0, 0.7))
        low = s.at(28, 10 + rng.normal(0, 1), -13 + 6 * line + rng.normal(0, 0.8))
        s.pair(high, low, depth, rng.uniform(0.5, 0.8), sag=0.8, wobble=0.7, rim=0.45, ragged=0.15)


def _nasolabial(s: _Sketch) -> None:
    """The fold from the wing of the nose past the corner of the mouth, and the smile lines beside it."""
    rng = s.rng
    pulled = s.sides("noseSneer", "mouthUpperUp", "mouthStretch")
    smile = np.maximum(s.sides("mouthSmile", "mouthDimple"), 0.6 * pulled)
    own = rng.uniform(0.5, 1.2)
    depth = own * (0.12 + 1.3 * s.aging) + (0.35 + 0.35 * min(s.aging + 0.2, 1)) * smile
    top, bottom = s.at(31, 7.0, -5.0), s.at(48, 7.0 + rng.normal(0, 1), rng.uniform(2, 12))
    bend = rng.uniform(-4.0, -1.0)
    wide = rng.uniform(1.8, 2.7)
    s.pair(top, bottom, 0.8 * depth, wide, sag=bend, wave=0.8, wobble=0.5, rim=0.05, skew=-0.6)
    core = depth * np.maximum(0.2 * s.aging, 0.15 * smile)
    s.pair(top, bottom, core, 0.8, jitter=0.2, sag=bend, wave=0.8, wobble=0.8, rim=0.3, ragged=0.15)
    for line in range(3):
        present = np.array([s.presence(s.aging * (0.5 + q), 0.9) for q in smile])
        aside = 11 + 6 * line + rng.normal(0, 1)
        start, end = s.at(48, aside + 2, -16 + 3 * line + rng.normal(0, 3)), s.at(48, aside, 8 + rng.normal(0, 4))
        depth, wide = present * (0.15 * s.aging + 0.35 * smile), rng.uniform(1.0, 1.6)
        s.pair(start, end, depth, wide, sag=-4.0, wobble=1.5, rim=0.4, ragged=0.2)


def _mouth_corner(s: _Sketch) -> None:
    """Marionette lines below the corners of the mouth, and the corners' own creases."""
    rng, frown = s.rng, s.sides("mouthFrown")
    own = rng.uniform(0.3, 1.2)
    old = float(np.clip((s.aging - 0.2) / 0.8, 0, 1.2))
    depth = own * 1.1 * old + 0.6 * frown * (0.4 + 0.6 * min(s.aging + 0.2, 1))
    start, end = s.at(48, 2.5, 3.0), s.at(48, 5.0 + rng.normal(0, 1.5), rng.uniform(22, 34))
    s.pair(start, end, 0.7 * depth, rng.uniform(1.5, 2.2), sag=-1.5, wobble=0.8, rim=0.05, skew=-0.4)
    s.pair(start, end, 0.2 * depth, 0.8, jitter=0.3, sag=-1.5, wobble=1.0, rim=0.3, ragged=0.15)
    corner = 0.15 + 0.25 * np.maximum(s.sides("mouthSmile", "mouthDimple", "mouthPress"), s.aging)
    s.pair(s.at(48, 3.0, -3.0), s.at(48, 3.0, 3.5), corner, 0.9, jitter=0.4, sag=-0.8, rim=0.3)


def _perioral(s: _Sketch) -> None:
    """Vertical lines above and below the lips: age, pursed lips."""
    rng = s.rng
    pursed = max(s.weights.get("mouthPucker", 0.0), 0.5 * float(s.sides("mouthPress").mean()))
    old = float(np.clip((s.aging - 0.3) / 0.7, 0, 1.3))
    stretched = max(s.weights.get("jawOpen", 0.0), float(s.sides("mouthSmile").mean()))
    upper, lower = s.landmarks[48:55], s.landmarks[[48, 59, 58, 57, 56, 55, 54]]
    for edge, away, count in ((upper, -1, 14), (lower, 1, 8)):
        for line in range(count):
            u = 0.435 + 0.13 * (line + rng.uniform(-0.5, 1.5)) / count
            v = np.interp(u, edge[:, 0], edge[:, 1])
            length, lean = rng.uniform(4, 9) / 400, (u - 0.5) * 0.12 + rng.normal(0, 0.002)
            depth = s.presence(max(old, 1.1 * pursed), 0.9) * (0.15 * old + 0.25 * pursed) * (1 - 0.5 * stretched)
            start, end = (u, v - away * 0.002), (u + lean, v + away * length)
            s.single(start, end, float(depth), rng.uniform(0.45, 0.7), 0.5, wobble=0.5, rim=0.45, ragged=0.15)


def _lips(s: _Sketch) -> None:
    """The lips' creases and raised border, and the philtrum's ridges."""
    rng, mark = s.rng, s.landmarks
    ridge = rng.uniform(0.12, 0.35) * (1 - 0.5 * min(s.aging, 1))
    arc = {"width": 0.9, "jitter": 0.2, "rim": 0.0}
    s.pair(mark[48], mark[50], np.full(2, -ridge), sag=-0.8, **arc)
    s.pair(mark[50], mark[51], np.full(2, -ridge), **arc)
    s.single(mark[48], mark[54], -0.7 * ridge, sag=(mark[57, 1] - mark[48, 1]) * 380, **arc)
    columns = rng.uniform(0.15, 0.45) * (1 - 0.5 * min(s.aging, 1))
    s.pair(mark[50] + [0.002, 0.0], mark[32] + [0.008, 0.004], np.full(2, -columns), 1.5, 0.4, rim=0.0)
    s.single(mark[51], mark[33], columns, 1.6, 0.3, rim=0.0)
    pursed = s.weights.get("mouthPucker", 0.0)
    stretched = float(s.sides("mouthSmile", "mouthStretch").mean())
    strength = rng.uniform(0.06, 0.14) * (1 + 0.8 * pursed + 0.6 * s.aging - 0.5 * stretched)
    upper, lower = (mark[48:55], mark[60:65]), (mark[[48, 59, 58, 57, 56, 55, 54]], mark[[60, 67, 66, 65, 64]])
    for outer, inner in (upper, lower):
        for line in range(18):
            u = 0.425 + 0.15 * (line + rng.uniform(-0.5, 1.5)) / 18
            edge, seam = np.interp(u, outer[:, 0], outer[:, 1]), np.interp(u, inner[:, 0], inner[:, 1])
            reach = rng.uniform(0.5, 0.95)
            start, end = (u - 0.05 * (u - 0.5), seam), (u + 0.03 * (u - 0.5), seam + reach * (edge - seam))
            s.single(start, end, strength * rng.uniform(0.3, 1), 0.45, 0.3, wobble=0.3, rim=0.4)


def _chin(s: _Sketch) -> None:
    """The fold between the lower lip and the chin."""
    depth = s.rng.uniform(0.1, 0.4) + 0.3 * min(s.aging, 1) + 0.3 * s.weights.get("mouthShrugLower", 0.0)
    s.single(s.at(58, 8.0, 7.5), s.at(56, -8.0, 7.5), depth, s.rng.uniform(1.6, 2.4), sag=-1.8, wobble=0.5, rim=0.15)


def _neck(s: _Sketch) -> None:
    """Lines around the neck."""
    rng = s.rng
    for line in range(3):
        v = 0.925 + 0.02 * line + rng.normal(0, 0.004)
        reach = rng.uniform(0.12, 0.22)
        depth = float(s.presence(0.25 + s.aging, 0.9)) * (0.15 + 0.35 * s.aging)
        shape = {"sag": rng.uniform(3, 8), "wobble": 2.0, "rim": 0.3, "ragged": 0.2}
        s.single((0.5 - reach, v), (0.5 + reach, v + rng.normal(0, 0.004)), depth, rng.uniform(0.9, 1.5), 3.0, **shape)


def _fine_lines(s: _Sketch) -> None:
    """The crosshatch of fine lines on aged cheeks, temples and forehead, along the lines of relaxed skin tension."""
    rng = s.rng
    old = float(np.clip((s.aging - 0.35) / 0.65, 0, 1.3))
    for _ in range(60):
        u, v = rng.uniform(0.2, 0.42), rng.uniform(0.2, 0.86)
        # Relaxed tension lines: level on the forehead, steeper down the cheek, parallel to the nasolabial fold.
        tilt = np.radians(np.interp(v, (0.3, 0.45, 0.6, 0.8), (5, 25, 60, 75)) + rng.normal(0, 18))
        length = rng.uniform(5, 12) / MEAN_SCALE
        step = 0.5 * length * np.array([-np.cos(tilt), np.sin(tilt)])
        depth = float(s.presence(old, 0.8)) * rng.uniform(0.02, 0.07) * np.ones(2)
        middle = np.array([u, v])
        s.pair(middle - step, middle + step, depth, rng.uniform(0.5, 0.9), 8.0, wobble=1.0, rim=0.45, ragged=0.25)
