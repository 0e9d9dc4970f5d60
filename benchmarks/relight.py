"""How fast training examples are made, with and without relighting, beside the training step that takes them.

    python benchmarks/relight.py [--config training/configs/cpu_64.yaml] [--data DIR] [--device cpu] [-o FILE.json]

Without --data the maps are random values and the transfer that of an unshadowed head: the times do not depend on them.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch

sys.path.insert(0, str(Path(__file__).parents[1] / "training"))

from map_dataset import Transfers
from random_masks import random_masks
from train_unconditional import Trainer
from training_config import TrainConfig, make_config, read_config_file

from relightify_diffusers.head.model import HeadModel
from relightify_diffusers.maps import LAYOUT
from relightify_diffusers.rendering.mesh import vertex_normals
from relightify_diffusers.rendering.spherical_harmonics import COSINE_LOBE, sh_basis


def make_data(head: HeadModel, resolution: int, subjects: int = 16) -> tuple[np.ndarray, Transfers]:
    """Random maps (4 S, 12, R, R) and the transfers of S unshadowed mean heads."""
    rng = np.random.default_rng(0)
    samples = rng.integers(0, 256, (4 * subjects, LAYOUT.channels, resolution, resolution), dtype=np.uint8)
    transfer = sh_basis(vertex_normals(head.template, head.triangles)) * np.asarray(COSINE_LOBE)
    values = np.repeat(transfer[None].astype(np.float16), subjects, axis=0)
    return samples, Transfers(values, np.arange(4 * subjects) // 4)


def seconds(call: Callable[[], object], device: torch.device, repeats: int) -> float:
    """Median wall-clock time of one call after one to warm up, with the device's work done."""

    def timed() -> float:
        start = time.perf_counter()
        call()
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        return time.perf_counter() - start

    timed()
    return statistics.median(timed() for _ in range(repeats))


def make_trainer(config: TrainConfig, data: str | None) -> Trainer:
    """A trainer that is set up, on `data` or on made-up maps."""
    import train_unconditional

    if data is None:
        samples, transfers = make_data(HeadModel.bundled(), config.resolution)
        # The trainer reads a folder through these two.
        train_unconditional.load_samples = lambda *_: samples
        train_unconditional.load_transfers = lambda *_: transfers
    trainer = Trainer(config)
    trainer.setup()
    trainer.model.train()
    return trainer


def measure(trainer: Trainer, repeats: int) -> dict[str, float]:
    """Seconds for one batch of each stage."""
    relighter, device = trainer.relighter, trainer.device
    config, result = trainer.config, {}

    def load(share: float) -> None:
        trainer.config = dataclasses.replace(config, relight_probability=share)
        trainer.relighter = relighter if share else None
        trainer.step += 1
        trainer.micro_batch(0)

    result["loading alone"] = seconds(lambda: load(0.0), device, repeats)
    result["with half relit"] = seconds(lambda: load(0.5), device, repeats)
    result["with all relit"] = seconds(lambda: load(1.0), device, repeats)
    rows = np.arange(config.train_batch_size) % len(trainer.train_samples)
    batch = torch.zeros(len(rows), LAYOUT.channels, config.resolution, config.resolution, device=device)
    transfer = trainer.transfers[rows].to(device)
    generators = [torch.Generator().manual_seed(i) for i in range(len(rows))]
    result["random masks"] = seconds(lambda: random_masks(relighter, batch, transfer, generators), device, repeats)
    trainer.relighter, trainer.config = None, config
    fixed = trainer.micro_batch(0)
    trainer.micro_batch = lambda micro: fixed
    result["training step"] = seconds(trainer.train_step, device, repeats)
    return result


def report(times: dict[str, float], config: TrainConfig, device: torch.device) -> dict:
    """Print the table and return it as a record."""
    where = torch.cuda.get_device_name(device) if device.type == "cuda" else f"CPU, {torch.get_num_threads()} threads"
    print(f"{where}; {config.resolution} x {config.resolution} texels, batches of {config.train_batch_size}\n")
    step = times["training step"]
    print(f"{'':18}{'ms a batch':>12}{'samples/s':>12}{'of a step':>12}")
    for name, value in times.items():
        print(f"{name:18}{1e3 * value:12.1f}{config.train_batch_size / value:12.0f}{value / step:12.1%}")
    extra = (times["with half relit"] - times["loading alone"]) / step
    print(f"\nRelighting half of the samples adds {extra:.1%} of a step.", end=" ")
    ratio = step / times["with all relit"]
    verdict = "never starves" if ratio > 1 else "starves"
    print(
        f"With all relit, the loader makes {ratio:.1f} times the samples that training takes: it {verdict} training."
    )
    return {"device": where, "resolution": config.resolution, "batch": config.train_batch_size, "seconds": times}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--config", default=str(Path(__file__).parents[1] / "training" / "configs" / "cpu_64.yaml"))
    parser.add_argument("--data", metavar="DIR", help="made by `relightify synthesize --transfer`")
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--threads", type=int, help="of torch on the CPU")
    parser.add_argument("--repeats", type=int, default=10)
    parser.add_argument("-o", "--output", metavar="FILE", help="write the times as JSON")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        settings = read_config_file(options.config) | {
            "data": options.data or folder, "output_dir": folder, "relight_probability": 1.0,
            "cpu": options.device == "cpu", "num_threads": options.threads, "validation_samples": 0,
        }  # fmt: skip
        trainer = make_trainer(make_config(settings).validate(), options.data)
        record = report(measure(trainer, options.repeats), trainer.config, trainer.device)
    if options.output:
        Path(options.output).write_text(json.dumps(record, indent=1) + "\n")


if __name__ == "__main__":
    main()
