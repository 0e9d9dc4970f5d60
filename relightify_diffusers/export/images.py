"""PNG files of 8 and 16 bits from and to float images in [0, 1]."""

from __future__ import annotations

import struct
import zlib
from pathlib import Path

import numpy as np
from PIL import Image

from relightify_diffusers.errors import UnsuitableImageError

_SIGNATURE = b"\x89PNG\r\n\x1a\n"


def to_uint8(image: np.ndarray) -> np.ndarray:
    """Round values in [0, 1] (clipped) to 0...255."""
    return np.round(np.clip(image, 0, 1) * 255).astype(np.uint8)


def to_uint16(image: np.ndarray) -> np.ndarray:
    """Round values in [0, 1] (clipped) to 0...65535."""
    return np.round(np.clip(np.asarray(image, np.float64), 0, 1) * 65535).astype(np.uint16)


def write_png(path: str | Path, image: np.ndarray, bits: int = 8) -> None:
    """Write an image as a PNG; the same image gives the same bytes.

    image: (H, W), (H, W, 3) or (H, W, 4), floats in [0, 1] (clipped), or uint8 or uint16, which are written as they
    are. bits: 8 or 16, for floats.
    """
    if image.dtype not in (np.uint8, np.uint16):
        image = to_uint16(image) if bits == 16 else to_uint8(image)
    if image.dtype == np.uint8:
        Image.fromarray(np.ascontiguousarray(image)).save(path, format="PNG")
    else:
        Path(path).write_bytes(_encode_16(image))


def read_png(path: str | Path) -> np.ndarray:
    """Read a PNG as floats in [0, 1]: (H, W) float32 if it is gray, else (H, W, 3) or (H, W, 4).

    16-bit color keeps its precision if `write_png` wrote it (Pillow cuts others to 8 bits). Raises
    UnsuitableImageError if the file cannot be read.
    """
    try:
        deep = _decode_16(Path(path).read_bytes())
        if deep is not None:
            return (deep / 65535).astype(np.float32)
        with Image.open(path) as opened:
            if opened.mode.startswith("I;16") or opened.mode == "I":
                return (np.asarray(opened) / 65535).astype(np.float32)
            plain = opened.mode in ("L", "RGB", "RGBA")
            return np.asarray(opened if plain else opened.convert("RGB"), np.float32) / 255
    except (OSError, ValueError, zlib.error, struct.error) as error:
        raise UnsuitableImageError(f"cannot read the image {path}: {error}") from error


def resize(image: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Resample an image (H, W, 3) in [0, 1] to a size (W, H), at 8 bits; unchanged if it has that size."""
    if (image.shape[1], image.shape[0]) == tuple(size):
        return image
    resized = Image.fromarray(to_uint8(image[..., :3])).resize(size, Image.Resampling.LANCZOS)
    return np.asarray(resized, np.float32) / 255


def _encode_16(image: np.ndarray) -> bytes:
    """A 16-bit PNG (Pillow writes no 16-bit color): the PNG specification, sections 5 to 10; filter 2 (Up) per row."""
    image = image[..., None] if image.ndim == 2 else image
    height, width, channels = image.shape
    rows = image.astype(">u2").view(np.uint8).reshape(height, -1)
    filtered = np.diff(rows, axis=0, prepend=np.zeros_like(rows[:1]))  # modulo 256, as the filter wants
    data = zlib.compress(np.concatenate([np.full((height, 1), 2, np.uint8), filtered], axis=1).tobytes(), 6)
    header = struct.pack(">IIBBBBB", width, height, 16, {1: 0, 3: 2, 4: 6}[channels], 0, 0, 0)
    chunks = [(b"IHDR", header), (b"IDAT", data), (b"IEND", b"")]
    body = [struct.pack(">I", len(d)) + n + d + struct.pack(">I", zlib.crc32(n + d)) for n, d in chunks]
    return _SIGNATURE + b"".join(body)


def _decode_16(content: bytes) -> np.ndarray | None:
    """The pixels of a 16-bit PNG of `_encode_16`, or None for any other file."""
    if content[:8] != _SIGNATURE or content[24:25] != b"\x10":
        return None
    width, height, _, color, _, _, interlace = struct.unpack(">IIBBBBB", content[16:29])
    channels = {0: 1, 2: 3, 6: 4}.get(color)
    length, name = struct.unpack(">I4s", content[33:41])
    if channels is None or interlace or name != b"IDAT":
        return None
    try:
        rows = np.frombuffer(zlib.decompress(content[41 : 41 + length]), np.uint8)
        rows = rows.reshape(height, 1 + 2 * channels * width)
    except (zlib.error, ValueError):  # more than one IDAT chunk: another program's file
        return None
    if (rows[:, 0] != 2).any():
        return None
    pixels = np.cumsum(rows[:, 1:], axis=0, dtype=np.uint8).view(">u2").reshape(height, width, channels)
    return pixels[..., 0] if channels == 1 else pixels
