"""A sample depends on its seed and index alone, and its maps are what training expects."""

from __future__ import annotations

import numpy as np
import pytest

from relightify_diffusers.maps import BACKGROUND, LAYOUT
from relightify_diffusers.rendering.atlas import bake_atlas, interpolate
from relightify_diffusers.rendering.mesh import normalize
from relightify_diffusers.synthesis.sample import VARIANTS, generate, geometry_of
from relightify_diffusers.synthesis.skin import SkinSources


@pytest.fixture(scope="module")
def samples(head, sources):
    """Samples 0 to 5 of seed 5: two geometries."""
    return [generate(head, sources, 5, index) for index in range(6)]


def test_order_does_not_matter(head, sources, samples):
    """Alone, out of order or with the geometry handed in: the same sample, bit for bit."""
    alone = generate(head, sources, 5, 5)
    handed = generate(head, sources, 5, 5, geometry_of(head, 5, 4))
    for name in LAYOUT.names:
        np.testing.assert_array_equal(alone.maps[name], samples[5].maps[name])
        np.testing.assert_array_equal(handed.maps[name], samples[5].maps[name])
    np.testing.assert_array_equal(alone.light.sh, samples[5].light.sh)
    assert (alone.tone, alone.exposure) == (samples[5].tone, samples[5].exposure)


def test_each_index_and_seed_is_another_sample(head, sources, samples):
    textures = [sample.maps["texture"] for sample in samples] + [generate(head, sources, 6, 0).maps["texture"]]
    for i, first in enumerate(textures):
        for second in textures[:i]:
            assert np.abs(first - second).mean() > 0.005
    assert len({sample.tone for sample in samples}) == 6


def test_variants_share_a_geometry(samples):
    assert VARIANTS == 4
    for sample in samples[1:4]:
        np.testing.assert_array_equal(sample.maps["normals"], samples[0].maps["normals"])
        np.testing.assert_array_equal(sample.geometry.identity, samples[0].geometry.identity)
    assert np.abs(samples[4].geometry.identity - samples[0].geometry.identity).max() > 0.1
    np.testing.assert_array_equal(samples[4].geometry.identity, samples[5].geometry.identity)


def test_maps(head, samples, texels):
    outside = ~texels.inside
    assert outside.any()
    for sample in samples:
        assert tuple(sample.maps) == LAYOUT.names
        for name, values in sample.maps.items():
            assert values.shape == (32, 32, 3) and values.dtype == np.float32, name
            assert values.min() >= 0 and values.max() <= 1, name
            assert (values[outside] == BACKGROUND).all(), name
            if name != "normals":
                assert values[texels.inside].std() > 0.005, name
        specular = sample.maps["specular_albedo"]
        np.testing.assert_array_equal(specular[..., 0], specular[..., 1])
        np.testing.assert_array_equal(specular[..., 0], specular[..., 2])


def test_normals_are_those_of_the_mesh(head, samples, texels):
    vectors = samples[0].maps["normals"][texels.inside] * 2 - 1
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=-1), 1, atol=1e-5)
    expected = normalize(interpolate(samples[0].geometry.normals, head.triangles, texels))[texels.inside]
    np.testing.assert_allclose(vectors, expected, atol=1e-5)


def test_coarsest_and_finer_resolution(head):
    """The coarsest maps that `synthesize` allows work too, and show the same person as finer ones."""
    small, large = (
        generate(head, SkinSources.load(head, bake_atlas(head.atlas.uv, head.atlas.uv_triangles, size), None), 0, 0)
        for size in (16, 64)
    )
    assert small.maps["texture"].shape == (16, 16, 3) and np.isfinite(small.maps["texture"]).all()
    assert small.tone == large.tone
    np.testing.assert_array_equal(small.geometry.vertices, large.geometry.vertices)
