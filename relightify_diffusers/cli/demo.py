"""`relightify demo`: reconstruct the sample portrait of scikit-image (Eileen Collins by NASA, public domain)."""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

from relightify_diffusers.cli.arguments import add_model_arguments, check_output, integer
from relightify_diffusers.cli.reconstruct import MARKER, reconstruct
from relightify_diffusers.errors import AssetError
from relightify_diffusers.landmarks import DEFAULT_DETECTOR


def add_parser(subparsers) -> None:
    """Add the arguments of this command."""
    parser = subparsers.add_parser("demo", help="reconstruct a sample portrait", description=__doc__)
    parser.add_argument(
        "-o", "--output", metavar="DIR", default="demo_output", help="directory to write (default demo_output)"
    )
    parser.add_argument("--map-resolution", type=integer(32, 4096), metavar="N", help=argparse.SUPPRESS)
    add_model_arguments(parser)


def run(args: argparse.Namespace) -> int:
    """Run the command; a previous output of it is replaced, anything else is left alone."""
    check_output(args.output, overwrite=True, marker=MARKER)
    try:
        from skimage.data import astronaut
    except ImportError as error:
        raise AssetError(
            "the sample photo needs scikit-image: pip install 'relightify_diffusers[demo]', "
            "or run relightify reconstruct on a photo of your own"
        ) from error
    from PIL import Image

    with tempfile.TemporaryDirectory() as folder:
        photo = Path(folder) / "astronaut.png"
        Image.fromarray(astronaut()).save(photo)
        settings = {**vars(args), "overwrite": True, "face": None, "detector": DEFAULT_DETECTOR, "strength": None}
        reconstruct(argparse.Namespace(**settings), photo)
    return 0
