"""The script that fits the Gaussian prior."""

from __future__ import annotations

import fit_gaussian

from relightify_diffusers.priors import GaussianPrior


def test_fit_gaussian_writes_a_prior_and_its_figures(data, tmp_path, capsys):
    path = tmp_path / "out" / "prior.safetensors"
    options = ["--data", str(data), "--resolution", "8", "--components", "6", "--held-out", "4"]
    assert fit_gaussian.main([*options, "-o", str(path)]) == 0
    prior = GaussianPrior.load(path)
    assert prior.resolution == 8 and prior.components.shape == (6, 12 * 8 * 8)
    assert prior.metadata == {"samples": "16", "mirrored": "true", "seed": "0"}
    output = capsys.readouterr().out
    assert "16 samples, 6 components" in output and "mean_albedo_correlation" in output


def test_fit_gaussian_explains_its_failures(data, tmp_path, capsys):
    assert fit_gaussian.main(["--data", str(tmp_path), "-o", str(tmp_path / "x")]) == 5
    assert "no data/*.parquet" in capsys.readouterr().err
    options = ["--data", str(data), "--resolution", "8", "--held-out", "4", "-o", str(tmp_path / "x")]
    assert fit_gaussian.main([*options, "--components", "500"]) == 2
    assert "n_components is 500, expected 1 to 31 for 32 samples" in capsys.readouterr().err
    assert not (tmp_path / "x").exists()
