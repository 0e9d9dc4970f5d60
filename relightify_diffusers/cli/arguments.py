"""Argument types and checks that several commands share."""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Callable
from pathlib import Path

from relightify_diffusers.errors import UsageError
from relightify_diffusers.methods import METHODS

# torch.Generator takes 64-bit seeds; numpy takes no negative ones.
MAX_SEED = 2**63 - 1


def integer(low: int, high: int | None = None) -> Callable[[str], int]:
    """An argparse type: an integer from low to high, both included."""

    def parse(text: str) -> int:
        try:
            value = int(text)
        except ValueError:
            raise argparse.ArgumentTypeError(f"{text!r} is not an integer") from None
        if value < low or (high is not None and value > high):
            limits = f"at least {low}" if high is None else f"from {low} to {high}"
            raise argparse.ArgumentTypeError(f"{value} is out of range; it must be {limits}")
        return value

    return parse


def fraction(text: str) -> float:
    """An argparse type: a number above 0, up to 1."""
    try:
        value = float(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number") from None
    if not 0.0 < value <= 1.0:
        raise argparse.ArgumentTypeError(f"{text} is out of range; it must be above 0 and at most 1")
    return value


def shard(text: str) -> tuple[int, int]:
    """An argparse type: 'I/N' as (I, N), with I counted from 0."""
    try:
        index, count = (int(part) for part in text.split("/"))
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is not of the form I/N, such as 0/4") from None
    if not 0 <= index < count:
        raise argparse.ArgumentTypeError(f"{text!r}: I counts from 0 to N - 1")
    return index, count


def add_model_arguments(parser: argparse.ArgumentParser) -> None:
    """The arguments that say how maps are completed, the same for every command that does it."""
    parser.add_argument("--seed", type=integer(0, MAX_SEED), default=0, help="of all random draws (default 0)")
    parser.add_argument(
        "--steps", type=integer(1, 1000), metavar="N", help="sampling steps (default: the model's own)"
    )
    parser.add_argument("--method", choices=METHODS, default="default", help="how the maps are completed")
    parser.add_argument("--model", metavar="PATH_OR_HUB_ID", help="the pretrained pipeline (default: the bundled one)")
    parser.add_argument("--device", default="cpu", help="cpu, cuda, cuda:1, mps (default cpu)")


def add_assets_argument(parser: argparse.ArgumentParser) -> None:
    """The argument that names the folders of skins, irises, eyebrows and light maps."""
    parser.add_argument(
        "--assets",
        nargs="+",
        metavar="DIR",
        help="folders of MakeHuman skins, irises, eyebrows and *.hdr light maps (default: all procedural)",
    )


def check_device(name: str) -> str:
    """The name, if torch has that device; raises UsageError otherwise."""
    import torch

    try:
        torch.zeros(1, device=torch.device(name))
    except Exception as error:  # torch raises RuntimeError, AssertionError and others, by device and build
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise UsageError(
            f"the device {name!r} cannot be used here ({reason.rstrip('.')}); try --device cpu"
        ) from error
    return name


def check_output(directory: str, overwrite: bool, marker: str | None = None) -> None:
    """Raise UsageError now if the output directory could not be written after the work."""
    from relightify_diffusers.export.directories import check_target

    target = check_target(directory, overwrite, marker)
    parent = next(path for path in target.parents if path.exists())
    # Permissions do not tell all (root, network and virtual file systems), so it is tried.
    try:
        Path(tempfile.mkdtemp(prefix=".relightify.", dir=parent)).rmdir()
    except OSError as error:
        raise UsageError(f"cannot write into {parent}: {error.strerror or error}") from error
