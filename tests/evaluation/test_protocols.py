"""Held-out subjects and the table made of them."""

from __future__ import annotations

import json

import numpy as np
import pytest

from relightify_diffusers import evaluation
from relightify_diffusers.errors import UsageError
from relightify_diffusers.evaluation.protocols import CAMERA_DISTANCE, SEED_OFFSET, Subject, subjects, visible_texels
from relightify_diffusers.head.model import INSIDE, HeadModel
from relightify_diffusers.maps import LAYOUT
from relightify_diffusers.rendering.atlas import AtlasTexels, bake_atlas, interpolate
from relightify_diffusers.synthesis.geometry import Geometry, sample_geometry, trace_geometry
from relightify_diffusers.synthesis.population import Person
from relightify_diffusers.synthesis.relief import Relief
from relightify_diffusers.synthesis.sample import VARIANTS, generate
from relightify_diffusers.synthesis.sources import SkinSources
from relightify_diffusers.synthesis.surface import Surface, SurfaceSampler, base_surface

R = 32
YAWS = (0.0, 60.0)


@pytest.fixture(scope="module")
def head() -> HeadModel:
    return HeadModel.bundled()


@pytest.fixture(scope="module")
def geometry(head) -> Geometry:
    return sample_geometry(head, np.random.default_rng(0))


def visible(head: HeadModel, texels: AtlasTexels, geometry: Geometry, yaw: float) -> np.ndarray:
    """visible_texels of the surface without relief."""
    positions, smooth = base_surface(head, SurfaceSampler.of(head, texels), geometry.vertices)
    flat = np.zeros(texels.inside.shape, np.float32)
    return visible_texels(head, texels, geometry, Surface(positions, smooth, smooth, Relief(flat, flat)), yaw)


@pytest.fixture(scope="module")
def three(head) -> list[Subject]:
    return list(subjects(head, 3, R, 0, YAWS))


def test_subjects(three):
    assert [subject.yaw for subject in three] == [0, 60, 0]
    assert len({subject.tone for subject in three}) == 3
    for subject in three:
        assert tuple(subject.maps) == LAYOUT.names
        for values in subject.maps.values():
            assert values.shape == (R, R, 3) and values.min() >= 0 and values.max() <= 1
        assert subject.observed.shape == subject.face.shape == (R, R)
        assert subject.observed.dtype == subject.face.dtype == bool
        hidden = subject.face & ~subject.observed
        assert (subject.observed & subject.face).sum() > 100 and hidden.sum() > 50
    # The same face mask for all, and more hidden of a head that is turned.
    np.testing.assert_array_equal(three[0].face, three[1].face)
    assert three[1].observed.sum() < 0.8 * three[0].observed.sum()


def test_truth_is_the_sample_averaged(head, three):
    """Subject 1 is the first sample of the second geometry of an offset seed; cells of 2 x 2 texels are averaged."""
    texels = bake_atlas(head.atlas.uv, head.atlas.uv_triangles, 2 * R)
    sample = generate(head, SkinSources.load(head, texels, None), SEED_OFFSET, VARIANTS)
    assert three[1].tone == sample.tone
    expected = sample.maps["diffuse_albedo"].reshape(R, 2, R, 2, 3).mean(axis=(1, 3))
    np.testing.assert_allclose(three[1].maps["diffuse_albedo"], expected, atol=1e-6)


def test_subjects_do_not_depend_on_their_number(head, three):
    (first,) = subjects(head, 1, R, 0, YAWS)
    np.testing.assert_array_equal(first.maps["texture"], three[0].maps["texture"])
    np.testing.assert_array_equal(first.observed, three[0].observed)
    (other,) = subjects(head, 1, R, 1, YAWS)
    assert np.abs(other.maps["texture"] - first.maps["texture"]).mean() > 0.01


def test_visible_texels(head, geometry):
    """From the front the face and never the back; from the side that side."""
    texels = bake_atlas(head.atlas.uv, head.atlas.uv_triangles, 64)
    points = interpolate(geometry.vertices, head.triangles, texels)
    back = texels.inside & (points[..., 2] < -0.03)
    inside = texels.inside & (head.atlas.triangle_regions[texels.triangle] == INSIDE)
    views = {yaw: visible(head, texels, geometry, yaw) for yaw in (-60, 0, 60)}
    assert not views[0][back].any()
    for view in views.values():
        assert view.dtype == bool and not view[inside].any() and not view[~texels.inside].any()
    row, column = (head.landmark_uv[29, ::-1] * 64).astype(int)
    assert views[0][row, column]  # the nose
    left, right = np.s_[:, 40:], np.s_[:, :24]  # of the subject
    assert views[60][left].sum() > 3 * views[60][right].sum()
    assert views[-60][right].sum() > 3 * views[-60][left].sum()


def test_covered_texels_are_hidden(head, geometry):
    """What a ray from the camera reaches only after another surface is not seen, however it faces."""
    texels = bake_atlas(head.atlas.uv, head.atlas.uv_triangles, 64)
    angle = np.radians(45)
    camera = CAMERA_DISTANCE * np.array([np.sin(angle), 0, np.cos(angle)])
    points = interpolate(geometry.vertices, head.triangles, texels)[texels.inside]
    _, share = geometry.rasterizer.intersect(camera, points - camera)
    towards = (camera - points) / np.linalg.norm(camera - points, axis=1, keepdims=True)
    normals = interpolate(geometry.normals, head.triangles, texels)[texels.inside]
    covered = (share < 0.99) & ((normals * towards).sum(axis=1) > 0.4)
    assert covered.sum() > 20
    assert not visible(head, texels, geometry, 45)[texels.inside][covered].any()


def test_visibility_of_a_symmetric_head_is_symmetric(head):
    texels = bake_atlas(head.atlas.uv, head.atlas.uv_triangles, 64)
    person = Person(40.0, 0.5, 0.5, np.full(3, 1 / 3), np.zeros(len(head.identity_basis)))
    template = trace_geometry(head, person, np.zeros(len(head.expression_names)))
    np.testing.assert_array_equal(template.vertices, head.template)
    right, left = (visible(head, texels, template, yaw) for yaw in (-30, 30))
    assert right.sum() > 500
    assert (right != left[:, ::-1]).sum() < 0.04 * right.sum()


def test_run_prints_a_table_and_writes_it(tmp_path, capsys):
    path = tmp_path / "table.json"
    assert evaluation.run(2, path, method="gaussian") == 0
    lines = capsys.readouterr().out.strip().splitlines()
    assert [line.split("|")[1].strip() for line in lines] == ["method", "---", "texture as albedo", "gaussian"]
    assert len({line.count("|") for line in lines}) == 1
    record = json.loads(path.read_text())
    assert (record["subjects"], record["seed"], record["skins"], record["yaws"]) == (2, 0, "procedural", [0, 30, 60])
    known, gaussian = record["rows"]
    assert gaussian["method"] == "gaussian" and gaussian["unet_calls"] == 0
    assert 0 < gaussian["seconds"] < 30
    # Completing beats nothing: a person's hidden texture and albedo come out better than the lit texture taken for it.
    assert gaussian["hidden_texture_psnr"] > 20
    assert gaussian["diffuse_albedo_psnr"] > known["diffuse_albedo_psnr"]
    assert gaussian["normal_error_deg"] < 15
    assert gaussian["true_mean_albedo"] == known["true_mean_albedo"]
    assert known["border_step"] == known["true_border_step"] == gaussian["true_border_step"]


def test_run_refuses(tmp_path):
    with pytest.raises(UsageError, match="no method 'magic'"):
        evaluation.run(1, method="magic")
    assert not list(tmp_path.iterdir())
