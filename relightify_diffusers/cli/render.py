"""`relightify render`: an avatar directory to one image, under a new light, from the photo's or another camera."""

from __future__ import annotations

import argparse
import os
from dataclasses import replace

import numpy as np

from relightify_diffusers.errors import UsageError

AOVS = ("shaded", "diffuse_albedo", "specular_albedo", "normals", "depth", "mask")
DEFAULT_SIZE, MAX_SIZE = 512, 4096


def add_parser(subparsers) -> None:
    """Add the arguments of this command."""
    parser = subparsers.add_parser("render", help="avatar to image, under a new light", description=__doc__)
    parser.add_argument("avatar", metavar="DIR", help="an output directory of `relightify reconstruct`")
    parser.add_argument("-o", "--output", metavar="OUT.png", required=True, help="the image to write")
    parser.add_argument(
        "--light",
        metavar="LIGHT",
        help="FILE.hdr (equirectangular; its center lies towards the viewer), a preset (front, left, right, top, rim, "
        "studio), or dir:x,y,z, the direction towards a light that shows a white Lambertian facing it as 1. In the "
        "frame of the view: x right, y up, z towards the viewer. Default: the light estimated from the photo",
    )
    parser.add_argument(
        "--aov",
        choices=AOVS,
        default="shaded",
        help="what to render (default shaded); albedos are encoded as in the maps, normals are n * 0.5 + 0.5 in the "
        "head frame, depth is 16-bit PNG in millimeters (0 = nothing)",
    )
    parser.add_argument(
        "--camera",
        default="photo",
        metavar="photo|front|yaw:DEGREES",
        help="photo (the default) is aligned with the photo's pixels; front and yaw look at the middle of the head, a "
        "positive yaw from the subject's left",
    )
    parser.add_argument(
        "--size", type=_size, metavar="N", help=f"pixels of the longer side (default: the photo's, or {DEFAULT_SIZE})"
    )
    parser.add_argument(
        "--exposure", type=float, default=0.0, metavar="EV", help="brightens by 2^EV, for dim or bright .hdr files"
    )
    parser.add_argument("--composite", action="store_true", help="put the relit face back into the photo")
    parser.add_argument("--overwrite", action="store_true", help="replace OUT.png if it exists")


def run(args: argparse.Namespace) -> int:
    """Run the command."""
    from relightify_diffusers.avatar import Avatar
    from relightify_diffusers.export.directories import whole_file
    from relightify_diffusers.export.images import write_png

    _check(args)
    with whole_file(args.output, args.overwrite) as path:
        avatar = Avatar.load(args.avatar)
        if args.composite and avatar.photo is None:
            raise UsageError(f"{args.avatar} has no photo.png, which --composite needs")
        write_png(path, render_avatar(avatar, args))
    print(f"image    {os.path.abspath(args.output)}")
    return 0


def _size(text: str) -> int:
    if not text.isdigit() or not 1 <= int(text) <= MAX_SIZE:
        raise argparse.ArgumentTypeError(f"{text!r} is no size in pixels from 1 to {MAX_SIZE}")
    return int(text)


def _check(args: argparse.Namespace) -> None:
    """Refuse what contradicts itself, before any work."""
    if not args.output.lower().endswith(".png"):
        raise UsageError(f"{args.output} is no .png; images are written as PNG")
    if args.composite and (args.camera != "photo" or args.aov != "shaded"):
        raise UsageError("--composite puts the shaded view back into the photo; use it with --camera photo")
    if not np.isfinite(args.exposure) or abs(args.exposure) > 20:
        raise UsageError("--exposure is a number of stops from -20 to 20")


def render_avatar(avatar, args: argparse.Namespace) -> np.ndarray:
    """The image that the arguments describe: (H, W, 3) or (H, W) float32 in [0, 1], or uint16 for depth."""
    from relightify_diffusers.export.images import resize
    from relightify_diffusers.rendering.environment import EnvironmentLight
    from relightify_diffusers.rendering.lights import parse_light
    from relightify_diffusers.rendering.shading import Scene
    from relightify_diffusers.rendering.views import composite, encode, render

    camera = view_camera(avatar, args.camera, args.size)
    # A light is checked even where the AOV does not need it.
    if args.light is None:
        lights = [EnvironmentLight.from_sh(avatar.light_sh)]
    else:
        lights = parse_light(args.light, camera.view_to_world)
    scene = Scene(avatar.mesh, avatar.maps)
    view = render(scene, camera, lights, args.aov)
    if args.aov == "shaded" and args.exposure:
        view = replace(view, image=view.image * np.float32(2.0**args.exposure))
    if not args.composite:
        return encode(view, args.aov)
    observed = render(scene, camera, aov="observed").image[..., 0]
    return composite(view, observed, resize(avatar.photo, camera.image_size))


def view_camera(avatar, text: str, size: int | None = None):
    """The Camera that a text names: photo, front or yaw:DEGREES; size is the longer side in pixels.

    Raises UsageError for another text.
    """
    from relightify_diffusers.rendering.cameras import orbit_camera

    if text == "photo":
        return avatar.camera if size is None else avatar.camera.resized(size / max(avatar.camera.image_size))
    name, _, angle = text.partition(":")
    try:
        yaw = 0.0 if text == "front" else float(angle) if name == "yaw" else np.nan
    except ValueError:
        yaw = np.nan
    if not np.isfinite(yaw):
        raise UsageError(f"no camera {text!r}; use photo, front or yaw:DEGREES")
    return orbit_camera(avatar.mesh.vertices, yaw, size=size or DEFAULT_SIZE)
