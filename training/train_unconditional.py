"""Train the unconditional 12-channel prior: `accelerate launch training/train_unconditional.py --config FILE`."""

from __future__ import annotations

import dataclasses
import json
import math
import os
import shutil
import signal
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import torch
from accelerate import Accelerator
from accelerate.utils import DistributedDataParallelKwargs
from checkpoints import list_checkpoints, load_checkpoint, save_checkpoint
from diffusers import DDIMScheduler, UNet2DModel
from diffusers.training_utils import EMAModel, compute_snr
from map_dataset import batch_indices, load_samples, load_transfers, mirror, sample_generator, to_model_range
from relight import Relighter
from tqdm.auto import tqdm
from training_config import TrainConfig, parse_args
from validation import save_grid, validate_by_level

from relightify_diffusers.errors import AssetError, RelightifyError, UsageError
from relightify_diffusers.head.model import HeadModel
from relightify_diffusers.maps import LAYOUT
from relightify_diffusers.pipelines import relightify_inpaint


def make_unet(config: TrainConfig) -> UNet2DModel:
    """A fresh UNet2DModel of the configured size, or the weights of `init_from` when it is set."""
    if config.init_from:
        return load_initial_unet(config)
    attends = [i in config.attention_levels for i in range(len(config.block_out_channels))]
    return UNet2DModel(
        sample_size=config.resolution,
        in_channels=LAYOUT.channels,
        out_channels=LAYOUT.channels,
        block_out_channels=config.block_out_channels,
        layers_per_block=config.layers_per_block,
        down_block_types=tuple("AttnDownBlock2D" if a else "DownBlock2D" for a in attends),
        up_block_types=tuple("AttnUpBlock2D" if a else "UpBlock2D" for a in reversed(attends)),
        attention_head_dim=config.attention_head_dim,
        norm_num_groups=config.norm_num_groups,
    )


def load_initial_unet(config: TrainConfig) -> UNet2DModel:
    """The UNet of the pipeline folder `init_from` at this stage's resolution; raises AssetError if it does not fit."""
    try:
        unet = UNet2DModel.from_pretrained(Path(config.init_from) / "unet")
    except Exception as error:  # diffusers raises OSError, ValueError and others for a folder it cannot read
        raise AssetError(f"cannot load init_from {config.init_from}: {' '.join(str(error).split())[:160]}") from None
    if unet.config.in_channels != LAYOUT.channels:
        raise AssetError(f"{config.init_from} has {unet.config.in_channels} channels, the maps {LAYOUT.channels}")
    for name in ("block_out_channels", "layers_per_block", "norm_num_groups"):
        saved, wanted = getattr(unet.config, name), getattr(config, name)
        if (list(saved) if isinstance(saved, (list, tuple)) else saved) != (
            list(wanted) if isinstance(wanted, tuple) else wanted
        ):
            raise AssetError(f"init_from {config.init_from} has {name} = {saved}, this run has {wanted}")
    # The path of a machine that trained it is nobody else's business.
    unet.register_to_config(sample_size=config.resolution, _name_or_path="")
    return unet


def make_scheduler(config: TrainConfig) -> DDIMScheduler:
    """Cosine schedule (Nichol and Dhariwal 2021) at zero terminal SNR with trailing steps (Lin et al. 2024)."""
    return DDIMScheduler(
        num_train_timesteps=config.num_train_timesteps,
        beta_schedule="squaredcos_cap_v2",
        prediction_type=config.prediction_type,
        rescale_betas_zero_snr=True,
        timestep_spacing="trailing",
        clip_sample=True,
    )


def loss_weights(scheduler: DDIMScheduler, timesteps: torch.Tensor, config: TrainConfig) -> torch.Tensor:
    """Min-SNR weights (B,) of Hang et al. 2023, section 3.4, never below `snr_floor`; ones when snr_gamma is null."""
    if config.snr_gamma is None:
        return torch.ones(len(timesteps), device=timesteps.device)
    snr = compute_snr(scheduler, timesteps)
    weights = snr.clamp(max=config.snr_gamma)  # of the error in the clean sample
    if config.prediction_type == "v_prediction":
        weights = weights / (snr + 1.0)  # the squared error in v is (SNR + 1) times the one in the clean sample
    return weights.clamp(min=config.snr_floor)


def learning_rate(config: TrainConfig, step: int, seconds: float) -> float:
    """Linear warmup, then a cosine over the steps or over the time budget, whichever ends first for "time"."""
    warmup = min(1.0, (step + 1) / max(config.lr_warmup_steps, 1))
    progress = step / config.max_train_steps
    if config.lr_schedule == "time":
        progress = max(progress, seconds / config.max_train_seconds)
    cosine = 0.5 * (1.0 + math.cos(math.pi * min(progress, 1.0)))
    return config.learning_rate * warmup * (config.lr_final_ratio + (1.0 - config.lr_final_ratio) * cosine)


class Trainer:
    """One run: holds the model, its average and the counters; `run()` trains, validates, saves and stops cleanly."""

    def __init__(self, config: TrainConfig):
        self.config = config
        # A UNet2DModel uses all its weights in every step, so DDP needs no search for unused ones.
        self.accelerator = Accelerator(
            mixed_precision=config.mixed_precision,
            cpu=config.cpu,
            gradient_accumulation_steps=config.gradient_accumulation_steps,
            kwargs_handlers=[DistributedDataParallelKwargs(gradient_as_bucket_view=True)],
        )
        if config.num_threads:
            torch.set_num_threads(config.num_threads)
        self.device = self.accelerator.device
        self.main = self.accelerator.is_main_process
        self.pool = ThreadPoolExecutor(min(8, os.cpu_count() or 1)) if self.device.type == "cuda" else None
        self.directory = Path(config.output_dir)
        self.samples_directory = self.directory / "samples"
        self.samples_directory.mkdir(parents=True, exist_ok=True)
        self.step, self.seconds, self.stopping = 0, 0.0, False

    def setup(self) -> None:
        """Load the data, build or load the model, and restore a checkpoint when asked to."""
        config = self.config
        with tqdm(desc="decode", unit="sample", disable=not self.main, mininterval=2.0) as bar:
            samples = load_samples(config.data, config.resolution, config.max_samples, config.cache_dir, bar.update)
        held_out = min(config.validation_samples, len(samples) // 2)
        self.train_samples = samples[: len(samples) - held_out]
        self.held_out = to_model_range(samples[len(samples) - held_out :])
        self.relighter = None
        if config.relight_probability > 0:
            self.transfers = load_transfers(config.data, config.max_samples, config.cache_dir)
            self.relighter = Relighter(HeadModel.bundled(), config.resolution, self.device)
            self.relighter.check(self.transfers.values.shape)
        with torch.random.fork_rng(devices=[]):  # diffusers draws initial weights from the global generator
            torch.manual_seed(config.seed)
            unet = make_unet(config)
        if config.gradient_checkpointing:
            unet.enable_gradient_checkpointing()
        if config.channels_last:
            unet = unet.to(memory_format=torch.channels_last)
        unet.to(self.device)
        self.scheduler = make_scheduler(config)
        self.ema = EMAModel(
            unet.parameters(), decay=config.ema_max_decay, use_ema_warmup=True, power=config.ema_power, foreach=True
        )
        optimizer = torch.optim.AdamW(
            unet.parameters(), config.learning_rate, betas=(0.9, config.adam_beta2), weight_decay=config.weight_decay
        )
        self.unet = unet  # the bare model: its weights are what is saved
        self.model, self.optimizer = self.accelerator.prepare(unet, optimizer)
        if config.compile:
            self.model = torch.compile(self.model)
        if config.resume_from_checkpoint:
            self.restore()
        if self.main:
            record = {"config": dataclasses.asdict(config), "train_samples": len(self.train_samples)}
            record |= {"validation_samples": held_out, "parameters": sum(p.numel() for p in unet.parameters())}
            self.log({"event": "start", "threads": torch.get_num_threads(), **record})

    def restore(self) -> None:
        """Continue from a checkpoint: weights, average, optimizer, step and time; "latest" may find none."""
        state = load_checkpoint(self.directory, self.config.resume_from_checkpoint, self.config.architecture())
        if state is None:
            return
        self.unet.load_state_dict(state["model"])
        self.ema.load_state_dict(state["ema"])
        self.ema.to(self.device)
        self.optimizer.load_state_dict(state["optimizer"])
        self.step, self.seconds = state["step"], state["seconds"]

    def log(self, record: dict) -> None:
        """Append one line to metrics.jsonl (main process)."""
        if self.main:
            record = {"step": self.step, "seconds": round(self.seconds, 2), **record}
            with open(self.directory / "metrics.jsonl", "a", encoding="utf-8") as file:
                file.write(json.dumps(record) + "\n")

    def micro_batch(self, micro: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Clean samples, noise (B, 12, R, R) and timesteps (B,) of this process for one accumulation step.

        Everything random about an example comes from a generator seeded by (seed, step, position in the global
        batch), so a resumed run, or another number of processes with the same global batch, sees the same examples.
        """
        config, world = self.config, self.accelerator.num_processes
        size = config.train_batch_size
        total = size * world * config.gradient_accumulation_steps
        rows = batch_indices(len(self.train_samples), self.step, total, config.seed)
        first = (micro * world + self.accelerator.process_index) * size
        rows = rows[first : first + size]
        shape = self.train_samples.shape[1:]

        def draw(position: int) -> tuple[torch.Generator, torch.Tensor, bool, torch.Tensor]:
            generator = sample_generator(config.seed, self.step, position)
            timestep = torch.randint(config.num_train_timesteps, (), generator=generator)
            flip = bool(torch.rand((), generator=generator) < 0.5)
            return generator, timestep, flip, torch.randn(shape, generator=generator)

        # A GPU would wait for one thread that draws all of its noise; torch lets go of the interpreter meanwhile.
        drawn = (self.pool.map if self.pool else map)(draw, range(first, first + size))
        generators, timesteps, flips, noise = map(list, zip(*drawn))
        clean = to_model_range(self.send(torch.from_numpy(np.array(self.train_samples[rows]))))
        clean = self.relight(clean, rows, generators)
        if config.mirror and any(flips):
            clean[flips] = mirror(clean[flips])
        layout = torch.channels_last if config.channels_last else torch.contiguous_format
        noise = self.send(torch.stack(noise)).contiguous(memory_format=layout)
        return clean.contiguous(memory_format=layout), noise, self.send(torch.stack(timesteps))

    def send(self, tensor: torch.Tensor) -> torch.Tensor:
        """The tensor on the training device; on its way to a GPU, the host does not wait for the step before."""
        if self.device.type != "cuda":
            return tensor.to(self.device)
        return tensor.pin_memory().to(self.device, non_blocking=True)

    def relight(self, clean: torch.Tensor, rows: np.ndarray, generators: list[torch.Generator]) -> torch.Tensor:
        """Give `relight_probability` of the samples (B, 12, R, R), of rows (B,), new light and tones, in place.

        Last in a sample's random numbers and before mirroring: the transfer is that of the head as it was made.
        """
        if self.relighter is None:
            return clean
        share = self.config.relight_probability
        chosen = [i for i, g in enumerate(generators) if torch.rand((), generator=g) < share]
        if chosen:
            transfer = self.send(self.transfers[rows[chosen]])
            clean[chosen] = self.relighter(clean[chosen], transfer, [generators[i] for i in chosen])
        return clean

    def loss(self, clean: torch.Tensor, noise: torch.Tensor, timesteps: torch.Tensor) -> torch.Tensor:
        """The weighted mean squared error of the prediction over all texels, the constant background included."""
        noisy = self.scheduler.add_noise(clean, noise, timesteps)
        target = clean
        if self.config.prediction_type == "v_prediction":
            target = self.scheduler.get_velocity(clean, noise, timesteps)
        prediction = self.model(noisy, timesteps).sample.float()
        errors = (prediction - target).square().mean(dim=(1, 2, 3))
        return (errors * loss_weights(self.scheduler, timesteps, self.config)).mean()

    def train_step(self) -> torch.Tensor:
        """One optimizer step over all accumulated micro-batches; returns the mean loss, detached."""
        rate = learning_rate(self.config, self.step, self.seconds)
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        total = torch.zeros((), device=self.device)
        for micro in range(self.config.gradient_accumulation_steps):
            with self.accelerator.accumulate(self.model):
                loss = self.loss(*self.micro_batch(micro))
                self.accelerator.backward(loss)  # divides by the accumulation steps itself
                total += loss.detach() / self.config.gradient_accumulation_steps
                if self.accelerator.sync_gradients:
                    self.accelerator.clip_grad_norm_(self.model.parameters(), self.config.max_grad_norm)
                self.optimizer.step()
                self.optimizer.zero_grad()
        self.ema.step(self.unet.parameters())
        self.step += 1
        return total

    def state(self) -> dict:
        """Everything that a resumed run needs, as plain tensors and numbers."""
        return {
            "architecture": self.config.architecture(),
            "model": self.unet.state_dict(),
            "ema": self.ema.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "step": self.step,
            "seconds": self.seconds,
        }

    def save(self) -> None:
        """Write a checkpoint (main process)."""
        if self.main:
            save_checkpoint(self.directory, self.step, self.state(), self.config.checkpoints_total_limit)

    @torch.no_grad()
    def validate(self) -> None:
        """Held-out loss by noise level and a picture of unconditional samples, both from the averaged weights."""
        if not self.main:
            return
        self.ema.store(self.unet.parameters())
        self.ema.copy_to(self.unet.parameters())
        self.unet.eval()
        try:
            with self.accelerator.autocast():
                if len(self.held_out):
                    metrics = validate_by_level(self.unet, self.scheduler, self.held_out, self.config.seed)
                    self.log({"event": "validation", **metrics})
                if self.config.grid_samples:
                    path = self.samples_directory / f"step-{self.step:08d}.png"
                    save_grid(
                        self.unet, self.scheduler, path, self.config.grid_samples, self.config.grid_inference_steps
                    )
        finally:
            self.unet.train()
            self.ema.restore(self.unet.parameters())

    def check_finite(self, loss: float) -> None:
        """Stop with advice when the loss is no longer a number."""
        if not math.isfinite(loss):
            saved = list_checkpoints(self.directory)
            raise RelightifyError(
                f"the loss became {loss} before step {self.step}; the last checkpoint is "
                f"{saved[-1] if saved else 'none'}; resume from it with a lower --learning_rate, or without bf16"
            )

    def log_losses(self, losses: list[torch.Tensor], start: float) -> float:
        """Log the mean of the losses since the last call, empty the list, and return it; stops the run on NaN."""
        loss = torch.stack(losses).mean().item()
        self.check_finite(loss)
        rate = self.optimizer.param_groups[0]["lr"]
        self.log({"loss": loss, "lr": rate, "step_seconds": round(time.monotonic() - start, 3)})
        losses.clear()
        return loss

    def out_of_time(self) -> bool:
        """True when the time budget is spent or a signal asked to stop (agreed upon by all processes)."""
        limit = self.config.max_train_seconds
        stop = self.stopping or (limit is not None and self.seconds >= limit)
        if self.accelerator.num_processes > 1:
            flag = torch.tensor([float(stop)], device=self.device)
            stop = bool(self.accelerator.reduce(flag, "sum").item() > 0)
        return stop

    def run(self) -> None:
        """Train to the end of the steps or of the time; always leaves a checkpoint and a pipeline behind."""
        config = self.config
        self.setup()
        self.model.train()
        losses, saved_at = [], -1
        with tqdm(total=config.max_train_steps, initial=self.step, disable=not self.main, mininterval=2.0) as bar:
            while self.step < config.max_train_steps and not self.out_of_time():
                start = time.monotonic()
                losses.append(self.train_step())
                if self.step % config.log_steps == 0:
                    bar.set_postfix(loss=f"{self.log_losses(losses, start):.4f}")
                if self.step % config.validation_steps == 0:
                    self.validate()
                self.seconds += time.monotonic() - start
                if self.step % config.checkpointing_steps == 0:
                    self.save()
                    saved_at = self.step
                bar.update(1)
        if losses:
            self.check_finite(torch.stack(losses).mean().item())
        if saved_at != self.step:
            self.save()
        if self.step % config.validation_steps or self.step == 0:
            self.validate()
        self.save_pipeline()
        self.accelerator.end_training()

    def save_pipeline(self) -> None:
        """Replace output_dir/pipeline by the averaged weights, the scheduler and a copy of the pipeline's code."""
        if not self.main:
            return
        unet = UNet2DModel.from_config(self.unet.config)
        self.ema.copy_to(unet.parameters())
        torch.nn.Module.to(unet, getattr(torch, self.config.save_dtype))  # ModelMixin.to warns about an empty list
        pipeline = relightify_inpaint.RelightifyInpaintPipeline(unet=unet, scheduler=self.scheduler)
        final, partial = self.directory / "pipeline", self.directory / ".pipeline.partial"
        shutil.rmtree(partial, ignore_errors=True)
        pipeline.save_pretrained(partial, max_shard_size=self.config.max_shard_size)
        shutil.copyfile(relightify_inpaint.__file__, partial / "pipeline.py")
        shutil.rmtree(final, ignore_errors=True)
        os.replace(partial, final)
        self.log({"event": "saved", "pipeline": str(final)})


def main(argv: list[str] | None = None) -> int:
    """Run from the command line; returns the exit code, with one line on stderr for a diagnosed failure."""
    handlers = {}
    try:
        trainer = Trainer(parse_args(argv))
        for number in (signal.SIGTERM, signal.SIGINT):
            handlers[number] = signal.signal(number, lambda *_: setattr(trainer, "stopping", True))
        trainer.run()
    except RelightifyError as error:
        print(f"train_unconditional: {error}", file=sys.stderr)
        return error.exit_code
    except torch.cuda.OutOfMemoryError as error:
        print(
            f"train_unconditional: out of memory ({str(error).splitlines()[0]}); lower --train_batch_size and raise "
            "--gradient_accumulation_steps, or set --gradient_checkpointing true",
            file=sys.stderr,
        )
        return UsageError.exit_code
    finally:
        for number, handler in handlers.items():
            signal.signal(number, handler)
    return 0


if __name__ == "__main__":
    sys.exit(main())
