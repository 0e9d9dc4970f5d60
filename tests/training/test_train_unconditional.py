"""The training script on a tiny model: configuration, weights, exact resumption, clean stops and one-line errors."""

from __future__ import annotations

import json
import math

import pytest
import torch
import train_unconditional
from accelerate.state import AcceleratorState
from checkpoints import list_checkpoints
from diffusers import DiffusionPipeline
from map_dataset import mirror
from PIL import Image
from train_unconditional import Trainer, learning_rate, loss_weights, make_scheduler
from training_config import make_config, parse_args

from relightify_diffusers.errors import AssetError, RelightifyError, UsageError
from relightify_diffusers.maps import LAYOUT


@pytest.fixture(autouse=True)
def fresh_accelerator():
    """Accelerate keeps its state for the life of the process; a script has one run, this file many."""
    AcceleratorState._reset_state(reset_partial_state=True)
    yield
    AcceleratorState._reset_state(reset_partial_state=True)


@pytest.fixture
def settings(data, tmp_path) -> dict:
    return {
        "data": str(data),
        "output_dir": str(tmp_path / "run"),
        "resolution": 8,
        "block_out_channels": [8, 16],
        "norm_num_groups": 4,
        "attention_head_dim": 8,
        "train_batch_size": 4,
        "max_train_steps": 6,
        "learning_rate": 1e-3,
        "lr_warmup_steps": 2,
        "mixed_precision": "no",
        "validation_samples": 4,
        "validation_steps": 3,
        "grid_samples": 1,
        "grid_inference_steps": 2,
        "checkpointing_steps": 2,
        "log_steps": 1,
        "cpu": True,
    }


def run(settings: dict) -> Trainer:
    AcceleratorState._reset_state(reset_partial_state=True)
    trainer = Trainer(make_config(settings).validate())
    trainer.run()
    return trainer


def metrics(trainer: Trainer) -> list[dict]:
    return [json.loads(line) for line in (trainer.directory / "metrics.jsonl").read_text().splitlines()]


def test_config_file_and_overrides(tmp_path):
    path = tmp_path / "config.yaml"
    path.write_text("data: somewhere\noutput_dir: out\nlearning_rate: 1e-4\nblock_out_channels: [16, 32]\n")
    config = parse_args(
        ["--config", str(path), "--resolution", "32", "--block_out_channels", "8,16", "--snr_gamma", "null"]
    )
    assert (config.data, config.learning_rate, config.resolution) == ("somewhere", 1e-4, 32)
    assert config.block_out_channels == (8, 16) and config.snr_gamma is None
    assert parse_args(["--config", str(path), "--mixed_precision", "no"]).mixed_precision == "no"


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"learning_rat": 1}, "unknown setting 'learning_rat'"),
        ({"resolution": "large"}, "resolution expects int, got 'large'"),
        ({"resolution": 9}, "9 cannot be halved"),
        ({"block_out_channels": [6, 16]}, "not multiples of"),
        ({"prediction_type": "epsilon"}, "epsilon is undefined at zero terminal SNR"),
        ({"lr_schedule": "time"}, "together with max_train_seconds"),
        ({"data": ""}, "data is not set"),
        ({"relight_probability": 1.5}, "relight_probability is a share"),
    ],
)
def test_config_errors_are_one_line(settings, changes, message):
    with pytest.raises(UsageError, match=message) as caught:
        make_config(settings | changes).validate()
    assert "\n" not in str(caught.value)


def test_scheduler_ends_in_pure_noise(settings):
    scheduler = make_scheduler(make_config(settings))
    assert scheduler.alphas_cumprod[-1] == 0
    scheduler.set_timesteps(20)
    assert scheduler.timesteps[0] == 999 and scheduler.timesteps[-1] == 49


def test_min_snr_weights_by_hand(settings):
    config = make_config(settings | {"snr_gamma": 5.0, "snr_floor": 0.1})
    scheduler = make_scheduler(config)
    timesteps = torch.tensor([0, 500, 999])
    alpha_bar = scheduler.alphas_cumprod[timesteps]
    snr = alpha_bar / (1 - alpha_bar)
    assert loss_weights(scheduler, timesteps, config).tolist() == pytest.approx([5.0, snr[1].item(), 0.1], rel=1e-4)
    velocity = make_config(settings | {"prediction_type": "v_prediction", "snr_floor": 0.0})
    expected = [5.0 / (snr[0].item() + 1), snr[1].item() / (snr[1].item() + 1), 0.0]
    assert loss_weights(scheduler, timesteps, velocity).tolist() == pytest.approx(expected, rel=1e-4)
    assert loss_weights(scheduler, timesteps, make_config(settings | {"snr_gamma": None})).tolist() == [1, 1, 1]


def test_learning_rate_by_hand(settings):
    changes = {"learning_rate": 1.0, "lr_warmup_steps": 10, "max_train_steps": 1000, "lr_final_ratio": 0.1}
    config = make_config(settings | changes)
    assert learning_rate(config, 4, 0.0) == pytest.approx(0.5, rel=1e-3)
    assert learning_rate(config, 500, 0.0) == pytest.approx(0.55)
    assert learning_rate(config, 1000, 0.0) == pytest.approx(0.1)
    timed = make_config(settings | changes | {"lr_schedule": "time", "max_train_seconds": 100})
    assert learning_rate(timed, 20, 50.0) == pytest.approx(0.55)


def test_a_run_leaves_metrics_pictures_and_a_pipeline(settings):
    trainer = run(
        settings | {"mixed_precision": "bf16", "gradient_accumulation_steps": 2, "checkpoints_total_limit": 2}
    )
    records = metrics(trainer)
    assert [r["step"] for r in records if "loss" in r] == [1, 2, 3, 4, 5, 6]
    assert all(math.isfinite(r["loss"]) for r in records if "loss" in r)
    validations = [r for r in records if r.get("event") == "validation"]
    assert [r["step"] for r in validations] == [3, 6]
    assert len(validations[0]["mse"]) == len(validations[0]["levels"]) == len(validations[0]["tone_correlation"])
    assert [p.name for p in list_checkpoints(trainer.directory)] == [
        "checkpoint-00000004.pt",
        "checkpoint-00000006.pt",
    ]
    with Image.open(trainer.samples_directory / "step-00000006.png") as image:
        assert image.size == (4 * 8 * 16, 8 * 16)
    path = str(trainer.directory / "pipeline")
    pipeline = DiffusionPipeline.from_pretrained(path, custom_pipeline=path, trust_remote_code=True)
    assert pipeline.unet.config.sample_size == 8 and pipeline.scheduler.config.rescale_betas_zero_snr
    # The published weights are the average, in half precision.
    for saved, averaged in zip(pipeline.unet.parameters(), trainer.ema.shadow_params):
        assert torch.equal(saved.float(), averaged.half().float())


@pytest.mark.parametrize("share", [0.0, 0.5])
def test_resumption_is_exact_to_the_step(settings, tmp_path, data_with_transfer, share):
    settings = settings | {"data": str(data_with_transfer), "relight_probability": share}
    whole = run(settings | {"output_dir": str(tmp_path / "whole")})
    first = settings | {"output_dir": str(tmp_path / "parts")}
    trainer = Trainer(make_config(first).validate())
    trainer.setup()
    for _ in range(4):
        trainer.train_step()
    trainer.save()
    resumed = run(first | {"resume_from_checkpoint": "latest"})
    losses = [[r["loss"] for r in metrics(t) if r.get("loss") is not None and r["step"] > 4] for t in (whole, resumed)]
    assert losses[0] == losses[1] and len(losses[0]) == 2
    for a, b in zip(whole.unet.parameters(), resumed.unet.parameters()):
        assert torch.equal(a, b)
    for a, b in zip(whole.ema.shadow_params, resumed.ema.shadow_params):
        assert torch.equal(a, b)


def set_up(settings: dict) -> Trainer:
    AcceleratorState._reset_state(reset_partial_state=True)
    trainer = Trainer(make_config(settings).validate())
    trainer.setup()
    return trainer


def test_a_share_of_the_samples_is_relit_and_nothing_else_changes(settings, data_with_transfer):
    settings = settings | {"data": str(data_with_transfer), "train_batch_size": 16, "mirror": False}
    plain, none, some, every = (
        set_up(settings | {"relight_probability": share}).micro_batch(0) for share in (0.0, 0.0, 0.5, 1.0)
    )
    changed = []
    for clean, noise, timesteps in (none, some, every):
        assert torch.equal(noise, plain[1]) and torch.equal(timesteps, plain[2])
        assert torch.equal(clean[:, LAYOUT.slice("normals")], plain[0][:, LAYOUT.slice("normals")])
        changed.append((clean != plain[0]).flatten(1).any(1))
    assert not changed[0].any() and changed[2].all()
    assert 3 <= changed[1].sum() <= 13
    # A sample is relit alike whichever others are.
    torch.testing.assert_close(some[0][changed[1]], every[0][changed[1]], atol=1e-5, rtol=0)


def test_relit_samples_are_mirrored_afterwards(settings, data_with_transfer):
    settings = settings | {"data": str(data_with_transfer), "train_batch_size": 16, "relight_probability": 1.0}
    straight, mirrored = (set_up(settings | {"mirror": m}).micro_batch(0)[0] for m in (False, True))
    flipped = (straight != mirrored).flatten(1).any(1)
    assert 3 <= flipped.sum() <= 13
    assert torch.equal(mirror(straight[flipped]), mirrored[flipped])


def test_relighting_needs_transfers(settings):
    with pytest.raises(AssetError, match="synthesize --transfer"):
        set_up(settings | {"relight_probability": 0.5})


def test_stops_when_the_time_is_up_or_a_signal_comes(settings):
    trainer = run(settings | {"max_train_seconds": 1e-9, "max_train_steps": 1000})
    assert trainer.step == 1
    assert (trainer.directory / "pipeline" / "unet").is_dir() and len(list_checkpoints(trainer.directory)) == 1
    trainer = Trainer(make_config(settings | {"max_train_steps": 1000}).validate())
    step = trainer.train_step

    def interrupted():
        trainer.stopping = trainer.step >= 2
        return step()

    trainer.train_step = interrupted
    trainer.run()
    assert trainer.step == 3
    assert list_checkpoints(trainer.directory)[-1].name == "checkpoint-00000003.pt"


def test_stages_carry_weights_to_another_resolution(settings, tmp_path):
    small = run(settings)
    larger = settings | {"resolution": 16, "output_dir": str(tmp_path / "next"), "max_train_steps": 0}
    trainer = run(larger | {"init_from": str(small.directory / "pipeline")})
    assert trainer.unet.config.sample_size == 16
    for saved, averaged in zip(trainer.unet.parameters(), small.ema.shadow_params):
        assert torch.equal(saved, averaged.half().float())
    with pytest.raises(AssetError, match="has block_out_channels"):
        run(larger | {"init_from": str(small.directory / "pipeline"), "block_out_channels": [16, 32]})
    with pytest.raises(AssetError, match="cannot load init_from"):
        run(larger | {"init_from": str(tmp_path / "nowhere")})


def test_checkpoints_of_another_architecture_or_damaged_are_refused(settings):
    trainer = run(settings | {"max_train_steps": 2})
    with pytest.raises(AssetError, match="layers_per_block = 1, this run has 2"):
        run(settings | {"layers_per_block": 2, "resume_from_checkpoint": "latest"})
    path = list_checkpoints(trainer.directory)[-1]
    path.write_bytes(path.read_bytes()[:1000])
    with pytest.raises(AssetError, match="cannot read checkpoint"):
        run(settings | {"resume_from_checkpoint": str(path)})


def test_a_lost_loss_stops_the_run(settings, capsys, monkeypatch):
    monkeypatch.setattr(
        Trainer, "train_step", lambda self: setattr(self, "step", self.step + 1) or torch.tensor(math.nan)
    )
    with pytest.raises(RelightifyError, match="the loss became nan before step 1; the last checkpoint is none"):
        run(settings)
    arguments = [f"--{k}={','.join(map(str, v)) if isinstance(v, list) else v}" for k, v in settings.items()]
    assert train_unconditional.main(arguments) == 1
    assert capsys.readouterr().err.strip().splitlines()[-1].startswith("train_unconditional: the loss became nan")
