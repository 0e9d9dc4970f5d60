"""RelightifyInpaintPipeline: a partial face texture in, texture, diffuse albedo, specular albedo and normals out.

This file imports only torch, numpy, PIL and diffusers, so that a copy of it beside the weights is enough:
`DiffusionPipeline.from_pretrained(path, custom_pipeline="relightify_inpaint.py", trust_remote_code=True)`.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from diffusers import DiffusionPipeline, UNet2DModel
from diffusers.utils import BaseOutput
from diffusers.utils.torch_utils import randn_tensor
from PIL import Image

# The 12 channels, in order (the same table as relightify_diffusers.maps.LAYOUT).
CHANNELS = {
    "texture": slice(0, 3),
    "diffuse_albedo": slice(3, 6),
    "specular_albedo": slice(6, 9),
    "normals": slice(9, 12),
}
NUM_CHANNELS = 12

# Schedulers by the way their noise level is read.
_BY_ALPHAS_CUMPROD = ("DDPMScheduler", "DDIMScheduler")
_VARIANCE_PRESERVING_SIGMAS = (
    "DPMSolverMultistepScheduler",
    "DPMSolverSinglestepScheduler",
    "UniPCMultistepScheduler",
    "DEISMultistepScheduler",
)
_VARIANCE_EXPLODING_SIGMAS = (
    "EulerDiscreteScheduler",
    "EulerAncestralDiscreteScheduler",
    "HeunDiscreteScheduler",
    "LMSDiscreteScheduler",
    "EDMEulerScheduler",
    "EDMDPMSolverMultistepScheduler",
)
SUPPORTED_SCHEDULERS = _BY_ALPHAS_CUMPROD + _VARIANCE_PRESERVING_SIGMAS + _VARIANCE_EXPLODING_SIGMAS


@dataclass
class RelightifyInpaintPipelineOutput(BaseOutput):
    """The four completed maps; B = number of textures times num_samples, samples of one texture adjacent.

    Each is float32 (B, H, W, 3) for output_type "np", (B, 3, H, W) for "pt", or a list of B PIL images for "pil".
    Values are in [0, 1]: texture and diffuse albedo sRGB-encoded, the specular parameter s repeated three times,
    normals unit vectors of the head frame as n * 0.5 + 0.5.
    """

    texture: np.ndarray | torch.Tensor | list
    diffuse_albedo: np.ndarray | torch.Tensor | list
    specular_albedo: np.ndarray | torch.Tensor | list
    normals: np.ndarray | torch.Tensor | list


def check_scheduler(scheduler) -> None:
    """Raise ValueError, naming the scheduler, when its signal and noise levels cannot be read."""
    name = type(scheduler).__name__
    if name not in SUPPORTED_SCHEDULERS:
        raise ValueError(f"{name} is not supported: use one of {', '.join(SUPPORTED_SCHEDULERS)}")
    if getattr(scheduler.config, "use_flow_sigmas", False):
        raise ValueError(f"{name} with use_flow_sigmas is not supported: the prior is a diffusion, not a flow model")


def noise_levels(scheduler) -> list[tuple[float, float]]:
    """(alpha, sigma) of the sample before each of the scheduler's steps, then of the clean sample, (1, 0).

    The sample before step i is alpha_i * clean + sigma_i * noise in the scheduler's own scaling; call it after
    set_timesteps. Raises ValueError, naming the scheduler, when its levels cannot be read.
    """
    check_scheduler(scheduler)
    count = len(scheduler.timesteps)
    if type(scheduler).__name__ in _BY_ALPHAS_CUMPROD:
        alpha_bars = scheduler.alphas_cumprod.double().cpu()[scheduler.timesteps.long().cpu()]
        levels = [(float(a.sqrt()), float((1 - a).sqrt())) for a in alpha_bars]
    else:
        sigmas = scheduler.sigmas.double().cpu()[:count]
        if type(scheduler).__name__ in _VARIANCE_PRESERVING_SIGMAS:
            alphas = 1 / (1 + sigmas.square()).sqrt()
        else:
            alphas = torch.ones_like(sigmas)
        levels = [(float(a), float(a * s)) for a, s in zip(alphas, sigmas)]
    return [*levels, (1.0, 0.0)]


def _channels_first(value, channels: int, name: str) -> torch.Tensor:
    """Any accepted image type as a float32 (B, C, H, W) tensor in [0, 1]; raises ValueError for other shapes."""
    if isinstance(value, (list, tuple)):
        return torch.cat([_channels_first(v, channels, name) for v in value])
    if isinstance(value, Image.Image):
        value = np.asarray(value.convert("RGB" if channels == 3 else "L"), np.float32) / 255
    shape = tuple(value.shape)
    if torch.is_tensor(value):
        tensor = value.to(torch.float32)
        if channels == 1 and tensor.ndim == 2:
            tensor = tensor[None]
        tensor = tensor[None] if tensor.ndim == 3 else tensor
        expected = f"(B, {channels}, H, W)"
    else:
        array = np.asarray(value, np.float32)
        if channels == 1 and (array.ndim == 2 or (array.ndim == 3 and array.shape[-1] != 1)):
            array = array[..., None]
        tensor = torch.from_numpy(np.ascontiguousarray(array))
        tensor = tensor[None] if tensor.ndim == 3 else tensor
        tensor = tensor.permute(0, 3, 1, 2) if tensor.ndim == 4 else tensor
        expected = f"(B, H, W, {channels})"
    if tensor.ndim != 4 or tensor.shape[1] != channels:
        raise ValueError(f"{name} has shape {shape}, expected {expected} with or without the batch axis")
    return tensor


def unit_normals(encoded: torch.Tensor) -> torch.Tensor:
    """Normals (B, 3, H, W) in [-1, 1] scaled to unit length; a zero vector becomes +Z."""
    length = encoded.norm(dim=1, keepdim=True)
    forward = torch.tensor([0.0, 0.0, 1.0], device=encoded.device).view(1, 3, 1, 1)
    return torch.where(length > 1e-4, encoded / length.clamp(min=1e-4), forward)


class RelightifyInpaintPipeline(DiffusionPipeline):
    """Completes a partial facial UV texture and its reflectance maps with an unconditional 12-channel prior.

    The known-region replacement follows Song et al. 2021 (arXiv 2011.13456, section 5 and appendix I.2) with the
    mask on the texture channels alone, as in Papantoniou et al. 2023 (Relightify, section 3.2).

    Args:
        unet (`UNet2DModel`): predicts noise, velocity or clean sample for 12 channels in [-1, 1].
        scheduler: one of SUPPORTED_SCHEDULERS; it is copied in each call and never changed.
    """

    model_cpu_offload_seq = "unet"
    _callback_tensor_inputs = ("sample",)

    def __init__(self, unet: UNet2DModel, scheduler):
        super().__init__()
        self.register_modules(unet=unet, scheduler=scheduler)

    def check_inputs(self, texture, mask, init_maps, strength, num_inference_steps, num_samples, output_type) -> None:
        """Raise ValueError, with what was expected and what was given, for tensors that cannot be completed."""
        height, width = texture.shape[-2:]
        if self.unet.config.in_channels != NUM_CHANNELS:
            raise ValueError(f"the UNet has {self.unet.config.in_channels} channels, expected {NUM_CHANNELS}")
        factor = 2 ** (len(self.unet.config.block_out_channels) - 1)
        if height % factor or width % factor:
            raise ValueError(f"texture is {height} x {width}, expected multiples of {factor} for this UNet")
        if mask.shape[-2:] != texture.shape[-2:] or mask.shape[0] not in (1, texture.shape[0]):
            raise ValueError(
                f"mask has shape {tuple(mask.shape)}, expected ({texture.shape[0]}, 1, {height}, {width})"
            )
        if not ((mask == 0) | (mask == 1)).all():
            raise ValueError(f"mask has values in [{mask.min():g}, {mask.max():g}], expected only 0 and 1 (observed)")
        expected = (texture.shape[0], NUM_CHANNELS, height, width)
        if init_maps is not None and init_maps.shape != expected:
            raise ValueError(f"init_maps has shape {tuple(init_maps.shape)} (channels first), expected {expected}")
        for name, value in (("texture", texture), ("init_maps", init_maps)):
            if value is not None and not (value.min() >= -1e-3 and value.max() <= 1 + 1e-3):
                raise ValueError(f"{name} has values in [{value.min():g}, {value.max():g}], expected [0, 1]")
        if not 0 < strength <= 1:
            raise ValueError(f"strength is {strength}, expected a number in (0, 1]")
        if strength < 1 and init_maps is None:
            raise ValueError(f"strength {strength} starts from init_maps, but none were given")
        if num_inference_steps < 1 or int(num_inference_steps * strength) < 1:
            raise ValueError(f"{num_inference_steps} steps at strength {strength} leave no step to run")
        if num_samples < 1:
            raise ValueError(f"num_samples is {num_samples}, expected 1 or more")
        if output_type not in ("np", "pt", "pil"):
            raise ValueError(f'output_type is {output_type!r}, expected "np", "pt" or "pil"')

    def prepare_generators(self, generator, count: int) -> list[torch.Generator]:
        """One generator per sample, so that a sample does not depend on the others in its batch.

        A list is taken as it is; a single generator seeds the samples in order; None draws a fresh seed.
        """
        if isinstance(generator, (list, tuple)):
            if len(generator) != count:
                raise ValueError(f"{len(generator)} generators given, expected {count} (textures times num_samples)")
            return list(generator)
        device = generator.device if generator is not None else torch.device("cpu")
        seeds = [int(torch.randint(2**62, (), generator=generator, device=device)) for _ in range(count)]
        return [torch.Generator(device).manual_seed(seed) for seed in seeds]

    def prepare_scheduler(self, num_inference_steps: int, strength: float, device):
        """A fresh copy of the scheduler, the (alpha, sigma) levels of its steps, and the index of the first one."""
        scheduler = type(self.scheduler).from_config(self.scheduler.config)
        scheduler.set_timesteps(num_inference_steps, device=device)
        levels = noise_levels(scheduler)
        skipped = num_inference_steps - int(num_inference_steps * strength)
        begin = skipped * getattr(scheduler, "order", 1)
        if hasattr(scheduler, "set_begin_index"):
            scheduler.set_begin_index(begin)
        return scheduler, levels, begin

    def prepare_sample(self, init, shape, level, init_noise_sigma, generators, device) -> torch.Tensor:
        """The first sample: pure noise without `init` (at strength 1), else `init` noised to the first level."""
        noise = randn_tensor(shape, generator=generators, device=device, dtype=torch.float32)
        if init is None:
            return noise * init_noise_sigma
        alpha, sigma = level
        return alpha * init + sigma * noise

    def replace_known(self, sample, texture, mask, level, generators) -> torch.Tensor:
        """Set the observed texels of the texture channels to the known texture at noise `level`; nothing else."""
        alpha, sigma = level
        known = alpha * texture
        if sigma > 0:
            known = known + sigma * randn_tensor(texture.shape, generators, device=texture.device)
        channels = CHANNELS["texture"]
        sample = sample.clone()
        sample[:, channels] = torch.where(mask, known.to(sample.dtype), sample[:, channels])
        return sample

    def prepare_extra_step_kwargs(self, scheduler, generators, eta: float) -> dict:
        """The optional arguments that this scheduler's step accepts."""
        accepted = inspect.signature(scheduler.step).parameters
        extra = {"eta": eta, "generator": generators}
        return {name: value for name, value in extra.items() if name in accepted}

    def decode(self, sample, texture, mask, output_type: str) -> dict:
        """Samples in [-1, 1] to maps in [0, 1]: normals to unit length, observed texels exactly as given."""
        maps = {name: sample[:, channels] for name, channels in CHANNELS.items()}
        maps["normals"] = unit_normals(maps["normals"])
        maps = {name: (value * 0.5 + 0.5).clamp(0, 1) for name, value in maps.items()}
        maps["texture"] = torch.where(mask, texture, maps["texture"])  # free of the rounding of * 2 - 1
        if output_type == "pt":
            return maps
        maps = {name: value.permute(0, 2, 3, 1).float().cpu().numpy() for name, value in maps.items()}
        if output_type == "np":
            return maps
        return {name: [Image.fromarray((v * 255).round().astype(np.uint8)) for v in maps[name]] for name in maps}

    @torch.no_grad()
    def __call__(
        self,
        texture: torch.Tensor | np.ndarray | Image.Image | list,
        mask: torch.Tensor | np.ndarray | Image.Image | list,
        init_maps: torch.Tensor | np.ndarray | None = None,
        strength: float = 1.0,
        num_inference_steps: int = 20,
        eta: float = 0.0,
        num_samples: int = 1,
        generator: torch.Generator | list[torch.Generator] | None = None,
        output_type: str = "np",
        return_dict: bool = True,
        callback_on_step_end: Callable | None = None,
        callback_on_step_end_tensor_inputs: list[str] | tuple[str, ...] = ("sample",),
    ) -> RelightifyInpaintPipelineOutput | tuple:
        """Complete the maps of one or several partial textures.

        Args:
            texture: sRGB in [0, 1]: torch (B, 3, H, W), numpy (B, H, W, 3), either without batch axis, or PIL.
            mask: 1 = observed, 0 = to be completed: torch (B, 1, H, W), numpy (B, H, W), (H, W), or PIL.
            init_maps: warm start in [0, 1]: torch (B, 12, H, W) or numpy (B, H, W, 12), channels as in CHANNELS.
            strength: fraction of the schedule that is run from `init_maps`, in (0, 1]; at 1.0 sampling starts from
                pure noise and `init_maps` is not used.
            num_inference_steps: steps of the whole schedule; int(num_inference_steps * strength) are run.
            eta: stochasticity of DDIM in [0, 1], ignored by other schedulers.
            num_samples: samples per texture, adjacent in the output.
            generator: one generator, which seeds every sample, or a list of B * num_samples.
            output_type: "np", "pt" or "pil".
            return_dict: False returns the four maps as a tuple.
            callback_on_step_end: called as (pipeline, step_index, timestep, {"sample": (B, 12, H, W) in [-1, 1]});
                a "sample" in the dict it returns replaces the current one.
            callback_on_step_end_tensor_inputs: names to hand to the callback; only "sample" exists.

        Returns:
            RelightifyInpaintPipelineOutput, or a tuple in its order. Observed texels of the texture equal the input.

        Raises:
            ValueError: wrong shapes, ranges or settings, or a scheduler whose noise levels cannot be read.
        """
        # 1. Read and check the inputs
        texture = _channels_first(texture, 3, "texture")
        mask = _channels_first(mask, 1, "mask")
        init_maps = None if init_maps is None else _channels_first(init_maps, NUM_CHANNELS, "init_maps")
        self.check_inputs(texture, mask, init_maps, strength, num_inference_steps, num_samples, output_type)
        check_scheduler(self.scheduler)
        if not set(callback_on_step_end_tensor_inputs) <= set(self._callback_tensor_inputs):
            raise ValueError(f"callback_on_step_end_tensor_inputs must be among {self._callback_tensor_inputs}")

        # 2. One row per sample, on the device of the network; [-1, 1] from here on
        device = self._execution_device
        batch = texture.shape[0] * num_samples
        mask = mask.expand(texture.shape[0], -1, -1, -1)
        texture, mask = (v.to(device).repeat_interleave(num_samples, dim=0) for v in (texture, mask > 0.5))
        known = texture * 2 - 1  # (B, 3, H, W)
        init = None
        if init_maps is not None and strength < 1:
            init = init_maps.to(device).repeat_interleave(num_samples, dim=0) * 2 - 1
        generators = self.prepare_generators(generator, batch)

        # 3. A copy of the scheduler and the noise level before each of its steps
        scheduler, levels, begin = self.prepare_scheduler(num_inference_steps, strength, device)
        extra_step_kwargs = self.prepare_extra_step_kwargs(scheduler, generators, eta)

        # 4. The first sample, its observed texels at its level
        shape = (batch, NUM_CHANNELS, *texture.shape[-2:])
        sample = self.prepare_sample(init, shape, levels[begin], scheduler.init_noise_sigma, generators, device)
        sample = self.replace_known(sample, known, mask, levels[begin], generators)

        # 5. Denoise, and after each step set the observed texels to the level that the step arrived at
        timesteps = scheduler.timesteps[begin:]
        with self.progress_bar(total=len(timesteps)) as progress_bar:
            for i, t in enumerate(timesteps):
                model_input = scheduler.scale_model_input(sample, t).to(self.unet.dtype)
                output = self.unet(model_input, t).sample.to(sample.dtype)
                sample = scheduler.step(output, t, sample, **extra_step_kwargs, return_dict=False)[0]
                sample = self.replace_known(sample, known, mask, levels[begin + i + 1], generators)
                if callback_on_step_end is not None:
                    names = callback_on_step_end_tensor_inputs
                    changed = callback_on_step_end(self, i, t, {"sample": sample} if "sample" in names else {})
                    sample = (changed or {}).get("sample", sample)
                progress_bar.update()

        # 6. Maps in [0, 1]; free offloaded models
        maps = self.decode(sample, texture, mask, output_type)
        self.maybe_free_model_hooks()
        if not return_dict:
            return tuple(maps.values())
        return RelightifyInpaintPipelineOutput(**maps)
