"""Masks of observed texels: the camera, what hides the face from it, and what is left."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest

from relightify_diffusers.head.model import EYES, INSIDE, SKIN
from relightify_diffusers.rendering.atlas import bake_atlas, interpolate
from relightify_diffusers.rendering.mesh import normalize
from relightify_diffusers.synthesis import masks as module
from relightify_diffusers.synthesis import occluders
from relightify_diffusers.synthesis.geometry import trace_geometry
from relightify_diffusers.synthesis.masks import MAX_YAW, ragged, sample_mask, visible_texels, without_islands
from relightify_diffusers.synthesis.occluders import OCCLUDERS, Scene, View, box, capsule, smooth_noise
from relightify_diffusers.synthesis.population import Person


def make_surface(head, texels, geometry):
    smooth = normalize(interpolate(geometry.normals, head.triangles, texels)).astype(np.float32)
    positions = interpolate(geometry.vertices, head.triangles, texels).astype(np.float32)
    return SimpleNamespace(positions=positions, smooth=smooth)


@pytest.fixture(scope="module")
def atlas(head):
    return {size: bake_atlas(head.atlas.uv, head.atlas.uv_triangles, size) for size in (64, 128)}


@pytest.fixture(scope="module")
def average(head):
    """The symmetric mean head."""
    person = Person(40.0, 0.5, 0.5, np.full(3, 1 / 3), np.zeros(len(head.identity_basis)))
    return trace_geometry(head, person, np.zeros(len(head.expression_names)))


@pytest.fixture(scope="module")
def surface(head, atlas, average):
    return make_surface(head, atlas[64], average)


@pytest.fixture(scope="module")
def drawn(head, atlas, average, surface):
    """60 masks of one head."""
    return [sample_mask(head, atlas[64], average, surface, np.random.default_rng([5, i])) for i in range(60)]


def front(head, average, yaw=0.0, pitch=0.0, distance=1.0) -> View:
    target = head.landmarks(average.vertices).mean(axis=0) * [0, 1, 0.8]
    return View.around(target, yaw, pitch, 0.0, distance)


def scene_of(head, average, points, yaw=0.0) -> Scene:
    return Scene.of(front(head, average, yaw), head.landmarks(average.vertices), np.atleast_2d(points).astype(float))


def face_scene(head, texels, average, surface, yaw=0.0):
    """The visible texels, seen from a yaw: their scene and their mask (N, N)."""
    view = front(head, average, yaw)
    visible = visible_texels(head, texels, average, surface, view, 0.28)
    return Scene.of(view, head.landmarks(average.vertices), surface.positions[visible].astype(float)), visible


def test_a_view_projects_the_target_to_the_middle_and_keeps_sizes_in_its_plane():
    target = np.array([0.0, 0.01, 0.07])
    view = View.around(target, 0, 0, 0, 1.0)
    points = target + np.array([[0, 0, 0], [0.02, 0, 0], [0, -0.03, 0], [0.02, 0.04, 0.5]])
    # A point half-way to the camera appears twice as large.
    np.testing.assert_allclose(view.project(points), [[0, 0], [0.02, 0], [0, -0.03], [0.04, 0.08]], atol=1e-12)
    np.testing.assert_allclose(view.eye, [0, 0.01, 1.07])


def test_positive_yaw_and_pitch_move_the_camera_to_the_subjects_left_and_up():
    left, above = (View.around(np.zeros(3), *angles, 0, 2.0).eye for angles in ((90, 0), (0, 90)))
    np.testing.assert_allclose(left, [2, 0, 0], atol=1e-12)
    np.testing.assert_allclose(above, [0, 2, 0], atol=1e-12)


def test_roll_keeps_an_orthonormal_right_handed_frame():
    axes = View.around(np.zeros(3), 33, -12, 20, 1.0).axes
    np.testing.assert_allclose(axes @ axes.T, np.eye(3), atol=1e-12)
    np.testing.assert_allclose(np.cross(axes[0], axes[1]), axes[2], atol=1e-12)


def test_signed_distances_by_hand():
    points = np.array([[0.0, 3.0], [5.0, 0.0], [0.0, 0.0]])
    start, end = np.array([-2.0, 0.0]), np.array([2.0, 0.0])
    np.testing.assert_allclose(capsule(points, start, end, (1, 1)), [2, 2, -1])
    np.testing.assert_allclose(box(points, np.zeros(2), np.array([2.0, 1.0]), 0, 0), [2, 3, -1])
    # A quarter turn exchanges the sides.
    np.testing.assert_allclose(box(points, np.zeros(2), np.array([2.0, 1.0]), np.pi / 2, 0), [1, 4, -1], atol=1e-12)


def test_smooth_noise_has_unit_variance_and_does_not_depend_on_the_other_points():
    points = np.random.default_rng(0).uniform(0, 1, (20000, 2))
    noise = smooth_noise(points, np.random.default_rng(1), 0.05)
    assert 0.8 < noise.std() < 1.2 and abs(noise.mean()) < 0.2
    np.testing.assert_array_equal(smooth_noise(points[::7], np.random.default_rng(1), 0.05), noise[::7])


def test_lines_of_sight_meet_planes_only_before_the_texel(head, average):
    scene = scene_of(head, average, [[0.02, 0.0, 0.08], [0.02, 0.0, 0.2]])
    place = scene.on_plane(2, 0.1)
    eye = scene.view.eye
    t = (eye[2] - 0.1) / (eye[2] - 0.08)
    np.testing.assert_allclose(place[0], eye + t * (scene.points[0] - eye))
    assert np.isnan(place[1]).all()


def test_a_frontal_mask_is_nearly_mirror_symmetric(head, atlas, average, surface):
    visible = visible_texels(
        head, atlas[128], average, make_surface(head, atlas[128], average), front(head, average), 0.28
    )
    assert 0.3 < visible.mean() < 0.5
    assert (visible != visible[:, ::-1]).sum() < 0.02 * visible.sum()


def test_a_profile_shows_one_side_only(head, atlas, average, surface):
    visible = visible_texels(head, atlas[64], average, surface, front(head, average, yaw=90), 0.28)
    skin = np.where(atlas[64].inside, head.atlas.triangle_regions[atlas[64].triangle], -1) == SKIN
    left = surface.positions[..., 0] > 0
    assert (visible & skin & left).sum() > 0.2 * (skin & left).sum()
    assert (visible & skin & ~left).sum() < 0.01 * (visible & skin).sum()


def test_nearer_cameras_see_less_of_the_sides(head, atlas, average, surface):
    near, far = (
        visible_texels(head, atlas[64], average, surface, front(head, average, distance=d), 0.28) for d in (0.4, 2.0)
    )
    assert near.sum() < 0.97 * far.sum()


def test_what_turns_away_or_is_no_surface_is_never_observed(head, atlas, surface, drawn):
    region = np.where(atlas[64].inside, head.atlas.triangle_regions[atlas[64].triangle], INSIDE)
    for mask in drawn:
        toward = View.around(np.zeros(3), mask.yaw, mask.pitch, 0, 1.0).axes[2]
        # Perspective at 0.4 m turns a line of sight by up to about 25 degrees.
        assert (surface.smooth[mask.observed] @ toward).min() > -0.3
        assert not mask.observed[region == INSIDE].any()


def test_the_back_of_the_head_is_not_observed_from_the_front(surface, drawn):
    frontal = [mask for mask in drawn if abs(mask.yaw) < 30]
    assert len(frontal) > 30
    assert all((surface.positions[mask.observed][:, 2] > -0.03).all() for mask in frontal)


def test_shares_and_angles_are_those_of_photos(head, atlas, drawn):
    shares = np.array([mask.observed.mean() for mask in drawn])
    assert 0.22 < np.median(shares) < 0.36 and shares.min() > 0.04 and shares.max() < 0.5
    yaw = np.abs([mask.yaw for mask in drawn])
    assert (yaw < 40).mean() > 0.7 and yaw.max() > 40 and yaw.max() <= MAX_YAW
    eyes = np.where(atlas[64].inside, head.atlas.triangle_regions[atlas[64].triangle], INSIDE) == EYES
    assert np.mean([(mask.observed & eyes).any() for mask in drawn]) > 0.7


def test_every_occluder_covers_part_of_some_face_and_no_more_than_it_may(head, atlas, average, surface):
    for number, (_, _, draw) in enumerate(OCCLUDERS):
        covered = []
        for i in range(12):
            scene, _ = face_scene(head, atlas[64], average, surface, yaw=15.0 * (i % 5) - 30)
            covered.append(draw(scene, np.random.default_rng([number, i])).mean())
        assert 0.003 < np.median(covered) < 0.7, (OCCLUDERS[number][0], np.median(covered))


def test_names_are_those_of_the_table_and_all_occur(head, atlas, average, surface, monkeypatch):
    raised = tuple((name, max(odds, 0.3), draw) for name, odds, draw in OCCLUDERS)
    monkeypatch.setattr(module, "OCCLUDERS", raised)
    names = set()
    for i in range(40):
        names |= set(sample_mask(head, atlas[64], average, surface, np.random.default_rng([6, i])).occluders)
    assert names == {name for name, _, _ in OCCLUDERS}


def test_an_occluder_that_hides_too_much_is_left_out(head, atlas, average, surface, monkeypatch):
    wall = ("wall", 1.0, lambda scene, rng: np.ones(len(scene.points), bool))
    corner = ("corner", 1.0, lambda scene, rng: scene.image[:, 0] > 0.03)
    monkeypatch.setattr(module, "OCCLUDERS", (wall, corner))
    scene, visible = face_scene(head, atlas[64], average, surface)
    covered, names = module.cover(scene, np.ones(visible.sum(), bool), np.random.default_rng(0))
    assert names == ("corner",)
    np.testing.assert_array_equal(covered, scene.image[:, 0] > 0.03)


def test_glasses_lie_about_the_eyes(head, atlas, average, surface):
    scene, _ = face_scene(head, atlas[128], average, make_surface(head, atlas[128], average))
    eyes = scene.landmarks[36:48].reshape(2, 6, 3).mean(axis=1)
    for i in range(10):
        covered = occluders.glasses(scene, np.random.default_rng(i))
        front_texels = scene.points[covered & (scene.points[:, 2] > eyes[0, 2] - 0.03)]
        assert covered.sum() > 100
        assert np.abs(front_texels[:, 1] - eyes[0, 1]).max() < 0.045
        # Both sides, and the same at both.
        right = (scene.points[covered][:, 0] < 0).mean()
        assert 0.3 < right < 0.7


def test_hair_and_hats_cover_from_above_and_collars_from_below(head, atlas, average, surface):
    scene, _ = face_scene(head, atlas[64], average, surface)
    y = scene.points[:, 1]
    brow, chin = scene.landmarks[17:27, 1].mean(), scene.landmarks[8, 1]
    for i in range(10):
        rng = np.random.default_rng(i)
        assert y[occluders.hairline(scene, rng)].min() > brow
        hat = occluders.hat(scene, rng)
        assert hat[y > brow + 0.075].all() and not hat[y < brow - 0.03].any()
        assert (y[occluders.collar(scene, rng)] < chin + 0.025).all()


def test_long_hair_hangs_beside_the_face(head, atlas, average, surface):
    scene, _ = face_scene(head, atlas[64], average, surface)
    middle = np.linalg.norm(scene.points - scene.landmarks[33], axis=-1) < 0.02
    assert middle.sum() > 10
    assert not any(occluders.curtains(scene, np.random.default_rng(i))[middle].any() for i in range(20))


def test_a_face_mask_covers_the_mouth_and_not_the_eyes(head, atlas, average, surface):
    scene, _ = face_scene(head, atlas[64], average, surface)
    mouth = np.linalg.norm(scene.points - scene.landmarks[57], axis=-1) < 0.012
    eyes = np.linalg.norm(scene.points - scene.landmarks[37], axis=-1) < 0.01
    for i in range(10):
        covered = occluders.face_mask(scene, np.random.default_rng(i))
        assert covered[mouth].all() and not covered[eyes].any()


def test_a_border_covers_half_planes_of_the_image(head, atlas, average, surface):
    scene, _ = face_scene(head, atlas[64], average, surface, yaw=20)
    for i in range(10):
        left = ~occluders.border(scene, np.random.default_rng(i))
        low, high = scene.image[left].min(axis=0), scene.image[left].max(axis=0)
        within = ((scene.image >= low) & (scene.image <= high)).all(axis=-1)
        np.testing.assert_array_equal(left, within)


def test_ragged_steps_back_and_respects_holes_of_the_chart():
    skin = np.ones((256, 256), bool)
    skin[120:136, 120:136] = False  # an eye: no skin there, but nothing covers it either
    kept = np.zeros_like(skin)
    kept[60:200, 60:200] = True
    kept &= skin
    kept[10:12, 10:12] = True  # a speck
    result = ragged(kept, skin, np.random.default_rng(0))
    assert not (result & ~kept).any()
    assert not result[60].any() and not result[10:12, 10:12].any()
    assert result[70:190, 70:190][skin[70:190, 70:190]].all()


def test_small_islands_are_dropped():
    mask = np.zeros((32, 32), bool)
    mask[4:24, 4:24] = True  # 400 texels, of which 2 % are 8
    mask[28:30, 28:30] = True
    mask[26:31, 2:7] = True
    result = without_islands(mask)
    assert not result[28:30, 28:30].any() and result[26:31, 2:7].all() and result[4:24, 4:24].all()
    assert not without_islands(np.zeros((8, 8), bool)).any()


def test_the_same_seed_gives_the_same_mask(head, atlas, average, surface, drawn):
    again = sample_mask(head, atlas[64], average, surface, np.random.default_rng([5, 7]))
    np.testing.assert_array_equal(again.observed, drawn[7].observed)
    assert (again.yaw, again.pitch, again.occluders) == (drawn[7].yaw, drawn[7].pitch, drawn[7].occluders)
    assert not np.array_equal(drawn[8].observed, drawn[7].observed)


def test_the_mask_hardly_depends_on_the_resolution(head, atlas, average, drawn):
    fine = make_surface(head, atlas[128], average)
    for i in range(8):
        mask = sample_mask(head, atlas[128], average, fine, np.random.default_rng([5, i]))
        enlarged = drawn[i].observed.repeat(2, axis=0).repeat(2, axis=1)
        assert mask.yaw == drawn[i].yaw
        assert (enlarged == mask.observed).mean() > 0.95
        assert abs(mask.observed.mean() - drawn[i].observed.mean()) < 0.03


def test_the_stream_ends_at_the_same_place_at_every_resolution(head, atlas, average, surface):
    fine, rngs = make_surface(head, atlas[128], average), [np.random.default_rng(3) for _ in range(2)]
    sample_mask(head, atlas[64], average, surface, rngs[0])
    sample_mask(head, atlas[128], average, fine, rngs[1])
    assert rngs[0].uniform() == rngs[1].uniform()
