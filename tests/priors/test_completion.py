"""Completion with a tiny prior and a tiny network: what each method keeps, runs and refuses."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from diffusers import DDIMScheduler, UNet2DModel

from relightify_diffusers.errors import UsageError
from relightify_diffusers.maps import LAYOUT
from relightify_diffusers.methods import METHODS
from relightify_diffusers.pipelines.relightify_inpaint import RelightifyInpaintPipeline
from relightify_diffusers.priors.completion import OBSERVATION_NOISE, WARM_STRENGTH, complete
from relightify_diffusers.priors.gaussian import GaussianPrior

R = 16


@pytest.fixture(scope="module")
def prior() -> GaussianPrior:
    """Fit on smooth random samples: coarse noise enlarged, with every channel of a sample tied to its tone."""
    generator = torch.Generator().manual_seed(0)
    coarse = 0.3 * torch.randn((30, 12, 4, 4), generator=generator)
    tone = 0.4 * torch.randn((30, 1, 1, 1), generator=generator)
    samples = torch.nn.functional.interpolate(coarse, size=(R, R), mode="bilinear") + tone
    return GaussianPrior.fit(samples.clamp(-1, 1), n_components=8)


@pytest.fixture(scope="module")
def pipeline() -> RelightifyInpaintPipeline:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        unet = UNet2DModel(
            sample_size=R,
            in_channels=12,
            out_channels=12,
            block_out_channels=(4, 8),
            layers_per_block=1,
            down_block_types=("DownBlock2D", "DownBlock2D"),
            up_block_types=("UpBlock2D", "UpBlock2D"),
            norm_num_groups=4,
        ).eval()
    result = RelightifyInpaintPipeline(unet=unet, scheduler=DDIMScheduler(prediction_type="sample"))
    result.set_progress_bar_config(disable=True)
    return result


@pytest.fixture(scope="module")
def observed() -> np.ndarray:
    mask = np.zeros((R, R), bool)
    mask[3:13, :9] = True
    return mask


@pytest.fixture(scope="module")
def texture(observed) -> np.ndarray:
    values = np.random.default_rng(1).uniform(0.55, 0.7, (3, R, R)).astype(np.float32)
    return values * observed


@pytest.mark.parametrize("method", METHODS)
def test_every_method_keeps_the_observed_texels(prior, pipeline, texture, observed, method):
    result = complete(texture, observed, prior, pipeline, method, num_inference_steps=5)
    assert tuple(result.maps) == LAYOUT.names
    np.testing.assert_array_equal(result.maps["texture"][observed], texture.transpose(1, 2, 0)[observed])
    for name, values in result.maps.items():
        assert values.shape == (R, R, 3) and values.dtype == np.float32, name
        assert values.min() >= 0 and values.max() <= 1, name
    normals = result.maps["normals"] * 2 - 1
    np.testing.assert_allclose(np.linalg.norm(normals, axis=-1), 1, atol=1e-4)
    assert result.albedo_std.shape == (R, R) and (result.albedo_std > 0).all()


def test_calls_of_the_network(prior, pipeline, texture, observed):
    """None for the closed form, the warm start's share of the steps, all steps from noise."""

    def calls(method, **settings):
        return complete(texture, observed, prior, pipeline, method, **settings).unet_calls

    assert calls("gaussian", num_inference_steps=10) == 0
    assert calls("default", num_inference_steps=10) == int(10 * WARM_STRENGTH)
    assert calls("default", num_inference_steps=10, strength=0.7) == 7
    assert calls("replace", num_inference_steps=4) == calls("replace", num_inference_steps=4, strength=1.0) == 4


def test_gaussian_needs_no_pipeline_and_is_the_posterior(prior, texture, observed):
    result = complete(texture, observed, prior, method="gaussian")
    posterior = prior.posterior(torch.from_numpy(texture) * 2 - 1, torch.from_numpy(observed), OBSERVATION_NOISE)
    expected = (posterior.mean * 0.5 + 0.5).clamp(0, 1)
    albedo = expected[LAYOUT.slice("diffuse_albedo")].permute(1, 2, 0).numpy()
    np.testing.assert_allclose(result.maps["diffuse_albedo"], albedo, atol=1e-6)
    hidden = expected[LAYOUT.slice("texture")].permute(1, 2, 0).numpy()[~observed]
    np.testing.assert_allclose(result.maps["texture"][~observed], hidden, atol=1e-6)
    std = posterior.std[LAYOUT.slice("diffuse_albedo")].mean(dim=0).numpy() / 2  # [-1, 1] is twice as wide as [0, 1]
    np.testing.assert_allclose(result.albedo_std, std, atol=1e-6)


def test_hidden_values_follow_the_observed_tone(prior, observed):
    """The samples tie all channels to one tone: a light texture gives a lighter albedo than a dark one."""

    def albedo(level):
        flat = (np.full((3, R, R), level) * observed).astype(np.float32)
        return complete(flat, observed, prior, method="gaussian").maps["diffuse_albedo"].mean()

    assert albedo(0.75) > albedo(0.5) + 0.1 > albedo(0.25) + 0.2


def test_values_below_the_mask_are_not_read(prior, texture, observed):
    spoiled = np.where(observed, texture, np.float32(0.9)).astype(np.float32)
    first, second = (complete(t, observed, prior, method="gaussian") for t in (texture, spoiled))
    for name in LAYOUT.names:
        np.testing.assert_allclose(first.maps[name], second.maps[name], atol=1e-6)


def test_seed(prior, pipeline, texture, observed):
    def albedo(seed, method="default"):
        return complete(texture, observed, prior, pipeline, method, None, 5, seed).maps["diffuse_albedo"]

    np.testing.assert_array_equal(albedo(3), albedo(3))
    assert np.abs(albedo(3) - albedo(4)).max() > 1e-4
    assert np.abs(albedo(3) - albedo(3, "replace")).max() > 1e-4


def test_usage_errors(prior, pipeline, texture, observed):
    with pytest.raises(UsageError, match=r"no method 'magic'.*default, gaussian, replace"):
        complete(texture, observed, prior, pipeline, "magic")
    with pytest.raises(UsageError, match="replace"):
        complete(texture, observed, prior, pipeline, "replace", strength=0.5)
    for strength in (1.5, 0.0, -1.0):
        with pytest.raises(UsageError, match=f"got {strength:g}"):
            complete(texture, observed, prior, pipeline, "default", strength)
    for steps, strength in ((2, None), (20, 0.01)):
        with pytest.raises(UsageError, match=f"{steps} steps"):
            complete(texture, observed, prior, pipeline, "default", strength, steps)
