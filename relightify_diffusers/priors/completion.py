"""Complete a partial texture with the priors: in closed form, or by diffusion started from that."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch

from relightify_diffusers.errors import UsageError
from relightify_diffusers.maps import LAYOUT, decode_normals, encode_normals
from relightify_diffusers.methods import METHODS
from relightify_diffusers.priors.gaussian import GaussianPrior
from relightify_diffusers.rendering.mesh import normalize

# Share of the noise schedule that "default" runs from the Gaussian posterior.
WARM_STRENGTH = 0.2
# Standard deviation in [-1, 1] units with which the Gaussian takes the texels of a photo. 0.1 completes synthetic
# faces best (by 0.7 dB of hidden texture), but lets the detail of real ones, which the generator lacks, distort their
# tone.
OBSERVATION_NOISE = 0.3


@dataclass(frozen=True)
class Completion:
    """Completed maps at the prior's resolution.

    maps: name → (R, R, 3) float32 in [0, 1], normals of unit length. albedo_std: (R, R) float32, standard deviation of
    the diffuse albedo (mean of its channels, in [0, 1] units). unet_calls: how often the network ran. strength:
    share of the noise schedule that it ran, None for no network.
    """

    maps: dict[str, np.ndarray]
    albedo_std: np.ndarray
    unet_calls: int
    strength: float | None


def complete(
    texture: np.ndarray,
    observed: np.ndarray,
    prior: GaussianPrior,
    pipeline=None,
    method: str = "default",
    strength: float | None = None,
    num_inference_steps: int = 20,
    seed: int = 0,
) -> Completion:
    """Complete a texture (3, R, R), sRGB in [0, 1], where `observed` (R, R) is false, with all reflectance.

    pipeline: RelightifyInpaintPipeline of resolution R; not needed for "gaussian". strength: in (0, 1], the share of
    the steps that "default" runs (WARM_STRENGTH). Raises UsageError for an unknown method, for a strength out of
    range or that leaves no step to run, or for one below 1 with "replace", which has nothing to start from.
    """
    if method not in METHODS:
        raise UsageError(f"there is no method {method!r}; available: {', '.join(METHODS)}")
    if method == "replace" and strength not in (None, 1.0):
        raise UsageError("the method 'replace' samples from noise: it takes no --strength below 1")
    share = WARM_STRENGTH if strength is None else strength
    if not 0 < share <= 1:
        raise UsageError(f"the strength must be above 0 and at most 1, got {share:g}")
    if method == "default" and int(num_inference_steps * share) < 1:
        raise UsageError(f"{num_inference_steps} steps at strength {share:g} leave none to run; raise one of them")
    posterior = prior.posterior(torch.from_numpy(texture) * 2 - 1, torch.from_numpy(observed), noise=OBSERVATION_NOISE)
    assert posterior.std is not None
    mean = (posterior.mean * 0.5 + 0.5).clamp(0, 1)
    std = posterior.std[LAYOUT.slice("diffuse_albedo")].mean(dim=0).numpy() * 0.5
    if method == "gaussian":
        maps = {name: values.permute(1, 2, 0).numpy() for name, values in LAYOUT.split(mean).items()}
        maps["texture"] = np.where(observed[..., None], texture.transpose(1, 2, 0), maps["texture"])
        maps["normals"] = encode_normals(normalize(decode_normals(maps["normals"])))
        return Completion(maps, std, 0, None)
    warm = method == "default"
    share = share if warm else 1.0
    calls: list[int] = []

    def count(_pipeline, step, _timestep, tensors):
        calls.append(step)
        return tensors

    output = pipeline(
        texture=torch.from_numpy(texture)[None],
        mask=torch.from_numpy(observed.astype(np.float32))[None, None],
        init_maps=mean[None] if warm else None,
        strength=share,
        num_inference_steps=num_inference_steps,
        generator=torch.Generator("cpu").manual_seed(seed),
        output_type="np",
        callback_on_step_end=count,
    )
    maps = {name: getattr(output, name)[0] for name in LAYOUT.names}
    return Completion(maps, std, len(calls), share)
