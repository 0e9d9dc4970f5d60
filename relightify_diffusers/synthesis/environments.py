"""Surroundings that light a head: HDR photographs and procedural skies, studios and rooms, as cells and sources."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path

import numpy as np
from scipy import ndimage
from scipy.spatial import cKDTree

from relightify_diffusers.errors import UsageError
from relightify_diffusers.maps import LUMINANCE
from relightify_diffusers.rendering.environment import EnvironmentLight, equirect_directions, read_hdr
from relightify_diffusers.rendering.lights import DirectionalLight, PointLight
from relightify_diffusers.rendering.mesh import normalize
from relightify_diffusers.rendering.spherical_harmonics import fibonacci_sphere, sh_basis
from relightify_diffusers.synthesis.geometry import DIRECTIONS, SOLID_ANGLE

Source = DirectionalLight | PointLight

# The middle of the face in the head frame, in meters: where lights aim, and from where they are described.
FACE = np.array([0.0, 0.0, 0.08])

# A source of a map is a blob brighter than one of these multiples of the map's mean, no wider than this (degrees;
# wider ones are well kept by the cells), and with this share of all light; at most so many, the strongest.
SOURCE_THRESHOLDS = (8, 32, 128, 512, 2048)
SOURCE_RADIUS, SOURCE_SHARE, SOURCE_COUNT = 10.0, 0.01, 5

# Directions in which procedural surroundings are evaluated before they are averaged into cells.
FINE = fibonacci_sphere(16 * len(DIRECTIONS))


@dataclass(frozen=True)
class Environment:
    """Light from all around. radiance: (192, 3) mean of the cells around DIRECTIONS, without the sources."""

    name: str
    radiance: np.ndarray
    sources: tuple[Source, ...] = ()

    @classmethod
    def from_hdr(cls, path: str | Path) -> Environment:
        """Read an equirectangular .hdr; its compact bright spots (sun, lamps) become sources, energy is kept.

        Raises UsageError if it does not exist or is not twice as wide as high, UnsuitableImageError if it is damaged.
        """
        image = np.maximum(read_hdr(path), 0)
        if image.shape[1] != 2 * image.shape[0]:
            raise UsageError(
                f"{path} is {image.shape[1]} x {image.shape[0]}; an environment map is twice as wide as high"
            )
        rest, sources = extract_sources(image)
        flux = EnvironmentLight(rest).power(DIRECTIONS)
        even = EnvironmentLight.constant(1).power(DIRECTIONS)
        # Mean radiance of each cell, brought back to the energy of the map: cells are not exactly of one size.
        radiance = flux / even
        radiance *= flux.sum(axis=0) / np.maximum(SOLID_ANGLE * radiance.sum(axis=0), 1e-12)
        return cls(Path(path).stem, radiance, sources)

    def turned(self, yaw: float) -> Environment:
        """The surroundings turned about the vertical by `yaw` radians; energy is kept, and so is uniform light."""
        sine, cosine = np.sin(yaw), np.cos(yaw)
        rotation = np.array([[cosine, 0, sine], [0, 1, 0], [-sine, 0, cosine]])
        sources = tuple(
            replace(source, direction=rotation @ source.direction)
            if isinstance(source, DirectionalLight)
            else replace(source, position=rotation @ source.position)
            for source in self.sources
        )
        # Each cell is dealt out to those around its new place. Alternating the normalization of rows and columns
        # (Sinkhorn 1964) makes the shares keep both energy and uniform light.
        shares = np.exp(80 * (DIRECTIONS @ (DIRECTIONS @ rotation.T).T - 1))
        for _ in range(6):
            shares /= shares.sum(axis=1, keepdims=True)
            shares /= shares.sum(axis=0, keepdims=True)
        return Environment(self.name, shares @ self.radiance, sources)

    def scaled(self, factor: float | np.ndarray) -> Environment:
        """All of the light times a factor: a number or (3,)."""
        return Environment(self.name, self.radiance * factor, tuple(scale_source(s, factor) for s in self.sources))

    @property
    def sh(self) -> np.ndarray:
        """(9, 3) radiance coefficients of cells and sources together, as the face sees them."""
        total = SOLID_ANGLE * sh_basis(DIRECTIONS).T @ self.radiance
        for source in self.sources:
            direction, irradiance = seen_from_face(source)
            total += np.outer(sh_basis(direction), irradiance)
        return total

    @property
    def level(self) -> np.ndarray:
        """(3,) irradiance averaged over all orientations: pi times the radiance of uniform light."""
        return SOLID_ANGLE / 4 * self.radiance.sum(axis=0) + sum(seen_from_face(s)[1] for s in self.sources) / 4


def seen_from_face(source: Source) -> tuple[np.ndarray, np.ndarray]:
    """Unit direction (3,) towards a source, and its irradiance (3,) on a surface that faces it, at FACE."""
    if isinstance(source, DirectionalLight):
        return normalize(np.asarray(source.direction, np.float64)), np.asarray(source.irradiance)
    offset = np.asarray(source.position) - FACE
    return normalize(offset), np.asarray(source.intensity) / (offset @ offset)


def incident(source: Source, positions: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """How a source reaches points (P, 3): without shadows, float32.

    Returns unit directions towards it (P, 3), irradiance (P, 3) of surfaces that face it, and its angular radius (P,)
    in radians; P is 1 for a directional light.
    """
    if isinstance(source, DirectionalLight):
        direction = normalize(np.asarray(source.direction, np.float32))[None]
        radius = np.array([source.angular_radius], np.float32)
        return direction, np.asarray(source.irradiance, np.float32)[None], radius
    offset = (np.asarray(source.position) - positions).astype(np.float32)
    # No point lies inside a lamp.
    squared = np.maximum((offset * offset).sum(-1), max(source.radius, 0.01) ** 2)
    distance = np.sqrt(squared)
    facing = np.asarray(source.intensity, np.float32) / squared[:, None]
    return offset / distance[:, None], facing, np.arctan(np.float32(source.radius) / distance)


def scale_source(source: Source, factor: float | np.ndarray) -> Source:
    """A source times a factor: a number or (3,)."""
    if isinstance(source, DirectionalLight):
        return replace(source, irradiance=np.asarray(source.irradiance) * factor)
    return replace(source, intensity=np.asarray(source.intensity) * factor)


def shadow_rays(degrees: float) -> int:
    """Shadow rays that a source of an angular radius in degrees needs: more where its penumbra is wide."""
    return 4 if degrees < 1 else 9 if degrees < 6 else 12


def extract_sources(image: np.ndarray) -> tuple[np.ndarray, tuple[DirectionalLight, ...]]:
    """Take the compact bright blobs out of an equirectangular map (H, 2 H, 3) of radiance.

    Returns the map without them and the sources, strongest first; the sum keeps the energy of each channel. A blob
    keeps the threshold's radiance; its width is that of a disk of the same spread.
    """
    directions, solid = equirect_directions(image.shape[0])
    rest, found = image.astype(np.float64), []
    total = ((rest @ LUMINANCE) * solid).sum()
    for threshold in SOURCE_THRESHOLDS:
        luminance = rest @ LUMINANCE
        level = threshold * total / (4 * np.pi)
        excess = np.maximum(1 - level / np.maximum(luminance, 1e-12), 0)
        labels, count = ndimage.label(excess > 0, np.ones((3, 3)))
        _join_edges(labels)
        energy = luminance * excess * solid
        share = np.bincount(labels.ravel(), energy.ravel(), count + 1) / max(total, 1e-12)
        for label in np.flatnonzero(share > SOURCE_SHARE):
            blob = labels == label
            weight = energy[blob]
            center = normalize(weight @ directions[blob])
            angle = np.arccos(np.clip(directions[blob] @ center, -1, 1))
            # A uniform disk of radius R has a mean squared distance of R^2 / 2 from its center.
            radius = np.sqrt(2 * (weight @ angle**2) / weight.sum() + solid[blob].mean() / np.pi)
            if label == 0 or radius > np.radians(SOURCE_RADIUS):
                continue
            irradiance = ((rest * (excess * solid)[..., None])[blob]).sum(axis=0)
            found.append(
                (
                    DirectionalLight(center, irradiance, float(radius), shadow_rays(np.degrees(radius))),
                    blob,
                    excess[blob],
                )
            )
            rest[blob] *= (1 - excess[blob])[:, None]
    return _keep_strongest(rest, found, solid)


def _join_edges(labels: np.ndarray) -> None:
    """Give blobs that meet across the left and right edge of the map one label, in place."""
    for left, right in zip(labels[:, 0], labels[:, -1], strict=True):
        if left and right and left != right:
            labels[labels == right] = left
            return _join_edges(labels)
    return None


def _keep_strongest(rest: np.ndarray, found: list, solid: np.ndarray):
    """Put all but the SOURCE_COUNT strongest sources back into the map."""
    order = sorted(found, key=lambda item: -float(item[0].irradiance @ LUMINANCE))
    for light, blob, _ in order[SOURCE_COUNT:]:
        rest[blob] += light.irradiance / solid[blob].sum()
    return rest, tuple(item[0] for item in order[:SOURCE_COUNT])


@lru_cache(maxsize=1)
def _fine_cells() -> tuple[np.ndarray, np.ndarray]:
    nearest = cKDTree(DIRECTIONS).query(FINE)[1]
    return nearest, np.bincount(nearest, minlength=len(DIRECTIONS))


def to_cells(fine: np.ndarray) -> np.ndarray:
    """Average radiance in the directions FINE, (3072, 3), into cells (192, 3)."""
    nearest, count = _fine_cells()
    sums = [np.bincount(nearest, fine[:, c], len(DIRECTIONS)) for c in range(3)]
    return np.stack(sums, axis=-1) / count[:, None]


def tint(rng: np.random.Generator, strength: float = 0.16) -> np.ndarray:
    """A color (3,) of unit luminance along warm to cool, with a little green or magenta."""
    warm, green = rng.normal(0, strength), rng.normal(0, strength / 4)
    color = np.exp(np.array([warm, green, -warm]))
    return color / (color @ LUMINANCE)


# The fifteen relative sky luminances of the CIE standard general sky (ISO 15469, CIE S 011; Darula & Kittler 2002,
# "CIE general sky standard defining luminance distributions", table 1), overcast to clear: a, b, c, d, e.
SKY_TYPES = np.array([
    [4.0, -0.70, 0, -1.0, 0.00], [4.0, -0.70, 2, -1.5, 0.15], [1.1, -0.80, 0, -1.0, 0.00],
    [1.1, -0.80, 2, -1.5, 0.15], [0.0, -1.00, 0, -1.0, 0.00], [0.0, -1.00, 2, -1.5, 0.15],
    [0.0, -1.00, 5, -2.5, 0.30], [0.0, -1.00, 10, -3.0, 0.45], [-1.0, -0.55, 2, -1.5, 0.15],
    [-1.0, -0.55, 5, -2.5, 0.30], [-1.0, -0.55, 10, -3.0, 0.45], [-1.0, -0.32, 10, -3.0, 0.45],
    [-1.0, -0.32, 16, -3.0, 0.30], [-1.0, -0.15, 16, -3.0, 0.30], [-1.0, -0.15, 24, -2.8, 0.15],
])  # fmt: skip

# Linear colors of clear sky at the zenith and towards the horizon, of clouds, of asphalt, grass, sand and snow.
ZENITH, HORIZON, CLOUD = np.array([0.16, 0.36, 0.95]), np.array([0.55, 0.72, 0.95]), np.array([0.95, 1.0, 1.07])
GROUNDS = np.array([[0.13, 0.13, 0.13], [0.09, 0.12, 0.06], [0.35, 0.29, 0.20], [0.75, 0.77, 0.80]])
GROUND_ODDS = (0.45, 0.3, 0.18, 0.07)


def sky_luminance(kind: int, directions: np.ndarray, sun: np.ndarray) -> np.ndarray:
    """Luminance of a CIE standard sky relative to its zenith (Darula & Kittler 2002, equations 1 to 4).

    kind: 0 overcast to 14 clear. directions: (D, 3) unit, +Y up. sun: (3,) unit. Returns (D,), 0 below the horizon.
    """
    a, b, c, d, e = SKY_TYPES[kind]
    up = directions[:, 1]
    angle, zenith_angle = np.arccos(np.clip(directions @ sun, -1, 1)), np.arccos(np.clip(sun[1], -1, 1))

    def scattering(chi):
        return 1 + c * (np.exp(d * chi) - np.exp(d * np.pi / 2)) + e * np.cos(chi) ** 2

    def gradation(cosine):
        return 1 + a * np.exp(b / np.maximum(cosine, 0.01))

    relative = scattering(angle) * gradation(up) / (scattering(zenith_angle) * gradation(1.0))
    return np.where(up > 0, relative, 0)


def sun_color(elevation: float, turbidity: float) -> np.ndarray:
    """Transmittance (3,) of the air for sunlight in red, green and blue (Preetham et al. 1999, appendix A.2).

    elevation: radians above the horizon. turbidity: 2 clear to 10 hazy. Rayleigh scattering and haze at 0.61, 0.55 and
    0.465 micrometers; the air mass after Kasten 1966.
    """
    degrees = np.degrees(elevation)
    mass = 1 / (np.sin(elevation) + 0.15 * (degrees + 3.885) ** -1.253)
    wavelength = np.array([0.61, 0.55, 0.465])
    haze = 0.04608 * turbidity - 0.04586
    return np.exp(-mass * (0.008735 * wavelength**-4.08 + haze * wavelength**-1.3))


def sample_sky(rng: np.random.Generator) -> Environment:
    """Draw a sky from overcast to clear, its sun (free, or behind a building), the ground and what stands around."""
    kind, elevation = int(rng.integers(len(SKY_TYPES))), np.radians(rng.uniform(4, 70))
    cloudy, turbidity = kind < 5, rng.uniform(2, 8)
    azimuth = rng.uniform(-np.pi, np.pi)
    sun = np.array([np.cos(elevation) * np.sin(azimuth), np.sin(elevation), np.cos(elevation) * np.cos(azimuth)])

    luminance = sky_luminance(kind, FINE, sun)
    clear = np.clip((kind - 2) / 9, 0, 1)
    height = np.clip(FINE[:, 1:2], 0, 1) ** 0.5
    color = (1 - clear) * CLOUD + clear * (HORIZON + (ZENITH - HORIZON) * height)
    # Low suns redden the sky around them.
    near = np.exp(4 * (FINE @ sun - 1))[:, None]
    red = sun_color(elevation, turbidity)
    color = color * (1 + near * (red / (red @ LUMINANCE) - 1))
    sky = luminance[:, None] * color / np.maximum(color @ LUMINANCE, 1e-6)[:, None]
    # Horizontal illuminance of the sky and normal illuminance of the sun, in kilolux: Gillette & Pierpoint 1984 (IES
    # calculation of daylight availability): cloudy, partly cloudy, clear.
    s = np.sin(elevation)
    diffuse, extinction = ((0.3 + 21 * s, 9), (0.3 + 45 * s, 0.8), (0.8 + 15.5 * s**0.5, 0.21))[
        (kind >= 5) + (kind >= 10)
    ]
    sky *= diffuse / np.maximum((luminance * np.maximum(FINE[:, 1], 0)).sum() * 4 * np.pi / len(FINE), 1e-9)
    direct = 0.0 if cloudy else 127.5 * np.exp(-extinction / s)
    sunlight = direct * red / (red @ LUMINANCE)

    ground = GROUNDS[rng.choice(len(GROUNDS), p=GROUND_ODDS)] * np.exp(rng.normal(0, 0.2))
    arriving = diffuse + sunlight * s
    sky = np.where(FINE[:, 1:2] > 0, sky, ground * arriving / np.pi)
    hidden = _stand_around(sky, sun, diffuse, sunlight, rng)
    radius = np.radians(0.27 + max(rng.normal(0, 1), 0) * (1 - clear))
    sources = () if cloudy or hidden else (DirectionalLight(sun, sunlight, radius, shadow_rays(np.degrees(radius))),)
    return Environment("sky", to_cells(sky), sources)


def _stand_around(sky: np.ndarray, sun: np.ndarray, diffuse: float, sunlight: np.ndarray, rng: np.random.Generator):
    """Put up to three buildings or trees before the sky, in place; returns whether the sun is behind one."""
    hidden = False
    azimuth = np.arctan2(FINE[:, 0], FINE[:, 2])
    for _ in range(rng.integers(0, 4)):
        middle, half, top = rng.uniform(-np.pi, np.pi), rng.uniform(0.3, 1.2), rng.uniform(0.1, 0.75)
        albedo = rng.uniform(0.08, 0.5) * tint(rng, 0.12)

        def covered(angle, up, middle=middle, half=half, top=top):
            return (np.abs((angle - middle + np.pi) % (2 * np.pi) - np.pi) < half) & (up > 0) & (up < top)

        wall = np.array([-np.sin(middle), 0, -np.cos(middle)])  # it faces the head
        sky[covered(azimuth, FINE[:, 1])] = albedo / np.pi * (diffuse / 2 + sunlight * max(wall @ sun, 0))
        hidden |= bool(covered(np.arctan2(sun[0], sun[2]), sun[1]))
    return hidden


def aimed(azimuth: float, elevation: float, distance: float) -> np.ndarray:
    """Position (3,) at angles in degrees and a distance in meters from FACE."""
    a, e = np.radians([azimuth, elevation])
    return FACE + distance * np.array([np.cos(e) * np.sin(a), np.sin(e), np.cos(e) * np.cos(a)])


def lamp(position: np.ndarray, irradiance: np.ndarray, radius: float) -> PointLight:
    """A ball light at a position (3,) that gives an irradiance (3,) at FACE."""
    distance = float(np.linalg.norm(position - FACE))
    return PointLight(position, irradiance * distance**2, radius, shadow_rays(np.degrees(radius / distance)))


def sample_room(rng: np.random.Generator) -> Environment:
    """Draw a box of colored walls around the head, with windows and lamps whose light the walls send on."""
    size = np.array([rng.uniform(2.5, 8), rng.uniform(2.3, 3.2), rng.uniform(2.5, 8)])
    head = np.array([rng.uniform(0.2, 0.8) * size[0], rng.uniform(1.1, 1.7), rng.uniform(0.2, 0.8) * size[2]])
    low, high = -head, size - head
    wall = rng.uniform(0.3, 0.85) * np.clip(tint(rng, 0.22), 0.3, 1.15)
    floor, ceiling = rng.uniform(0.1, 0.4) * tint(rng, 0.25), np.full(3, rng.uniform(0.6, 0.9))
    sources: list[PointLight] = []
    day = rng.uniform() < 0.6
    if day:
        sky = tint(rng, 0.1) * np.array([0.9, 1.0, 1.15])
        sources += [_window(low, high, sky * rng.uniform(0.6, 1.6), rng) for _ in range(rng.integers(1, 4))]
    if not day or rng.uniform() < 0.35:
        warm = np.exp(rng.uniform(0, 0.35) * np.array([1, 0, -1.3]))
        sources += [_lamp(low, high, warm * (0.35 if day else 1), rng) for _ in range(rng.integers(1, 4))]

    # The first bounce of all sources, spread over the walls, and its own bounces (a sphere of mean albedo).
    total = sum(seen_from_face(source)[1] for source in sources)
    mean = 0.7 * wall + 0.15 * (floor + ceiling)
    bounce = rng.uniform(0.15, 0.5) * total / np.pi / (1 - np.minimum(mean, 0.85))
    with np.errstate(divide="ignore"):
        reach = np.where(FINE > 0, high / FINE, low / np.where(FINE == 0, 1e-9, FINE))
    axis = reach.argmin(axis=1)
    albedo = np.where((axis == 1)[:, None], np.where(FINE[:, 1:2] > 0, ceiling, floor), wall)
    # Surfaces near a source are brighter.
    hit = FINE * reach.min(axis=1)[:, None]
    glow = sum(1 / (1 + ((hit - source.position) ** 2).sum(-1)) for source in sources) / len(sources)
    return Environment("room", to_cells(albedo * bounce * (0.5 + 2 * glow[:, None])), tuple(sources))


def _window(low: np.ndarray, high: np.ndarray, color: np.ndarray, rng: np.random.Generator) -> PointLight:
    """A window in one of the four walls: a large soft light whose irradiance at the face falls with the distance."""
    axis, far = int(rng.choice([0, 2])), bool(rng.integers(2))
    position = rng.uniform(low, high)
    position[axis], position[1] = (high if far else low)[axis], rng.uniform(-0.2, 0.7)
    radius = rng.uniform(0.35, 0.8)
    distance = max(float(np.linalg.norm(position - FACE)), 0.8)
    return lamp(position, color * np.pi * min(radius / distance, 0.9) ** 2 * 4, radius)


def _lamp(low: np.ndarray, high: np.ndarray, color: np.ndarray, rng: np.random.Generator) -> PointLight:
    """A lamp at the ceiling, or standing in the room."""
    position = rng.uniform(0.9 * low, 0.9 * high)
    position[1] = high[1] - 0.1 if rng.uniform() < 0.65 else rng.uniform(-0.3, 0.5)
    offset = position - FACE
    distance = max(float(np.linalg.norm(offset)), 0.6)
    position = FACE + normalize(offset) * distance
    return lamp(position, color * np.pi * rng.uniform(0.3, 1.0) / max(distance, 1.0) ** 2, rng.uniform(0.05, 0.2))
