"""Whole images of a head: the lit view with its coverage, and the arbitrary output variables (AOVs)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from relightify_diffusers.maps import encode_normals, linear_to_srgb
from relightify_diffusers.rendering.cameras import Camera
from relightify_diffusers.rendering.rasterizer import Fragments
from relightify_diffusers.rendering.shading import Scene

AOVS = ("shaded", "diffuse_albedo", "specular_albedo", "normals", "depth", "mask", "observed")
_CHANNELS = {"depth": 1, "mask": 1, "observed": 1}

# Rays of one band of an image.
BAND_RAYS = 1 << 20


@dataclass(frozen=True)
class View:
    """One rendered image.

    image: (H, W, C) float32: linear radiance for "shaded", else the values of the AOV; premultiplied by alpha.
    alpha: (H, W) float32, the share of each pixel that the head covers.
    """

    image: np.ndarray
    alpha: np.ndarray

    @property
    def straight(self) -> np.ndarray:
        """(H, W, C) image divided by alpha; zero where nothing is seen."""
        alpha = self.alpha[..., None]
        return np.where(alpha > 0, self.image / np.maximum(alpha, 1e-6), 0).astype(np.float32)

    def srgb(self) -> np.ndarray:
        """(H, W, 3) a linear image over black, clipped to [0, 1] and encoded as sRGB."""
        return linear_to_srgb(np.clip(self.image, 0, 1)).astype(np.float32)


def render(scene: Scene, camera: Camera, lights: Sequence = (), aov: str = "shaded", supersampling: int = 2) -> View:
    """Render one AOV of a scene.

    lights: for "shaded". "diffuse_albedo" is linear; "specular_albedo" is s; "normals" are unit vectors in the head
    frame; "depth" is camera-space z in meters, one ray a pixel, 0 = none. Each pixel averages supersampling^2 rays.
    Raises KeyError for an unknown AOV.
    """
    if aov not in AOVS:
        raise KeyError(f"unknown AOV {aov!r}; there are {', '.join(AOVS)}")
    factor = 1 if aov == "depth" else supersampling
    width, height = camera.image_size
    image = np.zeros((height, width, _CHANNELS.get(aov, 3)), np.float32)
    alpha = np.zeros((height, width), np.float32)
    left, top, right, bottom = _extent(scene, camera)
    # Bands bound the memory that a large photo takes.
    rows = max(1, BAND_RAYS // max(1, (right - left) * factor**2))
    for row in range(top, bottom, rows):
        window = camera.cropped(left, row, right - left, min(rows, bottom - row))
        part = np.s_[row : row + window.image_size[1], left:right]
        image[part], alpha[part] = _render_window(scene, window.resized(factor), lights, aov, factor)
    return View(image, alpha)


def _extent(scene: Scene, camera: Camera) -> tuple[int, int, int, int]:
    """Left, top, right and bottom pixel edges of the part of the image in which the head can be."""
    width, height = camera.image_size
    if camera.transform(scene.vertices)[:, 2].min() <= 1e-3:  # partly behind the camera: no bounds
        return 0, 0, width, height
    pixels = camera.project(scene.vertices)
    left, top = np.clip(np.floor(pixels.min(axis=0)), 0, [width, height]).astype(int)
    right, bottom = np.clip(np.ceil(pixels.max(axis=0)), [left, top], [width, height]).astype(int)
    return (left, top, right, bottom) if right > left else (0, 0, 0, 0)


def _render_window(scene: Scene, camera: Camera, lights, aov: str, factor: int) -> tuple[np.ndarray, np.ndarray]:
    fragments = scene.rasterizer.rasterize(camera)
    covered = fragments.pix_to_face >= 0
    image = np.zeros((*covered.shape, _CHANNELS.get(aov, 3)), np.float32)
    if covered.any():
        image[covered] = _values(scene, camera, fragments, lights, aov)
    return _average(image, factor), _average(covered[..., None].astype(np.float32), factor)[..., 0]


def _values(scene: Scene, camera: Camera, fragments: Fragments, lights, aov: str) -> np.ndarray:
    """One AOV at the covered pixels: (P, C)."""
    covered = fragments.pix_to_face >= 0
    if aov == "mask":
        return np.ones((int(covered.sum()), 1), np.float32)
    if aov == "depth":
        return fragments.zbuf[covered][:, None]
    surface = scene.surface(camera, fragments)
    if aov == "shaded":
        return scene.shade(surface, lights)
    if aov == "specular_albedo":
        return np.repeat(surface.s[:, None], 3, axis=1)
    if aov == "observed":
        return surface.observed[:, None]
    return surface.normals if aov == "normals" else surface.diffuse_albedo


def _average(image: np.ndarray, factor: int) -> np.ndarray:
    height, width = (side // factor for side in image.shape[:2])
    return image.reshape(height, factor, width, factor, -1).mean(axis=(1, 3))


def encode(view: View, aov: str) -> np.ndarray:
    """A View as it is written to a file: (H, W, 3) or (H, W) float32 in [0, 1], or uint16 for "depth".

    Colors lie over black; diffuse_albedo is sRGB; normals are n * 0.5 + 0.5 with gray where nothing is seen; depth is
    in millimeters, 0 = none.
    """
    if aov == "depth":
        return np.clip(np.round(view.image[..., 0] * 1000), 0, 65535).astype(np.uint16)
    if aov in ("shaded", "diffuse_albedo"):
        return view.srgb()
    if aov == "normals":
        length = np.linalg.norm(view.image, axis=-1, keepdims=True)
        return encode_normals(view.image / np.maximum(length, 1e-6)).astype(np.float32)
    return view.image[..., 0] if view.image.shape[-1] == 1 else view.image


def composite(view: View, observed: np.ndarray, photo: np.ndarray, feather: float = 0.03) -> np.ndarray:
    """Put a lit view back into its photo where the photo showed the face.

    view: shaded, at the size of the photo. observed: (H, W) in [0, 1], the rendered map of observed texels; its gaps
    are closed, and it grows to the outline of the head where that is near. photo: (H, W, 3) sRGB. feather: width of
    the soft edge towards what the photo did not show (hair), as a share of the face's extent. Returns (H, W, 3) sRGB.
    """
    from scipy.ndimage import binary_fill_holes, binary_opening, distance_transform_edt

    head = view.alpha > 0.5
    face = binary_opening((observed > 0.5) & head)
    if not face.any():
        return photo.astype(np.float32)
    rows, columns = np.nonzero(face)
    width = max(1.0, feather * max(np.ptp(rows), np.ptp(columns)))
    face = binary_fill_holes(face | (distance_transform_edt(~face) < width)) & head
    elsewhere = head & ~face
    blend = distance_transform_edt(~elsewhere) / width if elsewhere.any() else np.ones(face.shape)
    # Two pixels at the outline hide what the mesh misses of it.
    blend = np.minimum(blend, distance_transform_edt(np.pad(head, 1))[1:-1, 1:-1] / 2).clip(0, 1) * face
    blend = (blend * blend * (3 - 2 * blend))[..., None]
    lit = linear_to_srgb(np.clip(view.straight, 0, 1))
    return (photo * (1 - blend) + lit * blend).astype(np.float32)
