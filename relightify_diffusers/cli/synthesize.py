"""`relightify synthesize`: render a training set of random heads, skins and lights."""

from __future__ import annotations

import argparse

from relightify_diffusers.cli.arguments import MAX_SEED, add_assets_argument, integer, shard


def add_parser(subparsers) -> None:
    """Add the arguments of this command."""
    parser = subparsers.add_parser("synthesize", help="render a training set", description=__doc__)
    parser.add_argument(
        "-o", "--output", metavar="DIR", required=True, help="data set directory; an interrupted one is continued"
    )
    parser.add_argument("-n", "--count", type=integer(1), metavar="N", required=True, help="samples of the whole set")
    parser.add_argument("--resolution", type=integer(16, 1024), default=256, help="side of the maps (default 256)")
    parser.add_argument("--seed", type=integer(0, MAX_SEED), default=0, help="of the whole set (default 0)")
    parser.add_argument(
        "--shard", type=shard, default=(0, 1), metavar="I/N", help="render only part I of N, counted from 0"
    )
    add_assets_argument(parser)
    parser.add_argument("--workers", type=integer(1), metavar="N", help="processes (default: all cores)")
    parser.add_argument(
        "--transfer", action="store_true", help="add the column that training needs to relight samples on the fly"
    )
    parser.add_argument("--overwrite", action="store_true", help="start a set that is there anew")


def run(args: argparse.Namespace) -> int:
    """Run the command."""
    from relightify_diffusers.synthesis.dataset import synthesize

    synthesize(
        args.output,
        count=args.count,
        resolution=args.resolution,
        seed=args.seed,
        shard=args.shard,
        assets=args.assets,
        overwrite=args.overwrite,
        workers=args.workers,
        transfer=args.transfer,
    )
    print(f"data set {args.output}")
    return 0
