"""What samples are made of: finding assets, refusing bad ones, and what is taken out of pictures that people drew."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from scipy.ndimage import gaussian_filter
from scipy.spatial import cKDTree

from relightify_diffusers.errors import AssetError
from relightify_diffusers.head.build_landmarks import makehuman_to_pixels
from relightify_diffusers.maps import LUMINANCE, linear_to_srgb
from relightify_diffusers.rendering.atlas import bake_atlas, dilate, interpolate
from relightify_diffusers.synthesis.chromophores import absorb, tone_color
from relightify_diffusers.synthesis.sources import (
    HEMOGLOBIN_SPREAD,
    IRIS_CENTER,
    IRIS_EXTENT,
    IRIS_RADIUS,
    MELANIN_SPREAD,
    SkinSources,
    _brow,
    _find,
    _iris,
)

N = 64
# Pixels of the pictures of skins that are painted here: MakeHuman's head chart is cropped to this shape.
ROWS, COLUMNS = 360, 192


@pytest.fixture(scope="module")
def atlas(head):
    return bake_atlas(head.atlas.uv, head.atlas.uv_triangles, N)


@pytest.fixture(scope="module")
def plain(head, atlas):
    return SkinSources.load(head, atlas)


@pytest.fixture(scope="module")
def paint(head, plain):
    """A function that writes a skin whose log albedo is given at the texels (N, N, 3), in MakeHuman's chart."""
    fine = bake_atlas(head.atlas.uv, head.atlas.uv_triangles, 4 * N)
    uv = interpolate(head.makehuman_uv, head.atlas.uv_triangles, fine)
    known = fine.inside & np.isfinite(uv).all(-1)
    pixels = makehuman_to_pixels(uv[known], (ROWS, COLUMNS)).T
    rows, columns = np.mgrid[:ROWS, :COLUMNS]
    _, nearest = cKDTree(pixels).query(np.stack([rows.ravel(), columns.ravel()], axis=-1))

    def write(path: Path, log_albedo: np.ndarray) -> None:
        large = log_albedo.repeat(4, axis=0).repeat(4, axis=1)[known]
        values = linear_to_srgb(np.clip(np.exp(large[nearest]), 0, 1)).reshape(ROWS, COLUMNS, 3)
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray((values * 255 + 0.5).astype(np.uint8)).save(path)

    return write


@pytest.fixture(scope="module")
def pattern():
    """Melanin and hemoglobin (N, N) in patches of five and four texels."""
    rows, columns = np.mgrid[:N, :N]
    melanin = 0.15 * np.where((rows // 5 + columns // 5) % 2, 1.0, -1.0)
    hemoglobin = 0.2 * np.where((rows // 4 - columns // 4) % 3 == 0, 1.0, -0.5)
    return melanin, hemoglobin


def shading(plain):
    """Gray log shading (N, N) as somebody paints it: soft, dark where the head sees little of its surroundings."""
    closed = dilate(plain.openness.astype(float), plain.masks["skin"] > 0) - 1
    return gaussian_filter(2 * closed, 0.05 * N)


def face_of(sources):
    return (sources.masks["skin"] > 0) & (sources.masks["scalp"] < 0.1) & (sources.masks["lips"] < 0.2)


def correlation(first, second, where):
    return np.corrcoef(first[where], second[where])[0, 1]


@pytest.fixture(scope="module")
def light(tmp_path_factory, head, atlas, plain, paint, pattern):
    """Sources with one light skin that has painted shading."""
    folder = tmp_path_factory.mktemp("light")
    color = np.log(tone_color(0.15)) + absorb(*pattern) + shading(plain)[..., None]
    paint(folder / "skins" / "a.png", color)
    return SkinSources.load(head, atlas, folder)


def touch(folder: Path, *names: str) -> Path:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(b"")
    return folder


class TestFinding:
    def test_kinds_at_the_top_and_one_level_down(self, tmp_path):
        names = ["skins/a.png", "more/skins/b.png", "eyebrows/c.png", "more/irises/d.png", "e.hdr", "sky/f.hdr"]
        found = _find([touch(tmp_path, *names)])
        relative = {kind: [path.relative_to(tmp_path).as_posix() for path in paths] for kind, paths in found.items()}
        assert relative == {
            "skins": ["more/skins/b.png", "skins/a.png"],
            "eyebrows": ["eyebrows/c.png"],
            "irises": ["more/irises/d.png"],
            "hdris": ["e.hdr", "sky/f.hdr"],
        }

    def test_what_is_not_an_asset_is_left(self, tmp_path):
        names = ["skins/a.jpg", "a.png", "deep/er/skins/b.png", "skins/deep/c.png", "deep/er/d.hdr", "e.exr"]
        touch(tmp_path, "skins/kept.png", *names)
        found = _find([tmp_path])
        assert [path.name for path in found["skins"]] == ["kept.png"]
        assert not found["eyebrows"] + found["irises"] + found["hdris"]

    def test_several_folders_keep_their_order_and_sort_by_name(self, tmp_path):
        """The order does not depend on the order in which files came into being."""
        touch(tmp_path / "one", "skins/z.png", "skins/b.png", "skins/m.png", "skins/B2.png")
        touch(tmp_path / "two", "skins/a.png", "y.hdr", "x.hdr")
        found = _find([tmp_path / "one", str(tmp_path / "two")])
        assert [path.name for path in found["skins"]] == ["B2.png", "b.png", "m.png", "z.png", "a.png"]
        assert [path.name for path in found["hdris"]] == ["x.hdr", "y.hdr"]
        swapped = _find([tmp_path / "two", tmp_path / "one"])
        assert [path.name for path in swapped["skins"]] == ["a.png", "B2.png", "b.png", "m.png", "z.png"]

    def test_none(self):
        assert not any(_find([]).values())

    def test_missing_folder(self, head, texels, tmp_path):
        with pytest.raises(AssetError, match=r"no asset folder .*elsewhere"):
            SkinSources.load(head, texels, tmp_path / "elsewhere")

    def test_a_file_is_no_folder(self, head, texels, tmp_path):
        touch(tmp_path, "a.hdr")
        with pytest.raises(AssetError, match=r"no asset folder .*a\.hdr"):
            SkinSources.load(head, texels, str(tmp_path / "a.hdr"))

    def test_each_folder_must_have_something(self, head, texels, tmp_path):
        touch(tmp_path / "full", "skins/a.png")
        touch(tmp_path / "empty", "readme.txt", "skins/a.jpg")
        with pytest.raises(AssetError, match=r"no skins.*in .*empty"):
            SkinSources.load(head, texels, [tmp_path / "full", tmp_path / "empty"])


class TestDamagedFiles:
    @pytest.mark.parametrize("kind", ["skins", "eyebrows", "irises"])
    @pytest.mark.parametrize("content", [b"", b"no picture", b"\x89PNG\r\n\x1a\n"])
    def test_no_picture(self, head, texels, tmp_path, kind, content):
        path = touch(tmp_path, f"{kind}/bad.png") / kind / "bad.png"
        path.write_bytes(content)
        with pytest.raises(AssetError, match=r"bad\.png"):
            SkinSources.load(head, texels, tmp_path)

    def test_cut_off_at_any_byte(self, tmp_path):
        """Whatever is missing of a png, the error is ours and names the file."""
        buffer = io.BytesIO()
        Image.fromarray(np.random.default_rng(0).integers(0, 255, (9, 9, 4), dtype=np.uint8)).save(buffer, "PNG")
        content = buffer.getvalue()
        path = tmp_path / "cut.png"
        # The last 12 bytes say that the file ends here; without them a picture is whole all the same.
        for length in range(0, len(content) - 20, 7):
            path.write_bytes(content[:length])
            with pytest.raises(AssetError, match=r"cut\.png"):
                _brow(path)

    @pytest.mark.parametrize(
        "content", [b"", b"#?RADIANCE\n", b"#?RADIANCE\nFORMAT=32-bit_rle_rgbe\n\n-Y 4 +X 8\n123"]
    )
    def test_hdr(self, head, texels, tmp_path, content):
        (tmp_path / "bad.hdr").write_bytes(content)
        with pytest.raises(AssetError, match=r"bad\.hdr"):
            SkinSources.load(head, texels, tmp_path)

    def test_hdr_of_another_shape(self, head, texels, tmp_path):
        (tmp_path / "square.hdr").write_bytes(radiance_file(np.ones((4, 4, 3))))
        with pytest.raises(AssetError, match="twice as wide as high"):
            SkinSources.load(head, texels, tmp_path)


def radiance_file(image: np.ndarray) -> bytes:
    """An uncompressed RGBE file (Ward 1991) of an image (H, W, 3)."""
    exponent = np.ceil(np.log2(np.maximum(image.max(axis=-1), 1e-30)) + 1e-9)
    rgbe = np.concatenate([image / 2 ** exponent[..., None] * 256, exponent[..., None] + 128], axis=-1)
    header = f"#?RADIANCE\nFORMAT=32-bit_rle_rgbe\n\n-Y {image.shape[0]} +X {image.shape[1]}\n"
    return header.encode() + rgbe.clip(0, 255).astype(np.uint8).tobytes()


class TestWithoutAssets:
    def test_nothing_is_read(self, plain, atlas):
        assert plain.details == plain.brows == plain.irises == plain.environments == ()
        assert plain.resolution == N and plain.texels is atlas
        assert {"skin", "lips", "eyes", "scalp", "lids"} <= set(plain.masks)
        assert all(mask.shape == (N, N) for mask in plain.masks.values())

    def test_openness(self, plain, atlas):
        openness = plain.openness
        assert openness.shape == (N, N) and openness.dtype == np.float32
        assert openness.min() >= 0 and openness.max() <= 1 and (openness[~atlas.inside] == 0).all()
        masks = plain.masks
        assert openness[masks["forehead"] > 0.7].min() > 0.9
        assert openness[masks["inside"] > 0].mean() < openness[masks["skin"] > 0].mean() - 0.2
        # Of a symmetric head, and a nose keeps the light from its sides but not from its back.
        both = atlas.inside & atlas.inside[:, ::-1] & (masks["skin"] > 0)
        assert np.abs(openness - openness[:, ::-1])[both].mean() < 0.02

    def test_assets_change_nothing_else(self, plain, light):
        np.testing.assert_array_equal(plain.openness, light.openness)
        assert len(light.details) == 1 and not light.brows and not light.irises


class TestSkins:
    def test_form(self, light):
        for values in vars(light.details[0]).values():
            assert values.shape == (N, N) and values.dtype == np.float32
            assert np.isfinite(values).all() and (values[light.masks["skin"] == 0] == 0).all()

    def test_painted_shading_is_gone(self, light, plain, pattern):
        face, (detail,) = face_of(light), light.details
        # What was painted: dark where the head is closed, plainly.
        shade = shading(plain)
        painted = np.log(np.exp(np.log(tone_color(0.15)) + absorb(*pattern) + shade[..., None]) @ LUMINANCE)
        assert correlation(painted, plain.openness, face) > 0.4 and correlation(painted, shade, face) > 0.6
        for name, values in vars(detail).items():
            assert abs(correlation(values, plain.openness, face)) < 0.15, name
            assert abs(correlation(values, shade, face)) < 0.15, name

    def test_tinted_shading_is_no_pigment(self, head, atlas, plain, paint, pattern, tmp_path):
        """Painters shade in brown and red: what follows the openness is taken out of the densities too."""
        closed = 1 - dilate(plain.openness.astype(float), plain.masks["skin"] > 0)
        brown, red = pattern[0] + 0.8 * closed, pattern[1] + 0.8 * closed
        face = face_of(plain)
        assert correlation(brown, plain.openness, face) < -0.3 and correlation(red, plain.openness, face) < -0.25
        paint(tmp_path / "skins" / "a.png", np.log(tone_color(0.15)) + absorb(brown, red))
        (detail,) = SkinSources.load(head, atlas, tmp_path).details
        for values, painted in zip((detail.melanin, detail.hemoglobin), pattern):
            assert abs(correlation(values, plain.openness, face)) < 0.1
            assert correlation(values, painted, face) > 0.75

    def test_pigments_survive(self, light, pattern):
        """In shape, and with the spread that every skin gets."""
        detail, face = light.details[0], face_of(light)
        for values, painted, spread in zip(
            (detail.melanin, detail.hemoglobin), pattern, (MELANIN_SPREAD, HEMOGLOBIN_SPREAD)
        ):
            assert correlation(values, painted, face) > 0.75
            assert values[face].std() == pytest.approx(spread, rel=0.1)
        assert abs(correlation(detail.melanin, pattern[1], face)) < 0.3
        assert abs(correlation(detail.hemoglobin, pattern[0], face)) < 0.3
        # What is darker has more pigment.
        assert correlation(detail.lightness, pattern[0], face) < -0.4

    def test_the_tone_of_the_picture_does_not_matter(self, head, atlas, plain, paint, pattern, light, tmp_path):
        """The same person with half the light: the same detail."""
        dimmer = np.log(tone_color(0.15)) + absorb(*pattern) + shading(plain)[..., None] + np.log(0.6)
        paint(tmp_path / "skins" / "a.png", dimmer)
        (detail,) = SkinSources.load(head, atlas, tmp_path).details
        for name, values in vars(detail).items():
            assert correlation(values, getattr(light.details[0], name), face_of(light)) > 0.97, name

    def test_dark_skins_give_lightness_only(self, head, atlas, plain, paint, pattern, tmp_path):
        """8-bit values of dark skin are too coarse to tell pigments apart."""
        paint(tmp_path / "skins" / "a.png", np.log(tone_color(0.9)) + absorb(*pattern) + shading(plain)[..., None])
        (detail,) = SkinSources.load(head, atlas, tmp_path).details
        assert not detail.melanin.any() and not detail.hemoglobin.any()
        face = face_of(plain)
        assert detail.lightness[face].std() > 0.02
        assert abs(correlation(detail.lightness, plain.openness, face)) < 0.15

    def test_an_even_skin_has_no_detail(self, head, atlas, paint, tmp_path):
        paint(tmp_path / "skins" / "a.png", np.broadcast_to(np.log(tone_color(0.2)), (N, N, 3)))
        (detail,) = SkinSources.load(head, atlas, tmp_path).details
        assert np.abs(detail.lightness).max() < 0.02


def cutout(path: Path, *boxes: tuple[int, int, int, int], size: int = 64) -> Path:
    """A brow cut-out with rectangles (top, bottom, left, right), opaque in a gradient from 60 to 240 along x."""
    picture = np.zeros((size, size, 4), np.uint8)
    for top, bottom, left, right in boxes:
        picture[top:bottom, left:right, 3] = np.linspace(60, 240, right - left).astype(np.uint8)
    Image.fromarray(picture).save(path)
    return path


class TestBrows:
    def test_the_upper_of_two_is_cropped(self, tmp_path):
        brow = _brow(cutout(tmp_path / "a.png", (5, 15, 10, 40), (40, 52, 8, 45)))
        assert brow.shape == (10, 30) and brow.dtype == np.float32
        np.testing.assert_allclose(brow[3, [0, -1]], [60 / 255, 240 / 255], atol=0.01)

    def test_the_widest_gap_parts_them(self, tmp_path):
        """A stray hair three rows above a brow belongs to it."""
        brow = _brow(cutout(tmp_path / "a.png", (5, 6, 30, 33), (9, 15, 10, 40), (40, 52, 8, 45)))
        assert brow.shape == (10, 30)
        assert (brow[1:4] == 0).all() and brow[0, 20:23].min() > 0.2

    def test_faint_pixels_do_not_count(self, tmp_path):
        path = cutout(tmp_path / "a.png", (5, 15, 10, 40), (40, 52, 8, 45))
        picture = np.array(Image.open(path))
        picture[..., 3] = np.maximum(picture[..., 3], 12)
        Image.fromarray(picture).save(path)
        assert _brow(path).shape == (10, 30)

    def test_empty(self, tmp_path):
        with pytest.raises(AssetError, match=r"a\.png is an empty eyebrow"):
            _brow(cutout(tmp_path / "a.png"))


def eye_map(path: Path, iris, size: int = 200) -> Path:
    """An eye map: `iris(r, angle)` in gray values around the upper right eyeball's pupil, r in iris radii."""
    rows, columns = np.mgrid[:size, :size] + 0.5
    x, y = columns - IRIS_CENTER[0] * size, rows - IRIS_CENTER[1] * size
    values = iris(np.hypot(x, y) / (IRIS_RADIUS * size), np.arctan2(y, x))
    Image.fromarray(np.repeat(np.round(values)[..., None], 3, axis=-1).astype(np.uint8)).save(path)
    return path


class TestIrises:
    @pytest.mark.parametrize("gray", [12, 90, 230])
    def test_an_even_iris_is_one(self, tmp_path, gray):
        pattern = _iris(eye_map(tmp_path / "a.png", lambda r, angle: np.full_like(r, gray)), 64)
        assert pattern.dtype == np.float32
        assert pattern.shape == (round(2 * IRIS_EXTENT * 200),) * 2
        np.testing.assert_allclose(pattern, 1, atol=1e-5)

    def test_the_pupil_and_the_white_do_not_count(self, tmp_path):
        """Normalized by the iris between them; at a fine map the blur is narrow."""
        path = eye_map(tmp_path / "a.png", lambda r, angle: np.where(r < 0.3, 5, np.where(r < 1, 100, 240)))
        pattern = _iris(path, 256)
        middle, radius = pattern.shape[0] / 2, IRIS_RADIUS * 200
        rows, columns = np.mgrid[: pattern.shape[0], : pattern.shape[1]] + 0.5
        r = np.hypot(rows - middle, columns - middle) / radius
        np.testing.assert_allclose(pattern[(r > 0.55) & (r < 0.75)], 1, atol=0.03)
        assert pattern[r < 0.1].max() < 0.2 and pattern[r > 1.3].min() > 4

    def test_spokes_survive_and_are_blurred_to_the_texels(self, tmp_path):
        path = eye_map(tmp_path / "a.png", lambda r, angle: 120 + 60 * np.sign(np.sin(4 * angle)))
        fine, coarse = (_iris(path, resolution) for resolution in (512, 32))
        assert fine.shape == coarse.shape
        middle, reach = fine.shape[0] // 2, round(0.7 * IRIS_RADIUS * 200)
        around = 2 * np.pi * (np.arange(64) + 0.5) / 64
        rows = np.round(middle - 0.5 + reach * np.sin(around)).astype(int)
        columns = np.round(middle - 0.5 + reach * np.cos(around)).astype(int)
        spokes = np.sign(np.sin(4 * around))
        assert np.corrcoef(fine[rows, columns], spokes)[0, 1] > 0.9
        assert coarse[rows, columns].std() < 0.3 * fine[rows, columns].std()
        assert fine[rows, columns].mean() == pytest.approx(1, abs=0.1)


class TestTogether:
    def test_load_reads_all_kinds(self, head, texels, tmp_path):
        (tmp_path / "eyebrows").mkdir()
        (tmp_path / "more" / "irises").mkdir(parents=True)
        cutout(tmp_path / "eyebrows" / "b.png", (5, 15, 10, 40), (40, 52, 8, 45))
        cutout(tmp_path / "eyebrows" / "a.png", (5, 12, 10, 30), (40, 52, 8, 45))
        eye_map(tmp_path / "more" / "irises" / "a.png", lambda r, angle: 90 + 30 * np.sin(5 * angle))
        (tmp_path / "gray.hdr").write_bytes(radiance_file(np.full((8, 16, 3), [0.5, 0.25, 0.125])))
        sources = SkinSources.load(head, texels, tmp_path)
        assert [brow.shape for brow in sources.brows] == [(7, 20), (10, 30)]
        assert len(sources.irises) == 1 and not sources.details
        (environment,) = sources.environments
        assert environment.name == "gray" and not environment.sources
        np.testing.assert_allclose(environment.radiance, np.broadcast_to([0.5, 0.25, 0.125], (192, 3)), rtol=0.02)
