"""Write synthetic samples as a Hugging Face dataset: parquet parts that can be made by many jobs and resumed."""

from __future__ import annotations

import io
import json
import os
import shutil
from pathlib import Path

import numpy as np
from PIL import Image
from tqdm import tqdm

from relightify_diffusers.errors import RelightifyError, UsageError
from relightify_diffusers.export.directories import check_target, whole_file
from relightify_diffusers.head.model import HeadModel
from relightify_diffusers.maps import LAYOUT
from relightify_diffusers.rendering.atlas import bake_atlas
from relightify_diffusers.synthesis.sample import VARIANTS, Sample, generate, geometry_of
from relightify_diffusers.synthesis.skin import SkinSources

SCHEMA_VERSION = 1
RECORD = "dataset.json"  # marks a folder as ours
SAMPLES_PER_PART = 400
MIN_RESOLUTION, MAX_RESOLUTION = 16, 1024

CARD = """---
license: cc0-1.0
task_categories: [unconditional-image-generation]
tags: [face, uv-texture, reflectance, synthetic, relightify]
---
# Synthetic UV face maps

{count} samples at {resolution} x {resolution} texels, made by `relightify synthesize` with seed {seed}. Each has four
maps in the atlas of the bundled head model: `texture` (what a photo would show), `diffuse_albedo`, `specular_albedo`
(the parameter s of F0 = 0.08 s, linear) and `normals` (head frame, n * 0.5 + 0.5), with the identity, expression,
light and skin tone they were made from. {variants} consecutive samples share one geometry. Skins: {skins}. No real
person was photographed for it.
"""


def synthesize(
    output: str | Path,
    count: int,
    resolution: int = 256,
    seed: int = 0,
    shard: tuple[int, int] = (0, 1),
    assets: str | Path | None = None,
    overwrite: bool = False,
) -> Path:
    """Write `count` samples to a folder that `datasets.load_dataset` reads, or this job's share of them.

    Sample i of a seed does not depend on shard or count. Parts that exist are kept, so that an interrupted run goes on
    where it stopped. shard: (job, jobs). assets: folder with MakeHuman's CC0 skins; procedural skin without.
    overwrite: replace a dataset that is there (or an empty folder, nothing else). Raises UsageError for bad numbers or
    for a folder that holds something else, AssetError for assets that cannot be read.
    """
    output = Path(output)
    _check(count, resolution, shard)
    settings = {
        "schema_version": SCHEMA_VERSION, "count": count, "resolution": resolution, "seed": seed,
        "skins": Path(assets).name if assets else "procedural",
    }  # fmt: skip
    head = HeadModel.bundled()
    sources = SkinSources.load(head, bake_atlas(head.atlas.uv, head.atlas.uv_triangles, resolution), assets)
    _claim(output, settings, overwrite)

    parts = -(-count // SAMPLES_PER_PART)
    mine = list(range(shard[0], parts, shard[1]))
    missing = [part for part in mine if not _part_path(output, part, parts).exists()]
    total = sum(min(SAMPLES_PER_PART, count - part * SAMPLES_PER_PART) for part in missing)
    with tqdm(total=total, unit="sample", desc=f"synthesize {shard[0]}/{shard[1]}") as progress:
        for part in missing:
            indices = range(part * SAMPLES_PER_PART, min(count, (part + 1) * SAMPLES_PER_PART))
            _write_part(_part_path(output, part, parts), head, sources, seed, indices, progress)
    return output


def _check(count: int, resolution: int, shard: tuple[int, int]) -> None:
    if count < 1:
        raise UsageError(f"the number of samples must be at least 1, got {count}")
    if not MIN_RESOLUTION <= resolution <= MAX_RESOLUTION:
        raise UsageError(f"the resolution must be {MIN_RESOLUTION} to {MAX_RESOLUTION}, got {resolution}")
    if not 0 <= shard[0] < shard[1]:
        raise UsageError(f"the shard I/N needs 0 <= I < N, got {shard[0]}/{shard[1]}")


def _claim(output: Path, settings: dict, overwrite: bool) -> None:
    """Create the folder with its settings and card, or make sure that an existing one has the same settings."""
    record = output / RECORD
    if output.exists() and overwrite:
        shutil.rmtree(check_target(output, overwrite, marker=RECORD))
    if output.exists() and not output.is_dir():
        raise UsageError(f"{output} exists and is not a directory; choose another folder")
    if record.exists():
        try:
            held = json.loads(record.read_text())
        except ValueError:
            raise UsageError(f"{record} is damaged; choose another folder or --overwrite") from None
        if held != settings:
            raise UsageError(f"{output} holds a dataset with other settings; choose another folder or --overwrite")
        return
    if output.exists() and any(not path.name.startswith(".") for path in output.iterdir()):
        raise UsageError(f"{output} exists and is not a dataset of ours; choose another folder or --overwrite")
    try:
        output.mkdir(parents=True, exist_ok=True)
        # The record comes first and at once: jobs that start together find either an empty folder or a whole record.
        with whole_file(record, overwrite=True) as path:
            path.write_text(json.dumps(settings, indent=1))
        with whole_file(output / "README.md", overwrite=True) as path:
            path.write_text(CARD.format(**settings, variants=VARIANTS))
        (output / "data").mkdir(exist_ok=True)
    except OSError as error:
        raise UsageError(f"cannot write to {output}: {error.strerror}") from error


def _part_path(output: Path, part: int, parts: int) -> Path:
    return output / "data" / f"train-{part:05d}-of-{parts:05d}.parquet"


def features():
    """The dataset's columns, as `datasets.Features`."""
    from datasets import Features, Sequence, Value
    from datasets import Image as ImageFeature

    columns = {name: ImageFeature() for name in LAYOUT.names}
    columns |= {"index": Value("int64"), "seed": Value("int64"), "subject": Value("int64"), "tone": Value("float32")}
    columns |= {"exposure": Value("float32")}
    columns |= {name: Sequence(Value("float32")) for name in ("identity", "expression", "light_sh", "sun")}
    return Features(columns)


def _write_part(path: Path, head: HeadModel, sources: SkinSources, seed: int, indices: range, progress: tqdm) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    schema = features().arrow_schema
    geometry = None
    try:
        with pq.ParquetWriter(temporary, schema) as writer:
            rows = []
            for index in indices:
                if geometry is None or index % VARIANTS == 0:
                    geometry = geometry_of(head, seed, index)
                rows.append(_row(generate(head, sources, seed, index, geometry), seed, index))
                if len(rows) == 100 or index == indices[-1]:
                    writer.write_table(pa.Table.from_pylist(rows, schema=schema))
                    rows = []
                progress.update()
        temporary.replace(path)
    except OSError as error:
        raise RelightifyError(
            f"cannot write {path}: {error.strerror or error}; free some space and run again"
        ) from error
    finally:
        temporary.unlink(missing_ok=True)


def _row(sample: Sample, seed: int, index: int) -> dict:
    suns = [np.concatenate([sun.direction, sun.irradiance]) for sun in sample.light.suns]
    return {name: {"bytes": _png(values), "path": None} for name, values in sample.maps.items()} | {
        "index": index,
        "seed": seed,
        "subject": index // VARIANTS,
        "tone": sample.tone,
        "exposure": sample.exposure,
        "identity": sample.geometry.identity.tolist(),
        "expression": sample.geometry.expression.tolist(),
        "light_sh": sample.light.sh.ravel().tolist(),
        "sun": np.concatenate(suns).tolist() if suns else [],
    }


def _png(values: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray((values * 255).round().astype(np.uint8)).save(buffer, "PNG")
    return buffer.getvalue()
