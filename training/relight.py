"""New light and new skin tones for training samples, on the training device: many textures of one cached geometry.

A sample's maps and its head's transfer (`Geometry.transfer`) are all that shading under low-order light needs. Shadows
are those of spherical harmonics of order 2: soft. The data set's own textures have the hard ones.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
from scipy.ndimage import distance_transform_edt, gaussian_filter

from relightify_diffusers.errors import AssetError
from relightify_diffusers.head.model import HeadModel
from relightify_diffusers.head.regions import region_masks, roughness_map
from relightify_diffusers.maps import LAYOUT, LUMINANCE, individual_typology_angle, linear_to_srgb, srgb_to_linear
from relightify_diffusers.rendering.atlas import bake_atlas
from relightify_diffusers.rendering.brdf import (
    ggx_distribution,
    schlick_fresnel,
    smith_visibility,
    specular_albedo_terms,
    specular_f0,
)
from relightify_diffusers.rendering.mesh import vertex_normals
from relightify_diffusers.rendering.spherical_harmonics import COSINE_LOBE, sh_basis
from relightify_diffusers.synthesis.chromophores import HEMOGLOBIN, MELANIN, TONE_RANGE

# From the lightest to the darkest skin, in melanin, hemoglobin and an achromatic part (unit vectors of -log RGB): the
# pigments' two directions alone, which Tsumura et al. 2003 found within single faces, would leave dark skin too red.
TONE_SHARES = (0.44, 0.95, 2.84)
RECOLORED = 0.8  # share of the relit samples that also get a new tone
PIGMENT_SPREAD = 0.07  # standard deviation of a face's own melanin and hemoglobin around its tone
LIPS_KEPT = 0.2  # how much less lips follow the skin's tone
ALBEDO_RANGE = (0.004, 0.95)  # as in the data
# Where hair grows, it is hair what is darker than the skin by this in log RGB, or differs this much in log R / B (gray
# and blond hair), each with the softness of the limit.
HAIR_DARKER, HAIR_COLOR = (0.4, 0.1), (0.4, 0.08)

LOBES = 3
BAND = torch.tensor([0, 1, 1, 1, 2, 2, 2, 2, 2])
MAX_COLOR_TEXELS = 2048  # that the exposure is measured on
NOISE = 0.012  # largest standard deviation of the noise in sRGB values at 256 texels
SMOOTHING = 0.016  # of the atlas width, standard deviation: what the mesh's normals do not resolve
DRAWS = (64, 64)  # uniform and normal numbers of one sample, whatever the resolution


class Draws:
    """The random numbers of a batch, a fixed number for each sample from the sample's own generator."""

    def __init__(self, generators: list[torch.Generator], device: torch.device | str):
        self.seeds = [int(torch.randint(2**62, (), generator=g)) for g in generators]  # of what is drawn on the device
        self._uniform = torch.stack([torch.rand(DRAWS[0], generator=g) for g in generators]).to(device)
        self._normal = torch.stack([torch.randn(DRAWS[1], generator=g) for g in generators]).to(device)
        self._used = [0, 0]

    def _take(self, kind: int, values: torch.Tensor, shape: tuple[int, ...]) -> torch.Tensor:
        start = self._used[kind]
        self._used[kind] += math.prod(shape)
        if self._used[kind] > DRAWS[kind]:
            raise ValueError(f"more than {DRAWS[kind]} random numbers a sample; raise DRAWS")
        return values[:, start : self._used[kind]].reshape(len(values), *shape)

    def uniform(self, low: float, high: float, *shape: int) -> torch.Tensor:
        """(B, *shape) uniform in [low, high)."""
        return low + (high - low) * self._take(0, self._uniform, shape)

    def normal(self, mean: float, deviation: float, *shape: int) -> torch.Tensor:
        """(B, *shape) normal."""
        return mean + deviation * self._take(1, self._normal, shape)

    def texel_noise(self, count: int, channels: int) -> torch.Tensor:
        """(B, count, channels) standard normal, drawn on the device."""
        device = self._normal.device
        return torch.stack(
            [torch.randn(count, channels, generator=torch.Generator(device).manual_seed(s), device=device)
             for s in self.seeds]
        )  # fmt: skip


@dataclass(frozen=True)
class Lights:
    """Light of a batch: even light and LOBES soft sources.

    colors: (B, 1 + LOBES, 3), strength times tint; the first is the even light. directions: (B, LOBES, 3) unit.
    widths: (B, LOBES), the time t of the heat kernel that a source is. Each part of strength 1 gives an unshadowed
    white surface that faces it the irradiance pi.
    """

    colors: torch.Tensor
    directions: torch.Tensor
    widths: torch.Tensor

    @property
    def coefficients(self) -> torch.Tensor:
        """(B, 9, 1 + LOBES) radiance coefficients of each part at strength 1."""
        band = BAND.to(self.widths.device)
        factors = torch.exp(-(band * (band + 1)) * self.widths[..., None])  # (B, LOBES, 9), the heat kernel
        facing = factors * self.widths.new_tensor(COSINE_LOBE)  # sum over m of Y^2 is (2 l + 1) / (4 pi)
        facing = facing.sum(-1, keepdim=True) / (4 * math.pi)
        lobes = factors * sh_basis(self.directions) * (math.pi / facing)
        even = torch.zeros_like(lobes[:, :1])
        even[..., 0] = 1 / 0.282095
        return torch.cat([even, lobes], dim=1).transpose(1, 2)


def sample_lights(draws: Draws) -> Lights:
    """Even light and one to three soft sources, mostly from the front and above, some strongly tinted."""
    count = draws.uniform(1, LOBES + 1)[:, None].floor()
    strength = draws.uniform(0.25, 1.0, LOBES)
    strength = strength * (torch.arange(LOBES, device=strength.device) < count)
    strength = torch.cat([draws.uniform(0.04, 0.6, 1), strength], dim=1)
    sideways = draws.normal(0, 0.9, LOBES)
    directions = torch.stack([sideways, draws.normal(0.35, 0.5, LOBES), draws.normal(0.55, 0.55, LOBES)], dim=-1)
    widths = torch.exp(draws.uniform(math.log(0.05), math.log(0.5), LOBES))
    return Lights(strength[..., None] * _tints(draws, 1 + LOBES), unit(directions), widths)


def _tints(draws: Draws, count: int) -> torch.Tensor:
    """(B, count, 3) colors of unit luminance along warm to cool with a little green; one part in eight is strong."""
    strong = draws.uniform(0, 1, count) < 0.125
    strength = torch.where(strong, 0.5, 0.16)
    warm, green = strength * draws.normal(0, 1, count), strength / 4 * draws.normal(0, 1, count)
    color = torch.exp(torch.stack([warm, green, -warm], dim=-1))
    return color / _luminance(color)[..., None]


def dot(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
    """Dot product (...,) of (..., 3): written out, since a reduction over three values is slow on a CPU."""
    return a[..., 0] * b[..., 0] + a[..., 1] * b[..., 1] + a[..., 2] * b[..., 2]


def unit(vectors: torch.Tensor) -> torch.Tensor:
    """Vectors (..., 3) at unit length."""
    return vectors * dot(vectors, vectors).clamp_min(1e-12).rsqrt()[..., None]


def _luminance(rgb: torch.Tensor) -> torch.Tensor:
    return rgb @ rgb.new_tensor(LUMINANCE)


class Relighter:
    """Relights, recolors and masks batches of maps at one resolution on one device.

    Everything that depends on the atlas alone is computed here once. `texels`: (P,) flat indices of the texels that an
    atlas triangle touches.
    """

    def __init__(self, head: HeadModel, resolution: int, device: torch.device | str = "cpu"):
        self.resolution, self.vertex_count = resolution, len(head.template)
        texels = bake_atlas(head.atlas.uv, head.atlas.uv_triangles, resolution)
        fine = bake_atlas(head.atlas.uv, head.atlas.uv_triangles, 4 * resolution).inside
        cover = fine.reshape(resolution, 4, resolution, 4).mean(axis=(1, 3))
        active = texels.inside | (cover > 0)
        triangle, bary = _extended(texels)
        masks = region_masks(head, resolution, texels)
        normals = vertex_normals(head.template, head.triangles)[head.triangles[triangle[active]]]

        def flat(values: np.ndarray) -> torch.Tensor:
            return torch.from_numpy(np.ascontiguousarray(values[active], np.float32)).to(device)

        self.texels = torch.from_numpy(np.flatnonzero(active)).to(device)  # (P,)
        self.corners = torch.from_numpy(head.triangles[triangle[active]].T.copy()).to(device)  # (3, P)
        self.bary = flat(bary).T.contiguous()[..., None]  # (3, P, 1)
        self.border = flat(cover < 1)[:, None]  # (P, 1): texels that area averaging may have mixed with the background
        self.roughness = flat(roughness_map(masks))
        # Fringes hang before the forehead and the temples.
        fringe = np.clip(masks["forehead"] + 4 * gaussian_filter(masks["scalp"], 0.04 * resolution), 0, 1)
        self.grows_hair = flat(np.clip(masks["scalp"] + masks["brows"] + masks["beard"] + fringe, 0, 1))
        self.follows_tone = flat(masks["skin"] * (1 - LIPS_KEPT * masks["lips"]))
        self.reference = flat((masks["cheeks"] + masks["nose"]) * masks["skin"])  # seldom under hair
        self.skin, self.scalp, self.eyes = flat(masks["skin"]), flat(masks["scalp"]), flat(masks["eyes"])
        front = np.einsum("pk,pk->p", bary[active], normals[..., 2]) > 0.3
        front &= (masks["skin"][active] > 0) & (cover[active] == 1)
        front = np.flatnonzero(front)
        self.front = torch.from_numpy(front[:: -(-len(front) // MAX_COLOR_TEXELS)].copy()).to(device)
        centers = (np.stack([active.nonzero()[1], active.nonzero()[0]], axis=-1) + 0.5) / resolution
        self.uv = torch.from_numpy(centers.astype(np.float32)).to(device)  # (P, 2)
        self._terms = _term_table().to(device)
        self._kernel = _gaussian(SMOOTHING * resolution).to(device)
        self.pigments = torch.tensor(np.stack([MELANIN, HEMOGLOBIN, np.full(3, 3**-0.5)]), dtype=torch.float32).to(
            device
        )  # (3, 3), one a row

    def check(self, transfer_shape: tuple[int, ...]) -> None:
        """Raise AssetError when the transfer (..., V, 9) is of another head."""
        if tuple(transfer_shape[-2:]) != (self.vertex_count, 9):
            raise AssetError(
                f"the data set's transfer has the shape {tuple(transfer_shape[-2:])}, this head needs "
                f"({self.vertex_count}, 9); make the data again with this version"
            )

    @torch.no_grad()
    def __call__(self, batch: torch.Tensor, transfer: torch.Tensor, generators: list[torch.Generator]) -> torch.Tensor:
        """The batch with a new texture, and mostly a new skin tone.

        batch: (B, 12, R, R) in [-1, 1], not mirrored. transfer: (B, V, 9) float16 or float32. generators: one for each
        sample, on the CPU; a fixed number of values is drawn from each. Returns a new (B, 12, R, R); specular albedo,
        normals and the background are those of `batch`.
        """
        draws = Draws(generators, batch.device)
        maps, cover = self.unpack(batch)
        albedo = self.recolor(maps["diffuse_albedo"], draws)
        radiance, white = self.shade(albedo, maps["specular_albedo"][..., 0], maps["normals"], transfer, draws)
        # A texel of a smaller map is the mean of more pixels.
        texture = photograph(radiance, white[:, self.front], draws, NOISE * min(1.0, self.resolution / 256))
        return self.pack(batch, {"texture": texture, "diffuse_albedo": linear_to_srgb(albedo)}, cover)

    def unpack(self, batch: torch.Tensor) -> tuple[dict[str, torch.Tensor], torch.Tensor]:
        """Maps (B, P, 3) at the texels, free of background: linear albedo, unit normals; and their cover (B, P, 1)."""
        values = batch.float().flatten(2)[:, :, self.texels].transpose(1, 2)  # (B, P, 12)
        maps = {name: values[..., LAYOUT.slice(name)] for name in LAYOUT.names}
        length = dot(maps["normals"], maps["normals"]).sqrt()[..., None]
        # Averaged with the background, which is a zero vector, a normal has the length of the covered share.
        cover = torch.where(self.border > 0, length.clamp(max=1), 1.0)
        maps = {name: m / cover.clamp_min(0.05) for name, m in maps.items()}
        maps["normals"] = unit(maps["normals"])
        for name in ("diffuse_albedo", "specular_albedo"):
            maps[name] = (maps[name] * 0.5 + 0.5).clamp(0, 1)
        maps["diffuse_albedo"] = srgb_to_linear(maps["diffuse_albedo"]).clamp(*ALBEDO_RANGE)
        return maps, cover

    def pack(self, batch: torch.Tensor, maps: dict[str, torch.Tensor], cover: torch.Tensor) -> torch.Tensor:
        """`batch` with maps (B, P, 3) in [0, 1] written to its covered texels."""
        result = batch.clone(memory_format=torch.contiguous_format)
        flat = result.flatten(2)  # a view
        for name, values in maps.items():
            channels = LAYOUT.slice(name)
            mixed = ((values * 2 - 1) * cover).transpose(1, 2).to(batch.dtype)
            old = flat[:, channels, self.texels]
            flat[:, channels, self.texels] = torch.where(cover.transpose(1, 2) > 0.25, mixed, old)
        return result

    def recolor(self, albedo: torch.Tensor, draws: Draws) -> torch.Tensor:
        """Move the skin of linear albedo (B, P, 3) along its pigments to a tone uniform in TONE_RANGE.

        The move is one vector of -log RGB for a face (Tsumura et al. 2003, equation 2): detail keeps its contrast.
        Eyes and mouth stay, lips follow less, and hair, which is told by its color where hair grows, stays.
        """
        absorbance = -albedo.log()
        mean = (absorbance * self.reference[:, None]).sum(1) / self.reference.sum()  # (B, 3)
        own = draws.normal(0, PIGMENT_SPREAD, 2) @ self.pigments[:2]
        axis = mean.new_tensor(TONE_SHARES) @ self.pigments
        levels = torch.linspace(-1.4, 1.4, 113, device=mean.device)
        tried = torch.exp(-(mean + own)[:, None] - levels[:, None] * axis).clamp(max=1)
        target = draws.uniform(*TONE_RANGE)[:, None]
        level = levels[(individual_typology_angle(tried) - target).abs().argmin(1)]
        chosen = (draws.uniform(0, 1) < RECOLORED).float()[:, None]
        move = chosen * (own + level[:, None] * axis)
        share = self.follows_tone * (1 - self._hair(absorbance, mean))
        return torch.exp(-absorbance - share[..., None] * move[:, None]).clamp(*ALBEDO_RANGE)

    def _hair(self, absorbance: torch.Tensor, skin: torch.Tensor) -> torch.Tensor:
        """How much texels of -log RGB (B, P, 3) are hair on skin of -log RGB (B, 3): (B, P) in [0, 1]."""
        darker = absorbance.mean(-1) - skin.mean(-1, keepdim=True)
        color = absorbance[..., 2] - absorbance[..., 0]
        usual = (skin[:, 2:] - skin[:, :1]).clamp_min(0.2)
        other = (color - usual).abs() / usual
        hair = torch.maximum((darker - HAIR_DARKER[0]) / HAIR_DARKER[1], (other - HAIR_COLOR[0]) / HAIR_COLOR[1])
        hair = torch.sigmoid(hair) * self.grows_hair
        # Single strands may have the skin's color; among hair they are hair.
        around = torch.sigmoid((self.blur(hair[..., None])[..., 0] - 0.75) / 0.06) * self.grows_hair
        return torch.maximum(hair, around)

    def at_texels(self, values: torch.Tensor) -> torch.Tensor:
        """Values of vertices (B, V, C) interpolated to (B, P, C)."""
        return sum(values[:, corner] * weight for corner, weight in zip(self.corners, self.bary))

    def blur(self, values: torch.Tensor) -> torch.Tensor:
        """Values (B, P, C) under a Gaussian over the atlas with zeros around it."""
        size, kernel = self.resolution, self._kernel
        image = values.new_zeros(len(values), values.shape[-1], size * size)
        image[..., self.texels] = values.transpose(1, 2)
        image, reach = image.reshape(-1, 1, size, size), len(kernel) // 2
        image = torch.nn.functional.conv2d(image, kernel[None, None, :, None], padding=(reach, 0))
        image = torch.nn.functional.conv2d(image, kernel[None, None, None], padding=(0, reach))
        return image.reshape(len(values), -1, size * size)[..., self.texels].transpose(1, 2)

    def smooth_normals(self, normals: torch.Tensor) -> torch.Tensor:
        """Unit normals (B, P, 3) without what is finer than the mesh."""
        return torch.where(self.skin[:, None] > 0, unit(self.blur(normals)), normals)

    def irradiance(self, lights: Lights, normals: torch.Tensor, transfer: torch.Tensor) -> tuple[torch.Tensor, ...]:
        """Self-shadowed irradiance (B, P, 1 + LOBES) of each part at strength 1, and openness (B, P, 1)."""
        coefficients = lights.coefficients
        transfer = transfer.to(coefficients)
        openness = transfer[..., :1] / COSINE_LOBE[0] / 0.282095
        arriving = self.at_texels(torch.cat([transfer @ coefficients, openness], dim=-1)).clamp_min(0)
        bare = coefficients * coefficients.new_tensor(COSINE_LOBE)[:, None]
        detail = [(sh_basis(n) @ bare).clamp_min(0) + 0.2 for n in (normals, self.smooth_normals(normals))]
        return arriving[..., :-1] * (detail[0] / detail[1]).clamp(0.25, 3), arriving[..., -1:].clamp(max=1)

    def shade(
        self, albedo: torch.Tensor, s: torch.Tensor, normals: torch.Tensor, transfer: torch.Tensor, draws: Draws
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Radiance of the skin and of a white surface in its place, both (B, P, 3), under random light.

        albedo: (B, P, 3) linear. s: (B, P), specular parameter. normals: (B, P, 3) unit. transfer: (B, V, 9).
        """
        lights = sample_lights(draws)
        parts, openness = self.irradiance(lights, normals, transfer)
        irradiance = parts @ lights.colors
        bounce = (albedo * self.skin[:, None]).mean(1, keepdim=True)  # unseen surroundings are lit skin
        irradiance = irradiance * (1 + (1 - openness) * bounce)
        view = torch.cat([draws.normal(0, 0.2, 2), draws.uniform(0.6, 1.4, 1)], dim=-1)
        view = unit(view)[:, None]
        # A texel that the camera does not see gets the highlight of a view bent to where it is seen.
        view = unit(view + (0.35 - dot(normals, view)).clamp_min(0)[..., None] * normals)
        n_dot_v = dot(normals, view).clamp(0.05, 1)
        scale, bias = self._specular_terms(n_dot_v)
        f0 = specular_f0(s)
        reflected = (f0 * scale + bias)[..., None]
        specular = reflected * lights.colors[:, None, 0] * openness
        specular = specular + self._highlights(lights, parts, normals, view, n_dot_v, f0)
        return albedo / math.pi * irradiance * (1 - reflected) + specular, irradiance / math.pi

    def _specular_terms(self, n_dot_v: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Scale and bias (B, P) of F0, from the table of brdf.specular_albedo_terms."""
        where = torch.stack([n_dot_v, self.roughness.expand_as(n_dot_v)], dim=-1)[None] * 2 - 1
        found = torch.nn.functional.grid_sample(self._terms, where, padding_mode="border", align_corners=True)
        return found[0, 0], found[0, 1]

    def _highlights(self, lights: Lights, parts, normals, view, n_dot_v, f0) -> torch.Tensor:
        """GGX reflection (B, P, 3) of the lobes.

        A lobe of heat-kernel time t has an angular variance of 2 t about each axis, half-vectors a quarter of it; it
        adds t to alpha^2, which is twice the variance of the slopes of the microfacets.
        """
        total = torch.zeros_like(normals)
        for i in range(LOBES):
            direction = lights.directions[:, None, i]
            half = unit(direction + view)
            widened = (self.roughness**4 + lights.widths[:, i, None]).clamp(max=1) ** 0.25
            lobe = ggx_distribution(dot(normals, half).clamp(0, 1), widened)
            n_dot_l = dot(normals, direction).clamp(0.05, 1)
            lobe = lobe * smith_visibility(n_dot_l, n_dot_v, widened) * schlick_fresnel(dot(view, half), f0)
            total = total + (lobe * parts[..., 1 + i])[..., None] * lights.colors[:, None, 1 + i]
        return total


def photograph(radiance: torch.Tensor, white: torch.Tensor, draws: Draws, noise: float = 0.0) -> torch.Tensor:
    """sRGB-encoded values in [0, 1] that a camera makes of radiance (B, P, 3): exposure, white balance, curve, noise.

    white: (B, F, 3), what white surfaces would show in the front of the face: the exposure puts their 85th percentile
    near 0.85, and the white balance takes out half to all of their mean color. noise: the largest standard deviation.
    """
    level = torch.quantile(white.mean(-1), 0.85, dim=1).clamp_min(1e-4)
    exposure = 0.85 * torch.exp(draws.normal(0, 0.2)) / level
    cast = white.mean(1).clamp_min(1e-4)
    balance = (cast / _luminance(cast)[:, None]) ** -draws.uniform(0.5, 1.0, 1) * torch.exp(draws.normal(0, 0.03, 3))
    encoded = linear_to_srgb((radiance * (exposure[:, None] * balance)[:, None]).clamp(0, 1))
    encoded = encoded.clamp_min(1e-4) ** torch.exp(draws.normal(0, 0.06, 1, 1))
    # A contrast curve that keeps black, middle gray and white, then the saturation.
    encoded = encoded + draws.uniform(0, 0.7, 1, 1) * encoded * (1 - encoded) * (2 * encoded - 1)
    gray = _luminance(encoded)[..., None]
    encoded = gray + torch.exp(draws.normal(0.1, 0.14, 1, 1)) * (encoded - gray)
    return (encoded + noise * draws.uniform(0, 1, 1, 1) * draws.texel_noise(*radiance.shape[1:])).clamp(0, 1)


def _extended(texels) -> tuple[np.ndarray, np.ndarray]:
    """Triangle (N, N) and barycentrics (N, N, 3) of each texel, those of the nearest one outside the atlas."""
    rows, columns = distance_transform_edt(~texels.inside, return_distances=False, return_indices=True)
    return texels.triangle[rows, columns], texels.bary[rows, columns]


def _term_table(size: int = 33) -> torch.Tensor:
    """(1, 2, size, size) scale and bias over roughness (rows) and n.v (columns), both from 0 to 1."""
    n_dot_v, roughness = np.meshgrid(*(2 * [np.linspace(0, 1, size)]))
    terms = np.stack(specular_albedo_terms(n_dot_v.ravel(), roughness.ravel()))
    return torch.from_numpy(terms.reshape(1, 2, size, size).astype(np.float32))


def _gaussian(deviation: float) -> torch.Tensor:
    reach = max(1, math.ceil(2.5 * deviation))
    kernel = torch.exp(-0.5 * (torch.arange(-reach, reach + 1) / max(deviation, 0.3)) ** 2)
    return kernel / kernel.sum()
