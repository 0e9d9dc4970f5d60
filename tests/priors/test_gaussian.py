"""GaussianPrior: the fit, the closed-form posterior against the textbook, robustness, and the file."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from relightify_diffusers.errors import AssetError
from relightify_diffusers.maps import LAYOUT
from relightify_diffusers.priors import GaussianPrior

R, K = 4, 5
D = LAYOUT.channels * R * R


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@pytest.fixture
def prior() -> GaussianPrior:
    basis = torch.linalg.qr(torch.randn((D, K), generator=generator())).Q.T.contiguous()
    variances = torch.tensor([9.0, 4.0, 2.0, 1.0, 0.5])
    residual = 0.0004 + 0.0006 * torch.rand(D, generator=generator(1))
    mean = 0.2 * torch.randn(D, generator=generator(2))
    return GaussianPrior(mean, basis, variances, residual, R)


def draw(prior: GaussianPrior, count: int, seed: int = 3) -> torch.Tensor:
    z = torch.randn((count, K), generator=generator(seed)) * prior.variances.sqrt()
    e = torch.randn((count, D), generator=generator(seed + 1)) * prior.residual_variance.sqrt()
    return (prior.mean + z @ prior.components + e).view(count, LAYOUT.channels, R, R)


def half_mask() -> torch.Tensor:
    mask = torch.zeros(R, R)
    mask[:, : R // 2] = 1
    return mask


def test_posterior_is_the_conditional_gaussian(prior):
    """Mean and variance equal the dense D x D formulas, noise included."""
    noise, mask = 0.05, half_mask()
    sample = draw(prior, 1)[0]
    sample[:3] += noise * torch.randn((3, R, R), generator=generator(9))
    covariance = (prior.components.T * prior.variances) @ prior.components + torch.diag(prior.residual_variance)
    covariance, mean = covariance.double(), prior.mean.double()
    observed = torch.cat([mask.flatten().repeat(3), torch.zeros(D - 3 * R * R)]).bool()
    inner = covariance[observed][:, observed] + noise**2 * torch.eye(int(observed.sum()), dtype=torch.double)
    gain = covariance[:, observed] @ torch.linalg.inv(inner)
    expected_mean = mean + gain @ (sample.flatten().double()[observed] - mean[observed])
    expected_variance = (covariance - gain @ covariance[observed]).diagonal()

    sample[:3, :, R // 2 :] = float("nan")  # hidden texels are not read
    posterior = prior.posterior(sample[:3], mask, noise=noise, nu=None)
    np.testing.assert_allclose(posterior.mean.flatten(), expected_mean, atol=2e-5)
    np.testing.assert_allclose(posterior.std.flatten(), expected_variance.sqrt(), rtol=1e-3)


def test_two_values_by_hand():
    """One component shared by a texture value and an albedo value: the weights can be written down."""
    components = torch.zeros(1, LAYOUT.channels)
    components[0, [0, 3]] = 0.5**0.5
    prior = GaussianPrior(torch.zeros(12), components, torch.tensor([2.0]), torch.full((12,), 0.1), 1)
    posterior = prior.posterior(torch.tensor([1.0, 0.0, 0.0]).view(3, 1, 1), torch.ones(1, 1), noise=0.3, nu=None)
    # Prior covariance of the two: 1.1 on the diagonal, 1 between them; the observation adds 0.09.
    assert posterior.mean[3].item() == pytest.approx(1.0 / 1.19, abs=1e-5)
    assert posterior.mean[0].item() == pytest.approx(1.1 / 1.19, abs=1e-5)
    assert posterior.std[3].item() == pytest.approx((1.1 - 1 / 1.19) ** 0.5, abs=1e-5)
    assert posterior.mean[6].item() == 0 and posterior.std[6].item() == pytest.approx(0.1**0.5, abs=1e-5)


def test_nothing_observed_returns_the_prior(prior):
    posterior = prior.posterior(torch.zeros(3, R, R), torch.zeros(R, R))
    torch.testing.assert_close(posterior.mean.flatten(), prior.mean)
    total = (prior.components.square() * prior.variances[:, None]).sum(dim=0) + prior.residual_variance
    torch.testing.assert_close(posterior.std.flatten(), total.sqrt(), rtol=1e-4, atol=1e-5)
    assert (posterior.weights == 0).all()


def test_planted_outliers_are_ignored():
    """A tenth of the texels set to white moves the plain solution far, the robust one hardly."""
    size = 16
    basis = torch.linalg.qr(torch.randn((LAYOUT.channels * size**2, K), generator=generator())).Q.T.contiguous()
    variances = torch.full((K,), 100.0)
    prior = GaussianPrior(torch.zeros(basis.shape[1]), basis, variances, torch.full((basis.shape[1],), 1e-4), size)
    z = torch.randn(K, generator=generator(4)) * 10
    sample = (z @ basis).view(LAYOUT.channels, size, size)
    dirty = sample[:3].clone()
    outliers = torch.rand((size, size), generator=generator(5)) < 0.1
    dirty[:, outliers] = 1.5
    mask = torch.ones(size, size)
    errors = {}
    for nu in (None, 4.0):
        posterior = prior.posterior(dirty, mask, noise=0.03, nu=nu)
        errors[nu] = (posterior.mean - sample)[3:].square().mean().sqrt().item()
    assert errors[None] > 0.1
    assert errors[4.0] < 0.02
    assert posterior.weights[outliers].median() < 0.1 < 0.5 < posterior.weights[~outliers].median()


def test_fit_recovers_a_known_gaussian(prior):
    samples = draw(prior, 4000)
    fitted = GaussianPrior.fit(samples.numpy(), n_components=K)
    assert fitted.resolution == R
    torch.testing.assert_close(fitted.mean, prior.mean, atol=0.06, rtol=0)
    torch.testing.assert_close(fitted.variances, prior.variances, rtol=0.1, atol=0.02)
    torch.testing.assert_close(fitted.components @ fitted.components.T, torch.eye(K), atol=1e-4, rtol=0)
    # The spaces agree although signs and near-equal directions may not.
    overlap = torch.linalg.svdvals(fitted.components @ prior.components.T)
    assert overlap.min() > 0.99
    torch.testing.assert_close(fitted.residual_variance.mean(), prior.residual_variance.mean(), rtol=0.05, atol=0)
    again = GaussianPrior.fit(samples, n_components=K)
    assert torch.equal(fitted.components, again.components)


def test_fit_reads_bytes_and_mirrors():
    samples = torch.randint(0, 256, (30, 12, R, R), generator=generator(), dtype=torch.uint8)
    fitted = GaussianPrior.fit(samples, n_components=3, mirror=True)
    mean = fitted.mean.view(12, R, R)
    assert mean.abs().max() <= 1
    torch.testing.assert_close(mean[9], -mean[9].flip(-1), atol=1e-5, rtol=0)  # x of the normals is odd
    others = [c for c in range(12) if c != 9]
    torch.testing.assert_close(mean[others], mean[others].flip(-1), atol=1e-5, rtol=0)


def test_save_and_load(prior, tmp_path):
    path = tmp_path / "prior.safetensors"
    GaussianPrior(**{**vars(prior), "metadata": {"samples": "7"}}).save(path)
    loaded = GaussianPrior.load(path)
    assert [p.name for p in tmp_path.iterdir()] == ["prior.safetensors"]
    assert loaded.metadata == {"samples": "7"} and loaded.resolution == R
    assert torch.equal(loaded.mean, prior.mean)
    assert torch.equal(loaded.variances, prior.variances)
    assert (loaded.components - prior.components).abs().max() <= prior.components.abs().max() / 254 + 1e-7
    sample = draw(prior, 1)[0]
    before, after = (p.posterior(sample[:3], half_mask()).mean for p in (prior, loaded))
    assert (before - after).abs().max() < 0.05 * sample.std()
    first = path.read_bytes()
    loaded.save(path)
    GaussianPrior(**{**vars(prior), "metadata": {"samples": "7"}}).save(path)
    assert path.read_bytes() == first


def test_errors_name_what_is_wrong(prior, tmp_path):
    with pytest.raises(ValueError, match=r"expected \(3, 4, 4\)"):
        prior.posterior(torch.zeros(3, 8, 8), torch.zeros(8, 8))
    with pytest.raises(ValueError, match="not finite"):
        prior.posterior(torch.full((3, R, R), float("nan")), torch.ones(R, R))
    with pytest.raises(ValueError, match="samples have shape"):
        GaussianPrior.fit(torch.zeros(5, 9, R, R))
    with pytest.raises(ValueError, match="expected 1 to 4 for 5 samples"):
        GaussianPrior.fit(torch.zeros(5, 12, R, R), n_components=5)
    with pytest.raises(AssetError, match="cannot read"):
        GaussianPrior.load(tmp_path / "missing.safetensors")
    (tmp_path / "broken.safetensors").write_bytes(b"not a safetensors file")
    with pytest.raises(AssetError, match="cannot read"):
        GaussianPrior.load(tmp_path / "broken.safetensors")
