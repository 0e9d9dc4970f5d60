"""Random masks of observed texels for training batches, cheap enough to be drawn anew in every step."""

from __future__ import annotations

import math

import torch
from relight import LOBES, Draws, Lights, Relighter, dot

from relightify_diffusers.rendering.spherical_harmonics import COSINE_LOBE, sh_basis

SIDE_VIEWS = 0.25  # share of the cameras whose yaw is uniform up to 90 degrees; the others stand near the front
FRONT_YAW = 20.0  # degrees, standard deviation of these
PITCH = 10.0  # degrees, standard deviation
FACING = (0.12, 0.3)  # the smallest cosine between normal and line of sight that counts as seen, uniform
SEEN_SHARE = 0.35  # of order-2 light from the camera: a texel that gets less of it is hidden behind the nose, an ear
BLOBS, BLOB_ODDS = 3, 0.3  # how many things may be in front of a face, and the odds of each
BORDER_ODDS = 0.25  # that the picture ends within the face
CELLS = 24  # of the noise that frays the edges, across the atlas


@torch.no_grad()
def random_masks(
    relighter: Relighter, batch: torch.Tensor, transfer: torch.Tensor, generators: list[torch.Generator]
) -> torch.Tensor:
    """Masks (B, 1, R, R) of float32, 1 = observed, as photos of the samples' heads might leave.

    batch: (B, 12, R, R) in [-1, 1], for its normals, not mirrored. transfer: (B, V, 9). generators: one for each
    sample, on the CPU. A camera from a random side sees what faces it and what light from there would reach; blobs and
    straight borders hide more, and every edge is frayed. Eyes are seen where skin with their normals would be; the
    mouth cavity and the scalp, where hair hides the skin, are not.
    """
    draws = Draws(generators, batch.device)
    normals = relighter.smooth_normals(relighter.unpack(batch)[0]["normals"])
    fray = _fray(relighter, draws)
    view = _camera(draws)
    depth = dot(normals, view[:, None]) - draws.uniform(*FACING, 1) + 0.06 * fray
    seen = (depth > 0) & (_lit_from(relighter, view, normals, transfer) > SEEN_SHARE)
    seen &= _outside_blobs(relighter.uv, draws, fray) & _within_borders(relighter.uv, draws, fray)
    seen &= (relighter.scalp < 0.5) & (relighter.skin + relighter.eyes > 0)
    masks = torch.zeros(len(batch), 1, relighter.resolution**2, device=batch.device)
    masks[:, 0, relighter.texels] = seen.float()
    return masks.unflatten(-1, (relighter.resolution, relighter.resolution))


def _camera(draws: Draws) -> torch.Tensor:
    """(B, 3) unit directions towards the camera."""
    side = draws.uniform(0, 1) < SIDE_VIEWS
    yaw = torch.where(side, draws.uniform(-90, 90), draws.normal(0, FRONT_YAW).clamp(-60, 60))
    yaw, pitch = torch.deg2rad(yaw), torch.deg2rad(draws.normal(0, PITCH).clamp(-35, 35))
    return torch.stack([yaw.sin() * pitch.cos(), pitch.sin(), yaw.cos() * pitch.cos()], dim=-1)


def _lit_from(relighter: Relighter, view: torch.Tensor, normals: torch.Tensor, transfer: torch.Tensor) -> torch.Tensor:
    """(B, P): how much of soft light from the camera (B, 3) arrives, of what would without self-shadowing."""
    directions = view[:, None].expand(-1, LOBES, -1)
    lights = Lights(view.new_zeros(len(view), 1 + LOBES, 3), directions, view.new_full((len(view), LOBES), 0.05))
    coefficients = lights.coefficients[..., 1:2]
    arriving = relighter.at_texels(transfer.to(coefficients) @ coefficients)[..., 0]
    bare = sh_basis(normals) @ (coefficients * view.new_tensor(COSINE_LOBE)[:, None])
    return arriving / bare[..., 0].clamp_min(0.05)


def _fray(relighter: Relighter, draws: Draws) -> torch.Tensor:
    """(B, P) smooth noise of unit variance at its nodes; the same for a seed at every resolution."""
    generators = [torch.Generator().manual_seed(seed) for seed in draws.seeds]
    cells = torch.stack([torch.randn(1, CELLS, CELLS, generator=g) for g in generators]).to(relighter.uv.device)
    where = (relighter.uv * 2 - 1).expand(len(cells), 1, -1, -1)
    return torch.nn.functional.grid_sample(cells, where, padding_mode="border", align_corners=False)[:, 0, 0]


def _outside_blobs(uv: torch.Tensor, draws: Draws, fray: torch.Tensor) -> torch.Tensor:
    """(B, P) bool, outside up to BLOBS turned ellipses."""
    present = draws.uniform(0, 1, BLOBS) < BLOB_ODDS
    center = torch.stack([draws.uniform(0.25, 0.75, BLOBS), draws.uniform(0.2, 0.95, BLOBS)], dim=-1)
    radius = torch.exp(draws.uniform(math.log(0.04), math.log(0.22), BLOBS, 2))
    angle = draws.uniform(0, math.pi, BLOBS)
    clear = torch.ones_like(fray, dtype=torch.bool)
    for i in range(BLOBS):
        away = uv - center[:, i, None]  # (B, P, 2)
        cosine, sine = angle[:, i, None].cos(), angle[:, i, None].sin()
        along = (away[..., 0] * cosine + away[..., 1] * sine) / radius[:, i, :1]
        across = (away[..., 1] * cosine - away[..., 0] * sine) / radius[:, i, 1:]
        clear &= ~present[:, i, None] | (along**2 + across**2 + 0.12 * fray > 1)
    return clear


def _within_borders(uv: torch.Tensor, draws: Draws, fray: torch.Tensor) -> torch.Tensor:
    """(B, P) bool, on the inner side of a straight border, if there is one."""
    present = draws.uniform(0, 1, 1) < BORDER_ODDS
    inward = draws.normal(0, 1, 1, 2)
    inward = inward / inward.norm(dim=-1, keepdim=True).clamp_min(1e-6)
    middle = uv.new_tensor([0.5, 0.55])
    distance = ((uv - middle) * inward).sum(-1) + draws.uniform(0.08, 0.3, 1)
    return ~present | (distance + 0.002 * fray > 0)
