"""`relightify reconstruct`: a photo to an avatar directory."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from relightify_diffusers.cli.arguments import add_model_arguments, check_device, check_output, fraction, integer
from relightify_diffusers.landmarks import DEFAULT_DETECTOR, available_detectors

if TYPE_CHECKING:
    from relightify_diffusers.avatar import Avatar

# The file that marks a directory as an avatar: only such a directory is ever replaced.
MARKER = "avatar.json"


def add_parser(subparsers) -> None:
    """Add the arguments of this command."""
    parser = subparsers.add_parser("reconstruct", help="photo to relightable head", description=__doc__)
    parser.add_argument("photo", metavar="PHOTO", help="a photo with one clearly visible face")
    parser.add_argument("-o", "--output", metavar="DIR", required=True, help="directory to write, whole or not at all")
    parser.add_argument("--overwrite", action="store_true", help="replace DIR if it holds an avatar")
    parser.add_argument("--face", type=integer(0), metavar="N", help="which face, 0 being the largest (the default)")
    parser.add_argument(
        "--detector",
        choices=available_detectors(),
        default=DEFAULT_DETECTOR,
        help=f"landmark detector (default {DEFAULT_DETECTOR})",
    )
    parser.add_argument(
        "--map-resolution", type=integer(32, 4096), metavar="N", help="side of the written maps in texels"
    )
    parser.add_argument(
        "--strength",
        type=fraction,
        metavar="X",
        help="share of the noise schedule that is sampled; 1 starts from noise",
    )
    add_model_arguments(parser)


def run(args: argparse.Namespace) -> int:
    """Run the command."""
    check_output(args.output, args.overwrite, MARKER)
    reconstruct(args, args.photo)
    return 0


def reconstruct(args: argparse.Namespace, photo: str | Path) -> Avatar:
    """Reconstruct one photo as the arguments say, write it to args.output and print where the results are."""
    from relightify_diffusers.photo import load_photo

    # Cheap complaints first: these take milliseconds, the models take seconds.
    load_photo(photo)
    check_device(args.device)

    from relightify_diffusers.export.preview import preview_sheet
    from relightify_diffusers.reconstruction import FaceReconstructor

    reconstructor = FaceReconstructor.from_pretrained(model=args.model, device=args.device, detector=args.detector)
    avatar = reconstructor(
        str(photo),
        seed=args.seed,
        num_inference_steps=args.steps,
        map_resolution=args.map_resolution,
        method=args.method,
        strength=args.strength,
        face=args.face,
    )
    directory = avatar.save(args.output, overwrite=args.overwrite, preview=preview_sheet(avatar))
    for warning in (avatar.record.get("fit") or {}).get("warnings") or ():
        print(f"relightify: warning: {' '.join(str(warning).split())}", file=sys.stderr)
    print(f"avatar   {directory}")
    for name in ("preview.png", "mesh.glb"):
        if (directory / name).exists():
            print(f"{name.split('.')[0]:<8} {directory / name}")
    return avatar
