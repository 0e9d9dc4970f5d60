"""Write synthetic samples as a Hugging Face dataset: parquet parts that can be made by many jobs and resumed."""

from __future__ import annotations

import contextlib
import hashlib
import json
import secrets
import shutil
from collections.abc import Generator, Iterator, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path

from tqdm import tqdm

from relightify_diffusers import __version__
from relightify_diffusers.errors import AssetError, RelightifyError, UsageError
from relightify_diffusers.export.directories import check_target
from relightify_diffusers.synthesis.card import card
from relightify_diffusers.synthesis.columns import Engine, EngineSettings, engine_rows, features, parquet_options
from relightify_diffusers.synthesis.pool import available_cores, parallel_map
from relightify_diffusers.synthesis.sample import VARIANTS
from relightify_diffusers.synthesis.sheets import contact_sheets
from relightify_diffusers.synthesis.statistics import SCHEMA_VERSION as STATISTICS_VERSION
from relightify_diffusers.synthesis.statistics import compute_statistics, summary

SCHEMA_VERSION = 2
RECORD = "dataset.json"  # marks a folder as ours
STATISTICS = "statistics.json"  # marks a folder as complete
MIN_RESOLUTION, MAX_RESOLUTION = 16, 1024

# A part holds at most 400 samples, and fewer above 256 texels, so that it stays near 100 to 200 MB; a small set still
# has up to 8 parts, so that several jobs can share it.
SAMPLES_PER_PART, PART_RESOLUTION, SMALL_SET_PARTS = 400, 256, 8
# Rows that are held in memory and written together; readers that stream fetch as many at once.
ROWS_PER_ROW_GROUP = 100
# Fewer groups than this are not worth the start of worker processes.
MIN_GROUPS_FOR_WORKERS = 8
# Where assets lie in their folders; see SkinSources.load.
_ASSET_FILES = ("*.hdr", "*/*.hdr", "*/*.png", "*/*/*.png")

Paths = str | Path | Sequence[str | Path] | None


@dataclass(frozen=True)
class SetSettings:
    """What a set is, as its record says: two folders with the same settings hold the same rows.

    version: of this package, whose generator may change with it. assets: names of the folders, without where they lie.
    assets_digest: of their files' names and sizes.
    """

    schema_version: int
    version: str
    count: int
    resolution: int
    seed: int
    transfer: bool
    assets: list[str]
    assets_digest: str


@dataclass(frozen=True)
class Plan:
    """How a set is divided: parts of whole groups of VARIANTS samples."""

    count: int
    samples_per_part: int

    @classmethod
    def of(cls, count: int, resolution: int) -> Plan:
        """The plan of a set; it follows from its size alone, so that all jobs agree."""
        largest = SAMPLES_PER_PART * min(1.0, (PART_RESOLUTION / resolution) ** 2)
        share = -(-count // (SMALL_SET_PARTS * VARIANTS)) * VARIANTS
        return cls(count, max(VARIANTS, min(int(largest) // VARIANTS * VARIANTS, share)))

    @property
    def parts(self) -> int:
        """Number of parts."""
        return -(-self.count // self.samples_per_part)

    def name(self, part: int) -> str:
        """File name of a part, of the pattern that the Hugging Face libraries recognize."""
        return f"train-{part:05d}-of-{self.parts:05d}.parquet"

    def groups(self, part: int) -> list[range]:
        """The sample numbers of a part, one range for each subject."""
        end = min(self.count, (part + 1) * self.samples_per_part)
        starts = range(part * self.samples_per_part, end, VARIANTS)
        return [range(start, min(end, start + VARIANTS)) for start in starts]


def synthesize(
    output: str | Path,
    count: int,
    resolution: int = 256,
    seed: int = 0,
    shard: tuple[int, int] = (0, 1),
    assets: Paths = None,
    overwrite: bool = False,
    workers: int | None = None,
    transfer: bool = False,
) -> Path:
    """Write `count` samples to a folder that `datasets.load_dataset` reads, or this job's share of them.

    Sample i of a seed does not depend on shard, workers or count. Parts that exist are kept, so that an interrupted
    run goes on where it stopped; whoever writes the last one adds the statistics, the card and the contact sheets.

    Args:
        output: the folder.
        count: samples of the whole set.
        resolution: texels a side of the maps, 16 to 1024.
        seed: of the whole set.
        shard: (job, jobs), counted from 0: this call writes every jobs-th part.
        assets: folders with CC0 skins, light maps and others; procedural ones without.
        overwrite: replace a set that is there (or an empty folder, nothing else).
        workers: processes; None takes all cores, and none but this process for a few samples. A script that calls
            this with workers needs the usual `if __name__ == "__main__":`.
        transfer: add the column of precomputed radiance transfer.

    Raises:
        UsageError: bad numbers, or a folder that holds something else.
        AssetError: assets that cannot be read; the folder is not made then.
        RelightifyError: a disk that is full, a sample that cannot be made, a worker that died.
    """
    output, folders = Path(output), _folders(assets)
    _check(count, resolution, shard, overwrite, workers)
    names = [folder.resolve().name for folder in folders]
    settings = SetSettings(SCHEMA_VERSION, __version__, count, resolution, seed, transfer, names, _digest(folders))
    plan = Plan.of(count, resolution)
    held = not overwrite and _holds(output, settings)
    mine = range(shard[0], plan.parts, shard[1])
    missing = [part for part in mine if not held or not _path(output, plan, part).exists()]
    if missing or not held:
        # Loaded here even when workers make the rows: wrong assets come out before the folder is made.
        engine = Engine.load(EngineSettings(resolution, seed, tuple(map(str, folders)), transfer))
        _claim(output, settings, overwrite)
        _make(output, plan, missing, engine, workers, f"synthesize {shard[0]}/{shard[1]}")
    if not missing:
        print("nothing to do: " + ("this job's parts are there" if mine else "the set has fewer parts than jobs"))
    _finish(output, plan, settings)
    return output


def _folders(assets: Paths) -> list[Path]:
    """The asset folders as a list; raises AssetError for one that is not there."""
    folders = [Path(assets)] if isinstance(assets, (str, Path)) else [Path(folder) for folder in assets or ()]
    for folder in folders:
        if not folder.is_dir():
            raise AssetError(f"the assets folder {folder} does not exist; check the path")
    return folders


def _digest(folders: Sequence[Path]) -> str:
    """A short hash of names and sizes of the folders' files: the same copy elsewhere has the same one."""
    digest = hashlib.sha256()
    for folder in folders:
        files = sorted(path for pattern in _ASSET_FILES for path in folder.glob(pattern))
        digest.update(repr([(str(path.relative_to(folder)), path.stat().st_size) for path in files]).encode())
    return digest.hexdigest()[:16] if folders else ""


def _check(count: int, resolution: int, shard: tuple[int, int], overwrite: bool, workers: int | None) -> None:
    if count < 1:
        raise UsageError(f"the number of samples must be at least 1, got {count}")
    if not MIN_RESOLUTION <= resolution <= MAX_RESOLUTION:
        raise UsageError(f"the resolution must be {MIN_RESOLUTION} to {MAX_RESOLUTION}, got {resolution}")
    if not 0 <= shard[0] < shard[1]:
        raise UsageError(f"the shard I/N needs 0 <= I < N, got {shard[0]}/{shard[1]}")
    if overwrite and shard[1] > 1:
        raise UsageError("--overwrite would delete the parts of the other jobs; remove the folder before they start")
    if workers is not None and workers < 1:
        raise UsageError(f"the number of workers must be at least 1, got {workers}")


def _holds(output: Path, settings: SetSettings) -> bool:
    """Whether the folder has these settings already; raises UsageError if it holds anything else."""
    record = output / RECORD
    if output.exists() and not output.is_dir():
        raise UsageError(f"{output} exists and is not a directory; choose another folder")
    if record.exists():
        try:
            held = json.loads(record.read_text())
        except ValueError:
            raise UsageError(f"{record} is damaged; choose another folder or --overwrite") from None
        if held != asdict(settings):
            raise UsageError(f"{output} holds a dataset with other settings; choose another folder or --overwrite")
        return True
    if output.exists() and any(not path.name.startswith(".") for path in output.iterdir()):
        raise UsageError(f"{output} exists and is not a dataset of ours; choose another folder or --overwrite")
    return False


def _claim(output: Path, settings: SetSettings, overwrite: bool) -> None:
    """Create the folder with its record, or leave the one that is there."""
    if overwrite and output.exists():
        shutil.rmtree(check_target(output, overwrite, marker=RECORD))
    if not _holds(output, settings):
        try:
            output.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise UsageError(f"cannot write to {output}: {error.strerror}") from error
        # The record comes first and at once: jobs that start together find either an empty folder or a whole record.
        with whole(output / RECORD) as path:
            path.write_text(json.dumps(asdict(settings), indent=1))
        with whole(output / "README.md") as path:
            path.write_text(card(asdict(settings), None))
    with _explained(output):
        (output / "data").mkdir(exist_ok=True)


def _path(output: Path, plan: Plan, part: int) -> Path:
    return output / "data" / plan.name(part)


@contextlib.contextmanager
def _explained(path: Path) -> Iterator[None]:
    """Context that turns an operating-system error into one line."""
    try:
        yield
    except OSError as error:
        reason = error.strerror or str(error)
        raise RelightifyError(f"cannot write {path}: {reason}; what is finished is kept, run again") from error


@contextlib.contextmanager
def whole(path: Path) -> Iterator[Path]:
    """Context of writing a file that appears when the block ends without an error; yields a hidden sibling.

    The sibling's name is random: jobs on several machines may write the same file at once. Raises RelightifyError for
    an operating-system error, a full disk for example.
    """
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}.tmp")
    with _explained(path):
        try:
            yield temporary
            temporary.replace(path)
        finally:
            temporary.unlink(missing_ok=True)


def _make(output: Path, plan: Plan, parts: Sequence[int], engine: Engine, workers: int | None, title: str) -> None:
    """Make the rows of these parts, in this process or in workers, and write them."""
    groups = [group for part in parts for group in plan.groups(part)]
    if workers is None:
        workers = available_cores() if len(groups) >= MIN_GROUPS_FOR_WORKERS else 1
    with (
        tqdm(total=sum(map(len, groups)), unit="sample", desc=title) as progress,
        contextlib.closing(_rows(groups, engine, min(workers, max(1, len(groups))))) as results,
    ):
        for part in parts:
            _write_part(_path(output, plan, part), results, len(plan.groups(part)), engine.settings, progress)


def _rows(groups: Sequence[range], engine: Engine, workers: int) -> Generator[list[dict], None, None]:
    """The rows of each group, in order; what goes wrong with a group is said with its numbers."""
    results: Generator[list[dict], None, None]
    if workers > 1:
        results = parallel_map(partial(engine_rows, engine.settings), groups, workers)
    else:
        results = (engine.rows(group) for group in groups)
    with contextlib.closing(results):
        for group in groups:
            try:
                rows = next(results)
            except RelightifyError:
                raise
            except Exception as error:
                span = f"samples {group[0]} to {group[-1]}"
                raise RelightifyError(f"cannot make {span}: {type(error).__name__}: {error}") from error
            yield rows


def _write_part(path: Path, results: Iterator[list[dict]], groups: int, settings: EngineSettings, progress) -> None:
    """Write one part from the next `groups` results."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    schema = features(settings.transfer).arrow_schema
    with whole(path) as temporary, pq.ParquetWriter(temporary, schema, **parquet_options(settings.transfer)) as writer:
        rows: list[dict] = []
        for group in range(groups):
            made = next(results)
            progress.update(len(made))
            rows += made
            if len(rows) >= rows_per_row_group(settings.resolution) or group == groups - 1:
                writer.write_table(pa.Table.from_pylist(rows, schema=schema))
                rows = []


def rows_per_row_group(resolution: int) -> int:
    """Rows of a row group, fewer above PART_RESOLUTION so that memory stays bounded; a multiple of VARIANTS."""
    share = min(1.0, (PART_RESOLUTION / resolution) ** 2)
    return max(VARIANTS, int(ROWS_PER_ROW_GROUP * share) // VARIANTS * VARIANTS)


def _finish(output: Path, plan: Plan, settings: SetSettings) -> None:
    """Say what is still missing, or complete the folder with statistics, card and sheets and print the statistics."""
    parts = [_path(output, plan, part) for part in range(plan.parts)]
    there = sum(path.exists() for path in parts)
    if there < plan.parts:
        print(f"{there} of {plan.parts} parts are there; the other jobs' are missing")
        return
    # All parts are there, so that temporary files can only be left-overs of jobs that were killed.
    for left in (output / "data").glob(".*.tmp"):
        left.unlink(missing_ok=True)
    statistics = _kept_statistics(output)
    if statistics is None:
        statistics = _complete(output, parts, settings)
    print(summary(statistics))


def _kept_statistics(output: Path) -> dict | None:
    """The statistics of a folder that was completed before, None if they are missing or of another version."""
    try:
        statistics = json.loads((output / STATISTICS).read_text())
    except (OSError, ValueError):
        return None
    return statistics if statistics.get("schema_version") == STATISTICS_VERSION else None


def _complete(output: Path, parts: Sequence[Path], settings: SetSettings) -> dict:
    """Write the sheets, the card and, as the sign that all is there, the statistics; returns these."""
    import pyarrow as pa

    try:
        statistics = compute_statistics(parts)
        sheets = contact_sheets(parts)
    except (OSError, KeyError, pa.ArrowException) as error:
        raise RelightifyError(f"a part in {output / 'data'} is damaged ({error}); delete it and run again") from error
    with _explained(output):
        (output / "sheets").mkdir(exist_ok=True)
    for name, sheet in sheets.items():
        with whole(output / "sheets" / f"{name}.png") as path:
            sheet.save(path, "PNG")
    with whole(output / "README.md") as path:
        path.write_text(card(asdict(settings), statistics))
    with whole(output / STATISTICS) as path:
        path.write_text(json.dumps(statistics, indent=1, allow_nan=False))
    return statistics
