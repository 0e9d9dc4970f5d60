"""RelightifyInpaintPipeline on tiny networks: what it returns, what it refuses, what it never changes."""

from __future__ import annotations

import importlib
import shutil
from types import SimpleNamespace

import diffusers
import numpy as np
import pytest
import torch
from diffusers import DDIMScheduler, DDPMScheduler, DiffusionPipeline, UNet2DModel
from PIL import Image

from relightify_diffusers.maps import LAYOUT
from relightify_diffusers.pipelines import relightify_inpaint
from relightify_diffusers.pipelines.relightify_inpaint import RelightifyInpaintPipeline, noise_levels

MAPS = LAYOUT.names
# Some schedulers hand tensors to numpy functions in a way that numpy 2 warns about.
pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")


def make_scheduler(cls=DDIMScheduler, **kwargs):
    defaults = {"num_train_timesteps": 1000, "beta_schedule": "squaredcos_cap_v2", "prediction_type": "v_prediction"}
    return cls(**(defaults | kwargs))


def make_pipeline(unet, scheduler=None) -> RelightifyInpaintPipeline:
    scheduler = scheduler or make_scheduler(rescale_betas_zero_snr=True, timestep_spacing="trailing")
    pipeline = RelightifyInpaintPipeline(unet=unet, scheduler=scheduler)
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


@pytest.fixture(scope="module")
def unet() -> UNet2DModel:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return UNet2DModel(
            sample_size=16,
            in_channels=12,
            out_channels=12,
            block_out_channels=(4, 8),
            layers_per_block=1,
            down_block_types=("DownBlock2D", "DownBlock2D"),
            up_block_types=("UpBlock2D", "UpBlock2D"),
            norm_num_groups=4,
            attention_head_dim=8,
        ).eval()


@pytest.fixture
def texture() -> torch.Tensor:
    return torch.rand((2, 3, 16, 16), generator=torch.Generator().manual_seed(1))


@pytest.fixture
def mask() -> torch.Tensor:
    mask = torch.zeros(2, 1, 16, 16)
    mask[0, :, :, :8] = 1
    mask[1, :, 4:12] = 1
    return mask


TEXEL_VARIANCE = 0.01


class GaussianDenoiser(torch.nn.Module):
    """Predicts E[clean | noisy] for N(mean, covariance) tones over 12 channels plus independent texel noise."""

    dtype, device = torch.float32, torch.device("cpu")

    def __init__(self, mean: torch.Tensor, covariance: torch.Tensor, alphas_cumprod: torch.Tensor):
        super().__init__()
        self.mean, self.covariance, self.alphas_cumprod = mean.view(1, 12, 1, 1), covariance, alphas_cumprod
        self.config = SimpleNamespace(in_channels=12, block_out_channels=(4,))

    def forward(self, sample, timestep):
        alpha_bar = self.alphas_cumprod[int(timestep)]
        centered = sample - alpha_bar.sqrt() * self.mean
        tone = centered.mean(dim=(2, 3), keepdim=True)
        texels = sample.shape[-2] * sample.shape[-1]
        # The mean over the texels and the deviations from it are independent; each has its own gain.
        covariance = self.covariance + TEXEL_VARIANCE / texels * torch.eye(12)
        noisy = alpha_bar * covariance + (1 - alpha_bar) / texels * torch.eye(12)
        gain = alpha_bar.sqrt() * covariance @ torch.linalg.inv(noisy)
        texel_gain = alpha_bar.sqrt() * TEXEL_VARIANCE / (alpha_bar * TEXEL_VARIANCE + 1 - alpha_bar)
        estimate = torch.einsum("ij,bjhw->bihw", gain, tone) + texel_gain * (centered - tone)
        return SimpleNamespace(sample=self.mean + estimate)


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def test_channel_table_is_the_layout_of_the_package():
    assert {name: LAYOUT.slice(name) for name in MAPS} == relightify_inpaint.CHANNELS
    assert LAYOUT.channels == relightify_inpaint.NUM_CHANNELS


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("DDPMScheduler", {}),
        ("DDIMScheduler", {}),
        ("DPMSolverMultistepScheduler", {}),
        ("DPMSolverMultistepScheduler", {"algorithm_type": "sde-dpmsolver++"}),
        ("DPMSolverSinglestepScheduler", {}),
        ("UniPCMultistepScheduler", {}),
        ("DEISMultistepScheduler", {}),
        ("EulerDiscreteScheduler", {}),
        ("EulerAncestralDiscreteScheduler", {}),
        ("HeunDiscreteScheduler", {}),
        ("LMSDiscreteScheduler", {}),
    ],
)
def test_every_supported_scheduler(unet, texture, mask, name, options):
    scheduler = make_scheduler(getattr(diffusers, name), **options)
    pipeline = make_pipeline(unet, scheduler)

    # The levels are those of the scheduler's own add_noise, which is implemented apart from ours.
    own = type(scheduler).from_config(scheduler.config)
    own.set_timesteps(6)
    levels = noise_levels(own)
    assert len(levels) == len(own.timesteps) + 1
    assert levels[-1] == (1.0, 0.0)
    clean, noise = torch.randn((2, 1, 12, 2, 2), generator=generator())
    for index, timestep in enumerate(own.timesteps):
        alpha, sigma = levels[index]
        noisy = own.add_noise(clean, noise, timestep[None])
        torch.testing.assert_close(alpha * clean + sigma * noise, noisy, rtol=1e-3, atol=1e-3)

    # A whole run: finite, observed texels exact, the registered scheduler untouched.
    before = {k: str(v) for k, v in vars(scheduler).items()}
    for kwargs in ({}, {"init_maps": torch.full((2, 12, 16, 16), 0.5), "strength": 0.5}):
        output = pipeline(texture, mask, num_inference_steps=6, generator=generator(), output_type="pt", **kwargs)
        observed = mask.bool().expand_as(texture)
        assert torch.equal(output.texture[observed], texture[observed])
        assert all(torch.isfinite(output[m]).all() for m in MAPS)
    assert {k: str(v) for k, v in vars(scheduler).items()} == before


def test_known_texture_sits_at_the_level_of_the_next_step(unet, texture, mask):
    pipeline = make_pipeline(unet)
    mask = torch.ones_like(mask)
    residuals = []

    def callback(pipe, index, timestep, tensors):
        residuals.append((index, tensors["sample"][:, :3].clone()))

    pipeline(texture, mask, num_inference_steps=10, generator=generator(), callback_on_step_end=callback)
    for index, sample in residuals[:-1]:
        alpha_bar = pipeline.scheduler.alphas_cumprod[999 - 100 * (index + 1)]
        noise = sample - alpha_bar.sqrt() * (texture * 2 - 1)
        assert noise.std().item() == pytest.approx((1 - alpha_bar).sqrt().item(), rel=0.06)  # 1536 values
        assert abs(noise.mean().item()) < 0.08
    assert torch.equal(residuals[-1][1], texture * 2 - 1)


def test_unsupported_schedulers_are_refused_by_name(unet, texture, mask):
    for name in ("PNDMScheduler", "LCMScheduler", "KDPM2DiscreteScheduler", "FlowMatchEulerDiscreteScheduler"):
        with pytest.raises(ValueError, match=name):
            make_pipeline(unet, getattr(diffusers, name)())(texture, mask)


@pytest.mark.parametrize("prediction_type", ["epsilon", "v_prediction", "sample"])
@pytest.mark.parametrize("cls", [DDIMScheduler, diffusers.DPMSolverMultistepScheduler])
def test_prediction_types_give_the_same_result(unet, texture, mask, prediction_type, cls):
    """A network that returns the exact clean sample, in each parameterization, completes to that sample."""
    target = torch.rand((2, 12, 16, 16), generator=generator(2)) * 0.8 + 0.1
    target[:, 9:] = torch.tensor([0.5, 0.5, 1.0]).view(1, 3, 1, 1)
    clean = target * 2 - 1
    scheduler = make_scheduler(cls, prediction_type=prediction_type)

    class Exact(torch.nn.Module):
        dtype, device = torch.float32, torch.device("cpu")
        config = SimpleNamespace(in_channels=12, block_out_channels=(4,))

        def forward(self, sample, timestep):
            alpha_bar = scheduler.alphas_cumprod[int(timestep)]
            epsilon = (sample - alpha_bar.sqrt() * clean) / (1 - alpha_bar).sqrt()
            velocity = alpha_bar.sqrt() * epsilon - (1 - alpha_bar).sqrt() * clean
            outputs = {"epsilon": epsilon, "v_prediction": velocity, "sample": clean}
            return SimpleNamespace(sample=outputs[prediction_type])

    output = make_pipeline(Exact(), scheduler)(
        target[:, :3], mask, num_inference_steps=8, generator=generator(), output_type="pt"
    )
    for name in MAPS:
        torch.testing.assert_close(output[name], target[:, LAYOUT.slice(name)], atol=2e-3, rtol=0)


@pytest.fixture
def toy() -> SimpleNamespace:
    """Tones of 12 channels in which the albedo follows the texture, 512 draws of 4 x 4 texels, and a pipeline."""
    mean, covariance = torch.linspace(-0.3, 0.3, 12), torch.eye(12) * 0.005
    for channel in range(3):
        together = torch.zeros(12)
        together[[channel, channel + 3]] = 0.25
        covariance += torch.outer(together, together)
    scheduler = make_scheduler(
        prediction_type="sample", clip_sample=False, rescale_betas_zero_snr=True, timestep_spacing="trailing"
    )
    pipeline = make_pipeline(GaussianDenoiser(mean, covariance, scheduler.alphas_cumprod), scheduler)
    tones = mean + torch.randn((512, 12), generator=generator()) @ torch.linalg.cholesky(covariance).T
    noise = torch.randn((512, 12, 4, 4), generator=generator(1)) * TEXEL_VARIANCE**0.5
    clean = (tones.view(512, 12, 1, 1) + noise).clamp(-1, 1)
    return SimpleNamespace(mean=mean, covariance=covariance, pipeline=pipeline, clean=clean)


def test_unconditional_samples_have_the_priors_mean_and_covariance(toy):
    samples = []
    toy.pipeline(
        torch.full((512, 3, 4, 4), 0.5),
        torch.zeros(512, 1, 4, 4),
        num_inference_steps=250,
        generator=generator(),
        callback_on_step_end=lambda pipe, i, t, tensors: samples.append(tensors["sample"]),
    )
    tones = samples[-1].mean(dim=(2, 3))  # (512, 12)
    torch.testing.assert_close(tones.mean(dim=0), toy.mean, atol=0.05, rtol=0)
    torch.testing.assert_close(torch.cov(tones.T), toy.covariance, atol=0.02, rtol=0)
    texels = samples[-1] - tones[:, :, None, None]
    assert texels.var(correction=0) == pytest.approx(TEXEL_VARIANCE * 15 / 16, rel=0.1)


def test_hidden_tone_follows_the_observed_texture(toy):
    """Regression of the completed albedo on the texture, against the closed-form posterior of the Gaussian.

    Known-region replacement is an approximation: it conditions each step on a noisy texture and falls back toward
    the prior's mean. Started from the posterior mean at two fifths of the schedule, the tone stays.
    """
    observed_covariance = toy.covariance[:3, :3] + TEXEL_VARIANCE / 16 * torch.eye(3)
    gain = toy.covariance[:, :3] @ torch.linalg.inv(observed_covariance)  # (12, 3)
    texture_tone = toy.clean[:, :3].mean(dim=(2, 3))
    posterior = toy.mean + (texture_tone - toy.mean[:3]) @ gain.T
    init = (posterior[:, :, None, None].expand(-1, -1, 4, 4) * 0.5 + 0.5).clamp(0, 1)

    def slope_and_bias(**options):
        texture, mask = toy.clean[:, :3] * 0.5 + 0.5, torch.ones(512, 1, 4, 4)
        options |= {"num_inference_steps": 20, "eta": 1.0, "generator": generator(2), "output_type": "pt"}
        albedo = toy.pipeline(texture, mask, **options).diffuse_albedo.mean(dim=(2, 3)) * 2 - 1
        pairs = torch.stack([(texture_tone - toy.mean[:3]).flatten(), (albedo - toy.mean[3:6]).flatten()])
        joint = torch.cov(pairs)
        return (joint[0, 1] / joint[0, 0]).item(), pairs[1].mean().item()

    slope = gain[3, 0].item()  # 0.92
    cold, cold_bias = slope_and_bias()
    warm, warm_bias = slope_and_bias(init_maps=init, strength=0.4)
    assert abs(cold_bias) < 0.03 and abs(warm_bias) < 0.03
    assert warm == pytest.approx(slope, abs=0.1)
    assert 0.5 * slope < cold < slope, (cold, warm)


def test_a_sample_does_not_depend_on_its_batch(unet, texture, mask):
    pipeline = make_pipeline(unet, make_scheduler(DDPMScheduler))
    options = {"num_inference_steps": 4, "output_type": "pt"}
    both = pipeline(texture, mask, generator=[generator(3), generator(4)], **options)
    alone = pipeline(texture[1:], mask[1:], generator=[generator(4)], **options)
    torch.testing.assert_close(both.diffuse_albedo[1:], alone.diffuse_albedo, atol=1e-5, rtol=0)
    # A single generator seeds the samples in order, so the first ones stay the same when more are asked for.
    two = pipeline(texture[:1], mask[:1], num_samples=2, generator=generator(5), **options)
    three = pipeline(texture[:1], mask[:1], num_samples=3, generator=generator(5), **options)
    torch.testing.assert_close(two.normals, three.normals[:2], atol=1e-5, rtol=0)
    assert not torch.allclose(three.normals[0], three.normals[1], atol=1e-2)
    again = pipeline(texture[:1], mask[:1], num_samples=2, generator=generator(5), **options)
    assert torch.equal(two.normals, again.normals)


def test_num_samples_stay_beside_their_texture(unet, texture, mask):
    output = make_pipeline(unet)(texture, mask, num_inference_steps=2, num_samples=2, output_type="pt")
    assert output.texture.shape == (4, 3, 16, 16)
    for row, source in enumerate([0, 0, 1, 1]):
        observed = mask[source].bool().expand(3, -1, -1)
        assert torch.equal(output.texture[row][observed], texture[source][observed])


def test_strength_keeps_the_warm_start(unet, texture, mask):
    """With the clean sample as init and an exact denoiser of nothing, fewer steps stay nearer to the init."""
    pipeline = make_pipeline(unet)
    init = torch.full((2, 12, 16, 16), 0.25)
    distances, calls = [], []
    for strength in (0.1, 0.5, 1.0):
        steps = []
        output = pipeline(
            texture, mask, init_maps=init, strength=strength, num_inference_steps=10, generator=generator(),
            output_type="pt", callback_on_step_end=lambda p, i, t, kw, s=steps: s.append(int(t)),
        )  # fmt: skip
        distances.append((output.diffuse_albedo - 0.25).abs().mean().item())
        calls.append(steps)
    assert [len(c) for c in calls] == [1, 5, 10]
    assert calls[0] == [99] and calls[1][0] == 499 and calls[2][0] == 999
    assert distances[0] < distances[1] < distances[2]
    cold = pipeline(texture, mask, num_inference_steps=10, generator=generator(), output_type="pt")
    assert torch.equal(cold.diffuse_albedo, output.diffuse_albedo)  # strength 1 is pure noise


def test_normals_are_unit_vectors(unet, texture, mask):
    output = make_pipeline(unet)(texture, mask, num_inference_steps=3)
    lengths = np.linalg.norm(output.normals * 2 - 1, axis=-1)
    np.testing.assert_allclose(lengths, 1.0, atol=1e-5)
    zero = relightify_inpaint.unit_normals(torch.zeros(1, 3, 1, 1))
    assert zero.flatten().tolist() == [0, 0, 1]


def test_input_and_output_types_agree(unet, texture, mask):
    pipeline = make_pipeline(unet)
    options = {"num_inference_steps": 2}
    tensors = pipeline(texture, mask, generator=generator(), output_type="pt", **options)
    arrays = pipeline(
        texture.permute(0, 2, 3, 1).numpy(), mask[:, 0].numpy(), generator=generator(), output_type="np", **options
    )
    for name in MAPS:
        assert arrays[name].shape == (2, 16, 16, 3)
        np.testing.assert_array_equal(arrays[name], tensors[name].permute(0, 2, 3, 1).numpy())
    as_tuple = pipeline(texture, mask, generator=generator(), return_dict=False, **options)
    np.testing.assert_array_equal(as_tuple[3], arrays.normals)
    photo = Image.fromarray((texture[0].permute(1, 2, 0).numpy() * 255).astype(np.uint8))
    observed = Image.fromarray((mask[0, 0].numpy() * 255).astype(np.uint8))
    images = pipeline(photo, observed, generator=generator(), output_type="pil", **options)
    assert images.normals[0].size == (16, 16)
    assert np.array_equal(np.asarray(images.texture[0])[:, :8], np.asarray(photo)[:, :8])


def test_callback_may_replace_the_sample(unet, texture, mask):
    def zero(pipe, index, timestep, tensors):
        return {"sample": torch.zeros_like(tensors["sample"])}

    output = make_pipeline(unet)(texture, mask, num_inference_steps=2, callback_on_step_end=zero)
    np.testing.assert_array_equal(output.diffuse_albedo, 0.5)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"texture": torch.zeros(2, 4, 16, 16)}, r"texture has shape \(2, 4, 16, 16\), expected \(B, 3, H, W\)"),
        ({"texture": torch.zeros(2, 3, 15, 16)}, "15 x 16, expected multiples of 2"),
        ({"texture": torch.full((2, 3, 16, 16), 200.0)}, r"texture has values in \[200, 200\]"),
        ({"texture": torch.full((2, 3, 16, 16), float("nan"))}, "texture has values"),
        ({"mask": torch.zeros(2, 1, 8, 8)}, r"mask has shape \(2, 1, 8, 8\), expected \(2, 1, 16, 16\)"),
        ({"mask": torch.full((2, 1, 16, 16), 0.5)}, "expected only 0 and 1"),
        ({"init_maps": torch.zeros(2, 9, 16, 16)}, r"init_maps has shape \(2, 9, 16, 16\), expected \(B, 12"),
        ({"init_maps": torch.zeros(1, 12, 16, 16)}, r"expected \(2, 12, 16, 16\)"),
        ({"strength": 0.5}, "starts from init_maps"),
        ({"strength": 0.0}, r"expected a number in \(0, 1\]"),
        ({"num_inference_steps": 0}, "leave no step"),
        ({"num_samples": 0}, "num_samples is 0"),
        ({"output_type": "latent"}, "output_type is 'latent'"),
        ({"generator": [torch.Generator()]}, "1 generators given, expected 2"),
        ({"callback_on_step_end_tensor_inputs": ["latents"]}, "must be among"),
    ],
)
def test_wrong_inputs_say_what_was_expected(unet, texture, mask, changes, message):
    with pytest.raises(ValueError, match=message):
        make_pipeline(unet)(**({"texture": texture, "mask": mask} | changes))


def test_save_and_load_round_trips(unet, texture, mask, tmp_path):
    pipeline = make_pipeline(unet)
    pipeline.save_pretrained(tmp_path / "model", max_shard_size="16MB")
    scheduler_config = {k: v for k, v in pipeline.scheduler.config.items() if not k.startswith("_")}
    options = {"num_inference_steps": 2, "output_type": "pt"}
    expected = pipeline(texture, mask, generator=generator(), **options)
    source = importlib.util.find_spec("relightify_diffusers.pipelines.relightify_inpaint").origin
    loaded = [
        RelightifyInpaintPipeline.from_pretrained(tmp_path / "model"),
        DiffusionPipeline.from_pretrained(tmp_path / "model", custom_pipeline=source, trust_remote_code=True),
    ]
    # As published: the code beside the weights.
    shutil.copyfile(source, tmp_path / "model" / "pipeline.py")
    path = str(tmp_path / "model")
    loaded.append(DiffusionPipeline.from_pretrained(path, custom_pipeline=path, trust_remote_code=True))
    for other in loaded:
        other.set_progress_bar_config(disable=True)
        assert type(other).__name__ == "RelightifyInpaintPipeline"
        assert other.scheduler.config.items() >= scheduler_config.items()
        actual = other(texture, mask, generator=generator(), **options)
        for name in MAPS:
            assert torch.equal(actual[name], expected[name])


def test_bfloat16_and_autocast_stay_close(unet, texture, mask):
    options = {"num_inference_steps": 3, "output_type": "pt"}
    exact = make_pipeline(unet)(texture, mask, generator=generator(), **options)
    with torch.autocast("cpu", torch.bfloat16):
        cast = make_pipeline(unet)(texture, mask, generator=generator(), **options)
    assert cast.diffuse_albedo.dtype == torch.float32
    assert (cast.diffuse_albedo - exact.diffuse_albedo).abs().mean() < 0.02
