"""What a training run measures on samples it never trains on: loss and tone by noise level, and a picture."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from map_dataset import sample_generator
from PIL import Image

from relightify_diffusers.maps import LAYOUT

# Fractions of the schedule at which the held-out loss is reported, from nearly clean to pure noise.
LEVELS = (0.02, 0.1, 0.2, 0.4, 0.6, 0.8, 0.95, 1.0)


def predict_clean(unet, scheduler, noisy: torch.Tensor, timestep: int) -> torch.Tensor:
    """The network's estimate of the clean sample for noisy (B, 12, R, R) at one training timestep."""
    output = unet(noisy, timestep).sample.float()
    if scheduler.config.prediction_type == "sample":
        return output
    alpha_bar = scheduler.alphas_cumprod[timestep].to(noisy.device)
    return alpha_bar.sqrt() * noisy - (1 - alpha_bar).sqrt() * output


def _correlation(a: torch.Tensor, b: torch.Tensor) -> float | None:
    """Pearson correlation of two (N,) tensors; None when either is constant."""
    a, b = a.double() - a.double().mean(), b.double() - b.double().mean()
    scale = (a.norm() * b.norm()).item()
    return (a @ b).item() / scale if scale > 1e-12 else None


def validate_by_level(unet, scheduler, samples: torch.Tensor, seed: int, batch_size: int = 16) -> dict:
    """Held-out quality of the one-step estimate of the clean sample, with fixed noise, at each of LEVELS.

    Returns a dict of lists in the order of "levels" (fractions of the schedule): "mse" over all channels and texels in
    [-1, 1], "mse_" + map name, and "tone_correlation" of estimated with true mean diffuse albedo over the samples,
    which is 0 for a network that returns the population's mean.
    """
    device = next(unet.parameters()).device
    names = LAYOUT.names
    result = {"levels": list(LEVELS), "mse": [], "tone_correlation": [], **{f"mse_{n}": [] for n in names}}
    noise = torch.stack(
        [torch.randn(s.shape, generator=sample_generator(seed, 0, 1_000_000 + i)) for i, s in enumerate(samples)]
    )
    albedo = LAYOUT.slice("diffuse_albedo")
    for level in LEVELS:
        timestep = min(int(level * scheduler.config.num_train_timesteps), scheduler.config.num_train_timesteps - 1)
        errors, tones = [], []
        for start in range(0, len(samples), batch_size):
            clean = samples[start : start + batch_size].to(device)
            steps = torch.full((len(clean),), timestep, device=device)
            noisy = scheduler.add_noise(clean, noise[start : start + batch_size].to(device), steps)
            estimate = predict_clean(unet, scheduler, noisy, timestep)
            errors.append((estimate - clean).square().mean(dim=(2, 3)))  # (B, 12)
            tones.append(torch.stack([x[:, albedo].mean(dim=(1, 2, 3)) for x in (estimate, clean)], dim=1))
        error, tone = torch.cat(errors).mean(dim=0), torch.cat(tones)
        result["mse"].append(error.mean().item())
        result["tone_correlation"].append(_correlation(tone[:, 0], tone[:, 1]))
        for name in names:
            result[f"mse_{name}"].append(error[LAYOUT.slice(name)].mean().item())
    return result


def sample_unconditional(unet, scheduler, count: int, num_inference_steps: int, seed: int = 0) -> torch.Tensor:
    """Deterministic samples (count, 12, R, R) in [-1, 1] from pure noise, on a copy of the scheduler."""
    scheduler = type(scheduler).from_config(scheduler.config)
    scheduler.set_timesteps(num_inference_steps)
    device, size = next(unet.parameters()).device, unet.config.sample_size
    shape = (LAYOUT.channels, size, size)
    x = torch.stack([torch.randn(shape, generator=sample_generator(seed, 0, i)) for i in range(count)]).to(device)
    for timestep in scheduler.timesteps:
        x = scheduler.step(unet(x, timestep).sample.float(), timestep, x).prev_sample
    return x


def save_grid(unet, scheduler, path: Path, count: int, num_inference_steps: int) -> None:
    """Write a PNG with one unconditional sample per row and its maps side by side."""
    samples = sample_unconditional(unet, scheduler, count, num_inference_steps)
    rows = []
    for sample in (samples.clamp(-1, 1) * 0.5 + 0.5).cpu():
        maps = LAYOUT.split(sample)
        rows.append(np.concatenate([maps[name].permute(1, 2, 0).numpy() for name in LAYOUT.names], axis=1))
    image = Image.fromarray((np.concatenate(rows, axis=0) * 255).round().astype(np.uint8))
    scale = max(1, 128 // samples.shape[-1])
    image.resize((image.width * scale, image.height * scale), Image.Resampling.NEAREST).save(path)
