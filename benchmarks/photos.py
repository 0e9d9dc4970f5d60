"""Compare models on photos, where the truth is unknown: how much light is left in the albedo, and a sheet to look at.

    python benchmarks/photos.py PHOTO [PHOTO ...] [--model bundled DIR ...] [--method default] [-o photos.png]

Asymmetry is the mean difference of low-passed log luminance between a face and its mirror image, over skin that the
photo shows on both sides. Light from one side makes a texture asymmetric; an albedo without that light is nearly
symmetric, so that a smaller share of the texture's own asymmetry is better. A photo lit from the front says little:
those with a texture asymmetry below MIN_ASYMMETRY are left out of the mean.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import numpy as np
from PIL import Image
from scipy.ndimage import gaussian_filter
from tqdm import tqdm

from relightify_diffusers.avatar import Avatar
from relightify_diffusers.errors import RelightifyError
from relightify_diffusers.export.images import resize, to_uint8
from relightify_diffusers.head.regions import region_masks
from relightify_diffusers.maps import LUMINANCE, srgb_to_linear
from relightify_diffusers.methods import METHODS
from relightify_diffusers.reconstruction import BUNDLED, FaceReconstructor
from relightify_diffusers.rendering.cameras import orbit_camera
from relightify_diffusers.rendering.lights import preset_lights
from relightify_diffusers.rendering.shading import Scene
from relightify_diffusers.rendering.views import render

MIN_ASYMMETRY = 0.08
LOW_PASS = 0.02  # atlas widths
CELL = 192


def asymmetry(image: np.ndarray, where: np.ndarray) -> float:
    """Mean |difference| of low-passed log luminance of an sRGB map (N, N, 3) and its mirror image, over a symmetric
    part of `where` (N, N)."""
    both = where & where[:, ::-1]
    weight = gaussian_filter(where.astype(float), LOW_PASS * len(where))
    log = np.log(np.maximum(srgb_to_linear(image.astype(float)) @ LUMINANCE, 1e-3)) * where
    smooth = gaussian_filter(log, LOW_PASS * len(where)) / np.maximum(weight, 1e-6)
    return float(np.abs(smooth - smooth[:, ::-1])[both].mean()) if both.any() else 0.0


def pictures(avatar: Avatar) -> list[np.ndarray]:
    """The albedo, and the head relit from the left and by a studio, each (CELL, CELL, 3) uint8."""
    vertices = np.asarray(avatar.mesh.vertices, np.float64)
    scene = Scene(avatar.mesh, avatar.maps)
    cells = [to_uint8(resize(avatar.maps["diffuse_albedo"], (CELL, CELL)))]
    for light, yaw in (("left", 0.0), ("studio", -25.0)):
        camera = orbit_camera(vertices, yaw, 0.0, CELL)
        cells.append(to_uint8(render(scene, camera, preset_lights(light, camera.view_to_world)).srgb()))
    return cells


def photo_crop(avatar: Avatar) -> np.ndarray:
    """The photo around the head, (CELL, CELL, 3) uint8."""
    points = avatar.camera.project(np.asarray(avatar.mesh.vertices, np.float64))
    center, half = (points.min(axis=0) + points.max(axis=0)) / 2, 0.6 * np.ptp(points, axis=0).max()
    box = [int(value) for value in (*(center - half), *(center + half))]
    return np.asarray(Image.fromarray(to_uint8(avatar.photo)).crop(box).resize((CELL, CELL)))


def main() -> int:
    """Run from the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("photos", nargs="+", metavar="PHOTO")
    parser.add_argument("--model", nargs="+", default=[BUNDLED], help="pipeline folders or Hub ids to compare")
    parser.add_argument("--method", choices=METHODS, default="default")
    parser.add_argument("-o", "--output", metavar="FILE", help="write a sheet of pictures")
    args = parser.parse_args()
    models = {name: FaceReconstructor.from_pretrained(None if name == BUNDLED else name) for name in args.model}
    rows, sheet = [], []
    for path in tqdm(args.photos, unit="photo"):
        figures, cells = {}, []
        for name, reconstructor in models.items():
            try:
                avatar = reconstructor(path, method=args.method)
            except RelightifyError as error:
                print(f"{path}: {error}", file=sys.stderr)
                break
            masks = region_masks(reconstructor.head, len(avatar.maps["observed"]))
            bare = masks["beard"] + masks["brows"] + masks["lips"] + masks["scalp"] < 0.2
            skin = (avatar.maps["observed"] > 0.5) & (masks["skin"] > 0) & bare
            figures["texture"] = asymmetry(avatar.maps["texture"], skin)
            figures[name] = asymmetry(avatar.maps["diffuse_albedo"], skin)
            figures[f"{name} psnr"] = avatar.record["fit"]["photometric_psnr"]
            cells = cells or [photo_crop(avatar), to_uint8(resize(avatar.maps["texture"], (CELL, CELL)))]
            cells += pictures(avatar)
        else:
            rows.append({"photo": Path(path).name} | figures)
            sheet.append(np.concatenate(cells, axis=1))
    print_table(rows, list(models))
    if args.output and sheet:
        Image.fromarray(np.concatenate(sheet, axis=0)).save(args.output)
    return 0 if rows else 1


def print_table(rows: list[dict], models: list[str]) -> None:
    """Asymmetry of the texture and of each model's albedo, with the mean share that is left."""
    print("| photo | texture | " + " | ".join(f"{Path(m).name} albedo | dB" for m in models) + " |")
    print("|---" * (2 + 2 * len(models)) + "|")
    for row in rows:
        values = " | ".join(f"{row[m]:.3f} | {row[f'{m} psnr']:.1f}" for m in models)
        print(f"| {row['photo']} | {row['texture']:.3f} | {values} |")
    lit = [row for row in rows if row["texture"] >= MIN_ASYMMETRY]
    for model in models:
        if lit:
            left = np.mean([row[model] / row["texture"] for row in lit])
            print(f"{model}: {left:.0%} of the asymmetry is left in the albedo, mean over {len(lit)} side-lit photos")


if __name__ == "__main__":
    sys.exit(main())
