"""The preview of a reconstruction: one labeled sheet of what went in, what came out, and the head relit."""

from __future__ import annotations

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from relightify_diffusers.export.images import resize, to_uint8
from relightify_diffusers.rendering.cameras import Camera, orbit_camera
from relightify_diffusers.rendering.lights import preset_lights
from relightify_diffusers.rendering.shading import Scene
from relightify_diffusers.rendering.views import encode, render

CELL, LABEL, GAP = 320, 26, 8
BACKGROUND = (24, 24, 26)
RELIT = (("lit from the left", "left", 0), ("lit from the right", "right", 0), ("studio light, turned", "studio", 30))
OVERLAY_SIDE = 1024  # longest side of a fit overlay in pixels


def fit_overlay(
    avatar, detected: np.ndarray | None = None, fitted: np.ndarray | None = None, opacity: float = 0.5
) -> np.ndarray:
    """The photo with the fitted mesh (colored by its normals in the view) and the landmarks over it.

    detected, fitted: (L, 2) pixels of the photo, drawn in yellow and red. Returns (h, w, 3) float32, the photo's
    proportions with a longest side of at most OVERLAY_SIDE. Raises ValueError if the avatar has no photo.
    """
    if avatar.photo is None:
        raise ValueError("an overlay needs an avatar with its photo")
    scale = min(1.0, OVERLAY_SIDE / max(avatar.camera.image_size))
    camera = avatar.camera.resized(scale)
    view = render(Scene(avatar.mesh, avatar.maps), camera, aov="normals")
    color = view.straight @ camera.view_to_world * 0.5 + 0.5
    alpha = view.alpha[..., None] * opacity
    canvas = Image.fromarray(to_uint8(resize(avatar.photo, camera.image_size) * (1 - alpha) + color * alpha))
    draw, radius = ImageDraw.Draw(canvas), max(1.0, 0.006 * _head_extent(avatar.mesh, camera))
    for points, fill in ((detected, (255, 230, 0)), (fitted, (230, 30, 30))):
        for x, y in np.asarray(points if points is not None else [], np.float64).reshape(-1, 2) * scale:
            draw.ellipse([x - radius, y - radius, x + radius, y + radius], fill=fill)
    return np.asarray(canvas, np.float32) / 255


def preview_sheet(avatar, overlay: np.ndarray | None = None, partial_texture: np.ndarray | None = None) -> np.ndarray:
    """One labeled sheet: photo, fit overlay, partial texture, the four maps and three relit views.

    overlay: (h, w, 3), the photo with the fit over it in the photo's proportions (drawn by `fit_overlay` if it is
    missing). partial_texture: (N, N, 3) sRGB (the texture where it was observed if it is missing). Returns
    (H, W, 3) float32 in [0, 1].
    """
    maps, cells = avatar.maps, []
    if avatar.photo is not None:
        window = _head_window(avatar.mesh, avatar.camera)
        overlay = fit_overlay(avatar) if overlay is None else overlay
        cells += [("photo", _crop(avatar.photo, window)), ("fit", _crop(overlay, window))]
    if partial_texture is None and "observed" in maps:
        partial_texture = maps["texture"] * maps["observed"][..., None]
    if partial_texture is not None:
        cells.append(("observed texture", partial_texture))
    names = ("texture", "diffuse_albedo", "specular_albedo", "normals")
    cells += [(name.replace("_", " "), maps[name]) for name in names]
    scene = Scene(avatar.mesh, maps)
    for label, preset, yaw in RELIT:
        camera = orbit_camera(avatar.mesh.vertices, yaw, size=CELL)
        lit = encode(render(scene, camera, preset_lights(preset, camera.view_to_world)), "shaded")
        cells.append((label, lit))
    return _sheet(cells, columns=5)


def _sheet(cells: list[tuple[str, np.ndarray]], columns: int) -> np.ndarray:
    rows = -(-len(cells) // columns)
    size = (columns * (CELL + GAP) + GAP, rows * (CELL + LABEL + GAP) + GAP)
    canvas, font = Image.new("RGB", size, BACKGROUND), ImageFont.load_default(16)
    draw = ImageDraw.Draw(canvas)
    for index, (label, image) in enumerate(cells):
        x, y = GAP + index % columns * (CELL + GAP), GAP + index // columns * (CELL + LABEL + GAP)
        draw.text((x + 2, y), label, fill=(225, 225, 225), font=font)
        tile = Image.fromarray(to_uint8(np.broadcast_to(image, (*image.shape[:2], 3))))
        scale = CELL / max(tile.size)
        tile = tile.resize([max(1, round(side * scale)) for side in tile.size], Image.Resampling.LANCZOS)
        canvas.paste(tile, (x + (CELL - tile.width) // 2, y + LABEL + (CELL - tile.height) // 2))
    return np.asarray(canvas, np.float32) / 255


def _head_extent(mesh, camera: Camera) -> float:
    """Height of the head in pixels."""
    return float(np.ptp(camera.project(np.asarray(mesh.vertices, np.float64))[:, 1]))


def _head_window(mesh, camera: Camera, margin: float = 0.2) -> np.ndarray:
    """Left, top, right and bottom of the part of the photo around the head, as shares of its size."""
    pixels = camera.project(np.asarray(mesh.vertices, np.float64))
    center = (pixels.min(axis=0) + pixels.max(axis=0)) / 2
    half = (0.5 + margin) * np.ptp(pixels, axis=0).max()
    size = np.array(camera.image_size)
    window = np.concatenate([(center - half) / size, (center + half) / size]).clip(0, 1)
    return window if (window[2:] - window[:2] > 0.02).all() else np.array([0.0, 0, 1, 1])


def _crop(image: np.ndarray, window: np.ndarray) -> np.ndarray:
    height, width = image.shape[:2]
    left, top, right, bottom = np.round(window * [width, height, width, height]).astype(int)
    return image[top : max(bottom, top + 1), left : max(right, left + 1)]
