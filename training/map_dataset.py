"""Read a folder of map samples once into arrays, and draw reproducible training batches from them."""

from __future__ import annotations

import hashlib
import io
import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from PIL import Image as PILImage

from relightify_diffusers.errors import AssetError, UsageError
from relightify_diffusers.maps import LAYOUT


def find_parquet(directory: str | Path) -> list[Path]:
    """The data/*.parquet files of a data set folder, sorted; raises AssetError when there are none."""
    files = sorted(Path(directory).glob("data/*.parquet"))
    if not files:
        raise AssetError(f"no data/*.parquet in {directory}; make a data set with `relightify synthesize -o DIR -n N`")
    return files


def _decode(row: dict) -> np.ndarray:
    """The four PNGs of one row as (12, H, W) uint8."""
    maps = {}
    for name in LAYOUT.names:
        with PILImage.open(io.BytesIO(row[name]["bytes"])) as image:
            maps[name] = np.asarray(image.convert("RGB")).transpose(2, 0, 1)
    return LAYOUT.join(maps)


def _open_rows(files: list[Path]):
    """The rows as a datasets.Dataset with undecoded image bytes; raises AssetError for missing columns."""
    import datasets  # imported here: only reading the files needs it

    datasets.disable_progress_bars()
    rows = datasets.load_dataset("parquet", data_files=[str(f) for f in files], split="train")
    missing = [name for name in LAYOUT.names if name not in rows.column_names]
    if missing:
        raise AssetError(f"{files[0]} has no column {', '.join(missing)}; it has {', '.join(rows.column_names)}")
    rows = rows.select_columns(list(LAYOUT.names))
    for name in LAYOUT.names:
        rows = rows.cast_column(name, datasets.Image(decode=False))
    return rows


def _fill(out: np.ndarray, rows, resolution: int, size: int, progress) -> None:
    """Decode every row into `out` (N, 12, R, R), area-averaged from `size` down to `resolution`."""
    with ThreadPoolExecutor(min(4, os.cpu_count() or 1)) as pool:
        start = 0
        for batch in rows.iter(batch_size=64):
            count = len(batch[LAYOUT.names[0]])
            decoded = list(pool.map(_decode, [{n: batch[n][i] for n in LAYOUT.names} for i in range(count)]))
            shapes = {sample.shape for sample in decoded}
            if shapes != {(LAYOUT.channels, size, size)}:
                raise AssetError(f"the maps differ in size: {sorted(shapes)}; expected {size} x {size} everywhere")
            samples = np.stack(decoded)  # (b, 12, S, S)
            if size != resolution:
                reduced = torch.nn.functional.interpolate(
                    torch.from_numpy(samples).float(), size=(resolution, resolution), mode="area"
                )
                samples = reduced.round().byte().numpy()
            out[start : start + count] = samples
            start += count
            progress(count)


def load_samples(
    directory: str | Path,
    resolution: int,
    max_samples: int | None = None,
    cache_dir: str | Path | None = None,
    progress=lambda count: None,
) -> np.ndarray:
    """All samples of a data set folder as one (N, 12, R, R) uint8 array in the channel order of maps.LAYOUT.

    Args:
        directory: folder with data/*.parquet holding the image columns of maps.LAYOUT.
        resolution: texels per side R; the stored maps are area-averaged down to it.
        max_samples: read only the first rows.
        cache_dir: when given, the array is kept there and memory-mapped, and later calls skip the decoding.
        progress: called with the number of samples decoded since the last call.

    Raises:
        AssetError: no data, a missing column, or maps of different sizes.
        UsageError: the maps are smaller than `resolution`.
    """
    files = find_parquet(directory)
    path = _cache_path(cache_dir, f"maps-{resolution}", files, (resolution, max_samples))
    if path is not None and path.exists():
        return np.load(path, mmap_mode="r")
    rows = _open_rows(files)
    if max_samples is not None:
        rows = rows.select(range(min(max_samples, len(rows))))
    if len(rows) == 0:
        raise AssetError(f"{directory} holds no samples")
    size = _decode(rows[0]).shape[-1]
    if size < resolution:
        raise UsageError(f"the maps in {directory} are {size} px, smaller than resolution {resolution}")
    shape = (len(rows), LAYOUT.channels, resolution, resolution)
    return _make_array(path, shape, np.uint8, lambda out: _fill(out, rows, resolution, size, progress))


@dataclass(frozen=True)
class Transfers:
    """What relighting needs of each head: values[subject[i]] belongs to sample i.

    values: (S, V, 9) float16, one for each subject. subject: (N,) int64, the index into `values` of each sample.
    """

    values: np.ndarray
    subject: np.ndarray

    def __getitem__(self, samples: np.ndarray) -> torch.Tensor:
        """The transfers (B, V, 9), float16, of samples (B,)."""
        return torch.from_numpy(np.ascontiguousarray(self.values[self.subject[samples]]))


def load_transfers(
    directory: str | Path, max_samples: int | None = None, cache_dir: str | Path | None = None
) -> Transfers:
    """The transfers of a data set folder made with --transfer, in the order of `load_samples`.

    A subject's samples share one transfer; it is read and kept once. max_samples, cache_dir: as in `load_samples`.
    Raises AssetError for a data set without them.
    """
    import pyarrow.parquet as pq  # imported here: only reading the files needs it

    files = find_parquet(directory)
    names = pq.read_schema(files[0]).names
    missing = [name for name in ("transfer", "subject") if name not in names]
    if missing:
        raise AssetError(
            f"{files[0]} has no column {' or '.join(missing)}, which relighting needs; make the data with "
            "`relightify synthesize --transfer`, or set relight_probability to 0"
        )
    # Folders of several seeds number their subjects from 0 each.
    keys = [name for name in ("seed", "subject") if name in names]
    columns = [pq.read_table(file, columns=keys) for file in files]
    rows = np.concatenate([np.stack([t[name].to_numpy() for name in keys], axis=-1) for t in columns])[:max_samples]
    _, first, subject = np.unique(rows, axis=0, return_index=True, return_inverse=True)
    size = len(_first_transfer(files[0]))
    path = _cache_path(cache_dir, "transfer", files, max_samples)
    if path is not None and path.exists():
        return Transfers(np.load(path, mmap_mode="r"), subject.ravel())
    shape = (len(first), size // 18, 9)  # 9 values of 2 bytes for each vertex
    values = _make_array(path, shape, np.float16, lambda out: _fill_transfers(out, files, first))
    return Transfers(values, subject.ravel())


def _first_transfer(file: Path) -> bytes:
    import pyarrow.parquet as pq

    return next(pq.ParquetFile(file).iter_batches(batch_size=1, columns=["transfer"]))["transfer"][0].as_py()


def _fill_transfers(out: np.ndarray, files: list[Path], first: np.ndarray) -> None:
    """Read out[i] from row first[i] of the files together."""
    import pyarrow.parquet as pq

    start, of_row = 0, {int(row): i for i, row in enumerate(first)}
    for file in files:
        # As a dictionary: the bytes that rows share are held once.
        for batch in pq.ParquetFile(file, read_dictionary=["transfer"]).iter_batches(64, columns=["transfer"]):
            for row in range(start, start + len(batch)):
                if row in of_row:
                    content = batch["transfer"][row - start].as_py()
                    if content is None or len(content) != out[0].nbytes:
                        raise AssetError(f"{file} has transfers of different sizes; make the data again")
                    out[of_row[row]] = np.frombuffer(content, np.float16).reshape(out.shape[1:])
            start += len(batch)


def _cache_path(cache_dir: str | Path | None, name: str, files: list[Path], settings: object) -> Path | None:
    """Where the array read from `files` with `settings` is kept; None without a folder for it."""
    if cache_dir is None:
        return None
    stamp = [(f.name, f.stat().st_size, f.stat().st_mtime_ns) for f in files]
    key = hashlib.sha256(repr((stamp, settings)).encode()).hexdigest()[:16]
    return Path(cache_dir) / f"{name}-{key}.npy"


def _make_array(path: Path | None, shape: tuple[int, ...], dtype, fill: Callable[[np.ndarray], None]) -> np.ndarray:
    """An array filled by `fill`: in memory, or memory-mapped from `path`, which then appears at once and whole."""
    if path is None:
        out = np.empty(shape, dtype)
        fill(out)
        return out
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_suffix(f".partial-{os.getpid()}")
    try:
        out = np.lib.format.open_memmap(partial, mode="w+", dtype=dtype, shape=shape)
        fill(out)
        out.flush()
        os.replace(partial, path)
    finally:
        partial.unlink(missing_ok=True)
    return np.load(path, mmap_mode="r")


def to_model_range(samples: np.ndarray | torch.Tensor) -> torch.Tensor:
    """uint8 (N, 12, R, R) to float32 in [-1, 1], the range inside the pipeline.

    128, the stored background, maps to 0.004 and not to 0; the model learns that constant like any other.
    """
    tensor = samples if torch.is_tensor(samples) else torch.from_numpy(np.array(samples))
    return tensor.float() / 127.5 - 1.0


def mirror(samples: torch.Tensor) -> torch.Tensor:
    """Reflect (N, 12, H, W) samples in [-1, 1] left to right: width flipped, the normals' x negated."""
    flipped = samples.flip(-1)
    x = LAYOUT.slice("normals").start
    flipped[:, x] = -flipped[:, x]  # flip() copies, so the argument is untouched
    return flipped


def batch_indices(count: int, step: int, batch_size: int, seed: int) -> np.ndarray:
    """Rows of global batch `step`: every epoch is one seeded permutation, so that any step can be resumed exactly."""
    positions = np.arange(step * batch_size, (step + 1) * batch_size)
    epochs, offsets = positions // count, positions % count
    rows = np.empty(batch_size, np.int64)
    for epoch in np.unique(epochs):
        order = np.random.default_rng([seed, int(epoch)]).permutation(count)
        rows[epochs == epoch] = order[offsets[epochs == epoch]]
    return rows


def sample_generator(seed: int, step: int, position: int, device: torch.device | str = "cpu") -> torch.Generator:
    """The generator of one training example, whatever process or resumed run computes it."""
    state = int(np.random.SeedSequence([seed, step, position]).generate_state(1, np.uint64)[0])
    return torch.Generator(device).manual_seed(state & (2**63 - 1))
