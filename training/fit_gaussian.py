"""Fit the Gaussian prior to a data set: `python training/fit_gaussian.py --data DIR -o FILE.safetensors`."""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path

import torch
from map_dataset import load_samples, to_model_range
from tqdm.auto import tqdm

from relightify_diffusers.errors import RelightifyError, UsageError
from relightify_diffusers.maps import LAYOUT
from relightify_diffusers.priors import GaussianPrior


def correlation(a: torch.Tensor, b: torch.Tensor) -> float:
    """Pearson correlation of two (N,) tensors."""
    return torch.corrcoef(torch.stack([a, b]))[0, 1].item()


def evaluate(prior: GaussianPrior, samples: torch.Tensor, noise: float) -> dict[str, float]:
    """Complete held-out (N, 12, R, R) samples in [-1, 1] whose left half is observed, against their truth.

    Returns the PSNR (peak 1 in [0, 1] units) of the hidden texture and of the diffuse albedo, over texels that vary in
    the training data, and the correlation of estimated with true mean diffuse albedo.
    """
    size = prior.resolution
    atlas = (prior.residual_variance + prior.components.square().T @ prior.variances).view(12, size, size)[0] > 1e-4
    mask = atlas.clone()
    mask[:, size // 2 :] = False
    hidden = atlas & ~mask
    errors, tones = {"hidden_texture": [], "diffuse_albedo": []}, []
    albedo = LAYOUT.slice("diffuse_albedo")
    for sample in samples:
        mean = prior.posterior(sample[LAYOUT.slice("texture")], mask, noise=noise, return_std=False).mean
        difference = (mean - sample) / 2
        errors["hidden_texture"].append(difference[LAYOUT.slice("texture")][:, hidden].square().mean())
        errors["diffuse_albedo"].append(difference[albedo][:, atlas].square().mean())
        tones.append(torch.stack([x[albedo][:, atlas].mean() for x in (mean, sample)]))
    result = {f"{name}_psnr": -10 * torch.stack(e).mean().log10().item() for name, e in errors.items()}
    tone = torch.stack(tones)
    return result | {"mean_albedo_correlation": correlation(tone[:, 0], tone[:, 1])}


def main(argv: list[str] | None = None) -> int:
    """Run from the command line; returns the exit code."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", required=True, metavar="DIR", help="folder with data/*.parquet")
    parser.add_argument("-o", "--output", required=True, metavar="FILE", help="safetensors file to write")
    parser.add_argument("--resolution", type=int, default=64)
    parser.add_argument("--components", type=int, default=250)
    parser.add_argument("--no-mirror", action="store_true", help="do not add left-right reflections")
    parser.add_argument("--held-out", type=int, default=64, metavar="N", help="last rows kept for the figures printed")
    parser.add_argument("--noise", type=float, default=0.1, help="observation noise of the figures printed")
    parser.add_argument("--max-samples", type=int, default=None)
    parser.add_argument("--cache-dir", default=None)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args(argv)
    try:
        with tqdm(desc="decode", unit="sample", mininterval=2.0) as bar:
            samples = load_samples(args.data, args.resolution, args.max_samples, args.cache_dir, bar.update)
        train = samples[: max(len(samples) - args.held_out, 0)]
        start = time.monotonic()
        try:
            prior = GaussianPrior.fit(train, args.components, mirror=not args.no_mirror, seed=args.seed)
        except ValueError as error:
            raise UsageError(str(error)) from None
        record = {"samples": str(len(train)), "mirrored": str(not args.no_mirror).lower(), "seed": str(args.seed)}
        prior = GaussianPrior(**{**vars(prior), "metadata": record})
        Path(args.output).parent.mkdir(parents=True, exist_ok=True)
        prior.save(args.output)
    except RelightifyError as error:
        print(f"fit_gaussian: {error}", file=sys.stderr)
        return error.exit_code
    total = prior.variances.sum() + prior.residual_variance.sum()
    print(f"{len(train)} samples, {args.components} components, {time.monotonic() - start:.0f} s")
    print(f"explained variance {(prior.variances.sum() / total).item():.4f}")
    print(f"{args.output}: {Path(args.output).stat().st_size / 1e6:.1f} MB")
    held_out = to_model_range(samples[len(train) :])
    if len(held_out) > 1:
        for name, candidate in (("float32", prior), ("as saved", GaussianPrior.load(args.output))):
            figures = evaluate(candidate, held_out, args.noise)
            print(f"held out, {name}: " + ", ".join(f"{k} {v:.3f}" for k, v in figures.items()))
    return 0


if __name__ == "__main__":
    sys.exit(main())
