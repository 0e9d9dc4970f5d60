"""Measure recovered maps against the truth of held-out synthetic subjects."""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from tqdm import tqdm

YAWS = (0.0, 30.0, 60.0)


def run(
    count: int = 32,
    output: str | Path | None = None,
    assets: str | Path | Sequence[str | Path] | None = None,
    seed: int = 0,
    num_inference_steps: int | None = None,
    method: str | None = None,
    model: str | Path | None = None,
    device: str = "cpu",
    strength: float | None = None,
) -> int:
    """Print a table of methods over `count` subjects at yaws of 0, 30 and 60 degrees, and write it as JSON.

    method: one of the completion methods, or None for the Gaussian, the default and the paper's sampling. The texture
    itself taken as albedo is the baseline in every table.
    """
    from relightify_diffusers.methods import METHODS

    methods = ("gaussian", "default", "replace") if method is None else (method,)
    if not set(methods) <= set(METHODS):
        from relightify_diffusers.errors import UsageError

        raise UsageError(f"there is no method {method!r}; available: {', '.join(METHODS)}")
    rows = evaluate(methods, count, assets, seed, num_inference_steps, model, device, strength)
    record = {
        "subjects": count,
        "yaws": YAWS,
        "seed": seed,
        "skins": "assets" if assets else "procedural",
        "rows": rows,
    }
    print(_table(rows))
    if output is not None:
        from relightify_diffusers.export.directories import whole_file

        with whole_file(output) as path:
            Path(path).write_text(json.dumps(record, indent=1) + "\n")
    return 0


def evaluate(methods, count, assets, seed, num_inference_steps, model, device, strength=None) -> list[dict]:
    """One row of means a method: dicts of name and figures, the texture as albedo first."""
    from relightify_diffusers.evaluation.protocols import subjects
    from relightify_diffusers.priors.completion import complete
    from relightify_diffusers.reconstruction import DEFAULT_STEPS, FaceReconstructor

    reconstructor = FaceReconstructor.from_pretrained(model=model, device=device)
    prior = reconstructor.prior
    figures: dict[str, list[dict]] = {name: [] for name in ("texture as albedo", *methods)}
    total = tqdm(total=count * len(methods), desc="evaluate", unit="completion")
    for number, subject in enumerate(subjects(reconstructor.head, count, prior.resolution, seed, YAWS, assets)):
        texture = subject.maps["texture"].transpose(2, 0, 1) * subject.observed
        known = subject.maps | {"diffuse_albedo": subject.maps["texture"]}
        figures["texture as albedo"].append(_measure(known, subject, 0.0) | {"unet_calls": 0})
        for name in methods:
            pipeline = None if name == "gaussian" else reconstructor.pipeline
            start = time.perf_counter()
            result = complete(
                texture.astype(np.float32),
                subject.observed,
                prior,
                pipeline,
                name,
                None if name == "replace" else strength,
                num_inference_steps or DEFAULT_STEPS,
                seed + number,
            )
            seconds = time.perf_counter() - start
            figures[name].append(_measure(result.maps, subject, seconds) | {"unet_calls": result.unet_calls})
            total.update()
    total.close()
    return [{"method": name} | _summary(values) for name, values in figures.items()]


def _measure(maps: dict, subject, seconds: float) -> dict:
    from relightify_diffusers.evaluation.metrics import angular_error, border_step, psnr

    hidden = subject.face & ~subject.observed
    albedo, truth = maps["diffuse_albedo"][subject.face], subject.maps["diffuse_albedo"][subject.face]
    return {
        "hidden_texture_psnr": psnr(maps["texture"], subject.maps["texture"], hidden),
        "diffuse_albedo_psnr": psnr(maps["diffuse_albedo"], subject.maps["diffuse_albedo"], subject.face),
        "specular_albedo_psnr": psnr(maps["specular_albedo"], subject.maps["specular_albedo"], subject.face),
        "normal_error_deg": angular_error(maps["normals"], subject.maps["normals"], subject.face),
        "border_step": border_step(maps["texture"], subject.observed, subject.face),
        "true_border_step": border_step(subject.maps["texture"], subject.observed, subject.face),
        "mean_albedo": float(albedo.mean()),
        "true_mean_albedo": float(truth.mean()),
        "seconds": seconds,
    }


def _summary(values: list[dict]) -> dict:
    from relightify_diffusers.evaluation.metrics import correlation

    series = {key: np.array([value[key] for value in values], float) for key in values[0]}
    means = {key: round(float(s.mean()), 4) for key, s in series.items()}
    return means | {"albedo_correlation": round(correlation(series["mean_albedo"], series["true_mean_albedo"]), 4)}


def _table(rows: list[dict]) -> str:
    columns = {
        "hidden_texture_psnr": "hidden texture dB",
        "diffuse_albedo_psnr": "diffuse albedo dB",
        "specular_albedo_psnr": "specular dB",
        "normal_error_deg": "normals deg",
        "albedo_correlation": "mean albedo corr.",
        "border_step": "border step",
        "true_border_step": "(truth)",
        "unet_calls": "UNet calls",
        "seconds": "s",
    }
    lines = ["| method | " + " | ".join(columns.values()) + " |", "|---" * (len(columns) + 1) + "|"]
    for row in rows:
        known = row["method"] == "texture as albedo"
        # The baseline is given the whole texture: only what it says of the albedo is a result.
        blank = {"hidden_texture_psnr", "specular_albedo_psnr", "normal_error_deg", "border_step", "seconds"}
        cells = ["-" if known and key in blank else f"{row[key]:.3g}" for key in columns]
        lines.append(f"| {row['method']} | " + " | ".join(cells) + " |")
    return "\n".join(lines)
