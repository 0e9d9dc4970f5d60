"""The bundled atlas is upright, symmetric, bijective and even over the face; and the pieces it is built with."""

from __future__ import annotations

import numpy as np
import pytest

from relightify_diffusers.head.build_atlas import boundary_loop, signed_areas, split_charts, tutte_embedding
from relightify_diffusers.head.model import EYES, INSIDE, SKIN, HeadModel
from relightify_diffusers.head.regions import ROUGHNESS, region_masks, roughness_map
from relightify_diffusers.rendering.atlas import AtlasTexels, bake_atlas


@pytest.fixture(scope="module")
def head() -> HeadModel:
    return HeadModel.bundled()


@pytest.fixture(scope="module")
def baked(head) -> AtlasTexels:
    return bake_atlas(head.atlas.uv, head.atlas.uv_triangles, 512)


@pytest.fixture(scope="module")
def masks(head) -> dict[str, np.ndarray]:
    return region_masks(head, 64)


def areas(head: HeadModel) -> np.ndarray:
    return signed_areas(head.atlas.uv.astype(np.float64), head.atlas.uv_triangles)


def test_inside_the_image(head):
    assert head.atlas.uv.min() >= 0 and head.atlas.uv.max() <= 1


def test_flip_mirrors_the_skin(head):
    """A vertex at (u, v) has its mirror image at (1 - u, v), but for small unevenness of MakeHuman's own chart."""
    skin = head.atlas.triangle_regions == SKIN
    positions: dict[int, set[int]] = {}
    for vertex, position in zip(head.triangles[skin].ravel().tolist(), head.atlas.uv_triangles[skin].ravel().tolist()):
        positions.setdefault(vertex, set()).add(position)
    errors = []
    for vertex, places in positions.items():
        others = head.atlas.uv[list(positions[int(head.mirror[vertex])])]
        errors += [np.abs(head.atlas.uv[place] * [-1, 1] + [1, 0] - others).max(axis=1).min() for place in places]
    assert len(errors) > 3000
    # The rest, up to 0.8 texel of a 256 map, is the unevenness of the upper lip.
    assert np.quantile(errors, 0.99) < 2e-3
    assert max(errors) < 3.5e-3


def test_flip_mirrors_the_eyes(head):
    """Right and left eye have their islands on their own side, at mirrored places."""
    eyes = head.atlas.triangle_regions == EYES
    uv = head.atlas.uv[head.atlas.uv_triangles[eyes]].mean(axis=1)
    x = head.template[head.triangles[eyes]].mean(axis=1)[:, 0]
    right, left = uv[x < 0], uv[x > 0]
    assert right[:, 0].max() < 0.15 and left[:, 0].min() > 0.85
    assert len(right) == len(left)
    np.testing.assert_allclose(right.mean(axis=0) * [-1, 1] + [1, 0], left.mean(axis=0), atol=2e-3)


def test_upright(head):
    """The top of the image is the top of the face, the left of the image the subject's right."""
    skin = head.atlas.triangle_regions == SKIN
    uv = head.atlas.uv[head.atlas.uv_triangles[skin]].mean(axis=1)
    points = head.template[head.triangles[skin]].mean(axis=1)
    face = (np.abs(uv[:, 0] - 0.5) < 0.25) & (np.abs(uv[:, 1] - 0.55) < 0.3)
    assert np.corrcoef(uv[face, 0], points[face, 0])[0, 1] > 0.95
    assert np.corrcoef(uv[face, 1], points[face, 1])[0, 1] < -0.95


def test_no_triangle_is_flipped(head):
    """One orientation for all: what is counterclockwise on the mesh is so in the image, whose v axis points down."""
    assert (areas(head) < 0).all()


def test_bijective(head, baked):
    """No overlaps: each region covers as many texels as its triangles' areas add up to, and all of them are hit."""
    regions = head.atlas.triangle_regions
    for region in (SKIN, EYES, INSIDE):
        covered = (baked.inside & (regions[baked.triangle] == region)).mean()
        assert covered == pytest.approx(np.abs(areas(head)[regions == region]).sum(), rel=0.02), region
    assert baked.inside.mean() == pytest.approx(np.abs(areas(head)).sum(), rel=0.005)
    large = np.flatnonzero(np.abs(areas(head)) > 8 / 512**2)
    assert np.isin(large, baked.triangle).mean() > 0.999
    charts = split_charts(head.atlas.uv_triangles)
    # One chart of skin, two eyes, and the three islands of what a closed face hides.
    assert [len(np.unique(charts[regions == region])) for region in (SKIN, EYES, INSIDE)] == [1, 2, 3]


def test_texel_density(head):
    """The face has most of the atlas and its texels' size varies less than 3:1."""
    corners = head.template[head.triangles].astype(np.float64)
    area = np.linalg.norm(np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0]), axis=1) / 2
    uv_area = np.abs(areas(head))
    # The face: within the outline of the brows and the jaw line.
    landmarks = head.landmarks(head.template)
    center = corners.mean(axis=1)
    x_limit, bottom, top = np.abs(landmarks[[1, 15], 0]).min(), landmarks[8, 1], landmarks[17:27, 1].max()
    face = (np.abs(center[:, 0]) < x_limit) & (center[:, 1] > bottom) & (center[:, 1] < top) & (center[:, 2] > 0.03)
    face &= head.atlas.triangle_regions == SKIN
    order = np.argsort(area[face] / uv_area[face])
    share = np.cumsum(area[face][order]) / area[face].sum()
    density = 1000 * np.sqrt((area[face] / uv_area[face])[order]) / 256  # millimeters per texel of a 256 map
    low, high = (density[np.searchsorted(share, p)] for p in (0.05, 0.95))
    assert high / low < 3
    assert 0.4 < low < high < 2.5
    assert uv_area[face].sum() > 0.3  # a few per cent of the head's skin would do at even density
    recorded = head.provenance["texel_density_mm_at_256"]
    assert recorded["p5"] < recorded["p50"] < recorded["p95"] < 3 * recorded["p5"]


def test_masks(head, masks):
    for name, mask in masks.items():
        assert mask.shape == (64, 64) and mask.dtype == np.float32, name
        assert mask.min() >= 0 and mask.max() <= 1.0001 and mask.max() > 0.3, name
    skin = masks["skin"] > 0
    for name in set(masks) - {"skin", "eyes", "inside"}:
        assert (masks[name][~skin] == 0).all(), name
        # Both sides alike, where the chart has both, up to the pixels of the polygons.
        both = skin & skin[:, ::-1]
        assert np.abs(masks[name] - masks[name][:, ::-1])[both].max() < 0.08, name
    total = masks["skin"] + masks["eyes"] + masks["inside"]
    assert set(np.unique(total)) == {0, 1}  # regions are disjoint


def test_masks_lie_where_the_landmarks_are(head, masks):
    rows, columns = (head.landmark_uv[:, ::-1] * 64).astype(int).T

    def at(name, point):
        return masks[name][rows[point], columns[point]]

    assert min(at("lips", 51), at("lips", 57)) > 0.5
    assert min(at("brows", 19), at("brows", 24)) > 0.3
    assert at("nose", 29) > 0.5 and at("nose", 8) < 0.05
    assert at("lids", 37) > 0.3 and at("chin", 57) < 0.5 < masks["chin"][int(0.86 * 64), 32]
    assert at("beard", 8) > 0.3 and at("beard", 27) < 0.01
    assert masks["scalp"][6, 20] > 0.9 and at("scalp", 30) < 0.01


def test_roughness(masks):
    roughness = roughness_map(masks)
    assert roughness.min() >= min(ROUGHNESS.values()) - 1e-4 and roughness.max() <= max(ROUGHNESS.values()) + 1e-4
    assert roughness[masks["eyes"] == 1].max() == pytest.approx(ROUGHNESS["eyes"], abs=1e-4)
    # A full mask gives the table's value; half a mask the mean of it and what lies below.
    flat = {name: np.zeros((1, 3), np.float32) for name in masks} | {"nose": np.array([[0, 0.5, 1]], np.float32)}
    expected = [ROUGHNESS["skin"], (ROUGHNESS["skin"] + ROUGHNESS["nose"]) / 2, ROUGHNESS["nose"]]
    np.testing.assert_allclose(roughness_map(flat)[0], expected, atol=1e-6)


def test_signed_areas_and_charts():
    uv = np.array([[0, 0], [1, 0], [0, 1], [1, 1], [5, 5], [6, 5], [5, 6.0]])
    triangles = np.array([[0, 1, 2], [1, 2, 3], [4, 5, 6]])
    np.testing.assert_allclose(signed_areas(uv, triangles), [0.5, -0.5, 0.5])
    charts = split_charts(triangles)
    assert charts[0] == charts[1] != charts[2]


def test_tutte_places_a_vertex_between_its_neighbors():
    """A square fan: the hub of four fixed corners is their mean; of its boundary all but the hub is found."""
    triangles = np.array([[0, 1, 4], [1, 2, 4], [2, 3, 4], [3, 0, 4]])
    np.testing.assert_array_equal(boundary_loop(triangles), [0, 1, 2, 3])
    corners = {0: np.array([0.0, 0]), 1: np.array([1.0, 0]), 2: np.array([1.0, 1]), 3: np.array([0.0, 3])}
    placed = tutte_embedding(triangles, corners)
    np.testing.assert_allclose(placed[4], [0.5, 1.0])
    np.testing.assert_allclose(placed[3], [0, 3])
