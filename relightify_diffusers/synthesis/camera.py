"""The photo: exposure, white balance, lens, noise, tone curve and JPEG, and the way back from it to the atlas."""

from __future__ import annotations

import io
from dataclasses import dataclass

import numpy as np
from PIL import Image
from scipy.ndimage import binary_erosion, binary_fill_holes, distance_transform_edt, gaussian_filter

from relightify_diffusers.head.model import INSIDE, HeadModel
from relightify_diffusers.maps import LUMINANCE, linear_to_srgb, srgb_to_linear
from relightify_diffusers.rendering.atlas import AtlasTexels, dilate
from relightify_diffusers.rendering.cameras import Camera, orbit_camera
from relightify_diffusers.rendering.mesh import interpolate_corners, normalize
from relightify_diffusers.rendering.shading import sample_texture
from relightify_diffusers.rendering.visibility import seen_from
from relightify_diffusers.synthesis.geometry import Geometry
from relightify_diffusers.synthesis.surface import Surface
from relightify_diffusers.texturing.sampling import footprint, sample_filtered

# Standard deviations in degrees of the photographed head's turn, and their bounds.
YAW, PITCH, MAX_YAW, MAX_PITCH = 14.0, 7.0, 40.0, 20.0
# Meters from the head, and pixels of the photo across the head per texel of the maps, both log-uniform.
DISTANCE, PIXELS_PER_TEXEL = (0.45, 2.5), (0.55, 1.6)
# Texels seen flatter than this are not taken from the photo; over FADE atlas widths the two are blended.
MIN_COSINE, FADE = 0.3, 0.03
# An automatic exposure puts a white surface in the brighter part of the face here, give or take STOPS (natural log).
WHITE_LEVEL, STOPS = 1.18, 0.2


@dataclass(frozen=True)
class View:
    """A photographed geometry, shared by its variants.

    camera: Camera. uv: (H, W, 2) atlas position that each pixel shows, NaN beside the head. pixels: (N, N, 2) photo
    position of each texel. sizes: (N, N) pixels across a texel. weight: (N, N), 1 where a texel is well seen.
    """

    camera: Camera
    uv: np.ndarray
    pixels: np.ndarray
    sizes: np.ndarray
    weight: np.ndarray


@dataclass(frozen=True)
class Development:
    """How a camera turned radiance into a picture.

    exposure: factor from radiance to the linear value. white_balance: (3,) factors, about unit luminance. contrast,
    gamma, saturation: of the tone curve. blur: of the lens, pixels. noise: (shot, read) standard deviations at white.
    quality: of the JPEG, 0 = none.
    """

    exposure: float
    white_balance: np.ndarray
    contrast: float
    gamma: float
    saturation: float
    blur: float
    noise: tuple[float, float]
    quality: int


def sample_view(
    head: HeadModel, texels: AtlasTexels, geometry: Geometry, surface: Surface, rng: np.random.Generator
) -> View:
    """Draw a camera in front of a head and find what it sees."""
    size = len(texels.triangle)
    yaw = float(np.clip(rng.normal(0, YAW), -MAX_YAW, MAX_YAW))
    pitch = float(np.clip(rng.normal(2, PITCH), -MAX_PITCH, MAX_PITCH))
    distance, density = (float(np.exp(rng.uniform(*np.log(bounds)))) for bounds in (DISTANCE, PIXELS_PER_TEXEL))
    camera = orbit_camera(geometry.vertices, yaw, pitch, max(24, round(size * density)), distance)

    _, directions = camera.rays()
    triangle, _, bary = geometry.rasterizer.hits(camera.center, directions.reshape(-1, 3))
    uv = interpolate_corners(head.atlas.uv, head.atlas.uv_triangles, triangle, bary)
    uv[triangle < 0] = np.nan

    region = head.atlas.regions_at(texels.triangle)
    points = np.where(texels.inside[..., None], surface.positions, geometry.vertices[0]).astype(np.float64)
    pixels = camera.project(points)
    cosine = (surface.smooth * normalize(camera.center - points)).sum(-1)
    visible = seen_from(
        camera.center, points, surface.smooth, (region != INSIDE) & (cosine > MIN_COSINE), geometry.rasterizer
    )
    # Mouth and eye sockets end the skin as lids and lips do; the border of the atlas, at the neck, ends what is seen.
    depth = distance_transform_edt(visible | (texels.inside & (region == INSIDE)) | _holes(texels)) / size
    weight = visible * np.clip(depth / FADE, 0, 1)
    sizes = footprint(np.where(texels.inside[..., None], pixels, 0))
    # Differences across the border of a chart are no footprints.
    sizes = np.where(
        binary_erosion(texels.inside, iterations=2), sizes, np.median(sizes[visible]) if visible.any() else 1
    )
    shape = directions.shape[:2]
    return View(camera, uv.reshape(*shape, 2).astype(np.float32), pixels, sizes, weight.astype(np.float32))


def _holes(texels: AtlasTexels) -> np.ndarray:
    """(N, N) bool, texels outside the atlas that the atlas surrounds: the openings of eyes, mouth and nostrils."""
    return binary_fill_holes(texels.inside) & ~texels.inside


def sample_development(irradiance: np.ndarray, face: np.ndarray, rng: np.random.Generator) -> Development:
    """Draw exposure, white balance and the rest for a face under light.

    irradiance: (N, N, 3). face: (N, N) bool, the texels that the exposure is metered on.
    """
    white = irradiance[face] / np.pi
    exposure = WHITE_LEVEL * np.exp(rng.normal(0, STOPS)) / max(np.quantile(white.mean(-1), 0.85), 1e-6)
    # White balance: the camera takes out most of the light's color, more or less well. Without this, warm dark skin
    # would look to the priors like gray skin in warm light.
    cast = white.mean(axis=0)
    adaptation = rng.uniform(0.5, 1.0)
    balance = (cast / (cast @ LUMINANCE)) ** -adaptation * np.exp(rng.normal(0, 0.03, 3))
    return Development(
        exposure=float(exposure),
        white_balance=np.clip(balance, 0.3, 4.0),
        contrast=rng.uniform(0, 0.9),
        gamma=float(np.exp(rng.normal(0, 0.06))),
        saturation=float(np.exp(rng.normal(0.2, 0.16))),
        blur=float(rng.gamma(2.0, 0.25)),
        noise=(rng.uniform(0, 0.03), rng.uniform(0, 0.006)),
        quality=int(rng.integers(55, 97)) if rng.uniform() < 0.75 else 0,
    )


def respond(linear: np.ndarray, development: Development) -> np.ndarray:
    """sRGB-encoded values (..., 3) of a camera's or an editor's tone curve, from exposed linear ones.

    Without varied contrast and saturation, the saturated skin of most published photos would look to the priors like
    darker skin.
    """
    encoded = linear_to_srgb(np.clip(linear, 0, 1)) ** development.gamma
    # A contrast curve that keeps black, middle gray and white.
    encoded = encoded + development.contrast * encoded * (1 - encoded) * (2 * encoded - 1)
    gray = (encoded @ LUMINANCE)[..., None]
    return np.clip(gray + development.saturation * (encoded - gray), 0, 1)


def photograph(
    radiance: np.ndarray, texels: AtlasTexels, view: View, development: Development, rng: np.random.Generator
) -> np.ndarray:
    """Texture (N, N, 3), sRGB-encoded: unwrapped from a photo where that shows it, and as the same camera would have
    shown it elsewhere.

    radiance: (N, N, 3) linear, towards the camera.
    """
    exposed = (radiance * development.exposure * development.white_balance).astype(np.float32)
    exposed = dilate(exposed, texels.inside)
    seen = np.isfinite(view.uv[..., 0])
    image = np.empty((*seen.shape, 3), np.float32)
    # Behind the head: any color; its edge bleeds into the outline as it does in photos.
    image[:] = rng.uniform(0, 0.7) * rng.dirichlet([6, 6, 6]) * 3
    image[seen] = sample_texture(exposed, view.uv[seen])
    picture = _expose(image, development, rng)

    shown = view.weight > 0
    unwrapped = np.zeros_like(exposed)
    unwrapped[shown] = sample_filtered(srgb_to_linear(picture), view.pixels[shown], view.sizes[shown])
    elsewhere = respond(_noisy(exposed, development, rng), development)
    weight = view.weight[..., None]
    return (linear_to_srgb(np.clip(unwrapped, 0, 1)) * weight + elsewhere * (1 - weight)).astype(np.float32)


def _expose(image: np.ndarray, development: Development, rng: np.random.Generator) -> np.ndarray:
    """Lens, sensor, tone curve and file: (H, W, 3) linear to sRGB in [0, 1] with 256 levels."""
    # Blown highlights bloom before the sensor clips them.
    blurred = gaussian_filter(np.minimum(image, 4), (development.blur, development.blur, 0))
    encoded = respond(_noisy(blurred, development, rng), development)
    levels = Image.fromarray((encoded * 255 + 0.5).astype(np.uint8))
    if development.quality:
        buffer = io.BytesIO()
        levels.save(buffer, "JPEG", quality=development.quality)
        levels = Image.open(io.BytesIO(buffer.getvalue()))
    return np.asarray(levels, np.float32) / 255


def _noisy(linear: np.ndarray, development: Development, rng: np.random.Generator) -> np.ndarray:
    """Add shot noise, whose variance grows with the signal, and read noise (Foi et al. 2008, equation 2)."""
    shot, read = development.noise
    deviation = np.sqrt(shot**2 * np.clip(linear, 0, 1) + read**2)
    return linear + deviation * rng.standard_normal(linear.shape, dtype=np.float32)
