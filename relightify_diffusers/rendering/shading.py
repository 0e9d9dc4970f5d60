"""Deferred shading: the surface that each pixel sees, lit by directional, point and environment lights."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch

from relightify_diffusers.maps import srgb_to_linear
from relightify_diffusers.rendering.atlas import bake_atlas, dilate
from relightify_diffusers.rendering.brdf import brdf, specular_albedo_terms, specular_f0
from relightify_diffusers.rendering.cameras import Camera
from relightify_diffusers.rendering.environment import EnvironmentLight, ggx_lobe
from relightify_diffusers.rendering.mesh import interpolate_corners, normalize, vertex_normals
from relightify_diffusers.rendering.rasterizer import EmbreeRasterizer, Fragments, offset_origins
from relightify_diffusers.rendering.spherical_harmonics import fibonacci_sphere
from relightify_diffusers.rendering.visibility import vertex_visibility

# Directions of an environment's precomputed visibility, and pixels that are shaded against them at once.
ENVIRONMENT_DIRECTIONS, PIXEL_CHUNK = 128, 1 << 14

# The lobe of specular occlusion is at least this rough, so that the few directions above resolve it.
OCCLUSION_ROUGHNESS = 0.55


@dataclass(frozen=True)
class Surface:
    """The visible surface, one entry for each covered pixel.

    All float32 but the first. triangle: (P,) int64. bary: (P, 3). points: (P, 3) meters, world frame. normals: (P, 3)
    unit shading normals from the normal map, world frame. view: (P, 3) unit vectors towards the camera.
    diffuse_albedo: (P, 3) linear. s: (P,) specular parameter. roughness: (P,). observed: (P,) in [0, 1].
    """

    triangle: np.ndarray
    bary: np.ndarray
    points: np.ndarray
    normals: np.ndarray
    view: np.ndarray
    diffuse_albedo: np.ndarray
    s: np.ndarray
    roughness: np.ndarray
    observed: np.ndarray


def sample_texture(image: np.ndarray, uv: np.ndarray) -> np.ndarray:
    """Bilinear lookup of an image (N, N, C) at uv (P, 2), texel centers at (i + 0.5) / N, clamped at the border."""
    texture = torch.from_numpy(np.ascontiguousarray(image, np.float32)).permute(2, 0, 1)[None]
    grid = torch.from_numpy(np.asarray(uv * 2 - 1, np.float32))[None, None]
    found = torch.nn.functional.grid_sample(texture, grid, padding_mode="border", align_corners=False)
    return found[0, :, 0].T.numpy()


class Scene:
    """A head ready to be seen and lit: its mesh with ray casting, its material maps, its self-visibility.

    mesh: Mesh. maps: as in Avatar.
    """

    def __init__(self, mesh, maps: dict[str, np.ndarray]):
        self.mesh = mesh
        self.vertices = np.asarray(mesh.vertices, np.float64)
        self.normals = vertex_normals(self.vertices, mesh.triangles)
        self.rasterizer = EmbreeRasterizer(self.vertices, mesh.triangles)
        self.directions = fibonacci_sphere(ENVIRONMENT_DIRECTIONS)
        regions = mesh.triangle_regions
        self._eyes = np.zeros(len(mesh.triangles), bool) if regions is None else np.asarray(regions) == 1
        self._visibility: np.ndarray | None = None
        self._levels = self._material_levels(maps)

    @property
    def visibility(self) -> np.ndarray:
        """(V, D) float32 of `vertex_visibility`, traced on first use."""
        if self._visibility is None:
            self._visibility = vertex_visibility(self.vertices, self.normals, self.rasterizer, self.directions)
        return self._visibility

    def _material_levels(self, maps: dict[str, np.ndarray]) -> list[np.ndarray]:
        """Mipmaps of (N, N, 9): linear diffuse albedo, s, roughness, normals, observed; filled beyond the atlas."""
        resolution = maps["diffuse_albedo"].shape[0]
        observed = maps.get("observed", np.ones((resolution, resolution)))
        parts = [
            srgb_to_linear(maps["diffuse_albedo"]),
            maps["specular_albedo"][..., :1],
            maps["roughness"][..., None],
            maps["normals"] * 2.0 - 1.0,
            observed[..., None],
        ]
        inside = bake_atlas(self.mesh.uv, self.mesh.uv_triangles, resolution).inside
        levels = [dilate(np.concatenate(parts, axis=-1).astype(np.float32), inside)]
        while levels[-1].shape[0] % 2 == 0 and levels[-1].shape[0] > 16:
            size = levels[-1].shape[0] // 2
            levels.append(levels[-1].reshape(size, 2, size, 2, -1).mean(axis=(1, 3)))
        return levels

    def _level(self, camera: Camera) -> np.ndarray:
        """The mipmap on which a texel is about as large as a pixel, over the triangles that face the camera."""

        def area(points: np.ndarray) -> float:
            a, b = (points[:, 1] - points[:, 0]).T, (points[:, 2] - points[:, 0]).T
            return float(np.abs(a[0] * b[1] - a[1] * b[0]).sum())

        corners = self.vertices[self.mesh.triangles]
        outwards = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
        facing = np.einsum("fc,fc->f", outwards, camera.center - corners[:, 0]) > 0
        pixels = area(camera.project(corners[facing]))
        texels = area(self.mesh.uv[self.mesh.uv_triangles[facing]]) * self._levels[0].shape[0] ** 2
        index = int(np.floor(0.5 * np.log2(max(texels, 1e-9) / max(pixels, 1e-9)) + 0.25))
        return self._levels[min(max(index, 0), len(self._levels) - 1)]

    def surface(self, camera: Camera, fragments: Fragments) -> Surface:
        """The Surface of the covered pixels of a view, in row order."""
        covered = fragments.pix_to_face >= 0
        faces, bary = fragments.pix_to_face[covered], fragments.bary_coords[covered].astype(np.float64)
        points = interpolate_corners(self.vertices, self.mesh.triangles, faces, bary)
        uv = interpolate_corners(np.asarray(self.mesh.uv, np.float64), self.mesh.uv_triangles, faces, bary)
        texels = sample_texture(self._level(camera), uv)
        smooth = interpolate_corners(self.normals, self.mesh.triangles, faces, bary)
        mapped = texels[:, 5:8].astype(np.float64)
        # A map that has nothing to say (gray) leaves the smooth normal.
        normals = normalize(np.where(np.linalg.norm(mapped, axis=-1, keepdims=True) > 0.3, mapped, smooth))
        view = normalize(camera.center - points)
        bary32, points32, normals32, view32 = (x.astype(np.float32) for x in (bary, points, normals, view))
        materials = texels[:, :3], texels[:, 3], texels[:, 4], texels[:, 8]
        return Surface(faces, bary32, points32, normals32, view32, *materials)

    def shade(self, surface: Surface, lights: Sequence) -> np.ndarray:
        """Radiance (P, 3) that a Surface sends to the camera: linear, not negative, shadowed by the head itself."""
        result = np.zeros(surface.points.shape, np.float32)
        for light in lights:
            shade = self._environment if isinstance(light, EnvironmentLight) else self._direct
            result += shade(surface, light)
        return np.maximum(result, 0)

    def _shadow_origins(self, surface: Surface) -> np.ndarray:
        """Ray origins lifted to the smooth surface behind the flat triangles, against faceted shadow edges.

        Hanika 2021, "Hacking the Shadow Terminator" (Ray Tracing Gems II, chapter 4).
        """
        corners = self.mesh.triangles[surface.triangle]
        normals = self.normals[corners]
        height = np.einsum("pkc,pkc->pk", surface.points[:, None] - self.vertices[corners], normals)
        lift = -(surface.bary * np.minimum(height, 0))[..., None] * normals
        smooth = normalize(np.einsum("pk,pkc->pc", surface.bary, normals))
        return offset_origins(surface.points + lift.sum(axis=1), smooth, 5e-5)

    def _direct(self, surface: Surface, light) -> np.ndarray:
        """Light from a direction, a disk or a point: the rays of a disk share one BRDF, at their mean direction."""
        origins = self._shadow_origins(surface)
        received, mean = np.zeros_like(surface.points), np.zeros_like(surface.points)
        for direction, distance, irradiance in light.sample(surface.points):
            directions = np.broadcast_to(np.asarray(direction, np.float32), surface.points.shape)
            cosine = np.einsum("pc,pc->p", surface.normals, directions)
            lit = cosine > 0
            if distance is None:
                lit[lit] = ~self.rasterizer.occluded(origins[lit], directions[lit])
            else:
                reach = directions[lit] * distance[lit, None]
                lit[lit] = ~self.rasterizer.occluded(origins[lit], reach, max_distance=1.0)
            received += (np.asarray(irradiance, np.float32) * cosine[:, None]) * lit[:, None]
            mean += directions * lit[:, None]
        lit = received.any(axis=-1)
        result = np.zeros_like(received)
        result[lit] = received[lit] * brdf(
            surface.normals[lit],
            normalize(mean[lit]),
            _facing(surface.view[lit], surface.normals[lit]),
            surface.diffuse_albedo[lit],
            surface.s[lit],
            surface.roughness[lit],
        )
        return result

    def _environment(self, surface: Surface, light: EnvironmentLight) -> np.ndarray:
        """Diffuse light by a sum over directions with their visibility, specular by prefiltered radiance."""
        view = _facing(surface.view, surface.normals)
        n_dot_v = np.einsum("pc,pc->p", surface.normals, view)
        mirror = 2 * n_dot_v[:, None] * surface.normals - view
        scale, bias = specular_albedo_terms(n_dot_v, surface.roughness)
        specular = specular_f0(surface.s) * scale + bias
        irradiance, openness = self._gather(surface, light.power(self.directions), mirror)
        diffuse = (1 - specular)[:, None] * surface.diffuse_albedo / np.pi * irradiance
        return diffuse + (specular * openness)[:, None] * light.reflected(mirror, surface.roughness)

    def _trace(self, origins: np.ndarray) -> np.ndarray:
        """Visibility (P, D) of points themselves: most vertices of an eyeball lie behind the lids and see nothing."""
        rays = np.broadcast_to(self.directions, (len(origins), *self.directions.shape)).reshape(-1, 3)
        starts = np.repeat(origins, len(self.directions), axis=0)
        return ~self.rasterizer.occluded(starts, rays).reshape(len(origins), len(self.directions))

    def _gather(self, surface: Surface, power: np.ndarray, mirror: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Irradiance (P, 3), and the visible share (P,) of the specular lobe."""
        irradiance, openness = np.empty((len(mirror), 3), np.float32), np.empty(len(mirror), np.float32)
        directions, power = self.directions.T.astype(np.float32), power.astype(np.float32)
        origins = self._shadow_origins(surface)
        for start in range(0, len(mirror), PIXEL_CHUNK):
            part = slice(start, start + PIXEL_CHUNK)
            corners = self.visibility[self.mesh.triangles[surface.triangle[part]]]
            seen = np.einsum("pk,pkd->pd", surface.bary[part], corners)
            eyes = self._eyes[surface.triangle[part]]
            seen[eyes] = self._trace(origins[part][eyes])
            cosine = np.maximum(surface.normals[part] @ directions, 0)
            cosine *= np.pi / (cosine.sum(axis=1, keepdims=True) * (4 * np.pi / directions.shape[1]))
            irradiance[part] = (seen * cosine) @ power
            lobe = ggx_lobe(mirror[part] @ directions, OCCLUSION_ROUGHNESS)
            openness[part] = (seen * lobe).sum(axis=1) / lobe.sum(axis=1)
        return irradiance, openness


def _facing(view: np.ndarray, normals: np.ndarray, least: float = 0.02) -> np.ndarray:
    """Bend view vectors that a mapped normal turns away from to just above its horizon."""
    cosine = np.einsum("pc,pc->p", view, normals)[:, None]
    return normalize(view + np.maximum(least - cosine, 0) * normals)
