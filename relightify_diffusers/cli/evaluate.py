"""`relightify evaluate`: measure recovered maps against the truth of held-out synthetic subjects."""

from __future__ import annotations

import argparse

from relightify_diffusers.cli.arguments import add_assets_argument, add_model_arguments, check_device, integer


def add_parser(subparsers) -> None:
    """Add the arguments of this command."""
    parser = subparsers.add_parser("evaluate", help="measure a model", description=__doc__)
    parser.add_argument("-n", "--count", type=integer(1), default=32, metavar="N", help="subjects (default 32)")
    parser.add_argument("-o", "--output", metavar="FILE", help="JSON file to write, besides the printed table")
    add_assets_argument(parser)
    add_model_arguments(parser)
    parser.set_defaults(method=None)  # all of them


def run(args: argparse.Namespace) -> int:
    """Run the command."""
    check_device(args.device)
    from relightify_diffusers import evaluation

    return evaluation.run(
        count=args.count,
        output=args.output,
        assets=args.assets,
        seed=args.seed,
        num_inference_steps=args.steps,
        method=args.method,
        model=args.model,
        device=args.device,
    )
