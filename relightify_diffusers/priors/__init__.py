"""Priors over the 12 UV channels that need no network: the Gaussian with a closed-form posterior."""

from __future__ import annotations

from relightify_diffusers.priors.gaussian import GaussianPosterior, GaussianPrior

__all__ = ["GaussianPosterior", "GaussianPrior"]
