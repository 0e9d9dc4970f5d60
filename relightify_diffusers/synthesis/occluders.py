"""Things in front of a face, as the camera sees them: hair, hats, glasses, hands, objects and the photo's border.

Each is a function of where texels appear, not a raster: the same draw covers the same places at every map resolution.
Sizes are in meters and, unless a source is named, ours.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from scipy.ndimage import map_coordinates

RIGHT_EYE, LEFT_EYE = slice(36, 42), slice(42, 48)  # iBUG landmarks, of the subject


@dataclass(frozen=True)
class View:
    """A camera that looks at a face.

    eye, target: (3,) meters, head frame. axes: (3, 3) rows right and up in the image and towards the camera. yaw,
    pitch: degrees, of the camera about the head; positive is towards the subject's left and up.
    """

    eye: np.ndarray
    target: np.ndarray
    axes: np.ndarray
    yaw: float
    pitch: float

    @classmethod
    def around(cls, target: np.ndarray, yaw: float, pitch: float, roll: float, distance: float) -> View:
        """A camera `distance` meters from `target` (3,); yaw, pitch and roll in degrees."""
        y, p, r = np.radians([yaw, pitch, roll])
        backward = np.array([np.sin(y) * np.cos(p), np.sin(p), np.cos(y) * np.cos(p)])
        right = np.array([np.cos(y), 0, -np.sin(y)])
        up = np.cross(backward, right)
        right, up = np.cos(r) * right + np.sin(r) * up, np.cos(r) * up - np.sin(r) * right
        return cls(target + distance * backward, target, np.stack([right, up, backward]), yaw, pitch)

    def project(self, points: np.ndarray) -> np.ndarray:
        """Where points (..., 3) appear, (..., 2): meters right and up on the image plane through the target."""
        local = (points - self.eye) @ self.axes.T
        distance = np.linalg.norm(self.eye - self.target)
        return local[..., :2] * (distance / np.maximum(-local[..., 2:], 1e-3))


@dataclass(frozen=True)
class Scene:
    """The texels that may be covered.

    view: View. landmarks: (68, 3) meters. points: (P, 3) meters, head frame. image: (P, 2) `View.project` of them.
    """

    view: View
    landmarks: np.ndarray
    points: np.ndarray
    image: np.ndarray

    @classmethod
    def of(cls, view: View, landmarks: np.ndarray, points: np.ndarray) -> Scene:
        """Project points (P, 3)."""
        return cls(view, landmarks, points, view.project(points))

    def landmark_image(self, index) -> np.ndarray:
        """Where landmarks appear, (..., 2) meters."""
        return self.view.project(self.landmarks[index])

    def on_plane(self, axis: int, offset: float) -> np.ndarray:
        """Where the lines of sight (P, 3) meet the plane x, y or z (axis 0, 1, 2) = offset, in meters.

        NaN where they meet it beyond the texel or behind the camera: what lies there covers nothing.
        """
        ray = self.points - self.view.eye
        slope = ray[:, axis]
        t = (offset - self.view.eye[axis]) / np.where(np.abs(slope) > 1e-9, slope, np.nan)
        return np.where(((t > 0) & (t < 1))[:, None], self.view.eye + t[:, None] * ray, np.nan)

    def on_shell(self) -> tuple[np.ndarray, np.ndarray]:
        """Where the lines of sight enter an ellipsoid about a head of hair, (P,) azimuth in radians and (P,) height.

        Azimuth: 0 in front, positive towards the subject's left. Height: meters above the brows. A line that misses
        the ellipsoid takes the texel's own azimuth and height.
        """
        center, radii = self._shell()
        origin = (self.view.eye - center) / radii
        ray = (self.points - self.view.eye) / radii
        a, b, c = np.einsum("pk,pk->p", ray, ray), ray @ origin, origin @ origin - 1
        root = np.sqrt(np.maximum(b**2 - a * c, 0))
        t = np.where(b**2 > a * c, np.clip((-b - root) / a, 0, 1), 1)
        place = (origin + t[:, None] * ray) * radii
        height = place[:, 1] + center[1] - self.landmarks[17:27, 1].mean()
        return np.arctan2(place[:, 0] / radii[0], place[:, 2] / radii[2]), height

    def _shell(self) -> tuple[np.ndarray, np.ndarray]:
        width = 0.5 * (self.landmarks[16, 0] - self.landmarks[0, 0])
        depth = self.landmarks[30, 2]
        center = np.array([0, self.landmarks[27, 1], 0])
        return center, np.array([1.3 * width, 0.17, 1.12 * depth])


def smooth_noise(coordinates: np.ndarray, rng: np.random.Generator, period: float, octaves: int = 3) -> np.ndarray:
    """Interpolated noise of about unit variance at coordinates (P, D), with features of about `period`, returns (P,).

    The lattice has 16 nodes a side and repeats beyond, so that what is drawn does not depend on the coordinates.
    """
    result, total = np.zeros(len(coordinates)), 0.0
    for octave in range(octaves):
        grid = rng.normal(size=(16,) * coordinates.shape[1])
        places = coordinates.T * (2**octave / period)
        result += 0.5**octave * map_coordinates(grid, places, order=1, mode="grid-wrap")
        total += 0.25**octave
    # Linear interpolation takes away about half of the variance (four ninths in two dimensions).
    return 1.5 * result / np.sqrt(total)


def capsule(points: np.ndarray, start: np.ndarray, end: np.ndarray, radii: tuple[float, float]) -> np.ndarray:
    """Signed distance (P,) from points (P, 2) to a capsule with radius `radii` at its ends, about; negative inside."""
    axis = end - start
    t = np.clip((points - start) @ axis / (axis @ axis), 0, 1)
    return np.hypot(*(points - start - t[:, None] * axis).T) - (radii[0] + t * (radii[1] - radii[0]))


def box(points: np.ndarray, center: np.ndarray, half: np.ndarray, angle: float, corner: float) -> np.ndarray:
    """Signed distance (P,) from points (P, 2) to a rectangle with rounded corners; angle in radians."""
    c, s = np.cos(angle), np.sin(angle)
    q = np.abs((points - center) @ np.array([[c, -s], [s, c]])) - half + corner
    return np.hypot(*np.maximum(q, 0).T) + np.minimum(np.maximum(q[:, 0], q[:, 1]), 0) - corner


def hairline(scene: Scene, rng: np.random.Generator) -> np.ndarray:
    """Hair on the scalp down to an ordinary hairline, with temples more or less bare."""
    azimuth, height = scene.on_shell()
    line = rng.normal(0.066, 0.009) - rng.uniform(0.03, 0.07) * np.minimum(np.abs(azimuth) / 1.1, 1.4) ** 3
    ragged = rng.uniform(0.001, 0.006) * smooth_noise(np.stack([azimuth * 0.09, height], 1), rng, 0.025)
    return height > line + ragged


def fringe(scene: Scene, rng: np.random.Generator) -> np.ndarray:
    """Hair that falls over the forehead: straight, parted or swept to one side, ending in strands."""
    azimuth, height = scene.on_shell()
    side = rng.choice([-1.0, 1.0])
    end, swept, parted = rng.uniform(-0.005, 0.04), rng.uniform(0, 0.035), rng.uniform(0, 0.05)
    tilt = end + swept * np.clip(side * azimuth / 0.8, -1, 1)
    part = parted * np.exp(-(((azimuth - 0.4 * side * rng.uniform()) / 0.25) ** 2))
    # Noise along the azimuth that hardly changes with height: strands hang.
    along = np.stack([azimuth * 0.09, height * 0.25], 1)
    strands = rng.uniform(0.002, 0.012) * smooth_noise(along, rng, 0.012)
    return height > np.minimum(tilt + part, 0.075) + strands


def curtains(scene: Scene, rng: np.random.Generator) -> np.ndarray:
    """Long or half-long hair beside the face, on both sides or mostly on one."""
    azimuth, height = scene.on_shell()
    edge, lean = rng.uniform(0.55, 1.05), rng.normal(0, 0.15)
    length = rng.uniform(-0.25, -0.05)
    wave = np.stack([height, np.sign(azimuth) * 0.05 + 0.2 * azimuth * 0.09], 1)
    ragged = rng.uniform(0.03, 0.12) * smooth_noise(wave, rng, 0.06)
    bulge = rng.uniform(-0.3, 0.3) * np.clip(-height / 0.1, 0, 1)
    return (np.abs(azimuth + lean) > edge + bulge + ragged) & (height > length)


def strands(scene: Scene, rng: np.random.Generator) -> np.ndarray:
    """A few locks across the face."""
    azimuth, height = scene.on_shell()
    covered = np.zeros(len(azimuth), bool)
    for _ in range(rng.integers(1, 6)):
        start, drift, length = rng.normal(0, 0.6), rng.normal(0, 0.35), rng.uniform(0.03, 0.16)
        fall = np.clip((0.09 - height) / length, 0, 1)
        path = start + drift * fall + rng.normal(0, 0.2) * np.sin(np.pi * fall * rng.uniform(0.5, 1.6))
        width = rng.uniform(0.001, 0.006) * (1 - 0.8 * fall)
        covered |= (np.abs(azimuth - path) * 0.09 < width) & (0.09 - height < length)
    return covered


def hat(scene: Scene, rng: np.random.Generator) -> np.ndarray:
    """A cap with a brim, a beanie or a scarf about the head: all above a tilted line, and what the brim hides."""
    azimuth, height = scene.on_shell()
    line = rng.uniform(0.0, 0.055)
    tilt, lean = rng.uniform(0, 0.035), rng.normal(0, 0.007)
    covered = height > line - tilt * (1 - np.cos(azimuth)) + lean * np.sin(azimuth)
    if rng.uniform() < 0.5:
        brow = scene.landmarks[17:27, 1].mean()
        reach, width = scene.landmarks[27, 2] + rng.uniform(0.03, 0.09), rng.uniform(0.075, 0.12)
        place = scene.on_plane(1, brow + line + rng.uniform(-0.012, 0.01))
        covered |= (place[:, 0] / width) ** 2 + (np.maximum(place[:, 2], 0) / reach) ** 2 < 1
    return covered


def hood(scene: Scene, rng: np.random.Generator) -> np.ndarray:
    """A scarf or hood around the face: everything outside an oval about it."""
    azimuth, height = scene.on_shell()
    chin = scene.landmarks[8, 1] - scene.landmarks[17:27, 1].mean()
    top, low = rng.uniform(0.015, 0.06), chin + rng.uniform(-0.02, 0.015)
    middle, half = (top + low) / 2, (top - low) / 2
    oval = (np.abs(azimuth) / rng.uniform(0.75, 1.1)) ** 2.5 + np.abs((height - middle) / half) ** 2.5
    return oval > 1 + rng.uniform(0, 0.15) * smooth_noise(np.stack([azimuth * 0.09, height], 1), rng, 0.04)


def face_mask(scene: Scene, rng: np.random.Generator) -> np.ndarray:
    """A medical mask or a scarf over mouth and chin, at times pulled down under the nose, with its loops."""
    azimuth, height = scene.on_shell()
    brow, nose = scene.landmarks[17:27, 1].mean(), scene.landmarks[28:34, 1]
    line = rng.choice([nose[0], nose[1], nose[5]], p=[0.4, 0.4, 0.2]) - brow + rng.normal(0, 0.003)
    fall, width = rng.uniform(0.005, 0.02), rng.uniform(0.85, 1.25)
    above = line - fall * np.minimum(np.abs(azimuth), 1.0) ** 2
    low = scene.landmarks[8, 1] - brow - rng.uniform(0.005, 0.03)
    cloth = (height < above) & (height > low) & (np.abs(azimuth) < width)
    loop = (np.abs(height - above + 0.006 - 0.02 * (np.abs(azimuth) - width)) < 0.0015) & (np.abs(azimuth) >= width)
    return cloth | loop


def collar(scene: Scene, rng: np.random.Generator) -> np.ndarray:
    """Clothes or long hair on the neck, up to a height below the chin that varies."""
    x, _, z = scene.points.T
    chin = scene.landmarks[8]
    rise, lean = rng.uniform(-0.3, 0.2), rng.normal(0, 0.1)
    line = chin[1] - rng.uniform(-0.005, 0.045) + rise * np.minimum(z - chin[2], 0) + lean * x
    ragged = rng.uniform(0, 0.006) * smooth_noise(scene.points[:, ::2], rng, 0.03)
    # Nothing on the face: it ends at the jaw, which lies in front of the neck.
    return (scene.points[:, 1] < line + ragged) & (z < chin[2] - 0.004)


def glasses(scene: Scene, rng: np.random.Generator) -> np.ndarray:
    """Glasses with rims between wire and thick plastic: rims, bridge, temples, and the lenses when they are dark.

    Lens 40-58 mm wide, 28-50 mm high, bridge as the face has it: the range of spectacle sizes (ISO 8624 boxing
    system, sizes in common use).
    """
    eyes = np.stack([scene.landmarks[RIGHT_EYE].mean(axis=0), scene.landmarks[LEFT_EYE].mean(axis=0)])
    plane = eyes[:, 2].mean() + rng.uniform(0.014, 0.022)
    half = np.array([rng.uniform(0.020, 0.029), rng.uniform(0.014, 0.025)])
    corner = rng.uniform(0.25, 1.0) * half.min()
    rim = np.exp(rng.uniform(np.log(0.0012), np.log(0.007)))
    sight = scene.on_plane(2, plane)[:, :2]
    middle = (eyes[1, 0] + eyes[0, 0]) / 2
    apart = max((eyes[1, 0] - eyes[0, 0]) / 2 + rng.uniform(-0.001, 0.002), half[0] + 0.007)
    level = eyes[:, 1].mean() + rng.normal(-0.003, 0.003)
    covered, dark = np.zeros(len(sight), bool), rng.uniform() < 0.22
    for side in (-1, 1):
        center = np.array([middle + side * apart, level])
        lens = box(sight, center, half, 0.0, corner)
        glare, place, size = rng.uniform() < 0.2, rng.normal(0, 0.01, 2), half * rng.uniform(0.2, 0.6, 2)
        glass = (lens < 0) & (box(sight, center + place, size, rng.normal(0, 0.5), 0.002) < 0) if glare else False
        covered |= (lens < rim) & ((lens > -rim / 2) | dark) | glass
        arm = scene.on_plane(0, middle + side * (apart + half[0] + 0.004))
        top = center[1] + rng.uniform(0.2, 0.8) * half[1]
        covered |= (np.abs(arm[:, 1] - top) < 0.6 * rim + 0.001) & (arm[:, 2] < plane) & (arm[:, 2] > 0)
    between = np.abs(sight[:, 0] - middle) < apart - half[0] + rim
    return covered | (between & (np.abs(sight[:, 1] - level - rng.uniform(0.1, 0.6) * half[1]) < 0.7 * rim + 0.0008))


def hand(scene: Scene, rng: np.random.Generator) -> np.ndarray:
    """A hand at the cheek, chin, mouth, temple or before an eye: palm, fingers, thumb and forearm.

    Fingers 60-80 mm long and 14-19 mm wide, palm 75-90 mm wide: adult hands (DIN 33402-2).
    """
    target = scene.landmark_image(rng.choice([2, 3, 4, 6, 8, 10, 12, 13, 14, 17, 26, 36, 45, 48, 51, 54]))
    fingertips = target + rng.normal(0, 0.015, 2)
    side = rng.choice([-1.0, 1.0])
    pointing = np.radians(90 + side * rng.uniform(-10, 65))
    forward = np.array([np.cos(pointing), np.sin(pointing)])
    across = side * np.array([forward[1], -forward[0]])
    scale, bent = rng.uniform(0.85, 1.1), rng.uniform(0.35, 1.0)
    length, radius = 0.072 * scale * bent, 0.0085 * scale
    wrist = fingertips - forward * (length + 0.09 * scale)
    knuckles = fingertips - forward * length
    covered = (
        box(scene.image, wrist + 0.045 * scale * forward, np.array([0.05, 0.039]) * scale, pointing, 0.03 * scale) < 0
    )
    spread, used = rng.uniform(0, 0.25), 4 if rng.uniform() < 0.7 else int(rng.integers(1, 4))
    for finger, share in zip(range(used), (0.9, 1.0, 0.95, 0.75)):
        offset = finger - 1.5
        start = knuckles + across * 0.0195 * scale * offset
        turn = rng.normal(0, 0.05) + spread * offset
        tip = start + share * length * (np.cos(turn) * forward + np.sin(turn) * across)
        covered |= capsule(scene.image, start, tip, (1.08 * radius, 0.85 * radius)) < 0
    thumb = wrist + 0.03 * scale * forward - 0.035 * scale * across
    turn = rng.uniform(0.15, 0.9)
    tip = thumb + 0.065 * scale * (np.cos(turn) * forward - np.sin(turn) * across)
    covered |= capsule(scene.image, thumb, tip, (1.3 * radius, radius)) < 0
    return covered | (capsule(scene.image, wrist, wrist - 0.3 * forward, (0.028, 0.04)) < 0)


def thing(scene: Scene, rng: np.random.Generator) -> np.ndarray:
    """A microphone, a telephone, a cup or something round with a wavy outline."""
    kind = rng.choice(["microphone", "telephone", "cup", "blob"])
    image = scene.image
    if kind == "microphone":
        head = scene.landmark_image(57) + rng.normal(0, [0.025, 0.015])
        angle = np.radians(-90 + rng.uniform(-50, 50))
        away = np.array([np.cos(angle), np.sin(angle)])
        ball = np.hypot(*(image - head).T) - rng.uniform(0.014, 0.032)
        return (ball < 0) | (capsule(image, head, head + 0.4 * away, (0.013, 0.013)) < 0)
    if kind == "telephone":
        place = scene.landmark_image(rng.choice([1, 3, 13, 15, 30, 36, 45])) + rng.normal(0, 0.02, 2)
        return box(image, place, np.array([0.036, 0.075]) * rng.uniform(0.9, 1.1), rng.normal(0, 0.5), 0.006) < 0
    if kind == "cup":
        rim = scene.landmark_image(62) + np.array([0, rng.normal(0, 0.008)])
        return box(image, rim - [0, 0.05], np.array([rng.uniform(0.028, 0.042), 0.05]), rng.normal(0, 0.1), 0.008) < 0
    center = scene.landmark_image(rng.integers(68)) + rng.normal(0, 0.03, 2)
    offset = image - center
    angle = np.arctan2(offset[:, 1], offset[:, 0])
    radius = np.full(len(angle), rng.uniform(0.012, 0.045))
    for harmonic in range(2, 6):
        radius = radius * (1 + rng.normal(0, 0.25 / harmonic) * np.cos(harmonic * angle + rng.uniform(0, 2 * np.pi)))
    return np.hypot(*offset.T) < radius


def border(scene: Scene, rng: np.random.Generator) -> np.ndarray:
    """The edge of a photo that is cropped tightly or shows part of the face."""
    marks = scene.landmark_image(slice(None))
    low, high = marks.min(axis=0), marks.max(axis=0)
    size = high - low
    # How much of the landmarks' extent is cut at each side; negative leaves air.
    cut = rng.normal(-0.15, 0.06, 4)
    cut[rng.integers(4)] = rng.uniform(-0.05, 0.35)
    frame_low, frame_high = low + cut[:2] * size, high + np.array([-cut[2], 0.25 - cut[3]]) * size
    return ((scene.image < frame_low) | (scene.image > frame_high)).any(-1)


# Occluder, share of photos that have it. Ordinary hair nearly always hides the scalp; the rest is more frequent than
# in ordinary photos, so that a model sees enough of each.
OCCLUDERS: tuple[tuple[str, float, Callable[[Scene, np.random.Generator], np.ndarray]], ...] = (
    ("hairline", 0.82, hairline),
    ("fringe", 0.22, fringe),
    ("curtains", 0.25, curtains),
    ("strands", 0.10, strands),
    ("hat", 0.08, hat),
    ("hood", 0.05, hood),
    ("face mask", 0.03, face_mask),
    ("collar", 0.75, collar),
    ("glasses", 0.22, glasses),
    ("hand", 0.10, hand),
    ("thing", 0.10, thing),
    ("border", 0.20, border),
)
