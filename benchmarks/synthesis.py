"""How long `relightify synthesize` takes, stage by stage, and how much of a sample its variants share.

python benchmarks/synthesis.py [--resolution 256] [--groups 8] [--assets DIR ...] [-o docs/synthesis.json]
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable
from contextlib import ExitStack, redirect_stdout
from io import StringIO
from pathlib import Path
from unittest.mock import patch

from relightify_diffusers.synthesis import columns, sample
from relightify_diffusers.synthesis.columns import Engine, EngineSettings
from relightify_diffusers.synthesis.dataset import synthesize
from relightify_diffusers.synthesis.pool import available_cores
from relightify_diffusers.synthesis.sample import VARIANTS

# Stage → the function of synthesis/sample.py that does it: those of a subject, then those of each of its variants.
SUBJECT_STAGES = {
    "geometry: person, expression, traced visibility": "sample_geometry",
    "surface and relief": "sample_surface",
    "view: camera and what it sees": "sample_view",
}
VARIANT_STAGES = {
    "skin": "sample_skin",
    "light": "sample_illumination",
    "shading": "shade",
    "development": "sample_development",
    "photo and its unwrapping": "photograph",
    "mask": "sample_mask",
}


def main() -> None:
    """Measure, print the table and write it as JSON."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--resolution", type=int, default=256, help="side of the maps (default 256)")
    parser.add_argument("--groups", type=int, default=8, metavar="N", help="subjects to measure (default 8)")
    parser.add_argument("--assets", nargs="+", metavar="DIR", help="as of `relightify synthesize`")
    parser.add_argument("-o", "--output", metavar="JSON", help="write the figures to this file as well")
    args = parser.parse_args()

    start = time.perf_counter()
    engine = Engine.load(EngineSettings(args.resolution, 0, tuple(args.assets or ())))
    loading = time.perf_counter() - start
    stages = time_stages(engine, args.groups)
    subject = sum(stages[name] for name in SUBJECT_STAGES)
    variant = sum(stages[name] for name in [*VARIANT_STAGES, "PNG encoding"])
    cores = available_cores()
    result = {
        "resolution": args.resolution,
        "groups": args.groups,
        "assets": [Path(folder).name for folder in args.assets or ()],
        "loading_seconds": round(loading, 2),
        "stage_milliseconds": {name: round(1000 * seconds, 1) for name, seconds in stages.items()},
        "variant_to_new_sample": round(variant / (subject + variant), 3),
        "samples_per_second_once_loaded": round(1 / (variant + subject / VARIANTS), 2),
        "cores": cores,
        "samples_per_second": {
            str(workers): round(throughput(args, workers), 2) for workers in sorted({1, cores})
        },
    }  # fmt: skip
    print(report(result))
    if args.output:
        Path(args.output).parent.mkdir(parents=True, exist_ok=True)
        Path(args.output).write_text(json.dumps(result, indent=1) + "\n")


def time_stages(engine: Engine, groups: int) -> dict[str, float]:
    """Median seconds of each stage over the calls for `groups` subjects, in this process; PNGs for a whole sample."""
    seconds: dict[str, list[float]] = defaultdict(list)

    def timed(name: str, function: Callable) -> Callable:
        def call(*args, **options):
            start = time.perf_counter()
            try:
                return function(*args, **options)
            finally:
                seconds[name].append(time.perf_counter() - start)

        return call

    engine.rows(range(VARIANTS))  # caches and lazy imports
    with ExitStack() as stack:
        for name, function in (SUBJECT_STAGES | VARIANT_STAGES).items():
            stack.enter_context(patch.object(sample, function, timed(name, getattr(sample, function))))
        stack.enter_context(patch.object(columns, "png", timed("PNG encoding", columns.png)))
        for group in range(1, groups + 1):
            engine.rows(range(group * VARIANTS, (group + 1) * VARIANTS))
    images = len(columns.IMAGES)
    encoding = seconds.pop("PNG encoding")
    seconds["PNG encoding"] = [sum(encoding[i : i + images]) for i in range(0, len(encoding), images)]
    return {name: statistics.median(values) for name, values in seconds.items()}


def throughput(args: argparse.Namespace, workers: int) -> float:
    """Samples a second of a whole `synthesize` into a temporary folder, the start of its processes included."""
    count = args.groups * VARIANTS
    with tempfile.TemporaryDirectory() as folder, redirect_stdout(StringIO()):
        start = time.perf_counter()
        synthesize(Path(folder) / "set", count, args.resolution, assets=args.assets, workers=workers)
        return count / (time.perf_counter() - start)


def report(result: dict) -> str:
    """The figures as a table."""
    stages = result["stage_milliseconds"]
    shared = [(name, stages[name], "once a subject") for name in SUBJECT_STAGES]
    own = [(name, value, "each sample") for name, value in stages.items() if name not in SUBJECT_STAGES]
    lines = [f"| {'stage':48} | {'ms':>7} | {'':14} |", f"|{'-' * 50}|{'-' * 8}:|{'-' * 16}|"]
    lines += [f"| {name:48} | {value:7.1f} | {when:14} |" for name, value, when in shared + own]
    rates = ", ".join(f"{rate} with {workers}" for workers, rate in result["samples_per_second"].items())
    return "\n".join(
        [
            *lines,
            "",
            f"resolution {result['resolution']}, medians over {result['groups']} subjects of {VARIANTS} samples",
            f"a new person takes {sum(ms for _, ms, _ in shared):.0f} ms, "
            f"each sample {sum(ms for _, ms, _ in own):.0f} ms more",
            f"a variant costs {result['variant_to_new_sample']:.0%} of a sample with a new geometry",
            f"one process: loading {result['loading_seconds']} s, then "
            f"{result['samples_per_second_once_loaded']} samples/s",
            f"samples/s of a set of {result['groups'] * VARIANTS}, loading included, by processes: {rates}",
        ]
    )


if __name__ == "__main__":
    main()
