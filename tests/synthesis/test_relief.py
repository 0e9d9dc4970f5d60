"""The relief: bump-mapped normals on analytic surfaces, strokes as drawn, and what age and expression do."""

from __future__ import annotations

import numpy as np
import pytest

from relightify_diffusers.head.regions import region_masks
from relightify_diffusers.rendering.atlas import bake_atlas
from relightify_diffusers.synthesis.population import Person
from relightify_diffusers.synthesis.relief import (
    CREASE_WIDTH,
    RIM_WIDTH,
    STEEPEST,
    atlas_scale,
    displaced_normals,
    draw_strokes,
    sample_relief,
)
from relightify_diffusers.synthesis.wrinkles import Stroke, sample_wrinkles

UNIFORM_SCALE = np.full((16, 16, 2), 256.0)


@pytest.fixture(scope="module")
def atlas(head):
    texels = bake_atlas(head.atlas.uv, head.atlas.uv_triangles, 128)
    return texels, region_masks(head, 128, texels)


def person(head, age: float) -> Person:
    return Person(age, 0.5, 0.5, np.full(3, 1 / 3), np.zeros(len(head.identity_basis)))


def pose(head, **weights) -> np.ndarray:
    return np.array([weights.get(name, 0.0) for name in head.expression_names])


def plane(size: int, step: float = 1e-3):
    rows, columns = np.meshgrid(np.arange(size), np.arange(size), indexing="ij")
    positions = np.stack([columns * step, -rows * step, np.zeros((size, size))], axis=-1)
    return positions, np.broadcast_to([0.0, 0.0, 1.0], positions.shape), np.ones((size, size), bool)


def sphere(size: int, radius: float = 0.1):
    longitude, latitude = np.meshgrid(np.linspace(-1, 1, size), np.linspace(1, -1, size))
    cosine = np.cos(latitude)
    normals = np.stack([np.sin(longitude) * cosine, np.sin(latitude), np.cos(longitude) * cosine], axis=-1)
    return radius * normals, normals, longitude


def unit(vectors: np.ndarray) -> np.ndarray:
    return vectors / np.linalg.norm(vectors, axis=-1, keepdims=True)


class TestDisplacedNormals:
    def test_no_height_changes_nothing(self):
        positions, normals, _ = sphere(24)
        result = displaced_normals(positions, normals, np.zeros((24, 24)), np.ones((24, 24), bool))
        assert np.abs(result - normals).max() < 1e-6

    def test_constant_height_changes_nothing(self):
        positions, normals, _ = sphere(24)
        result = displaced_normals(positions, normals, np.full((24, 24), 2e-3), np.ones((24, 24), bool))
        assert np.abs(result - normals).max() < 1e-6

    def test_ramp_on_a_plane_tilts_by_hand_computed_slopes(self):
        positions, normals, inside = plane(8)
        # 0.5 mm up for each mm to the right (+x), 0.25 mm for each mm down (-y): the normal is (-0.5, +0.25, 1).
        height = 0.5 * positions[..., 0] - 0.25 * positions[..., 1]
        expected = unit(np.array([-0.5, 0.25, 1.0]))
        assert np.abs(displaced_normals(positions, normals, height, inside) - expected).max() < 1e-6

    def test_sine_on_a_plane(self):
        positions, normals, inside = plane(200)
        period = 0.04
        x = positions[..., 0]
        height = 2e-3 * np.sin(2 * np.pi * x / period)
        slope = 2e-3 * 2 * np.pi / period * np.cos(2 * np.pi * x / period)
        expected = unit(np.stack([-slope, 0 * slope, 1 + 0 * slope], axis=-1))
        result = displaced_normals(positions, normals, height, inside)
        assert np.abs(result - expected)[:, 1:-1].max() < 2e-3

    def test_waves_on_a_sphere(self):
        positions, normals, longitude = sphere(201)
        amplitude, waves = 1e-4, 12
        height = amplitude * np.sin(waves * longitude)
        result = displaced_normals(positions, normals, height, np.ones((201, 201), bool))
        # Gradient on the sphere: derivative by longitude over r cos(latitude), along the unit vector of longitude.
        east = np.stack([np.cos(longitude), 0 * longitude, -np.sin(longitude)], axis=-1)
        cosine = np.hypot(normals[..., 0], normals[..., 2])
        slope = amplitude * waves * np.cos(waves * longitude) / (0.1 * cosine)
        expected = unit(normals - slope[..., None] * east)
        assert np.abs(result - expected)[1:-1, 1:-1].max() < 2e-3
        assert np.abs(expected - normals).max() > 0.01

    def test_handedness_of_the_map_does_not_matter(self):
        positions, normals, longitude = sphere(40)
        height = 1e-3 * np.sin(5 * longitude + 1)
        inside = np.ones((40, 40), bool)
        result = displaced_normals(positions, normals, height, inside)
        flipped = displaced_normals(positions[:, ::-1], normals[:, ::-1], height[:, ::-1], inside)
        assert np.abs(flipped[:, ::-1] - result).max() < 1e-6

    def test_what_lies_outside_the_chart_is_ignored(self):
        positions, normals, inside = plane(20)
        positions, inside = positions.copy(), inside.copy()
        inside[:, 12:] = False
        positions[:, 12:], height = 5.0, np.zeros((20, 20))
        height[:, 12:] = 1.0
        result = displaced_normals(positions, normals, height, inside)
        assert np.abs(result - normals).max() < 1e-6

    def test_steepest_slope_is_bounded_and_normals_are_unit(self):
        positions, normals, inside = plane(16)
        height = np.random.default_rng(0).normal(0, 0.1, (16, 16))
        result = displaced_normals(positions, normals, height, inside)
        assert np.abs(np.linalg.norm(result, axis=-1) - 1).max() < 1e-6
        assert result[..., 2].min() > 0.999 / np.hypot(1, STEEPEST)


class TestDrawStrokes:
    def test_straight_groove_has_its_depth_and_width(self):
        stroke = Stroke((0.2, 0.5), (0.8, 0.5), depth=0.4, width=3.0, rim=0.0)
        height, groove = draw_strokes([stroke], UNIFORM_SCALE, 256)
        profile = -height[:, 128]
        # One texel is 1 mm; the curve lies between rows 127 and 128, and the texel's filter widens 3 mm a little.
        assert profile[127] == pytest.approx(profile[128], rel=1e-6)
        assert profile[127] == pytest.approx(0.4 * 3 / np.sqrt(9.25) * np.exp(-0.25 / 18.5), rel=0.01)
        distance = np.arange(256) + 0.5 - 128
        assert (profile * distance**2).sum() / profile.sum() == pytest.approx(9.25, rel=0.02)
        # As a crease it counts less than a line of CREASE_WIDTH.
        np.testing.assert_allclose(groove[:, 128], profile * (CREASE_WIDTH / 3) ** 1.5, atol=1e-9)

    def test_vertical_stroke_is_the_transpose_of_a_horizontal_one(self):
        shape = {"depth": 0.4, "width": 1.0, "sag": 4.0, "wave": 1.0, "wobble": 1.0, "skew": 0.4, "ragged": 0.2}
        across, _ = draw_strokes([Stroke((0.2, 0.45), (0.8, 0.55), **shape)], UNIFORM_SCALE, 256)
        down, _ = draw_strokes([Stroke((0.45, 0.2), (0.55, 0.8), **shape)], UNIFORM_SCALE, 256)
        np.testing.assert_allclose(across, down.T, atol=1e-9)

    def test_ridge_rises_and_is_no_crease(self):
        height, groove = draw_strokes([Stroke((0.2, 0.5), (0.8, 0.5), -0.3, 2.0, rim=0.0)], UNIFORM_SCALE, 256)
        assert height.max() > 0.25
        assert height.min() > -1e-12
        assert groove.max() == 0

    def test_bulge_rises_beside_the_groove(self):
        height, _ = draw_strokes([Stroke((0.2, 0.5), (0.8, 0.5), 0.3, 2.0, rim=0.4)], UNIFORM_SCALE, 256)
        beside = round(1.5 * RIM_WIDTH * 2.0)
        assert height[128, 128] < -0.1
        assert height[128 + beside, 128] > 0.02

    def test_fine_strokes_fade_in_coarse_maps_instead_of_aliasing(self):
        stroke = Stroke((0.31, 0.47), (0.62, 0.55), 0.3, 0.4, sag=3.0, rim=0.0)
        heights = [draw_strokes([stroke], UNIFORM_SCALE, size)[0] for size in (32, 64, 256, 512)]
        volumes = [height.mean() for height in heights]
        np.testing.assert_allclose(volumes, volumes[-1], rtol=0.02)
        assert heights[0].min() > heights[1].min() > heights[2].min() > heights[3].min() > -0.3

    def test_strokes_beyond_the_map_are_cut(self):
        cut, beyond = Stroke((-0.2, 0.0), (1.3, 0.0), 0.3, 2.0, rim=0.0), Stroke((1.2, 0.2), (1.4, 0.3), 0.3, 2.0)
        height, _ = draw_strokes([cut, beyond], UNIFORM_SCALE, 64)
        assert height[0, 32] < -0.15
        assert np.all(height[32:] == 0)


class TestSampleRelief:
    def test_shapes_ranges_and_nothing_off_the_skin(self, head, texels, masks):
        relief = sample_relief(head, texels, masks, person(head, 70), pose(head), np.random.default_rng(0))
        assert relief.height.shape == relief.creases.shape == (32, 32)
        assert relief.height.dtype == relief.creases.dtype == np.float32
        assert relief.creases.min() >= 0 and 0.05 < relief.creases.max() <= 1
        assert 1e-5 < np.abs(relief.height).max() < 3e-3
        assert np.all(relief.height[masks["skin"] == 0] == 0)
        assert np.all(relief.creases[masks["skin"] == 0] == 0)

    def test_wrinkles_deepen_with_age(self, head, atlas):
        means = []
        for age in (20, 40, 60, 80):
            creases = [
                sample_relief(head, *atlas, person(head, age), pose(head), np.random.default_rng(k)).creases.mean()
                for k in range(3)
            ]
            means.append(np.mean(creases))
        assert means[0] < means[1] < means[2] < means[3]
        assert means[3] > 4 * means[0]

    @pytest.mark.parametrize(
        ("names", "row", "column"),
        [
            (("browInnerUp", "browOuterUpLeft", "browOuterUpRight"), 0.25, 0.5),
            (("browDownLeft", "browDownRight"), 0.35, 0.5),
            (("eyeSquintLeft", "eyeSquintRight"), 0.42, 0.27),
            (("mouthSmileLeft", "mouthSmileRight"), 0.69, 0.39),
            (("mouthFrownLeft", "mouthFrownRight"), 0.81, 0.38),
            (("noseSneerLeft", "noseSneerRight"), 0.46, 0.48),
            (("mouthPucker",), 0.7, 0.47),
        ],
    )
    def test_expressions_wrinkle_their_part_of_the_face(self, head, atlas, names, row, column):
        difference = 0
        for seed in range(4):
            still, moved = (
                sample_relief(head, *atlas, person(head, 45), expression, np.random.default_rng(seed)).creases
                for expression in (pose(head), pose(head, **dict.fromkeys(names, 0.9)))
            )
            difference = difference + moved - still
        near = difference[
            round(row * 128) - 6 : round(row * 128) + 7, round(column * 128) - 6 : round(column * 128) + 7
        ]
        assert near.mean() > 5 * np.abs(difference).mean()

    def test_a_one_sided_smile_folds_one_cheek(self, head, atlas):
        still, smile = (
            sample_relief(head, *atlas, person(head, 40), expression, np.random.default_rng(1)).creases
            for expression in (pose(head), pose(head, mouthSmileLeft=0.9))
        )
        deeper = (smile - still)[64:]
        assert deeper[:, 70:].sum() > 5
        assert np.abs(deeper[:, :58]).max() < 0.05

    def test_sides_are_alike_but_not_the_same(self, head, atlas):
        creases = sample_relief(head, *atlas, person(head, 70), pose(head), np.random.default_rng(2)).creases
        right, left = creases[:, :64].ravel(), creases[:, :63:-1].ravel()
        assert 0.6 < np.corrcoef(right, left)[0, 1] < 0.995

    def test_random_stream_depends_on_neither_size_age_nor_expression(self, head, texels, masks, atlas):
        states = []
        for size, age, expression in ((32, 30, pose(head)), (128, 30, pose(head)), (32, 80, pose(head, jawOpen=0.5))):
            rng = np.random.default_rng(3)
            sample_relief(head, *((texels, masks) if size == 32 else atlas), person(head, age), expression, rng)
            states.append(rng.bit_generator.state["state"])
        assert states[0] == states[1] == states[2]

    def test_same_person_at_another_size(self, head, atlas):
        texels = bake_atlas(head.atlas.uv, head.atlas.uv_triangles, 256)
        fine = (texels, region_masks(head, 256, texels))
        large, small = (
            sample_relief(head, *maps, person(head, 70), pose(head), np.random.default_rng(4))
            for maps in (fine, atlas)
        )
        averaged = large.creases.reshape(128, 2, 128, 2).mean(axis=(1, 3))
        assert np.corrcoef(averaged.ravel(), small.creases.ravel())[0, 1] > 0.97

    def test_people_differ(self, head, atlas):
        first, second = (
            sample_relief(head, *atlas, person(head, 70), pose(head), np.random.default_rng(k)).creases for k in (5, 6)
        )
        again = sample_relief(head, *atlas, person(head, 70), pose(head), np.random.default_rng(5)).creases
        np.testing.assert_array_equal(first, again)
        assert np.abs(first - second).max() > 0.2


def test_atlas_scale_is_that_of_a_face(head, texels):
    scale = atlas_scale(head, texels)
    assert scale.shape == (32, 32, 2)
    u, v = head.landmark_uv[[36, 45]].mean(axis=0)
    local = scale[int(v * 32), int(u * 32)]
    # Between the eyes' outer corners, at some 90 mm in 0.35 of the atlas.
    assert np.all((local > 150) & (local < 500))


def test_strokes_stay_in_the_atlas_and_within_plausible_depths(head, texels):
    scale = atlas_scale(head, texels)
    for seed in range(5):
        strokes = sample_wrinkles(head, scale, person(head, 80), pose(head), np.random.default_rng(seed))
        ends = np.array([[s.start, s.end] for s in strokes])
        assert np.all((ends > 0) & (ends < 1))
        assert max(abs(s.depth) for s in strokes) < 3.5
        assert all(0.3 < s.width < 4 for s in strokes)
