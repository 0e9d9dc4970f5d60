"""The 12 UV channels by name: order, ranges and color spaces, in one place."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch


@dataclass(frozen=True)
class MapLayout:
    """Names and widths of the maps that a sample concatenates along its channel axis, in order."""

    names: tuple[str, ...] = ("texture", "diffuse_albedo", "specular_albedo", "normals")
    widths: tuple[int, ...] = (3, 3, 3, 3)

    @property
    def channels(self) -> int:
        """Total number of channels (12 for the default layout)."""
        return sum(self.widths)

    def slice(self, name: str) -> slice:
        """Channel range of one map; raises KeyError for an unknown name."""
        if name not in self.names:
            raise KeyError(f"unknown map {name!r}; the layout has {', '.join(self.names)}")
        index = self.names.index(name)
        start = sum(self.widths[:index])
        return slice(start, start + self.widths[index])

    def split(self, sample: torch.Tensor | np.ndarray) -> dict:
        """Split (..., C, H, W) into a dict of named (..., c, H, W) views."""
        if sample.shape[-3] != self.channels:
            raise ValueError(f"expected {self.channels} channels at axis -3, got shape {tuple(sample.shape)}")
        return {name: sample[..., self.slice(name), :, :] for name in self.names}

    def join(self, maps: dict) -> torch.Tensor | np.ndarray:
        """Concatenate named (..., c, H, W) maps into (..., C, H, W)."""
        parts = [maps[name] for name in self.names]
        return torch.cat(parts, dim=-3) if torch.is_tensor(parts[0]) else np.concatenate(parts, axis=-3)


LAYOUT = MapLayout()

# Value of every channel outside the atlas, in [0, 1]: a defined constant, so that a model learns it instead of noise.
BACKGROUND = 0.5

# F0 = SPECULAR_F0_SCALE * s for the specular parameter s in [0, 1]: the reparameterization of Burley 2012
# ("Physically Based Shading at Disney", section 5.5), where s = 0.5 is an index of refraction of 1.5.
SPECULAR_F0_SCALE = 0.08


def srgb_to_linear(x):
    """Decode sRGB values in [0, 1] to linear light (IEC 61966-2-1), for numpy arrays and tensors of any shape."""
    where, maximum = (torch.where, torch.clamp_min) if torch.is_tensor(x) else (np.where, np.maximum)
    # The floor keeps the branch that is not taken free of NaN (and of NaN gradients).
    return where(x <= 0.04045, x / 12.92, ((maximum(x, 0.04045) + 0.055) / 1.055) ** 2.4)


def linear_to_srgb(x):
    """Encode linear light in [0, 1] as sRGB (IEC 61966-2-1), for numpy arrays and tensors of any shape."""
    where, maximum = (torch.where, torch.clamp_min) if torch.is_tensor(x) else (np.where, np.maximum)
    return where(x <= 0.0031308, 12.92 * x, 1.055 * maximum(x, 0.0031308) ** (1 / 2.4) - 0.055)


def encode_normals(n):
    """Map unit vectors to [0, 1]: n * 0.5 + 0.5."""
    return n * 0.5 + 0.5


def decode_normals(x):
    """Map [0, 1] values to vectors in [-1, 1]: x * 2 - 1 (not renormalized)."""
    return x * 2.0 - 1.0


# Weights of linear sRGB in luminance (IEC 61966-2-1).
LUMINANCE = np.array([0.2126, 0.7152, 0.0722])

# Linear sRGB to CIE XYZ for the D65 white point (IEC 61966-2-1).
_RGB_TO_XYZ = np.array([[0.4124, 0.3576, 0.1805], LUMINANCE, [0.0193, 0.1192, 0.9505]])


def linear_to_lab(rgb):
    """Convert linear sRGB (..., 3) in [0, 1] to CIE L*a*b* (CIE 15:2004, D65), for numpy arrays and tensors."""
    module: Any = torch if torch.is_tensor(rgb) else np
    if module is torch:
        ratio = rgb @ rgb.new_tensor(_RGB_TO_XYZ / _RGB_TO_XYZ.sum(axis=1, keepdims=True)).T
        root = ratio.clamp_min(1e-6) ** (1 / 3)
    else:
        ratio = np.asarray(rgb) @ _RGB_TO_XYZ.T / _RGB_TO_XYZ.sum(axis=1)
        root = np.cbrt(ratio)
    f = module.where(ratio > (6 / 29) ** 3, root, ratio / (3 * (6 / 29) ** 2) + 4 / 29)
    return module.stack([116 * f[..., 1] - 16, 500 * (f[..., 0] - f[..., 1]), 200 * (f[..., 1] - f[..., 2])], -1)


def individual_typology_angle(rgb):
    """Individual typology angle in degrees of linear albedo (..., 3): atan2(L* - 50, b*) (Chardon et al. 1991).

    Above 55 is very light skin, below -30 dark skin.
    """
    lab = linear_to_lab(rgb)
    if torch.is_tensor(lab):
        return torch.rad2deg(torch.atan2(lab[..., 0] - 50, lab[..., 2]))
    return np.degrees(np.arctan2(lab[..., 0] - 50, lab[..., 2]))
