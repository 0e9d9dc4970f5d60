"""Every kind of file a user may hand in, made here, and what becomes of it."""

from __future__ import annotations

import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import ExifTags, Image, ImageCms

from relightify_diffusers import photo
from relightify_diffusers.errors import UnsuitableImageError
from relightify_diffusers.photo import load_photo


@pytest.fixture
def pixels() -> np.ndarray:
    """(90, 120, 3) uint8: red grows to the right, green downwards, blue marks the top left corner."""
    y, x = np.mgrid[0:90, 0:120]
    blue = np.where((x < 30) & (y < 30), 255, 40)
    return np.stack([x * 2, y * 2, blue], axis=-1).astype(np.uint8)


def save(picture: Image.Image, path: Path, **options) -> Path:
    picture.save(path, **options)
    return path


def test_png_is_read_exactly(pixels, tmp_path):
    loaded = load_photo(save(Image.fromarray(pixels), tmp_path / "a.png"))
    assert loaded.image.dtype == np.float32 and loaded.image.shape == (90, 120, 3)
    assert np.array_equal(np.round(loaded.image * 255).astype(np.uint8), pixels)
    assert loaded.focal_35mm is None and loaded.warnings == () and loaded.path == str(tmp_path / "a.png")


@pytest.mark.parametrize("orientation", range(1, 9))
def test_orientation_is_honored(pixels, tmp_path, orientation):
    # What a camera stores so that the viewer's transposition gives the upright picture back.
    stored = {
        1: None,
        2: Image.Transpose.FLIP_LEFT_RIGHT,
        3: Image.Transpose.ROTATE_180,
        4: Image.Transpose.FLIP_TOP_BOTTOM,
        5: Image.Transpose.TRANSPOSE,
        6: Image.Transpose.ROTATE_90,
        7: Image.Transpose.TRANSVERSE,
        8: Image.Transpose.ROTATE_270,
    }[orientation]
    picture = Image.fromarray(pixels)
    picture = picture if stored is None else picture.transpose(stored)
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = orientation
    loaded = load_photo(save(picture, tmp_path / "a.png", exif=exif))
    assert np.array_equal(np.round(loaded.image * 255).astype(np.uint8), pixels)


def test_color_profile_is_applied(pixels, tmp_path):
    # The sRGB profile with its red and blue primaries exchanged: applying it must exchange the channels.
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    exchanged = profile.replace(b"rXYZ", b"????", 1).replace(b"bXYZ", b"rXYZ", 1).replace(b"????", b"bXYZ", 1)
    loaded = load_photo(save(Image.fromarray(pixels), tmp_path / "a.png", icc_profile=exchanged))
    assert np.abs(loaded.image * 255 - pixels[..., ::-1]).max() <= 2
    assert loaded.warnings == ()


def test_broken_color_profile_is_a_warning(pixels, tmp_path):
    loaded = load_photo(save(Image.fromarray(pixels), tmp_path / "a.png", icc_profile=b"no profile" * 20))
    assert np.abs(loaded.image * 255 - pixels).max() <= 0.01
    assert "color profile" in loaded.warnings[0]


def test_cmyk(tmp_path):
    # No cyan, full magenta and yellow: red.
    path = save(Image.new("CMYK", (80, 80), (0, 255, 255, 0)), tmp_path / "a.jpg", quality=95)
    loaded = load_photo(path)
    assert np.allclose(loaded.image, [1, 0, 0], atol=0.05)
    assert "CMYK" in loaded.warnings[0]


def write_png16(path: Path, values: np.ndarray) -> Path:
    """A 16-bit RGB PNG, which Pillow reads and does not write."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    height, width = values.shape[:2]
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in values)
    header = struct.pack(">IIBBBBB", width, height, 16, 2, 0, 0, 0)
    path.write_bytes(
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")
    )
    return path


def test_16_bit_rgb(pixels, tmp_path):
    loaded = load_photo(write_png16(tmp_path / "a.png", pixels.astype(np.uint16) * 257))
    assert np.abs(loaded.image * 255 - pixels).max() <= 1


def test_16_bit_gray_is_scaled_not_clipped(tmp_path):
    values = np.linspace(0, 65535, 80 * 80).reshape(80, 80).astype(np.uint16)
    loaded = load_photo(save(Image.fromarray(values), tmp_path / "a.png"))
    assert np.allclose(loaded.image[..., 1], values / 65535, atol=0.003)
    assert "no color" in loaded.warnings[0]


@pytest.mark.parametrize("mode", ["L", "1", "LA"])
def test_gray_is_allowed_with_a_warning(tmp_path, mode):
    loaded = load_photo(save(Image.new("L", (80, 80), 255).convert(mode), tmp_path / "a.png"))
    assert np.all(loaded.image == 1.0)
    assert len(loaded.warnings) == 1 and "no color" in loaded.warnings[0]


def test_palette(tmp_path):
    picture = Image.new("P", (80, 80), 1)
    picture.putpalette([0, 0, 0, 250, 120, 60])
    loaded = load_photo(save(picture, tmp_path / "a.png"))
    assert np.allclose(loaded.image * 255, [250, 120, 60], atol=0.01)
    assert loaded.warnings == ()


def test_palette_with_transparency(tmp_path):
    picture = Image.new("P", (80, 80), 1)
    picture.putpalette([0, 0, 0, 250, 120, 60])
    loaded = load_photo(save(picture, tmp_path / "a.png", transparency=1))
    assert np.allclose(loaded.image * 255, 128, atol=0.01)


def test_alpha_is_composited_over_mid_gray(pixels, tmp_path):
    alpha = np.full((90, 120, 1), 255, np.uint8)
    alpha[:, :60] = 0
    loaded = load_photo(save(Image.fromarray(np.concatenate([pixels, alpha], axis=-1)), tmp_path / "a.png"))
    assert np.allclose(loaded.image[:, :60] * 255, 128, atol=0.01)
    assert np.allclose(loaded.image[:, 60:] * 255, pixels[:, 60:], atol=0.01)
    assert "transparent" in loaded.warnings[0]


def test_opaque_alpha_is_silent(pixels, tmp_path):
    picture = Image.fromarray(pixels)
    picture.putalpha(255)
    assert load_photo(save(picture, tmp_path / "a.png")).warnings == ()


def test_first_frame_of_an_animation(tmp_path):
    frames = [Image.new("RGB", (80, 80), color) for color in ("red", "blue")]
    path = save(frames[0], tmp_path / "a.gif", save_all=True, append_images=frames[1:])
    loaded = load_photo(path)
    assert np.allclose(loaded.image, [1, 0, 0], atol=0.02)
    assert "2 frames" in loaded.warnings[0]


def test_large_photo_is_scaled_down(tmp_path, monkeypatch):
    monkeypatch.setattr(photo, "MAX_SIDE", 200)
    loaded = load_photo(save(Image.new("RGB", (400, 300), (200, 100, 50)), tmp_path / "a.png"))
    assert loaded.image.shape == (150, 200, 3)
    assert "400 x 300 to 200 x 150" in loaded.warnings[0]


def truncated(kind: str):
    def write(path: Path) -> None:
        noise = np.random.default_rng(0).integers(0, 256, (100, 100, 3), dtype=np.uint8)
        Image.fromarray(noise).save(path, format=kind)
        data = path.read_bytes()
        path.write_bytes(data[: len(data) // 2])

    return write


def zero_size(path: Path) -> None:
    write_png16(path, np.zeros((0, 0, 3), np.uint16))


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (lambda path: None, "does not exist"),
        (lambda path: path.mkdir(), "is a directory"),
        (lambda path: path.write_bytes(b""), "is empty"),
        (lambda path: path.write_text("this is no image"), "not an image"),
        (lambda path: path.write_bytes(b"\0\0\0\x18ftypheic" + bytes(100)), "HEIC"),
        (truncated("JPEG"), "broken or truncated"),
        (truncated("PNG"), "broken or truncated"),
        (truncated("WEBP"), "cannot be read"),
        (zero_size, ""),
        (lambda path: Image.new("RGB", (63, 400)).save(path), "only 63 x 400 pixels"),
    ],
    ids=["missing", "directory", "empty", "text", "heic", "jpeg", "png", "webp", "zero-size", "small"],
)
def test_unsuitable_files_are_explained_in_one_line(tmp_path, make, says):
    path = tmp_path / "a.png"
    make(path)
    with pytest.raises(UnsuitableImageError) as caught:
        load_photo(path)
    message = str(caught.value)
    assert str(path) in message and says in message and "\n" not in message


def test_decompression_bomb(tmp_path, monkeypatch):
    path = save(Image.new("RGB", (200, 200)), tmp_path / "a.png")
    for limit in (30_000, 10_000):  # Pillow warns above the limit and raises above twice the limit
        monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", limit)
        with pytest.raises(UnsuitableImageError, match="more than"):
            load_photo(path)


def with_exif(path: Path, size: tuple[int, int], **tags) -> Path:
    exif = Image.Exif()
    exif.get_ifd(ExifTags.IFD.Exif).update({ExifTags.Base[name]: value for name, value in tags.items()})
    return save(Image.new("RGB", size, (90, 60, 30)), path, exif=exif)


def test_focal_length_from_the_35mm_tag(tmp_path):
    assert load_photo(with_exif(tmp_path / "a.jpg", (120, 80), FocalLengthIn35mmFilm=85)).focal_35mm == 85.0
    assert load_photo(with_exif(tmp_path / "b.jpg", (120, 80), FocalLengthIn35mmFilm=0)).focal_35mm is None


def test_focal_length_from_the_sensor(tmp_path):
    # 3000 x 2000 pixels at 125 per mm: a 24 x 16 mm sensor, on which 50 mm shows what 75 mm shows on 36 x 24 mm.
    tags = {
        "FocalLength": 50.0,
        "FocalPlaneXResolution": 1250.0,
        "FocalPlaneYResolution": 1250.0,
        "FocalPlaneResolutionUnit": 3,
        "ExifImageWidth": 3000,
        "ExifImageHeight": 2000,
    }
    assert load_photo(with_exif(tmp_path / "a.jpg", (120, 80), **tags)).focal_35mm == pytest.approx(75.0)


@pytest.mark.parametrize("size", [(100, 100), (120, 80)], ids=["square", "other aspect than recorded"])
def test_focal_length_of_a_crop_is_ignored(tmp_path, size):
    tags = {"FocalLengthIn35mmFilm": 26, "ExifImageWidth": 4000, "ExifImageHeight": 3000}
    loaded = load_photo(with_exif(tmp_path / "a.jpg", size, **tags))
    assert loaded.focal_35mm is None
    assert any("cropped" in warning for warning in loaded.warnings)
