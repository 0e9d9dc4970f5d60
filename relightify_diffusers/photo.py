"""Photos in: one file of any common kind becomes upright sRGB floats, with what EXIF says about the lens."""

from __future__ import annotations

import io
import math
import os
import warnings
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import ExifTags, Image, ImageCms, ImageOps

from relightify_diffusers.errors import UnsuitableImageError

# A longer side than this is scaled down: the maps are far smaller, and every later stage grows with the pixels.
MAX_SIDE = 4096
# A shorter side than this cannot hold a face that is large enough for the detector.
MIN_SIDE = 64
# Diagonal of the 36 mm x 24 mm frame that 35 mm equivalent focal lengths refer to (CIPA DCG-001).
FULL_FRAME_DIAGONAL_MM = math.hypot(36.0, 24.0)
# Readers that Pillow implements itself or with common libraries; it would hand other kinds to outside programs.
FORMATS = ("JPEG", "MPO", "PNG", "WEBP", "TIFF", "BMP", "GIF", "PPM", "JPEG2000", "AVIF")
# Aspect ratios of whole camera frames. Another ratio means a crop, after which EXIF no longer gives the field of view.
CAMERA_ASPECTS = (4 / 3, 3 / 2, 16 / 9)
# Millimeters per unit of FocalPlaneResolutionUnit (Exif 2.32, tag 0xA210, with the common extensions 4 and 5).
FOCAL_PLANE_UNITS_MM = {2: 25.4, 3: 10.0, 4: 1.0, 5: 0.001}


@dataclass(frozen=True)
class Photo:
    """A photo, upright and in sRGB.

    image: (H, W, 3) float32, sRGB-encoded, in [0, 1].
    focal_35mm: 35 mm equivalent focal length in mm (by the diagonal), or None when unknown; in pixels it is
        focal_35mm * hypot(W, H) / FULL_FRAME_DIAGONAL_MM.
    path: where it was read from.
    warnings: one sentence for each thing that had to be decided or given up.
    """

    image: np.ndarray
    focal_35mm: float | None
    path: str
    warnings: tuple[str, ...] = ()


def load_photo(path: str | os.PathLike) -> Photo:
    """Read a photo: orientation honored, colors converted to sRGB by its profile, transparency over mid-gray.

    Of an animation the first frame is read, and 16-bit files at 8 bits. Sides beyond MAX_SIDE pixels are scaled down.
    Raises UnsuitableImageError for a missing, unreadable, truncated, too large or too small file.
    """
    name = os.fspath(path)
    notes: list[str] = []
    data = _read(name)
    with warnings.catch_warnings():
        warnings.simplefilter("error", Image.DecompressionBombWarning)
        # Pillow's readers raise a dozen unrelated types on broken files, so that nothing narrower is safe here.
        try:
            picture = _open(data, notes)
            exif = _exif(picture, notes)
        except (Image.DecompressionBombWarning, Image.DecompressionBombError) as error:
            raise UnsuitableImageError(
                f"{name} has more than {Image.MAX_IMAGE_PIXELS:,} pixels; scale it down first"
            ) from error
        except Exception as error:
            raise UnsuitableImageError(f"{name} cannot be read as an image ({_reason(data, error)})") from error
    width, height = picture.size
    if min(width, height) < MIN_SIDE:
        raise UnsuitableImageError(
            f"{name} is only {width} x {height} pixels; the shorter side must have at least {MIN_SIDE}"
        )
    focal = _focal_35mm(exif, picture.size, notes)
    picture = _to_srgb(_upright(picture, notes), notes)
    if max(picture.size) > MAX_SIDE:
        scale = MAX_SIDE / max(picture.size)
        size = (round(picture.width * scale), round(picture.height * scale))
        notes.append(f"the photo was scaled down from {picture.width} x {picture.height} to {size[0]} x {size[1]}")
        picture = picture.resize(size, Image.Resampling.LANCZOS, reducing_gap=3.0)
    image = np.asarray(picture, dtype=np.float32) / np.float32(255.0)  # (H, W, 3)
    if np.array_equal(image[..., 0], image[..., 1]) and np.array_equal(image[..., 0], image[..., 2]):
        notes.append("the photo has no color, so the colors of the albedo are a guess")
    return Photo(image=image, focal_35mm=focal, path=name, warnings=tuple(notes))


def _read(name: str) -> bytes:
    try:
        data = Path(name).read_bytes()
    except FileNotFoundError as error:
        raise UnsuitableImageError(f"{name} does not exist") from error
    except IsADirectoryError as error:
        raise UnsuitableImageError(f"{name} is a directory, not an image file") from error
    except (OSError, ValueError) as error:
        raise UnsuitableImageError(f"{name} cannot be read ({getattr(error, 'strerror', None) or error})") from error
    if not data:
        raise UnsuitableImageError(f"{name} is empty")
    return data


def _open(data: bytes, notes: list[str]) -> Image.Image:
    """The first frame, fully decoded."""
    Image.init()
    picture = Image.open(io.BytesIO(data), formats=[kind for kind in FORMATS if kind in Image.OPEN])
    # Phones store previews and depth maps as further frames of an MPO: that is no animation.
    frames = getattr(picture, "n_frames", 1)
    if picture.format != "MPO" and frames > 1:
        notes.append(f"the file has {frames} frames; the first one is used")
    picture.seek(0)
    picture.load()
    return picture


def _reason(data: bytes, error: Exception) -> str:
    if data[4:8] == b"ftyp" and data[8:12] in (b"heic", b"heix", b"hevc", b"mif1", b"msf1"):
        return "it is HEIC; convert it to JPEG or PNG first"
    if isinstance(error, Image.UnidentifiedImageError):
        return "not an image, or of an unsupported kind"
    return f"broken or truncated: {str(error).splitlines()[0] if str(error) else type(error).__name__}"


def _exif(picture: Image.Image, notes: list[str]) -> dict[int, object]:
    """Tags of the main and the Exif directory by number; empty when there is none or it is broken."""
    try:
        main = picture.getexif()
        return {**main, **main.get_ifd(ExifTags.IFD.Exif)}
    except Exception:  # as many types as the readers raise
        notes.append("the EXIF data is broken and was ignored")
        return {}


def _upright(picture: Image.Image, notes: list[str]) -> Image.Image:
    try:
        return ImageOps.exif_transpose(picture)
    except Exception:  # a broken EXIF block: the pixels are still good
        if "the EXIF data is broken and was ignored" not in notes:
            notes.append("the EXIF data is broken and was ignored")
        return picture


def _to_srgb(picture: Image.Image, notes: list[str]) -> Image.Image:
    """Any Pillow mode to 8-bit RGB in sRGB: profile applied, transparency composited over mid-gray."""
    profile = picture.info.get("icc_profile")
    alpha = None
    if picture.mode == "P":
        # Indexed files carry the profile of the colors in their palette.
        picture = picture.convert("RGBA" if "transparency" in picture.info else "RGB")
    elif picture.mode in ("1", "RGB", "L") and "transparency" in picture.info:
        picture = picture.convert("RGBA")
    if picture.mode in ("RGBA", "LA", "PA", "La", "RGBa"):
        picture = picture.convert("RGBA")
        alpha = picture.getchannel("A")
        picture = picture.convert("RGB")
    if picture.mode.startswith(("I", "F")):
        picture = _deep_gray(picture)
    if picture.mode == "1":
        picture = picture.convert("L")
    picture = _apply_profile(picture, profile, notes)
    if alpha is not None and np.asarray(alpha).min() < 255:
        notes.append("the photo has transparent parts; they were filled with mid-gray")
        picture = Image.composite(picture, Image.new("RGB", picture.size, (128, 128, 128)), alpha)
    return picture


def _deep_gray(picture: Image.Image) -> Image.Image:
    """16-bit, 32-bit and float grays to 8 bits; Pillow's own conversion would clip them at 255."""
    values = np.asarray(picture).astype(np.float64)
    values = np.nan_to_num(values, nan=0.0, posinf=0.0, neginf=0.0)
    top = values.max(initial=0.0)
    # Integers use the full range of 16 bits unless they exceed it; floats count as [0, 1] unless they exceed that.
    limits = (1.0, 255.0, 65535.0) if picture.mode.startswith("F") else (65535.0,)
    scale = next((limit for limit in limits if top <= limit), top)
    return Image.fromarray(np.round(np.clip(values / scale, 0.0, 1.0) * 255.0).astype(np.uint8))


def _apply_profile(picture: Image.Image, profile: bytes | None, notes: list[str]) -> Image.Image:
    if profile and picture.mode in ("RGB", "CMYK", "LAB", "L", "YCbCr"):
        try:
            source = ImageCms.ImageCmsProfile(io.BytesIO(profile))
            intent = ImageCms.Intent.RELATIVE_COLORIMETRIC
            flags = ImageCms.Flags.BLACKPOINTCOMPENSATION
            target = ImageCms.createProfile("sRGB")
            converted = ImageCms.profileToProfile(picture, source, target, intent, "RGB", flags=flags)
            if converted is not None:
                return converted
        except (ImageCms.PyCMSError, OSError, ValueError, TypeError):
            notes.append("the color profile could not be applied; the colors are taken as sRGB")
    elif picture.mode == "CMYK":
        notes.append("the photo is CMYK without a color profile; its colors are approximate")
    return picture.convert("RGB")


def _focal_35mm(exif: dict[int, object], size: tuple[int, int], notes: list[str]) -> float | None:
    """35 mm equivalent focal length in mm from the tags of a frame of `size`, None when absent or implausible."""
    focal = _number(exif.get(ExifTags.Base.FocalLengthIn35mmFilm)) or _focal_from_sensor(exif, size)
    # Outside these, fisheye lenses, telescopes and the zeros that mean "unknown".
    if focal is None or not 10.0 <= focal <= 1000.0:
        return None
    recorded = sorted(
        filter(None, (_number(exif.get(tag)) for tag in (ExifTags.Base.ExifImageWidth, ExifTags.Base.ExifImageHeight)))
    )
    aspect = max(size) / min(size)
    cropped = all(abs(aspect / ratio - 1.0) > 0.02 for ratio in CAMERA_ASPECTS)
    if len(recorded) == 2:
        cropped = cropped or abs(aspect / (recorded[1] / recorded[0]) - 1.0) > 0.02
    if cropped:
        notes.append("the photo was cropped, so its EXIF focal length was ignored")
        return None
    return focal


def _focal_from_sensor(exif: dict[int, object], size: tuple[int, int]) -> float | None:
    """Focal length times full-frame diagonal over the sensor's, which is pixels over the focal-plane resolution."""
    length = _number(exif.get(ExifTags.Base.FocalLength))
    density_x = _number(exif.get(ExifTags.Base.FocalPlaneXResolution))
    density_y = _number(exif.get(ExifTags.Base.FocalPlaneYResolution)) or density_x
    width = _number(exif.get(ExifTags.Base.ExifImageWidth)) or float(size[0])
    height = _number(exif.get(ExifTags.Base.ExifImageHeight)) or float(size[1])
    unit = FOCAL_PLANE_UNITS_MM.get(int(_number(exif.get(ExifTags.Base.FocalPlaneResolutionUnit)) or 2))
    if length is None or density_x is None or density_y is None or unit is None:
        return None
    return length * FULL_FRAME_DIAGONAL_MM / math.hypot(width / density_x * unit, height / density_y * unit)


def _number(value: object) -> float | None:
    """A positive finite float, or None: EXIF rationals can be 0/0, text or tuples."""
    try:
        number = float(value)  # type: ignore[arg-type]
    except (TypeError, ValueError, ZeroDivisionError, OverflowError):
        return None
    return number if math.isfinite(number) and number > 0.0 else None
