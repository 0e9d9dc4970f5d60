"""Environment light: equirectangular radiance maps, Radiance .hdr files and spherical harmonics as one class."""

from __future__ import annotations

from functools import cached_property
from pathlib import Path

import numpy as np
import torch

from relightify_diffusers.errors import UnsuitableImageError, UsageError
from relightify_diffusers.rendering.brdf import MIN_ROUGHNESS
from relightify_diffusers.rendering.spherical_harmonics import project, sh_basis

# Height in pixels of the working copy of a map, and of its prefiltered levels: a rough skin lobe is wider than both.
WORKING_HEIGHT, PREFILTERED_HEIGHT = 64, 32

# Roughness of the prefiltered levels.
LEVELS = (0.1, 0.2, 0.35, 0.5, 0.7, 1.0)


def equirect_directions(height: int) -> tuple[np.ndarray, np.ndarray]:
    """Directions of the pixels of an equirectangular map of (height, 2 height), and their solid angles.

    +Z is at the center, +Y up, and the map is seen from inside, so the right half is towards -X. Returns
    (height, 2 height, 3) and (height, 2 height) in steradian, which sum to 4 pi.
    """
    edges = np.cos(np.linspace(0, np.pi, height + 1))
    polar = (np.arange(height) + 0.5) / height * np.pi
    azimuth = (0.5 - (np.arange(2 * height) + 0.5) / (2 * height)) * 2 * np.pi
    x, y, z = (
        np.outer(np.sin(polar), np.sin(azimuth)),
        np.cos(polar)[:, None],
        np.outer(np.sin(polar), np.cos(azimuth)),
    )
    solid = (edges[:-1] - edges[1:]) * np.pi / height
    return np.stack([x, np.broadcast_to(y, x.shape), z], axis=-1), np.broadcast_to(solid[:, None], x.shape)


def ggx_lobe(cosine: np.ndarray, roughness: np.ndarray | float) -> np.ndarray:
    """Weight of light at an angle to the mirror direction: D(h) (r.l) with n = v = r (Karis 2013, split sum).

    Not normalized. cosine: of the angle between the two; it broadcasts against roughness.
    """
    squared = np.clip(roughness, MIN_ROUGHNESS, 1) ** 4
    # h is halfway: cos^2(angle / 2) = (1 + cos(angle)) / 2.
    return np.maximum(cosine, 0) * squared / ((1 + cosine) / 2 * (squared - 1) + 1) ** 2


class EnvironmentLight:
    """Light from all around at infinity.

    image: (H, 2 H, 3) linear radiance, in the convention of `equirect_directions`; maps of another
    size are resampled.
    rotation: (3, 3) from the frame of the map to the frame that it lights (the head frame). Values may be negative, as
    those of truncated spherical harmonics are.
    """

    def __init__(self, image: np.ndarray, rotation: np.ndarray | None = None):
        if image.ndim != 3 or image.shape[2] != 3 or image.shape[1] != 2 * image.shape[0]:
            raise ValueError(f"an environment map has the shape (H, 2 H, 3), not {image.shape}")
        self.image = _resample(np.asarray(image, np.float32), WORKING_HEIGHT)
        self.rotation = np.eye(3) if rotation is None else np.asarray(rotation, np.float64)

    @classmethod
    def from_sh(cls, coefficients: np.ndarray, rotation: np.ndarray | None = None) -> EnvironmentLight:
        """The environment of (9, 3) radiance coefficients."""
        return cls(sh_basis(equirect_directions(WORKING_HEIGHT)[0]) @ np.asarray(coefficients), rotation)

    @classmethod
    def constant(cls, radiance: float) -> EnvironmentLight:
        """The same radiance from everywhere: 1 shows an unoccluded white Lambertian as 1."""
        return cls(np.full((2, 4, 3), radiance, np.float32))

    def to_sh(self) -> np.ndarray:
        """Coefficients (9, 3) in the lit frame."""
        directions, solid = equirect_directions(self.image.shape[0])
        return project(self.image.reshape(-1, 3), directions.reshape(-1, 3) @ self.rotation.T, solid.ravel())

    def power(self, directions: np.ndarray) -> np.ndarray:
        """The whole light dealt out to the nearest of a few directions (D, 3), in the lit frame.

        Returns (D, 3), radiance times steradian; their sum is the integral of the map.
        """
        from scipy.spatial import cKDTree

        pixels, solid = equirect_directions(self.image.shape[0])
        nearest = cKDTree(directions @ self.rotation).query(pixels.reshape(-1, 3))[1]
        flux = self.image.reshape(-1, 3) * solid.reshape(-1, 1)
        return np.stack([np.bincount(nearest, flux[:, c], len(directions)) for c in range(3)], axis=-1)

    @cached_property
    def _prefiltered(self) -> torch.Tensor:
        """(1, 3, levels, h, 2 h + 2) radiance seen in mirror directions, blurred by the lobe of each roughness."""
        mirror, solid = equirect_directions(PREFILTERED_HEIGHT)
        cosine = mirror.reshape(-1, 3).astype(np.float32)
        cosine = cosine @ cosine.T
        image = _resample(self.image, PREFILTERED_HEIGHT)
        radiance = np.concatenate([image.reshape(-1, 3), np.ones((solid.size, 1))], axis=1) * solid.reshape(-1, 1)
        levels = []
        for roughness in LEVELS:
            total = ggx_lobe(cosine, roughness) @ radiance.astype(np.float32)
            levels.append((total[:, :3] / total[:, 3:]).reshape(*mirror.shape[:2], 3))
        # One column more on each side lets the lookup wrap around.
        stack = np.pad(
            np.maximum(np.stack(levels), 0).astype(np.float32), [(0, 0), (0, 0), (1, 1), (0, 0)], mode="wrap"
        )
        return torch.from_numpy(stack).permute(3, 0, 1, 2)[None].contiguous()

    def reflected(self, mirror: np.ndarray, roughness: np.ndarray) -> np.ndarray:
        """Blurred radiance (P, 3) for mirror directions (P, 3) in the lit frame and roughness (P,); not negative."""
        if np.ptp(self.image.reshape(-1, 3), axis=0).max() < 1e-6:
            return np.broadcast_to(np.maximum(self.image[0, 0], 0), mirror.shape)
        x, y, z = (mirror @ self.rotation).T
        width = 2 * PREFILTERED_HEIGHT
        column = (0.5 - np.arctan2(x, z) / (2 * np.pi)) * width + 1
        row = np.arccos(np.clip(y, -1, 1)) / np.pi
        level = np.interp(roughness, LEVELS, np.arange(len(LEVELS))) + 0.5
        grid = np.stack([column / (width + 2), row, level / len(LEVELS)], axis=-1) * 2 - 1
        where = torch.from_numpy(grid.astype(np.float32))[None, None, None]
        found = torch.nn.functional.grid_sample(self._prefiltered, where, padding_mode="border", align_corners=False)
        return found[0, :, 0, 0].T.numpy()


def _resample(image: np.ndarray, height: int) -> np.ndarray:
    """Resample an equirectangular map to `height` by areas, weighting rows by their solid angle: energy is kept."""
    if image.shape[0] == height:
        return image
    source = image.shape[0]
    weights = np.cos(np.arange(source) / source * np.pi) - np.cos(np.arange(1, source + 1) / source * np.pi)
    rows = _bins(image * weights[:, None, None], height) / _bins(weights, height)[:, None, None]
    columns = _bins(rows.transpose(1, 0, 2), 2 * height) / (image.shape[1] / (2 * height))
    return np.ascontiguousarray(columns.transpose(1, 0, 2), np.float32)


def _bins(values: np.ndarray, count: int) -> np.ndarray:
    """Sums of axis 0 over `count` equal intervals, with fractional shares at their ends."""
    total = np.concatenate([np.zeros_like(values[:1], np.float64), np.cumsum(values, axis=0, dtype=np.float64)])
    position = np.linspace(0, len(values), count + 1)
    lower = np.minimum(position.astype(int), len(values) - 1)
    share = (position - lower).reshape(-1, *[1] * (values.ndim - 1))
    return np.diff(total[lower] * (1 - share) + total[lower + 1] * share, axis=0)


def read_hdr(path: str | Path) -> np.ndarray:
    """Read a Radiance .hdr file: (H, W, 3) float32 linear.

    The format: Ward 1991, "Real Pixels" (Graphics Gems II), with the run lengths of Radiance's color.c. Raises
    UsageError if the file does not exist, UnsuitableImageError if it is not a complete .hdr.
    """
    try:
        content = Path(path).read_bytes()
    except OSError as error:
        raise UsageError(f"cannot read the light {path}: {error.strerror}") from error
    try:
        header, _, rest = content.partition(b"\n\n")
        size, _, data = rest.partition(b"\n")
        axis_y, height, axis_x, width = size.split()
        if not header.startswith(b"#?") or (axis_y, axis_x) != (b"-Y", b"+X"):
            raise ValueError("it is no Radiance .hdr in the usual orientation")
        pixels = _decode_rgbe(data, int(height), int(width))
    except (ValueError, IndexError) as error:
        raise UnsuitableImageError(f"cannot read the light {path}: {error}") from error
    scale = np.ldexp(1.0, pixels[..., 3:].astype(int) - 136)
    return (pixels[..., :3] * np.where(pixels[..., 3:] > 0, scale, 0)).astype(np.float32)


def _decode_rgbe(data: bytes, height: int, width: int) -> np.ndarray:
    """(height, width, 4) uint8 of run-length encoded scan lines, or of plain pixels if the first has no run header."""
    if data[:2] != b"\x02\x02" or not 8 <= width < 32768:
        if len(data) < height * width * 4:
            raise ValueError("it is truncated")
        return np.frombuffer(data, np.uint8, height * width * 4).reshape(height, width, 4)
    result, position = np.empty((height, 4 * width), np.uint8), 0
    for row in result:
        if data[position : position + 4] != bytes([2, 2, width >> 8, width & 255]):
            raise ValueError("a scan line is damaged or missing")
        position, column = position + 4, 0
        while column < 4 * width:
            count = data[position]
            if count > 128:  # a run of one value
                count -= 128
                row[column : column + count] = data[position + 1]
                position += 2
            else:
                row[column : column + count] = np.frombuffer(data, np.uint8, count, position + 1)
                position += 1 + count
            column += count
    return result.reshape(height, 4, width).transpose(0, 2, 1)
