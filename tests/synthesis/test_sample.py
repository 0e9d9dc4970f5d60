"""A sample depends on its seed and index alone, its maps compose to its texture, its record says how it was made."""

from __future__ import annotations

import json

import numpy as np
import pytest

from relightify_diffusers.maps import BACKGROUND, LAYOUT, decode_normals, linear_to_srgb, srgb_to_linear
from relightify_diffusers.rendering.atlas import bake_atlas
from relightify_diffusers.rendering.lights import DirectionalLight, PointLight
from relightify_diffusers.synthesis import sample as module
from relightify_diffusers.synthesis.camera import Development
from relightify_diffusers.synthesis.chromophores import TONE_RANGE
from relightify_diffusers.synthesis.lights import HDRI_ODDS, KIND_ODDS
from relightify_diffusers.synthesis.masks import MAX_YAW
from relightify_diffusers.synthesis.sample import VARIANTS, Sample, face_texels, generate, geometry_of, tone_of
from relightify_diffusers.synthesis.shading import Shading
from relightify_diffusers.synthesis.sources import SkinSources

SEED = 5
NEUTRAL = Development(0.8, np.ones(3), 0.0, 1.0, 1.0, 0.0, (0.0, 0.0), 0)
KEYS = [
    *("subject", "age", "gender", "weight", "ancestry", "identity", "expression", "tone", "features", "light_kind"),
    *("light_sh", "sources", "exposure", "white_balance", "camera_K", "camera_world_to_camera", "mask_yaw"),
    *("mask_pitch", "occluders", "shadowed", "clipped", "light_saturation", "light_level", "sharpness"),
]
LENGTHS = {
    "ancestry": 3,
    "identity": 80,
    "expression": 52,
    "light_sh": 27,
    "white_balance": 3,
    "camera_K": 9,
    "camera_world_to_camera": 12,
}


@pytest.fixture(scope="module")
def sources(head, texels):
    return SkinSources.load(head, texels)


def run(head, sources, seed, count) -> list[Sample]:
    """The first samples of a seed, each geometry traced once."""
    subjects = [geometry_of(head, sources, seed, index) for index in range(0, count, VARIANTS)]
    return [generate(head, sources, seed, index, subjects[index // VARIANTS]) for index in range(count)]


@pytest.fixture(scope="module")
def lights():
    """The lights of `samples`, in order."""
    return []


@pytest.fixture(scope="module")
def samples(head, sources, lights):
    """Samples 0 to 11: three geometries."""
    original = module.sample_illumination
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "sample_illumination", lambda *args: lights.append(original(*args)) or lights[-1])
        return run(head, sources, SEED, 12)


def assert_same(first: Sample, second: Sample) -> None:
    for name in LAYOUT.names:
        np.testing.assert_array_equal(first.maps[name], second.maps[name])
    np.testing.assert_array_equal(first.observed, second.observed)
    assert first.record == second.record


class TestDeterminism:
    def test_order_does_not_matter(self, head, sources, samples):
        """Alone and out of order: the same sample, bit for bit."""
        for index in (6, 1):
            assert_same(generate(head, sources, SEED, index), samples[index])

    def test_the_subject_may_be_handed_in(self, head, sources, samples):
        """That of any sample of the group."""
        for index in (4, 6):
            subject = geometry_of(head, sources, SEED, index)
            assert_same(generate(head, sources, SEED, 5, subject), samples[5])

    def test_each_index_and_seed_is_another_sample(self, head, sources, samples):
        everything = [*samples, generate(head, sources, SEED + 1, 0)]
        for i, first in enumerate(everything):
            for second in everything[:i]:
                assert np.abs(first.maps["texture"] - second.maps["texture"]).mean() > 0.005
        assert len({sample.tone for sample in everything}) == len(everything)

    def test_parts_draw_from_streams_of_their_own(self, head, sources, samples, monkeypatch):
        """Another light changes neither the skin nor the mask."""

        def drawing_more(environments, rng):
            rng.uniform(size=17)
            return sample_illumination(environments, rng)

        sample_illumination = module.sample_illumination
        monkeypatch.setattr(module, "sample_illumination", drawing_more)
        other = generate(head, sources, SEED, 2)
        for name in ("diffuse_albedo", "specular_albedo", "normals"):
            np.testing.assert_array_equal(other.maps[name], samples[2].maps[name])
        np.testing.assert_array_equal(other.observed, samples[2].observed)
        assert other.record["light_sh"] != samples[2].record["light_sh"]
        assert not np.array_equal(other.maps["texture"], samples[2].maps["texture"])


class TestVariants:
    def test_share_geometry_normals_and_camera(self, samples):
        assert VARIANTS == 4
        shared = ("subject", "age", "gender", "weight", "ancestry", "identity", "expression")
        for index, sample in enumerate(samples):
            first = samples[index // VARIANTS * VARIANTS]
            np.testing.assert_array_equal(sample.maps["normals"], first.maps["normals"])
            np.testing.assert_array_equal(sample.geometry.vertices, first.geometry.vertices)
            for key in (*shared, "camera_K", "camera_world_to_camera"):
                assert sample.record[key] == first.record[key], key
            assert sample.record["subject"] == index // VARIANTS
        for key in ("age", "identity", "expression", "camera_world_to_camera"):
            assert samples[0].record[key] != samples[4].record[key] != samples[8].record[key], key

    def test_differ_in_skin_light_and_mask(self, samples):
        for start in (0, 4, 8):
            group = samples[start : start + VARIANTS]
            for i, first in enumerate(group):
                for second in group[:i]:
                    albedo = np.abs(first.maps["diffuse_albedo"] - second.maps["diffuse_albedo"])
                    assert albedo.mean() > 0.005
                    assert not np.array_equal(first.maps["specular_albedo"], second.maps["specular_albedo"])
                    assert first.record["light_sh"] != second.record["light_sh"]
                    assert not np.array_equal(first.observed, second.observed)
                    assert first.record["exposure"] != second.record["exposure"]


class TestMaps:
    def test_form(self, samples, texels):
        outside = ~texels.inside
        assert outside.any()
        for sample in samples:
            assert tuple(sample.maps) == LAYOUT.names
            for name, values in sample.maps.items():
                assert values.shape == (32, 32, 3) and values.dtype == np.float32, name
                assert values.min() >= 0 and values.max() <= 1, name
                assert (values[outside] == BACKGROUND).all(), name
                assert values[texels.inside].std() > 0.005, name
            assert sample.observed.shape == (32, 32) and sample.observed.dtype == bool

    def test_specular_channels_are_equal(self, samples):
        for sample in samples:
            specular = sample.maps["specular_albedo"]
            np.testing.assert_array_equal(specular, specular[..., :1].repeat(3, axis=-1))

    def test_normals_are_the_surface(self, head, sources, samples, texels):
        subject = geometry_of(head, sources, SEED, 0)
        vectors = decode_normals(samples[0].maps["normals"][texels.inside])
        np.testing.assert_allclose(np.linalg.norm(vectors, axis=-1), 1, atol=1e-5)
        np.testing.assert_allclose(vectors, subject.surface.normals[texels.inside], atol=1e-6)
        # Those of the mesh, but for smoothing and relief.
        assert (vectors * subject.surface.smooth[texels.inside]).sum(-1).mean() > 0.97

    def test_observed_texels_are_on_the_head(self, samples, texels):
        for sample in samples:
            assert not sample.observed[~texels.inside].any()
        shares = [sample.observed[texels.inside].mean() for sample in samples]
        assert 0.1 < np.median(shares) < 0.7

    def test_every_map_is_finite_at_the_coarsest_resolution(self, head):
        """16 texels are the least that `synthesize` makes."""
        texels = bake_atlas(head.atlas.uv, head.atlas.uv_triangles, 16)
        sources = SkinSources.load(head, texels)
        for sample in run(head, sources, 0, VARIANTS):
            for values in sample.maps.values():
                assert values.shape == (16, 16, 3) and np.isfinite(values).all()
            json.dumps(sample.record, allow_nan=False)

    def test_the_same_person_at_two_resolutions(self, head, samples, texels):
        fine = SkinSources.load(head, bake_atlas(head.atlas.uv, head.atlas.uv_triangles, 64))
        large, small = generate(head, fine, SEED, 1), samples[1]
        np.testing.assert_array_equal(small.geometry.vertices, large.geometry.vertices)
        assert small.tone == pytest.approx(large.tone, abs=3)
        for key in ("age", "identity", "expression", "features", "light_kind", "light_sh", "sources", "mask_yaw"):
            assert small.record[key] == large.record[key], key
        assert large.record["exposure"] == pytest.approx(small.record["exposure"], rel=0.1)
        for name, bound in (("diffuse_albedo", 0.03), ("specular_albedo", 0.03), ("normals", 0.04), ("texture", 0.08)):
            mean = large.maps[name].reshape(32, 2, 32, 2, 3).mean(axis=(1, 3))
            whole = texels.inside & (small.maps["specular_albedo"][..., 0] != BACKGROUND)
            assert np.abs(mean - small.maps[name])[whole].mean() < bound, name


class TestRecomposition:
    @pytest.fixture
    def caught(self, head, sources, monkeypatch):
        """A sample with a neutral camera, and what went through its parts: shading, radiance and view."""
        parts = {}

        def shade(*args):
            parts["shading"] = Shade(*args)
            return parts["shading"]

        def photograph(radiance, texels, view, development, rng):
            parts.update(radiance=radiance.copy(), view=view)
            return Photograph(radiance, texels, view, development, rng)

        Shade, Photograph = module.shade, module.photograph
        monkeypatch.setattr(module, "shade", shade)
        monkeypatch.setattr(module, "photograph", photograph)
        monkeypatch.setattr(module, "sample_development", lambda *_: NEUTRAL)

        def run(index):
            parts.clear()
            return generate(head, sources, SEED, index), dict(parts)

        return run

    @pytest.mark.parametrize("index", [0, 3, 7])
    def test_maps_and_light_give_the_texture(self, caught, texels, index):
        """diffuse_albedo / pi * irradiance + specular is the radiance photographed, and where the photo does not
        reach, the encoded texture is that radiance times the exposure, within half of one of 256 levels."""
        sample, parts = caught(index)
        shading, view, inside = parts["shading"], parts["view"], texels.inside
        albedo = srgb_to_linear(sample.maps["diffuse_albedo"].astype(float))
        expected = albedo / np.pi * shading.irradiance + shading.specular
        np.testing.assert_allclose(parts["radiance"][inside], expected[inside], rtol=1e-4, atol=1e-6)
        unseen = inside & (view.weight == 0)
        assert unseen.sum() > 200
        texture = linear_to_srgb(np.clip(NEUTRAL.exposure * expected, 0, 1))
        np.testing.assert_allclose(sample.maps["texture"][unseen], texture[unseen], atol=0.5 / 255)
        # Where it does reach, a photo of few pixels comes near.
        well = view.weight == 1
        assert well.sum() > 60 and np.abs(sample.maps["texture"] - texture)[well].mean() < 0.08
        assert sample.record["exposure"] == NEUTRAL.exposure

    def test_radiance_by_hand(self):
        shading = Shading(
            np.full((1, 1, 3), [np.pi, 2 * np.pi, 0.5 * np.pi]), np.full((1, 1, 3), 0.05), np.zeros((1, 1))
        )
        radiance = module.radiance_of(np.full((1, 1, 3), [0.4, 0.2, 0.1]), shading)
        np.testing.assert_allclose(radiance[0, 0], [0.45, 0.45, 0.1])

    def test_light_level_and_saturation_by_hand(self, caught, sources):
        sample, parts = caught(2)
        face = face_texels(sources)
        seen = face & (parts["view"].weight > 0.5)
        white = parts["shading"].irradiance[seen].mean(axis=0) / np.pi
        assert sample.record["light_level"] == pytest.approx(NEUTRAL.exposure * white.mean(), rel=1e-5)
        assert sample.record["light_saturation"] == pytest.approx(1 - white.min() / white.max(), rel=1e-5)
        assert sample.record["shadowed"] == pytest.approx((parts["shading"].shadow[seen] > 0.5).mean())
        clipped = (sample.maps["texture"][seen].max(axis=-1) > 0.995).mean()
        assert sample.record["clipped"] == pytest.approx(clipped)


class TestTones:
    @pytest.mark.parametrize("start", [0, 37, 4000])
    def test_any_run_covers_the_range_evenly(self, start):
        """Each tenth of the range gets 100 of 1000 consecutive samples, give or take a few."""
        tones = np.array([tone_of(SEED, index) for index in range(start, start + 1000)])
        counts = np.histogram(tones, bins=np.linspace(*TONE_RANGE, 11))[0]
        assert counts.sum() == 1000 and np.abs(counts - 100).max() <= 3
        # Already 20 do: two in each tenth on average, none of which is empty.
        assert np.histogram(tones[:20], bins=np.linspace(*TONE_RANGE, 11))[0].min() >= 1

    def test_seeds_start_elsewhere(self):
        assert len({round(tone_of(seed, 0), 6) for seed in range(20)}) == 20

    def test_variants_of_a_group_lie_apart(self):
        for group in range(50):
            tones = np.sort([tone_of(SEED, VARIANTS * group + k) for k in range(VARIANTS)])
            assert np.diff(tones).min() > 0.1 * (TONE_RANGE[1] - TONE_RANGE[0])

    def test_the_skin_has_the_tone(self, samples):
        drawn = [tone_of(SEED, index) for index in range(len(samples))]
        assert np.abs(np.array([sample.tone for sample in samples]) - drawn).max() < 10
        assert all(sample.tone == sample.record["tone"] for sample in samples)

    def test_tone_goes_with_nothing_that_is_drawn_beside_it(self):
        """The sequence of tones against the parity of indices and the groups: 400 samples, three deviations of
        1 / sqrt(400)."""
        index = np.arange(400)
        tones = [tone_of(SEED, int(i)) for i in index]
        for other in (index, index % 2, index % VARIANTS, index // VARIANTS % 2):
            assert abs(np.corrcoef(tones, other)[0, 1]) < 0.15


def types_in(value) -> set:
    """All types in a record."""
    if type(value) in (list, dict):
        return set().union(*(types_in(v) for v in (value.values() if type(value) is dict else value)), {type(value)})
    return {type(value)}


class TestRecord:
    def test_keys(self, samples):
        for sample in samples:
            assert list(sample.record) == KEYS
            for key, length in LENGTHS.items():
                assert len(sample.record[key]) == length, key

    def test_plain_types(self, samples):
        for sample in samples:
            for key, value in sample.record.items():
                assert types_in(value) <= {int, float, str, list}, key
            for key in ("features", "occluders"):
                assert types_in(sample.record[key]) <= {list, str}, key
            for key in LENGTHS:
                assert types_in(sample.record[key]) == {list, float}, key
            assert type(sample.record["subject"]) is int and type(sample.record["light_kind"]) is str
            assert type(sample.record["exposure"]) is type(sample.record["tone"]) is float

    def test_is_json(self, samples):
        for sample in samples:
            assert json.loads(json.dumps(sample.record, allow_nan=False)) == sample.record

    def test_ranges(self, samples):
        for record in (sample.record for sample in samples):
            for key in ("gender", "shadowed", "clipped", "light_saturation"):
                assert 0 <= record[key] <= 1, key
            assert 15 < record["age"] < 95 and sum(record["ancestry"]) == pytest.approx(1)
            assert abs(record["mask_yaw"]) <= MAX_YAW and abs(record["mask_pitch"]) <= 90
            assert record["exposure"] > 0 and 0.1 < record["light_level"] < 3 and 0 < record["sharpness"] < 0.5
            assert TONE_RANGE[0] - 15 < record["tone"] < TONE_RANGE[1] + 15
            assert min(record["white_balance"]) >= 0.3 and max(record["white_balance"]) <= 4
            assert record["light_kind"] in KIND_ODDS  # no environment maps were given

    def test_says_what_the_geometry_is(self, head, samples):
        for sample in samples:
            record = sample.record
            vertices = head.vertices(np.array(record["identity"]), np.array(record["expression"]))
            np.testing.assert_allclose(vertices, sample.geometry.vertices, atol=1e-6)

    def test_says_what_the_camera_is(self, head, sources, samples):
        view = geometry_of(head, sources, SEED, 4).view
        record = samples[4].record
        np.testing.assert_allclose(np.reshape(record["camera_K"], (3, 3)), view.camera.K)
        np.testing.assert_allclose(np.reshape(record["camera_world_to_camera"], (3, 4)), view.camera.world_to_camera)

    def test_sources(self, samples, lights):
        """Rows of eight numbers that make up the light again."""
        records = [sample.record for sample in samples]
        assert len(lights) == len(records)
        assert sum(len(record["sources"]) for record in records) > 3
        for record, light in zip(records, lights):
            assert len(record["sources"]) == len(light.sources)
            np.testing.assert_allclose(record["light_sh"], light.sh.ravel())
            for row, source in zip(record["sources"], light.sources):
                assert len(row) == 8 and row[0] == (0.0 if isinstance(source, DirectionalLight) else 1.0)
                point = isinstance(source, PointLight)
                place, strength = (
                    (source.position, source.intensity) if point else (source.direction, source.irradiance)
                )
                np.testing.assert_allclose(row[1:4], place)
                np.testing.assert_allclose(row[4:7], strength)
                assert row[7] == (source.radius if point else source.angular_radius)

    def test_without_maps_there_is_no_hdri(self, samples):
        assert HDRI_ODDS > 0.2 and all(sample.record["light_kind"] != "hdri" for sample in samples)
        assert len({sample.record["light_kind"] for sample in samples}) >= 3


def test_face_texels(sources):
    face = face_texels(sources)
    masks = sources.masks
    assert face.dtype == bool and face[(masks["cheeks"] > 0.5) | (masks["nose"] > 0.5)].all()
    assert not face[(masks["scalp"] > 0.6) | (masks["eyes"] > 0) | (masks["inside"] > 0)].any()
