"""Entry point of `relightify`: parses, calls one command, and turns errors into an exit code and one line."""

from __future__ import annotations

import argparse
import os
import sys
import traceback
from collections.abc import Sequence

from relightify_diffusers import __version__
from relightify_diffusers.errors import RelightifyError

INTERRUPTED = 130


class _Parser(argparse.ArgumentParser):
    """A parser whose complaints are one line; its subparsers are of the same class."""

    def error(self, message: str):
        self.exit(2, f"{self.prog}: error: {' '.join(message.split())}; see {self.prog} --help\n")


def build_parser() -> argparse.ArgumentParser:
    """The parser of all commands; a command's module adds its own arguments and runs itself."""
    from relightify_diffusers.cli import demo, doctor, evaluate, reconstruct, render, synthesize

    parser = _Parser(prog="relightify", description="One photo in, a relightable 3D head out.")
    parser.add_argument("--version", action="version", version=f"relightify {__version__}")
    parser.add_argument("--debug", action="store_true", help="show the traceback of an error")
    subparsers = parser.add_subparsers(dest="command", metavar="COMMAND", required=True)
    for module in (reconstruct, render, synthesize, evaluate, demo, doctor):
        known = set(subparsers.choices)
        module.add_parser(subparsers)
        for name in set(subparsers.choices) - known:
            command = subparsers.choices[name]
            command.set_defaults(run=module.run)
            # The default must not overwrite a --debug given before the command.
            command.add_argument(
                "--debug", action="store_true", default=argparse.SUPPRESS, help="show the traceback of an error"
            )
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Run `relightify` with these arguments (the process's by default) and return the exit code.

    0 done; 1 anything unforeseen; 2 wrong usage; 3 no face; 4 unsuitable image; 5 an asset could not be loaded;
    130 interrupted. One line on stderr says what is wrong.
    """
    try:
        args = build_parser().parse_args(argv)
    except SystemExit as stop:  # --help, --version and wrong usage
        return stop.code if isinstance(stop.code, int) else 0
    try:
        code = args.run(args)
        sys.stdout.flush()
        return code or 0
    except RelightifyError as error:
        return _report(str(error), error.exit_code, args.debug)
    except KeyboardInterrupt:
        return _report("interrupted", INTERRUPTED, args.debug)
    except BrokenPipeError:
        # The reader of our output left, as `| head` does; Python would complain once more when it closes stdout.
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        return 1
    except Exception as error:
        hint = "" if args.debug else " (--debug shows where)"
        return _report(f"unexpected {type(error).__name__}: {error}{hint}", 1, args.debug)


def _report(message: str, code: int, debug: bool) -> int:
    if debug:
        traceback.print_exc()
    print(f"relightify: error: {' '.join(message.split())}", file=sys.stderr)
    return code


if __name__ == "__main__":
    sys.exit(main())
