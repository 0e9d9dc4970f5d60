"""Find the 68 iBUG points on the head mesh by running the bundled detector on renders of sampled heads."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw
from scipy.ndimage import distance_transform_edt, map_coordinates

from relightify_diffusers.head.build_atlas import EYES, SKIN
from relightify_diffusers.head.regions import EYE_ISLANDS
from relightify_diffusers.rendering.atlas import bake_atlas
from relightify_diffusers.rendering.cameras import Camera
from relightify_diffusers.rendering.mesh import interpolate_corners, vertex_normals
from relightify_diffusers.rendering.rasterizer import EmbreeRasterizer

# Left-right partners of the 68 iBUG points (Sagonas et al. 2013, "300 Faces in-the-Wild Challenge").
MIRROR_68 = np.array(
    [
        *range(16, -1, -1),
        *range(26, 16, -1),
        27,
        28,
        29,
        30,
        35,
        34,
        33,
        32,
        31,
        45,
        44,
        43,
        42,
        47,
        46,
        39,
        38,
        37,
        36,
    ]
    + [41, 40, 54, 53, 52, 51, 50, 49, 48, 59, 58, 57, 56, 55, 64, 63, 62, 61, 60, 67, 66, 65]
)
VIEW_SIZE = 640
CONTOUR_CANDIDATES = 12


def embed_landmarks(arrays: dict, skins: Path, seed: int, views: int = 80, picture: Path | None = None) -> dict:
    """Landmark and contour embeddings from `views` renders with the skins in a folder, as named arrays."""
    from relightify_diffusers.landmarks import get_detector

    detector = get_detector("dlib")
    rng = np.random.default_rng(seed)
    textures = [_atlas_texture(arrays, path) for path in sorted(skins.glob("*.png"))]
    found = []
    for index in range(views):
        uv = _observe(arrays, textures[index % len(textures)], rng, detector)
        if uv is not None:
            found.append(uv)
    print(f"detector found a face in {len(found)} of {views} renders")
    points = np.nanmedian(np.stack(found), axis=0)
    points = (points + (points[MIRROR_68] * [-1, 1] + [1, 0])) / 2
    triangles, barycentrics = locate(arrays, points)
    contour = [locate(arrays, path) for path in _contour_paths(points)]
    result = {
        "landmark_triangles": triangles.astype(np.int32),
        "landmark_barycentrics": barycentrics.astype(np.float32),
        "contour_triangles": np.stack([c[0] for c in contour]).astype(np.int32),
        "contour_barycentrics": np.stack([c[1] for c in contour]).astype(np.float32),
    }
    if picture is not None:
        _draw(arrays | result, textures[0], picture)
    return result


def locate(arrays: dict, uv: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Skin triangles (N,) and barycentric coordinates (N, 3) nearest to atlas positions (N, 2)."""
    import trimesh

    skin = np.flatnonzero(arrays["triangle_regions"] == SKIN)
    flat = np.c_[arrays["uv"], np.zeros(len(arrays["uv"]))].astype(np.float64)
    mesh = trimesh.Trimesh(flat, arrays["uv_triangles"][skin], process=False)
    nearest, _, triangle = trimesh.proximity.closest_point_naive(mesh, np.c_[uv, np.zeros(len(uv))])
    return skin[triangle], trimesh.triangles.points_to_barycentric(mesh.triangles[triangle], nearest)


def makehuman_to_pixels(makehuman_uv: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """Pixel rows and columns (2, ...) in a crop of MakeHuman's head chart (x 0.625 to 1, y 0.17 to 0.87)."""
    columns = (makehuman_uv[..., 0] - 0.625) / 0.375 * shape[1] - 0.5
    rows = (1 - makehuman_uv[..., 1] - 0.17) / 0.70 * shape[0] - 0.5
    return np.stack([rows, columns])


def _atlas_texture(arrays: dict, path: Path, resolution: int = 512) -> np.ndarray:
    skin = np.asarray(Image.open(path).convert("RGB"), np.float32) / 255
    texels = bake_atlas(arrays["uv"], arrays["uv_triangles"], resolution)
    uv = interpolate_corners(arrays["makehuman_uv"], arrays["uv_triangles"], texels.triangle, texels.bary)
    known = texels.inside & np.isfinite(uv).all(-1) & (uv[..., 0] > 0)
    pixels = makehuman_to_pixels(np.where(known[..., None], uv, 0.8), skin.shape)
    texture = np.stack([map_coordinates(skin[..., c], pixels, order=1, mode="nearest") for c in range(3)], -1)
    nearest = distance_transform_edt(~known, return_distances=False, return_indices=True)
    return texture[nearest[0], nearest[1]]


def _observe(arrays, texture, rng, detector) -> np.ndarray | None:
    """Atlas positions (68, 2) of the detected points of one random head, NaN where a point misses the skin."""
    identity = np.clip(rng.normal(0, 0.8, len(arrays["identity_scale"])), -2, 2)
    basis = arrays["identity_basis"].astype(np.float32) * arrays["identity_scale"][:, None, None]
    vertices = arrays["template"] + np.tensordot(identity, basis, axes=1)
    names = arrays["expression_names"].tolist()
    for name, weight in (("jawOpen", rng.uniform(0, 0.25)), ("mouthSmileLeft", 0.3), ("mouthSmileRight", 0.3)):
        rows = arrays["expression_rows"] == names.index(name)
        smile = weight if name == "jawOpen" else weight * rng.uniform()
        vertices[arrays["expression_columns"][rows]] += smile * arrays["expression_values"][rows].astype(np.float32)
    camera = _front_camera(rng.uniform(-6, 6), rng.uniform(-6, 6))
    image, fragments = _render(arrays, vertices, texture, camera)
    faces = detector.detect(image)
    if not faces:
        return None
    skin = fragments.pix_to_face >= 0
    skin[skin] = arrays["triangle_regions"][fragments.pix_to_face[skin]] == SKIN
    nearest = distance_transform_edt(~skin, return_distances=False, return_indices=True)
    pixels = np.clip(faces[0].landmarks.astype(int), 0, VIEW_SIZE - 1)
    rows, columns = nearest[:, pixels[:, 1], pixels[:, 0]]
    uv = interpolate_corners(
        arrays["uv"],
        arrays["uv_triangles"],
        fragments.pix_to_face[rows, columns],
        fragments.bary_coords[rows, columns],
    )
    missed = np.hypot(rows - pixels[:, 1], columns - pixels[:, 0]) > 8
    uv[missed] = np.nan
    return uv


def _front_camera(yaw: float, pitch: float, distance: float = 0.9, focal: float = 1.9) -> Camera:
    a, b = np.radians([yaw, pitch])
    ry = np.array([[np.cos(a), 0, np.sin(a)], [0, 1, 0], [-np.sin(a), 0, np.cos(a)]])
    rx = np.array([[1, 0, 0], [0, np.cos(b), -np.sin(b)], [0, np.sin(b), np.cos(b)]])
    rotation = np.diag([1.0, -1, -1]) @ rx @ ry
    K = np.array([[focal * VIEW_SIZE, 0, VIEW_SIZE / 2], [0, focal * VIEW_SIZE, VIEW_SIZE / 2], [0, 0, 1]])
    return Camera(K, np.c_[rotation, [0, 0, distance]], (VIEW_SIZE, VIEW_SIZE))


def _render(arrays, vertices, texture, camera):
    """A soft frontal shading of the textured head; white eyes with dark irises, so that lids and gaze are seen."""
    fragments = EmbreeRasterizer(vertices, arrays["triangles"]).rasterize(camera)
    uv = interpolate_corners(arrays["uv"], arrays["uv_triangles"], fragments.pix_to_face, fragments.bary_coords)
    size = texture.shape[0]
    pixels = np.stack([uv[..., 1] * size - 0.5, uv[..., 0] * size - 0.5])
    color = np.stack([map_coordinates(texture[..., c], pixels, order=1, mode="nearest") for c in range(3)], -1)
    normals = interpolate_corners(
        vertex_normals(vertices, arrays["triangles"]),
        arrays["triangles"],
        fragments.pix_to_face,
        fragments.bary_coords,
    )
    hit = fragments.pix_to_face >= 0
    region = np.where(hit, arrays["triangle_regions"][fragments.pix_to_face], SKIN)
    from_center = np.minimum(*(np.hypot(uv[..., 0] - u, uv[..., 1] - v) for u, v in EYE_ISLANDS))
    eye = np.where(from_center[..., None] < 0.016, 0.12, 0.85)
    color = np.where((region == EYES)[..., None], eye, color)
    shade = np.clip(0.45 + 0.55 * normals @ np.array([0.2, 0.4, 0.9]), 0.05, 1.1)
    return np.where(hit[..., None], np.clip(color * shade[..., None], 0, 1), 0.6).astype(np.float32), fragments


def _contour_paths(points: np.ndarray) -> list[np.ndarray]:
    """For each of the 17 jaw points, atlas positions (C, 2) from it inward to the face, along which it may slide."""
    center = points[33]
    steps = np.linspace(1.0, 0.6, CONTOUR_CANDIDATES)[:, None]
    return [center + steps * (point - center) for point in points[:17]]


def _draw(arrays, texture, path: Path) -> None:
    """Picture of the landmarks on the template, from the front and the side."""
    views = []
    for yaw in (0, 35):
        camera = _front_camera(yaw, 0)
        image, _ = _render(arrays, arrays["template"], texture, camera)
        corners = arrays["template"][arrays["triangles"][arrays["landmark_triangles"]]]
        points = np.einsum("nk,nkd->nd", arrays["landmark_barycentrics"], corners)
        picture = Image.fromarray((image * 255).astype(np.uint8))
        draw = ImageDraw.Draw(picture)
        for i, (x, y) in enumerate(camera.project(points)):
            draw.ellipse([x - 2, y - 2, x + 2, y + 2], fill=(0, 255, 0))
            draw.text((x + 3, y - 5), str(i), fill=(0, 0, 160))
        views.append(np.asarray(picture))
    Image.fromarray(np.concatenate(views, axis=1)).save(path)
