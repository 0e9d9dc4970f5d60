"""`synthesize` writes a set that the datasets library reads, in parts that many jobs share and that resume.

The samples are noise from a stand-in for the engine, which is fast; test_columns.py has the real one.
"""

from __future__ import annotations

import errno
import io
import json
import os
from types import SimpleNamespace

import numpy as np
import pyarrow.parquet as pq
import pytest
from PIL import Image

from relightify_diffusers import __version__
from relightify_diffusers.errors import AssetError, RelightifyError, UsageError
from relightify_diffusers.maps import LAYOUT
from relightify_diffusers.synthesis import columns
from relightify_diffusers.synthesis.columns import COLUMNS, IMAGES
from relightify_diffusers.synthesis.dataset import Plan, rows_per_row_group, synthesize
from relightify_diffusers.synthesis.sample import VARIANTS

COUNT, R, V = 10, 16, 7
INSIDE = np.pad(np.ones((R - 2, R - 2), bool), 1)


def fake_geometry(head, sources, seed, index):
    """A subject's transfer."""
    return np.random.default_rng([seed, index // VARIANTS]).normal(size=(V, 9))


def fake_sample(head, sources, seed, index, geometry=None):
    """A sample of noise with a whole record."""
    rng = np.random.default_rng([seed, 1, index])
    size = len(sources.texels.inside)
    sizes = {"ancestry": 3, "identity": 80, "expression": 52, "light_sh": 27, "white_balance": 3, "camera_K": 9}
    sizes["camera_world_to_camera"] = 12
    record: dict = {name: float(rng.uniform(0, 0.1)) for name, (kind, _) in COLUMNS.items() if kind == "float32"}
    record |= {name: rng.uniform(size=count).tolist() for name, count in sizes.items()}
    record |= {"subject": index // VARIANTS, "features": ["beard"] * (index % 2), "light_kind": "sky"}
    record |= {"sources": rng.uniform(size=(index % 3, 8)).tolist(), "occluders": ["hand", "hair"][: index % 3]}
    record |= {"tone": float(rng.uniform(-60, 60)), "age": float(20 + 9 * (index // VARIANTS))}
    del record["observed_share"]
    maps = {name: rng.uniform(size=(size, size, 3)).astype(np.float32) for name in LAYOUT.names}
    observed = rng.uniform(size=(size, size)) < 0.3
    return SimpleNamespace(maps=maps, observed=observed, record=record, geometry=SimpleNamespace(transfer=geometry))


def fake_sources(head, texels, assets):
    return SimpleNamespace(texels=SimpleNamespace(inside=INSIDE))


@pytest.fixture(scope="module", autouse=True)
def fake_engine():
    """The stand-in, in place of the engine."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(columns, "generate", fake_sample)
        patch.setattr(columns, "geometry_of", fake_geometry)
        patch.setattr(columns.SkinSources, "load", fake_sources)
        yield


@pytest.fixture(scope="module")
def written(tmp_path_factory, fake_engine):
    """A set of 10 samples of 16 texels, seed 3, with transfer, written by one job."""
    return synthesize(tmp_path_factory.mktemp("set") / "one", COUNT, R, seed=3, transfer=True)


def rows(folder) -> list[dict]:
    """All rows of a set in the order of its files."""
    return [row for path in sorted((folder / "data").glob("*.parquet")) for row in pq.read_table(path).to_pylist()]


def part_names(folder) -> list[str]:
    return sorted(path.name[6:11] for path in (folder / "data").iterdir())


def test_files(written):
    assert sorted(str(path.relative_to(written)) for path in written.rglob("*") if path.is_file()) == [
        "README.md",
        *(f"data/train-{part:05d}-of-00003.parquet" for part in range(3)),
        "dataset.json",
        *sorted(f"sheets/{name}.png" for name in IMAGES),
        "statistics.json",
    ]
    record = json.loads((written / "dataset.json").read_text())
    assert record == {
        "schema_version": 2, "version": __version__, "count": COUNT, "resolution": R, "seed": 3, "transfer": True,
        "assets": [], "assets_digest": "",
    }  # fmt: skip
    assert [row["index"] for row in rows(written)] == list(range(COUNT))


def test_rows_are_the_samples(written):
    sample = fake_sample(None, fake_sources(None, None, None), 3, 7, fake_geometry(None, None, 3, 7))
    row = rows(written)[7]
    for name in LAYOUT.names:
        image = Image.open(io.BytesIO(row[name]["bytes"]))
        assert image.format == "PNG" and image.mode == "RGB"
        np.testing.assert_allclose(np.asarray(image) / 255, sample.maps[name], atol=0.5 / 255 + 1e-6)
    mask = Image.open(io.BytesIO(row["observed"]["bytes"]))
    assert mask.mode == "L" and np.array_equal(np.asarray(mask), 255 * sample.observed)
    assert row["observed_share"] == pytest.approx(sample.observed[INSIDE].mean())
    assert (row["index"], row["seed"], row["subject"]) == (7, 3, 1)
    for name, value in sample.record.items():
        np.testing.assert_array_equal(row[name], value) if isinstance(value, (str, int)) else None
        if name not in ("features", "occluders", "light_kind"):
            np.testing.assert_allclose(row[name], value, rtol=1e-6)
    assert (row["features"], row["occluders"], len(row["sources"])) == (["beard"], ["hand"], 1)
    stored = np.frombuffer(row["transfer"], np.float16).reshape(V, 9)
    np.testing.assert_array_equal(stored, sample.geometry.transfer.astype(np.float16))


@pytest.mark.parametrize("streaming", [False, True])
def test_load_dataset(written, tmp_path, streaming):
    """By the folder alone, as a user and the Hub load it: the card names the files, parquet names the types."""
    from datasets import load_dataset

    loaded = load_dataset(str(written), split="train", streaming=streaming, cache_dir=str(tmp_path))
    assert loaded.features == columns.features(transfer=True)
    row = list(loaded)[5]
    assert [row[name].size for name in IMAGES] == [(R, R)] * 5
    assert row["texture"].mode == "RGB" and row["observed"].mode == "L"
    assert len(row["expression"]) == 52 and len(row["transfer"]) == V * 9 * 2 and len(row["sources"]) == 2
    assert [sample["index"] for sample in loaded] == list(range(COUNT))


def test_features_without_transfer():
    assert set(columns.features(True)) - set(columns.features(False)) == {"transfer"}


def test_images_are_not_compressed_twice_and_transfer_is_stored_once(tmp_path, monkeypatch):
    """Four rows of a subject cost one transfer, also where the dictionary is larger than parquet's default."""
    large = np.random.default_rng(0).normal(size=(60_000, 9))
    monkeypatch.setattr(columns, "geometry_of", lambda head, sources, seed, index: large + index)
    folder = synthesize(tmp_path / "set", 64, R, transfer=True, workers=1)
    (path,) = (folder / "data").glob("*00000-of*")
    group = pq.ParquetFile(path).metadata.row_group(0)
    found = {group.column(i).path_in_schema: group.column(i) for i in range(group.num_columns)}
    assert found["texture.bytes"].compression == "UNCOMPRESSED"
    assert found["identity.list.element"].compression == found["sources.list.element.list.element"].compression
    assert found["identity.list.element"].compression == "ZSTD"
    assert group.num_rows == 8 and found["transfer"].total_uncompressed_size < 2.01 * large.size * 2


def test_two_jobs_write_what_one_writes(written, tmp_path, capsys):
    for job in (1, 0):
        synthesize(tmp_path / "two", COUNT, R, seed=3, shard=(job, 2), transfer=True)
        assert part_names(tmp_path / "two") == (["00001"] if job == 1 else ["00000", "00001", "00002"])
        said = capsys.readouterr().out
        assert ("1 of 3 parts" in said) == (job == 1) and ("Skin tone" in said) == (job == 0)
        assert (tmp_path / "two" / "statistics.json").exists() == (job == 0)
    for path in written.rglob("*"):
        if path.is_file():
            assert (tmp_path / "two" / path.relative_to(written)).read_bytes() == path.read_bytes(), path.name


def test_a_job_with_nothing_to_do_says_so(written, capsys):
    before = {path: path.stat().st_mtime_ns for path in written.rglob("*")}
    assert synthesize(written, COUNT, R, seed=3, shard=(3, 4), transfer=True) == written
    said = capsys.readouterr().out
    assert "nothing to do" in said and "Skin tone" in said  # and the statistics again
    assert {path: path.stat().st_mtime_ns for path in written.rglob("*")} == before


def test_a_longer_set_starts_with_the_shorter_one(written, tmp_path):
    assert rows(synthesize(tmp_path / "short", 2, R, seed=3, transfer=True)) == rows(written)[:2]
    assert rows(synthesize(tmp_path / "other", 1, R, seed=4))[0]["texture"] != rows(written)[0]["texture"]


@pytest.mark.parametrize(
    "count, resolution, samples, parts",
    [
        (1, 64, 4, 1),
        (10, 64, 4, 3),
        (32, 64, 4, 8),
        (33, 64, 8, 5),
        (3200, 128, 400, 8),
        (40_001, 128, 400, 101),
        (40_000, 256, 400, 100),
        (40_000, 512, 100, 400),
        (40_000, 1024, 24, 1667),
    ],
)
def test_plan(count, resolution, samples, parts):
    plan = Plan.of(count, resolution)
    assert (plan.samples_per_part, plan.parts) == (samples, parts)
    groups = [group for part in range(plan.parts) for group in plan.groups(part)]
    assert [index for group in groups for index in group] == list(range(count))
    assert all(group[0] % VARIANTS == 0 for group in groups) and max(map(len, groups)) <= VARIANTS


def test_rows_per_row_group():
    assert [rows_per_row_group(resolution) for resolution in (64, 256, 512, 1024)] == [100, 100, 24, 4]


def test_resumed_run_keeps_finished_parts(written, tmp_path, monkeypatch):
    """A run that was cut off leaves no half part; the next one makes only what is missing."""
    made = []
    cut = [6]

    def counted(head, sources, seed, index, geometry=None):
        if index in cut:
            raise KeyboardInterrupt
        made.append(index)
        return fake_sample(head, sources, seed, index, geometry)

    monkeypatch.setattr(columns, "generate", counted)
    settings = {"count": COUNT, "resolution": R, "seed": 3, "transfer": True}
    with pytest.raises(KeyboardInterrupt):
        synthesize(tmp_path / "set", **settings)
    assert made == [0, 1, 2, 3, 4, 5]
    assert [path.name for path in (tmp_path / "set" / "data").iterdir()] == ["train-00000-of-00003.parquet"]
    assert "Not complete yet" in (tmp_path / "set" / "README.md").read_text()
    before = (tmp_path / "set" / "data" / "train-00000-of-00003.parquet").stat().st_mtime_ns
    # What a job that was killed outright leaves behind; the set is read without it, and it goes in the end.
    (tmp_path / "set" / "data" / ".train-00001-of-00003.parquet.0123.tmp").write_bytes(b"half")

    cut.clear()
    made.clear()
    synthesize(tmp_path / "set", **settings)
    assert made == list(range(4, 10))
    assert (tmp_path / "set" / "data" / "train-00000-of-00003.parquet").stat().st_mtime_ns == before
    assert part_names(tmp_path / "set") == ["00000", "00001", "00002"]
    assert rows(tmp_path / "set") == rows(written)
    made.clear()
    synthesize(tmp_path / "set", **settings)
    assert made == []


def test_a_full_disk_keeps_finished_parts(tmp_path, monkeypatch):
    class Writer(pq.ParquetWriter):
        def write_table(self, *args, **options):
            if "00001-of" in str(self.where):
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            super().write_table(*args, **options)

    monkeypatch.setattr(pq, "ParquetWriter", Writer)
    with pytest.raises(RelightifyError, match="No space left") as caught:
        synthesize(tmp_path / "set", COUNT, R)
    assert "\n" not in str(caught.value) and caught.value.exit_code == 1
    assert part_names(tmp_path / "set") == ["00000"]


def test_a_sample_that_cannot_be_made_is_named(tmp_path, monkeypatch):
    monkeypatch.setattr(columns, "generate", lambda *args: 1 / 0)
    with pytest.raises(RelightifyError, match="samples 0 to 3: ZeroDivisionError"):
        synthesize(tmp_path / "set", COUNT, R)
    assert part_names(tmp_path / "set") == []


@pytest.mark.parametrize("change", [{"count": 11}, {"resolution": 17}, {"seed": 4}, {"transfer": False}])
def test_other_settings_are_refused(written, change):
    before = {path: path.stat().st_mtime_ns for path in written.rglob("*")}
    with pytest.raises(UsageError, match="other settings"):
        synthesize(written, **({"count": COUNT, "resolution": R, "seed": 3, "transfer": True} | change))
    assert {path: path.stat().st_mtime_ns for path in written.rglob("*")} == before


@pytest.mark.parametrize(
    "numbers",
    [
        {"count": 0},
        {"resolution": 8},
        {"resolution": 2048},
        {"shard": (2, 2)},
        {"shard": (-1, 2)},
        {"shard": (0, 0)},
        {"workers": 0},
        {"overwrite": True, "shard": (0, 2)},
    ],
)
def test_bad_numbers(tmp_path, numbers):
    with pytest.raises(UsageError):
        synthesize(tmp_path / "set", **({"count": 1, "resolution": R} | numbers))
    assert not list(tmp_path.iterdir())


def test_bad_assets_make_no_folder(tmp_path, monkeypatch):
    with pytest.raises(AssetError, match="nowhere"):
        synthesize(tmp_path / "set", 1, R, assets=tmp_path / "nowhere")

    def damaged(*args):
        raise AssetError("damaged skin")

    monkeypatch.setattr(columns.SkinSources, "load", damaged)
    (tmp_path / "assets").mkdir()
    with pytest.raises(AssetError, match="damaged skin"):
        synthesize(tmp_path / "set", 1, R, assets=[tmp_path / "assets"])
    assert not (tmp_path / "set").exists()


def test_assets_are_part_of_the_settings_but_not_where_they_lie(tmp_path):
    for place in ("here", "there"):
        (tmp_path / place / "mine" / "skins").mkdir(parents=True)
        (tmp_path / place / "mine" / "skins" / "a.png").write_bytes(b"1234")
    folder = synthesize(tmp_path / "set", 1, R, assets=[tmp_path / "here" / "mine"])
    synthesize(folder, 1, R, assets=str(tmp_path / "there" / "mine"))
    record = (folder / "dataset.json").read_text() + (folder / "README.md").read_text()
    assert json.loads((folder / "dataset.json").read_text())["assets"] == ["mine"] and str(tmp_path) not in record
    (tmp_path / "there" / "mine" / "skins" / "b.png").write_bytes(b"1234")
    with pytest.raises(UsageError, match="other settings"):
        synthesize(folder, 1, R, assets=str(tmp_path / "there" / "mine"))


def test_overwrite_starts_anew(tmp_path):
    synthesize(tmp_path / "set", 1, R, seed=1)
    synthesize(tmp_path / "set", 2, R, seed=2, overwrite=True)
    assert [row["seed"] for row in rows(tmp_path / "set")] == [2, 2]
    assert json.loads((tmp_path / "set" / "dataset.json").read_text())["seed"] == 2
    (tmp_path / "empty").mkdir()
    assert len(rows(synthesize(tmp_path / "empty", 1, R, overwrite=True))) == 1


@pytest.mark.parametrize("overwrite", [False, True])
def test_other_folders_are_not_touched(tmp_path, overwrite):
    """A mistyped path must not cost anybody's files."""
    theirs = tmp_path / "home"
    (theirs / "photos").mkdir(parents=True)
    (theirs / "photos" / "me.txt").write_text("mine")
    (tmp_path / "file").write_text("mine")
    for path in (theirs, tmp_path / "file"):
        with pytest.raises(UsageError):
            synthesize(path, 1, R, overwrite=overwrite)
    assert (theirs / "photos" / "me.txt").read_text() == "mine" and (tmp_path / "file").read_text() == "mine"
    assert sorted(path.name for path in theirs.rglob("*")) == ["me.txt", "photos"]


def test_a_damaged_part_is_named(tmp_path):
    folder = synthesize(tmp_path / "set", COUNT, R)
    (folder / "statistics.json").unlink()
    (folder / "data" / "train-00001-of-00003.parquet").write_bytes(b"broken")
    with pytest.raises(RelightifyError, match="damaged"):
        synthesize(folder, COUNT, R)
    (folder / "data" / "train-00001-of-00003.parquet").unlink()
    synthesize(folder, COUNT, R)
    assert (folder / "statistics.json").exists() and len(rows(folder)) == COUNT


def test_card(written):
    from huggingface_hub import DatasetCard

    card = DatasetCard.load(written / "README.md")
    assert (card.data.license, card.data.size_categories) == ("cc0-1.0", ["n<1K"])
    assert card.data.configs == [
        {"config_name": "default", "data_files": [{"split": "train", "path": "data/train-*"}]}
    ]
    assert all(f"| `{name}` |" in card.text for name in COLUMNS)
    assert "10 samples of 3 subjects" in card.text and "Not complete" not in card.text
    assert "Bins without a sample" in card.text and "no assets were used" in card.text


def test_sheets_show_the_first_samples(written):
    """Ten samples: two rows of eight cells of the map's size, the first sample at the top left."""
    sheet = np.asarray(Image.open(written / "sheets" / "texture.png"))
    assert sheet.shape == (2 * R, 8 * R, 3)
    for number in (0, 9):
        top, left = number // 8 * R, number % 8 * R
        image = Image.open(io.BytesIO(rows(written)[number]["texture"]["bytes"]))
        np.testing.assert_array_equal(sheet[top : top + R, left : left + R], np.asarray(image))
    assert (sheet[R:, 2 * R :] == 255).all()
