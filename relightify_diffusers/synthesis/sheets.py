"""Contact sheets of a synthesized set: its first samples at a glance, one picture for each kind of map."""

from __future__ import annotations

import io
from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np
from PIL import Image

from relightify_diffusers.synthesis.columns import IMAGES

SAMPLES = 64
COLUMNS = 8
CELL = 128  # pixels a side, or the map's own resolution where that is less


def contact_sheets(parts: Iterable[Path]) -> dict[str, Image.Image]:
    """Image column → a sheet of the first SAMPLES samples of these parquet files, COLUMNS in a row."""
    rows = list(_first_rows(parts, SAMPLES))
    return {name: _sheet([_open(row[name]["bytes"]) for row in rows]) for name in IMAGES}


def _first_rows(parts: Iterable[Path], count: int) -> Iterator[dict]:
    """The image columns of the first rows, reading no more of the files than they need."""
    import pyarrow.parquet as pq

    left = count
    for path in parts:
        with pq.ParquetFile(path) as file:
            for batch in file.iter_batches(batch_size=8, columns=list(IMAGES)):
                rows = batch.to_pylist()[:left]
                yield from rows
                left -= len(rows)
                if left <= 0:
                    return


def _open(data: bytes) -> Image.Image:
    return Image.open(io.BytesIO(data)).convert("RGB")


def _sheet(images: list[Image.Image]) -> Image.Image:
    size = min(CELL, images[0].width)
    columns = min(COLUMNS, len(images))
    sheet = np.full((-(-len(images) // columns) * size, columns * size, 3), 255, np.uint8)
    for number, image in enumerate(images):
        top, left = number // columns * size, number % columns * size
        # Box averaging, so that maps of any resolution look as they do at a distance.
        sheet[top : top + size, left : left + size] = np.asarray(image.resize((size, size), Image.Resampling.BOX))
    return Image.fromarray(sheet)
