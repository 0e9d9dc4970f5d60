"""Build the UV atlas from MakeHuman's head chart: upright, symmetric, magnified around the face.

Used once, by head/build.py; running the package needs only its result in assets/head.npz.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import scipy.sparse as sp
from scipy.sparse.csgraph import connected_components
from scipy.sparse.linalg import spsolve

from relightify_diffusers.head.model import EYES, INSIDE, SKIN
from relightify_diffusers.head.regions import EYE_ISLANDS


@dataclass(frozen=True)
class Atlas:
    """Result of the atlas construction.

    uv: (T, 2) in [0, 1], origin at the top left. uv_triangles: (F, 3). triangle_regions: (F,) SKIN, EYES or INSIDE.
    makehuman_uv: (T, 2), the MakeHuman UV (v up) of each atlas vertex, NaN where it has none in the head chart.
    """

    uv: np.ndarray
    uv_triangles: np.ndarray
    triangle_regions: np.ndarray
    makehuman_uv: np.ndarray


@dataclass(frozen=True)
class Magnification:
    """A separable asinh magnification of the upright MakeHuman head chart.

    center: chart coordinates (x, y) of the point that is magnified most. scale: chart length over which the density
    falls off, per axis. skin_box: (left, top, right, bottom) that the skin takes in the atlas.
    """

    center: tuple[float, float]
    scale: tuple[float, float]
    skin_box: tuple[float, float, float, float] = (0.004, 0.004, 0.996, 0.95)
    neck_bottom: float = 0.994
    eye_centers: tuple[tuple[float, float], tuple[float, float]] = EYE_ISLANDS
    eye_radius: float = 0.048
    # Disc islands in the gap above the forehead for what a closed face hides: (center u, center v, radius).
    socket_discs: tuple[tuple[float, float, float], ...] = ((0.43, 0.028, 0.022), (0.57, 0.028, 0.022))
    mouth_disc: tuple[float, float, float] = (0.5, 0.042, 0.036)


def split_charts(uv_triangles: np.ndarray) -> np.ndarray:
    """Label each triangle (F,) with the connected UV chart it belongs to."""
    count = uv_triangles.max() + 1
    edges = np.concatenate([uv_triangles[:, [0, 1]], uv_triangles[:, [1, 2]]])
    graph = sp.coo_matrix((np.ones(len(edges)), (edges[:, 0], edges[:, 1])), shape=(count, count))
    return connected_components(graph, directed=False)[1][uv_triangles[:, 0]]


def boundary_loop(triangles: np.ndarray) -> np.ndarray:
    """Vertices of the edges that belong to one triangle only, as an unordered set."""
    edges = np.sort(np.concatenate([triangles[:, [0, 1]], triangles[:, [1, 2]], triangles[:, [2, 0]]]), axis=1)
    unique, counts = np.unique(edges, axis=0, return_counts=True)
    return np.unique(unique[counts == 1])


def tutte_embedding(triangles: np.ndarray, fixed: dict[int, np.ndarray]) -> dict[int, np.ndarray]:
    """Place the vertices of a disc-like mesh as averages of their neighbors (Tutte 1963), given its boundary."""
    vertices = np.unique(triangles)
    index = {int(v): i for i, v in enumerate(vertices)}
    edges = np.sort(np.concatenate([triangles[:, [0, 1]], triangles[:, [1, 2]], triangles[:, [2, 0]]]), axis=1)
    edges = np.unique(edges, axis=0)
    i = np.array([index[int(v)] for v in edges[:, 0]])
    j = np.array([index[int(v)] for v in edges[:, 1]])
    n = len(vertices)
    adjacency = sp.coo_matrix((np.ones(2 * len(i)), (np.r_[i, j], np.r_[j, i])), shape=(n, n)).tocsr()
    laplacian = sp.diags(np.asarray(adjacency.sum(1)).ravel()) - adjacency
    known = np.array([int(v) in fixed for v in vertices])
    positions = np.zeros((n, 2))
    positions[known] = np.array([fixed[int(v)] for v in vertices[known]])
    rhs = -laplacian[~known][:, known] @ positions[known]
    positions[~known] = spsolve(laplacian[~known][:, ~known].tocsc(), rhs)
    return {int(v): positions[k] for k, v in enumerate(vertices)}


def signed_areas(uv: np.ndarray, triangles: np.ndarray) -> np.ndarray:
    """Signed area (F,) of UV triangles; the sign tells a flipped triangle."""
    a, b, c = (uv[triangles[:, k]] for k in range(3))
    return 0.5 * ((b - a)[:, 0] * (c - a)[:, 1] - (b - a)[:, 1] * (c - a)[:, 0])


def build_atlas(
    vertices: np.ndarray,
    triangles: np.ndarray,
    makehuman_uv: np.ndarray,
    makehuman_triangles: np.ndarray,
    magnification: Magnification,
) -> Atlas:
    """Flatten the head into one skin chart with two eye islands.

    The skin keeps MakeHuman's layout (rotated upright, magnified); the front of the neck, which has a chart of its own
    there, is joined to it below the chin. The eye sockets and the mouth's inside, which no photo shows, get small disc
    islands. vertices (V, 3) are in the head frame.
    """
    charts = split_charts(makehuman_triangles)
    sizes = {chart: int((charts == chart).sum()) for chart in np.unique(charts)}
    skin = max(sizes, key=lambda chart: sizes[chart])
    regions = np.full(len(triangles), INSIDE)
    regions[charts == skin] = SKIN

    uv_of_mh = {int(i): k for k, i in enumerate(np.unique(makehuman_triangles[charts == skin]))}
    mh_indices = np.array(list(uv_of_mh))
    chart_xy = np.stack([makehuman_uv[mh_indices, 1], makehuman_uv[mh_indices, 0]], axis=1)
    uv = [_magnify(chart_xy, magnification)]
    mh = [makehuman_uv[mh_indices]]
    uv_triangles = np.full_like(triangles, -1)
    uv_triangles[charts == skin] = np.vectorize(uv_of_mh.get)(makehuman_triangles[charts == skin])
    # One atlas position per 3D vertex for joining; where the scalp is cut a vertex has two, but nothing joins there.
    skin_position = dict(
        zip(triangles[charts == skin].ravel().tolist(), uv_triangles[charts == skin].ravel().tolist())
    )

    lowest_skin = vertices[triangles[charts == skin]][..., 1].min()
    total = len(mh_indices)
    for chart in sizes:
        if chart == skin:
            continue
        own = charts == chart
        shared = [int(v) for v in np.unique(triangles[own]) if int(v) in skin_position]
        is_neck = bool(shared) and vertices[triangles[own]][..., 1].min() < lowest_skin
        if is_neck:
            regions[own] = SKIN
            fixed = {v: uv[0][skin_position[v]] for v in shared}
            fixed |= _neck_rim(vertices, triangles[own], shared, fixed, magnification.neck_bottom)
            placed = tutte_embedding(triangles[own], fixed)
        elif shared:
            placed = tutte_embedding(triangles[own], _disc_rim(vertices, triangles[own], shared, magnification))
            shared = []  # an island of its own: its rim is doubled
        else:
            regions[own] = EYES
            eye = np.unique(triangles[own])
            placed = dict(zip(eye.tolist(), _eye_island(vertices[eye], magnification)))
        new = [v for v in placed if v not in shared]
        ids = {v: total + k for k, v in enumerate(new)} | {v: skin_position[v] for v in shared}
        uv.append(np.array([placed[v] for v in new]))
        mh.append(np.full((len(new), 2), np.nan))
        uv_triangles[own] = np.vectorize(ids.get)(triangles[own])
        total += len(new)
    return Atlas(np.concatenate(uv), uv_triangles, regions, np.concatenate(mh))


def _magnify(xy: np.ndarray, m: Magnification) -> np.ndarray:
    warped = np.arcsinh((xy - np.array(m.center)) / np.array(m.scale))
    # The x extent is symmetric by construction, so that flipping the image mirrors the face.
    half = np.abs(warped[:, 0]).max()
    top, bottom = warped[:, 1].min(), warped[:, 1].max()
    left, up, right, down = m.skin_box
    u = (left + right) / 2 + warped[:, 0] / half * (right - left) / 2
    v = up + (warped[:, 1] - top) / (bottom - top) * (down - up)
    return np.stack([u, v], axis=1)


def _eye_island(vertices: np.ndarray, m: Magnification) -> np.ndarray:
    """Azimuthal equidistant map of an eyeball's front about +Z."""
    side = int(vertices[:, 0].mean() > 0)
    front = vertices[vertices[:, 2].argmax()]
    # The eyeball's center: behind its foremost point by the largest radius seen from the front.
    radius = np.linalg.norm(vertices[:, :2] - front[:2], axis=1).max()
    offset = vertices - (front - np.array([0, 0, radius]))
    angle = np.arccos(np.clip(offset[:, 2] / np.linalg.norm(offset, axis=1), -1, 1))
    azimuth = np.arctan2(offset[:, 1], offset[:, 0])
    r = angle / angle.max() * m.eye_radius
    return np.stack([m.eye_centers[side][0] + r * np.cos(azimuth), m.eye_centers[side][1] - r * np.sin(azimuth)], 1)


def _disc_rim(vertices, triangles, shared, m: Magnification) -> dict[int, np.ndarray]:
    """Positions on a circle for the rim of an eye socket or of the mouth, in the order of the rim."""
    rim = vertices[shared]
    center = rim.mean(0)
    if abs(center[0]) < 0.005:
        cu, cv, radius = m.mouth_disc
    else:
        cu, cv, radius = m.socket_discs[int(center[0] > 0)]
    order = _walk_loop(triangles, shared)
    points = vertices[order]
    length = np.r_[0, np.cumsum(np.linalg.norm(np.diff(points, axis=0, append=points[:1]), axis=1))]
    start = np.arctan2(points[0, 1] - center[1], points[0, 0] - center[0])
    second = np.arctan2(points[1, 1] - center[1], points[1, 0] - center[0])
    turn = np.sign(np.angle(np.exp(1j * (second - start))))
    angle = start + turn * 2 * np.pi * length[:-1] / length[-1]
    return {v: np.array([cu + radius * np.cos(a), cv - radius * np.sin(a)]) for v, a in zip(order, angle)}


def _walk_loop(triangles: np.ndarray, loop: list[int]) -> list[int]:
    """Order the vertices of one boundary loop by walking along its edges."""
    edges = np.sort(np.concatenate([triangles[:, [0, 1]], triangles[:, [1, 2]], triangles[:, [2, 0]]]), axis=1)
    unique, counts = np.unique(edges, axis=0, return_counts=True)
    neighbors: dict[int, list[int]] = {v: [] for v in loop}
    for a, b in unique[counts == 1].tolist():
        if a in neighbors and b in neighbors:
            neighbors[a].append(b)
            neighbors[b].append(a)
    order = [min(loop)]
    while len(order) < len(loop):
        order.append(next(v for v in sorted(neighbors[order[-1]]) if v not in order))
    return order


def _neck_rim(vertices, triangles, shared, fixed, bottom) -> dict[int, np.ndarray]:
    """Atlas positions of the front neck's lower rim: an arc from one side of the neck to the other, below the chin."""
    rim = [int(v) for v in boundary_loop(triangles) if int(v) not in shared]
    flanks = [
        min((v for v in shared if sign * vertices[v, 0] > 0.05), key=lambda v: vertices[v, 1]) for sign in (-1, 1)
    ]
    left, right = (fixed[v] for v in flanks)
    order = np.argsort([vertices[v, 0] for v in rim])
    length = np.r_[
        0,
        np.cumsum(
            np.linalg.norm(np.diff(vertices[flanks[:1] + [rim[k] for k in order] + flanks[1:]], axis=0), axis=1)
        ),
    ]
    t = (length / length[-1])[1:-1] * 2 - 1
    side_height = (left[1] + right[1]) / 2
    u = (left[0] + right[0]) / 2 + t * (right[0] - left[0]) / 2
    v = side_height + (bottom - side_height) * (1 - np.abs(t) ** 3)
    return {rim[k]: np.array([u[i], v[i]]) for i, k in enumerate(order)}
