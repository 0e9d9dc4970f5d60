"""Between two resolutions: what is observed is never changed, what is filled joins it without a step."""

from __future__ import annotations

import numpy as np
import pytest

from relightify_diffusers.maps import decode_normals, encode_normals, linear_to_srgb, srgb_to_linear
from relightify_diffusers.rendering.mesh import normalize
from relightify_diffusers.texturing.detail import PIGMENT_SHARE, enlarge, merge, shrink, spread

N, R = 64, 16


def random(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).uniform(size=shape).astype(np.float32)


class TestShrink:
    def test_means_by_hand(self):
        """Cells of 2 x 2: the mean of the observed three; two of four are too few."""
        texture = np.zeros((4, 4, 3), np.float32)
        texture[:2, :2, 0] = [[0.1, 0.2], [0.6, 0.9]]
        texture[:2, 2:] = 0.5
        texture[2:, 2:] = 0.7
        observed = np.ones((4, 4), bool)
        observed[1, 1] = False  # its 0.9 must not count
        observed[0, 2:] = False
        coarse = shrink(texture, observed, 2)
        np.testing.assert_array_equal(coarse.observed, [[True, False], [True, True]])
        np.testing.assert_allclose(coarse.texture[0], [[0.3, 0], [0, 0.7]], atol=1e-6)
        assert coarse.texture.shape == (3, 2, 2) and coarse.texture.dtype == np.float32

    def test_same_resolution_is_exact(self):
        texture, observed = random(R, R, 3), random(R, R, seed=1) > 0.4
        coarse = shrink(texture, observed, R)
        np.testing.assert_array_equal(coarse.observed, observed)
        np.testing.assert_allclose(coarse.texture.transpose(1, 2, 0)[observed], texture[observed], atol=1e-6)
        assert (coarse.texture[:, ~observed] == 0).all()

    @pytest.mark.parametrize("size", [17, 24, 50])
    def test_constant_at_any_ratio(self, size):
        observed = random(size, size, seed=2) > 0.1
        coarse = shrink(np.full((size, size, 3), 0.6, np.float32), observed, R)
        np.testing.assert_allclose(coarse.texture[:, coarse.observed], 0.6, atol=1e-6)

    def test_nothing_observed(self):
        coarse = shrink(random(N, N, 3), np.zeros((N, N), bool), R)
        assert not coarse.observed.any() and (coarse.texture == 0).all()


class TestEnlarge:
    def test_constant(self):
        np.testing.assert_allclose(enlarge(np.full((R, R, 3), 0.3), np.ones((R, R), bool), N), 0.3, atol=1e-6)

    def test_outside_is_filled_from_the_border(self):
        """The gray outside the atlas does not bleed in."""
        coarse, inside = np.full((R, R, 2), 0.5), np.zeros((R, R), bool)
        inside[4:12, 4:12] = True
        coarse[inside] = 0.9
        np.testing.assert_allclose(enlarge(coarse, inside, N), 0.9, atol=1e-6)

    def test_ramp_keeps_its_place(self):
        """A texel at (i + 0.5) / N takes the value of the ramp there: half a texel off would be 0.008."""
        u = (np.arange(R) + 0.5) / R
        large = enlarge(np.tile(u[None, :, None], (R, 1, 1)), np.ones((R, R), bool), N)[..., 0]
        inner = slice(12, -12)
        np.testing.assert_allclose(large[:, inner], np.tile((np.arange(N) + 0.5) / N, (N, 1))[:, inner], atol=3e-3)

    def test_range(self):
        checker = (np.indices((R, R)).sum(axis=0) % 2)[..., None].astype(np.float32)
        large = enlarge(checker, np.ones((R, R), bool), N)
        assert large.min() >= 0 and large.max() <= 1  # a cubic overshoots


class TestSpread:
    @pytest.mark.parametrize("size", [1, 7, 16, 33])
    def test_known_values_stay(self, size):
        values, known = random(size, size, 3) - 0.5, random(size, size, seed=3) > 0.7
        known[0, 0] = True
        filled = spread(values, known)
        np.testing.assert_allclose(filled[known], values[known], atol=1e-6)
        # In between: never beyond the values that are known.
        for channel in range(3):
            assert filled[..., channel].min() >= values[known][:, channel].min() - 1e-5
            assert filled[..., channel].max() <= values[known][:, channel].max() + 1e-5

    def test_constant_from_one_texel(self):
        known = np.zeros((37, 37), bool)
        known[30, 5] = True
        np.testing.assert_allclose(spread(np.full((37, 37, 2), -0.25), known), -0.25, atol=1e-5)

    def test_unknown_values_are_not_read(self):
        values, known = random(R, R, 1), random(R, R, seed=4) > 0.5
        spoiled = np.where(known[..., None], values, 1e3)
        np.testing.assert_allclose(spread(spoiled, known), spread(values, known), atol=1e-6)

    def test_near_values_count_most(self):
        values, known = np.zeros((32, 32, 1)), np.zeros((32, 32), bool)
        known[:, [0, 31]] = True
        values[:, 31] = 1
        filled = spread(values, known)[16, :, 0]
        assert filled[3] < 0.3 and filled[28] > 0.7 and 0.2 < filled[15:17].mean() < 0.8

    def test_nothing_known(self):
        np.testing.assert_array_equal(spread(random(8, 8, 3), np.zeros((8, 8), bool)), 0)


def smooth_maps(texture: float, seed: int = 5) -> dict[str, np.ndarray]:
    vectors = normalize(np.random.default_rng(seed).normal([0, 0, 3], 0.3, (R, R, 3)))
    return {
        "texture": np.full((R, R, 3), texture, np.float32),
        "diffuse_albedo": np.full((R, R, 3), 0.5, np.float32),
        "specular_albedo": np.full((R, R, 3), 0.35, np.float32),
        "normals": encode_normals(vectors).astype(np.float32),
    }


def left_part(columns: int) -> np.ndarray:
    observed = np.zeros((N, N), bool)
    observed[:, :columns] = True
    return observed


class TestMerge:
    INSIDE = np.ones((R, R), bool)
    MESH_NORMALS = np.tile([0.0, 0.6, 0.8], (N, N, 1))
    SHARP = np.zeros((N, N))

    def merged(self, coarse, texture, observed, normals=MESH_NORMALS, sharp=SHARP):
        return merge(coarse, self.INSIDE, texture, observed, normals, sharp)

    def test_observed_texels_are_exact(self):
        texture, observed = random(N, N, 3), random(N, N, seed=6) > 0.5
        maps = self.merged(smooth_maps(0.3), texture * observed[..., None], observed)
        np.testing.assert_array_equal(maps["texture"][observed], texture[observed])
        for name, values in maps.items():
            assert values.shape == (N, N, 3) and values.dtype == np.float32, name
            assert values.min() >= 0 and values.max() <= 1, name

    def test_no_step_at_the_border(self):
        """Prediction and photo differ by a constant: it is carried over the border and fades out."""
        observed = left_part(24)
        texture = np.where(observed[..., None], 0.6, 0).astype(np.float32)
        row = self.merged(smooth_maps(0.4), texture, observed)["texture"][N // 2, :, 0]
        np.testing.assert_array_equal(row[:24], np.float32(0.6))
        assert abs(row[24] - row[23]) < 0.2 * 0.15  # of a step of 0.2
        hidden = row[24:]
        assert (np.diff(hidden) < 1e-4).all()  # fades out, no ring
        assert hidden[-1] == pytest.approx(0.4, abs=0.02)  # far away the prediction stands

    def test_agreement_leaves_the_prediction(self):
        observed = left_part(40)
        texture = np.where(observed[..., None], 0.4, 0).astype(np.float32)
        np.testing.assert_allclose(self.merged(smooth_maps(0.4), texture, observed)["texture"], 0.4, atol=1e-5)

    def test_flat_texture_adds_no_detail(self):
        texture = np.full((N, N, 3), 0.7, np.float32)
        maps = self.merged(smooth_maps(0.7), texture, np.ones((N, N), bool))
        np.testing.assert_allclose(maps["diffuse_albedo"], 0.5, atol=1e-4)
        np.testing.assert_allclose(maps["specular_albedo"], 0.35, atol=1e-5)

    @pytest.mark.parametrize(("sharp", "share"), [(0.0, PIGMENT_SHARE), (1.0, 1.0)])
    def test_detail_becomes_albedo(self, sharp, share):
        """Stripes finer than the prior's texels: the share of their contrast that is pigment appears in the albedo."""
        linear = np.where(np.arange(N) % 2, 0.30, 0.20)[None, :, None] * np.ones((N, 1, 3))
        texture = linear_to_srgb(linear).astype(np.float32)
        observed = left_part(48)
        maps = self.merged(smooth_maps(0.5), texture * observed[..., None], observed, sharp=np.full((N, N), sharp))
        albedo = srgb_to_linear(maps["diffuse_albedo"])[N // 2, :, 0]
        contrast = np.log(albedo[11:31:2] / albedo[10:30:2])
        np.testing.assert_allclose(contrast, share * np.log(0.31 / 0.21), rtol=0.02)
        np.testing.assert_allclose(albedo[52:], srgb_to_linear(0.5), rtol=1e-3)  # none where nothing was seen

    def test_normals_are_those_of_the_mesh(self):
        """A prediction that agrees with the mesh changes nothing; one that differs bends it by a part."""
        flat = np.tile(encode_normals(np.array([0.0, 0.6, 0.8])), (R, R, 1)).astype(np.float32)
        texture, observed = np.full((N, N, 3), 0.4, np.float32), np.ones((N, N), bool)
        same = self.merged(smooth_maps(0.4) | {"normals": flat}, texture, observed)["normals"]
        np.testing.assert_allclose(decode_normals(same), self.MESH_NORMALS, atol=1e-5)
        tilted = np.tile(encode_normals(np.array([0.6, 0.0, 0.8])), (R, R, 1)).astype(np.float32)
        bent = decode_normals(self.merged(smooth_maps(0.4) | {"normals": tilted}, texture, observed)["normals"])
        np.testing.assert_allclose(np.linalg.norm(bent, axis=-1), 1, atol=1e-5)
        angle = np.degrees(np.arccos(bent @ [0, 0.6, 0.8]))
        whole = np.degrees(np.arccos(0.64))
        assert (angle > 0.1 * whole).all() and (angle < 0.4 * whole).all()
