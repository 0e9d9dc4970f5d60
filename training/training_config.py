"""The typed configuration of a training run: a YAML or JSON file, then overrides from the command line."""

from __future__ import annotations

import argparse
import dataclasses
import json
import typing
from dataclasses import dataclass
from pathlib import Path

import yaml

from relightify_diffusers.errors import UsageError


@dataclass(frozen=True)
class TrainConfig:
    """Everything that decides an unconditional training run; each field is set in the file or as --field VALUE."""

    # Data and output
    data: str = ""  # folder with data/*.parquet, written by `relightify synthesize`
    output_dir: str = ""  # checkpoints, metrics.jsonl, samples/ and pipeline/ go here
    resolution: int = 64  # texels per side that the model is trained at; larger data is area-averaged down to it
    max_samples: int | None = None  # use only the first rows
    cache_dir: str | None = None  # keep the decoded maps on disk (memory-mapped) instead of in RAM
    mirror: bool = True  # left-right flips that also negate the normals' x
    relight_probability: float = 0.0  # share of samples with new light and tone; needs data made with --transfer

    # Model
    init_from: str | None = None  # pipeline folder whose UNet weights to start from (the stage before this one)
    block_out_channels: tuple[int, ...] = (32, 64, 128, 256)
    layers_per_block: int = 1
    attention_levels: tuple[int, ...] = ()  # indices into block_out_channels; the middle block always attends
    attention_head_dim: int = 32
    norm_num_groups: int = 8  # several channels a group, so that normalization keeps the mean tone

    # Diffusion
    prediction_type: str = "sample"  # or "v_prediction"; see training/README.md
    num_train_timesteps: int = 1000
    snr_gamma: float | None = 5.0  # min-SNR weighting (Hang et al. 2023, arXiv 2303.09556); null = unweighted
    snr_floor: float = (
        0.1  # lower bound of that weight, so that the noisiest levels, which decide the tone, still learn
    )

    # Optimization
    train_batch_size: int = 16  # per process and accumulation step
    gradient_accumulation_steps: int = 1
    max_train_steps: int = 10_000  # optimizer steps
    max_train_seconds: float | None = None  # stop cleanly after this much time, summed over resumed runs
    learning_rate: float = 3e-4
    lr_warmup_steps: int = 100
    lr_final_ratio: float = 0.02  # the cosine ends at this fraction of learning_rate
    lr_schedule: str = "steps"  # or "time": the cosine follows the fraction of max_train_seconds that has passed
    adam_beta2: float = 0.99
    weight_decay: float = 0.01
    max_grad_norm: float = 1.0
    ema_max_decay: float = 0.9995
    ema_power: float = 0.75

    # Machine
    seed: int = 0
    mixed_precision: str = "bf16"  # or "no"; by autocast
    channels_last: bool = True
    compile: bool = False
    gradient_checkpointing: bool = False
    cpu: bool = False
    num_threads: int | None = None

    # Records
    log_steps: int = 10
    validation_samples: int = 64  # the last rows of the data set, never trained on
    validation_steps: int = 500
    grid_samples: int = 4  # unconditional samples on the picture of each validation; 0 = none
    grid_inference_steps: int = 20
    checkpointing_steps: int = 500
    checkpoints_total_limit: int = 2
    resume_from_checkpoint: str | None = None  # a checkpoint file, or "latest"
    save_dtype: str = "float16"  # of the pipeline's weights: float16 | bfloat16 | float32
    max_shard_size: str = "16MB"

    def validate(self) -> TrainConfig:
        """Return self; raises UsageError with one line for the first value that cannot be trained with."""
        levels = len(self.block_out_channels)
        checks = [
            (bool(self.data), "data is not set; give --data DIR, a folder written by `relightify synthesize`"),
            (bool(self.output_dir), "output_dir is not set; give --output_dir DIR"),
            (levels > 0, "block_out_channels is empty"),
            (
                self.resolution % 2 ** max(levels - 1, 0) == 0,
                f"resolution {self.resolution} cannot be halved {levels - 1} times for {levels} levels",
            ),
            (
                all(c % self.norm_num_groups == 0 for c in self.block_out_channels),
                f"block_out_channels {self.block_out_channels} are not multiples of "
                f"norm_num_groups {self.norm_num_groups}",
            ),
            (
                all(0 <= i < levels for i in self.attention_levels),
                f"attention_levels {self.attention_levels} are not indices of the {levels} levels",
            ),
            (
                self.prediction_type in ("v_prediction", "sample"),
                f"prediction_type {self.prediction_type!r} does not work: use v_prediction or sample "
                "(epsilon is undefined at zero terminal SNR)",
            ),
            (
                self.lr_schedule == "steps" or (self.lr_schedule == "time" and self.max_train_seconds is not None),
                'lr_schedule is "steps", or "time" together with max_train_seconds',
            ),
            (self.mixed_precision in ("no", "bf16"), "mixed_precision is no or bf16"),
            (self.save_dtype in ("float16", "bfloat16", "float32"), "save_dtype is float16, bfloat16 or float32"),
            (0 <= self.relight_probability <= 1, "relight_probability is a share from 0 to 1"),
            (self.train_batch_size > 0 and self.gradient_accumulation_steps > 0, "batch sizes must be positive"),
        ]
        for holds, message in checks:
            if not holds:
                raise UsageError(message)
        return self

    def architecture(self) -> dict:
        """The fields that decide the shapes of the weights; a checkpoint of another architecture is refused."""
        names = ("block_out_channels", "layers_per_block", "attention_levels", "attention_head_dim", "norm_num_groups")
        return {name: getattr(self, name) for name in names}


def _convert(name: str, kind, value):
    """Convert one YAML value to the field's type, or raise UsageError."""
    if type(None) in typing.get_args(kind):
        if value is None:
            return None
        kind = next(a for a in typing.get_args(kind) if a is not type(None))
    try:
        if typing.get_origin(kind) is tuple:
            if isinstance(value, str):
                value = [v for v in value.replace(",", " ").split() if v]
            return tuple(int(v) for v in (value if isinstance(value, (list, tuple)) else [value]))
        if kind is bool:
            if isinstance(value, bool):
                return value
            raise ValueError
        if kind is int and float(value) != int(float(value)):
            raise ValueError
        if kind is int:
            return int(float(value))
        return kind(value)  # "1e-4" is a string to YAML 1.1, float() reads it
    except (TypeError, ValueError):
        raise UsageError(f"{name} expects {getattr(kind, '__name__', kind)}, got {value!r}") from None


def make_config(values: dict) -> TrainConfig:
    """A TrainConfig from a plain dict; raises UsageError for unknown names and wrong types."""
    hints = typing.get_type_hints(TrainConfig)
    unknown = sorted(set(values) - set(hints))
    if unknown:
        raise UsageError(f"unknown setting {unknown[0]!r}; the settings are the fields of TrainConfig")
    return TrainConfig(**{name: _convert(name, hints[name], value) for name, value in values.items()})


def read_config_file(path: str) -> dict:
    """The content of a .yaml, .yml or .json config as a dict; raises UsageError when it cannot be read."""
    try:
        text = Path(path).read_text(encoding="utf-8")
        values = json.loads(text) if path.endswith(".json") else yaml.safe_load(text)
    except (OSError, ValueError, yaml.YAMLError) as error:
        raise UsageError(f"cannot read config {path}: {' '.join(str(error).split())}") from None
    if values is None:
        return {}
    if not isinstance(values, dict):
        raise UsageError(f"config {path} holds no settings (a mapping of names to values)")
    return values


def parse_args(argv: list[str] | None = None) -> TrainConfig:
    """Read --config FILE and the overrides of the command line; raises UsageError."""
    parser = argparse.ArgumentParser(description="Train the unconditional 12-channel diffusion prior.")
    parser.add_argument("--config", metavar="FILE", help="YAML or JSON file with any of the settings below")
    for field in dataclasses.fields(TrainConfig):
        parser.add_argument(f"--{field.name}", metavar="VALUE", help=f"default {field.default}")
    options = {name: value for name, value in vars(parser.parse_args(argv)).items() if value is not None}
    path = options.pop("config", None)
    values = read_config_file(path) if path else {}
    text_fields = {"data", "output_dir", "init_from", "cache_dir", "resume_from_checkpoint", "mixed_precision"}
    for name, value in options.items():
        values[name] = value if name in text_fields else yaml.safe_load(value)
    # YAML 1.1 reads a bare `no` as false, which is also the name of a precision.
    if values.get("mixed_precision") is False:
        values["mixed_precision"] = "no"
    return make_config(values).validate()
