"""A Gaussian over the 12 UV channels: principal components, residual variance, robust closed-form posterior."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from safetensors import safe_open
from safetensors.torch import save_file

from relightify_diffusers.errors import AssetError
from relightify_diffusers.maps import LAYOUT

_FORMAT = "relightify-gaussian-prior-1"
_CHUNK = 256  # samples converted to float at a time while fitting


@dataclass(frozen=True)
class GaussianPosterior:
    """Completed maps given a partial texture.

    mean: (12, R, R) float32 in [-1, 1] units, channels as in maps.LAYOUT; normals are not renormalized.
    std: (12, R, R) float32 standard deviation of each value, None when it was not asked for.
    weights: (R, R) float32 in about [0, 2]: what the robust fit made of each observed texel, near 0 for outliers and
        0 where nothing was observed.
    """

    mean: torch.Tensor
    std: torch.Tensor | None
    weights: torch.Tensor


@dataclass(frozen=True)
class GaussianPrior:
    """x = mean + components^T z + e with z ~ N(0, diag(variances)) and e ~ N(0, diag(residual_variance)).

    mean: (D,) with D = 12 R^2, in [-1, 1] units, flattened from (12, R, R).
    components: (K, D), orthonormal rows (up to the quantization of a saved prior).
    variances: (K,) of the coordinates z, largest first.
    residual_variance: (D,) of what the components leave over, independent in each value.
    resolution: R.
    metadata: strings describing where the prior comes from, kept in the file.
    """

    mean: torch.Tensor
    components: torch.Tensor
    variances: torch.Tensor
    residual_variance: torch.Tensor
    resolution: int
    metadata: dict[str, str] = field(default_factory=dict)

    @classmethod
    def fit(
        cls,
        samples: np.ndarray | torch.Tensor,
        n_components: int = 250,
        mirror: bool = False,
        seed: int = 0,
        n_iterations: int = 4,
    ) -> GaussianPrior:
        """Fit by subspace iteration on the sample covariance (Halko et al. 2011, algorithm 4.4), in constant memory.

        Args:
            samples: (N, 12, R, R), floats in [-1, 1] or uint8 in [0, 255] (read in small chunks).
            n_components: K, at most N - 1 (twice that with `mirror`) and at most D.
            mirror: also use every sample's left-right reflection (normals' x negated).
            seed: of the random start of the iteration.
            n_iterations: products with the covariance; 4 are enough for a decaying spectrum.

        Raises:
            ValueError: not (N, 12, R, R), or too few samples for K.
        """
        shape = tuple(samples.shape)
        if len(shape) != 4 or shape[1] != LAYOUT.channels or shape[2] != shape[3]:
            raise ValueError(f"samples have shape {shape}, expected (N, {LAYOUT.channels}, R, R)")
        count, size = shape[0] * (2 if mirror else 1), int(np.prod(shape[1:]))
        if not 1 <= n_components <= min(count - 1, size):
            raise ValueError(
                f"n_components is {n_components}, expected 1 to {min(count - 1, size)} for {count} samples"
            )
        rank = min(n_components + 20, count - 1, size)  # oversampling, as Halko et al. advise
        mean, square = torch.zeros(size, dtype=torch.float64), torch.zeros(size, dtype=torch.float64)
        for rows in _chunks(samples, mirror):
            mean += rows.sum(dim=0, dtype=torch.float64)
        mean = (mean / count).float()
        for rows in _chunks(samples, mirror):
            square += (rows - mean).square().sum(dim=0, dtype=torch.float64)
        basis = torch.randn((size, rank), generator=torch.Generator().manual_seed(seed))
        for _ in range(n_iterations):
            basis = torch.linalg.qr(basis).Q
            product = torch.zeros_like(basis)
            for rows in _chunks(samples, mirror):
                centered = rows - mean
                product.addmm_(centered.T, centered @ basis)
            previous, basis = basis, product
        small = previous.T @ product / (count - 1)  # (rank, rank): the covariance seen in the basis
        values, vectors = torch.linalg.eigh((small + small.T) / 2)
        order = values.argsort(descending=True)[:n_components]
        components = (previous @ vectors[:, order]).T.contiguous()  # (K, D)
        variances = values[order].clamp(min=1e-12)
        total = (square / (count - 1)).float()
        residual = (total - (components.square() * variances[:, None]).sum(dim=0)).clamp(min=1e-6)
        return cls(mean, components, variances, residual, shape[2])

    def posterior(
        self,
        texture: torch.Tensor,
        mask: torch.Tensor,
        noise: float = 0.1,
        nu: float | None = 4.0,
        iterations: int = 10,
        return_std: bool = True,
    ) -> GaussianPosterior:
        """Mean and standard deviation of all 12 channels given the observed texels of the texture.

        With `nu` None this is the conditional Gaussian (Bishop 2006, equations 2.81 and 2.82, in its K-dimensional
        form by the Woodbury identity). Otherwise observation errors follow a Student t distribution over the three
        channels of a texel together, solved by iteratively reweighted least squares (Lange, Little and Taylor 1989):
        weight (nu + 3) / (nu + r^2), with r^2 the texel's squared residual in standard deviations. The errors' common
        scale is estimated along the way and never falls below the given one, since photos fit less well than samples.

        Args:
            texture: (3, R, R) in [-1, 1]; values outside the mask are not used.
            mask: (R, R), above 0.5 = observed.
            noise: standard deviation of the observation in [-1, 1] units. The default is more than a camera's, because
                what the components leave over is correlated between texels; 0.1 to 0.2 completed held-out synthetic
                samples best.
            nu: degrees of freedom of the Student t; None for plain Gaussian errors.
            iterations: of reweighting.
            return_std: False leaves out the standard deviation, the costlier half.

        Raises:
            ValueError: texture or mask not of the prior's resolution, or not finite where observed.
        """
        size = self.resolution
        if tuple(texture.shape) != (3, size, size) or tuple(mask.shape) != (size, size):
            raise ValueError(
                f"texture {tuple(texture.shape)} and mask {tuple(mask.shape)}, "
                f"expected (3, {size}, {size}) and ({size}, {size})"
            )
        observed = mask.flatten() > 0.5  # (R^2,)
        rows = torch.cat([torch.arange(size * size)[observed] + c * size * size for c in range(3)])  # into D
        values = texture.float().flatten()[rows]
        if not torch.isfinite(values).all():
            raise ValueError("texture has values that are not finite among the observed texels")
        basis, residual_variance = self.components[:, rows], self.residual_variance[rows]  # (K, M), (M,)
        centered = values - self.mean[rows]
        spread, scale = residual_variance + noise**2, 1.0
        weights = torch.ones(int(observed.sum()))
        for _ in range(1 if nu is None or len(rows) == 0 else max(iterations, 1) + 1):
            precision = weights.repeat(3) / (spread * scale)  # (M,)
            coordinates, factor = self._solve(basis, precision, centered)
            if nu is None or len(rows) == 0:
                break
            residuals = ((centered - coordinates @ basis).square() / spread).view(3, -1).sum(dim=0)
            scale = max(1.0, (weights * residuals).mean().item() / 3)
            weights = (nu + 3) / (nu + residuals / scale)
        mean = self.mean + coordinates @ self.components
        gain = torch.zeros_like(mean)  # how much of an observed value's own deviation is signal, not noise
        gain[rows] = residual_variance / (residual_variance + noise**2 * scale / weights.repeat(3))
        deviation = torch.zeros_like(mean)
        deviation[rows] = centered - coordinates @ basis
        mean = mean + gain * deviation
        std = None
        if return_std:
            # Covariance of z is (L L^T)^-1, so that its quadratic form is a squared norm of L^-1 times the components.
            explained = torch.linalg.solve_triangular(factor, self.components, upper=False).square().sum(dim=0)
            variance = (1 - gain).square() * explained + (1 - gain) * self.residual_variance
            std = variance.sqrt().view(LAYOUT.channels, size, size)
        texel_weights = torch.zeros(size * size)
        texel_weights[observed] = weights
        return GaussianPosterior(mean.view(LAYOUT.channels, size, size), std, texel_weights.view(size, size))

    def _solve(self, basis: torch.Tensor, precision: torch.Tensor, centered: torch.Tensor):
        """Posterior mean of z and the Cholesky factor of its precision matrix diag(1 / variances) + B P B^T."""
        matrix = torch.diag(1 / self.variances.double()) + ((basis * precision) @ basis.T).double()
        factor = torch.linalg.cholesky(matrix)
        right = (basis @ (precision * centered)).double()
        return torch.cholesky_solve(right[:, None], factor)[:, 0].float(), factor.float()

    def save(self, path: str | Path) -> None:
        """Write a safetensors file: components as int8 with a scale for each map of each component, the rest float32.

        The quantization step is 1/127 of a component's largest value in that map; the file holds about K D bytes.
        """
        shape = (len(self.components), len(LAYOUT.names), -1)
        blocks = self.components.view(shape)  # every map has three channels, so the blocks are equal
        scales = blocks.abs().amax(dim=2, keepdim=True).clamp(min=1e-12) / 127
        tensors = {
            "mean": self.mean.float(),
            "components": (blocks / scales).round().to(torch.int8).view(self.components.shape),
            "component_scales": scales[..., 0],
            "variances": self.variances.float(),
            "residual_variance": self.residual_variance.float(),
        }
        record = {"format": _FORMAT, "resolution": self.resolution, "layout": LAYOUT.names, "metadata": self.metadata}
        path = Path(path)
        partial = path.with_name(f".{path.name}.partial")
        # One entry: safetensors writes several in an order that changes from run to run.
        metadata = {"relightify": json.dumps(record, sort_keys=True)}
        save_file({k: v.contiguous() for k, v in tensors.items()}, partial, metadata=metadata)
        os.replace(partial, path)

    @classmethod
    def load(cls, path: str | Path) -> GaussianPrior:
        """Read a file written by `save`; raises AssetError when it is missing, damaged or something else."""
        try:
            with safe_open(path, framework="pt") as file:
                record = json.loads((file.metadata() or {}).get("relightify", "{}"))
                tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (not a dict)
        except Exception as error:  # safetensors has its own exception type, and the system its own
            raise AssetError(f"cannot read the Gaussian prior {path}: {' '.join(str(error).split())}") from None
        if record.get("format") != _FORMAT or record.get("layout") != list(LAYOUT.names):
            raise AssetError(f"{path} is not a Gaussian prior of this version; fit one with training/fit_gaussian.py")
        scales = tensors["component_scales"]  # (K, maps)
        components = tensors["components"].float().view(*scales.shape, -1) * scales[..., None]
        return cls(
            tensors["mean"],
            components.view(len(scales), -1),
            tensors["variances"],
            tensors["residual_variance"],
            record["resolution"],
            record["metadata"],
        )


def _chunks(samples: np.ndarray | torch.Tensor, mirror: bool):
    """Yield float32 (n, D) rows in [-1, 1], each chunk followed by its reflection when `mirror` is set."""
    normals_x = LAYOUT.slice("normals").start
    for start in range(0, len(samples), _CHUNK):
        part = samples[start : start + _CHUNK]
        part = part if torch.is_tensor(part) else torch.from_numpy(np.array(part))
        part = part.float() / 127.5 - 1.0 if part.dtype == torch.uint8 else part.float()
        yield part.flatten(1)
        if mirror:
            flipped = part.flip(-1)
            flipped[:, normals_x] *= -1
            yield flipped.flatten(1)
