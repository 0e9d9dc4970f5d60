"""`synthesize` writes a set that the datasets library reads, in parts that many jobs share and that resume."""

from __future__ import annotations

import io
import json

import numpy as np
import pyarrow.parquet as pq
import pytest
from PIL import Image

from relightify_diffusers.errors import AssetError, UsageError
from relightify_diffusers.maps import LAYOUT
from relightify_diffusers.rendering.atlas import bake_atlas
from relightify_diffusers.synthesis import dataset
from relightify_diffusers.synthesis.dataset import synthesize
from relightify_diffusers.synthesis.sample import generate
from relightify_diffusers.synthesis.skin import SkinSources

COUNT, PART, R = 10, 4, 16


@pytest.fixture(autouse=True)
def small_parts(monkeypatch):
    """Parts of 4 samples, so that 10 make three."""
    monkeypatch.setattr(dataset, "SAMPLES_PER_PART", PART)


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    """A set of 10 samples of 16 texels, seed 3, written by one job."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(dataset, "SAMPLES_PER_PART", PART)
        return synthesize(tmp_path_factory.mktemp("set") / "one", COUNT, R, seed=3)


def rows(folder) -> list[dict]:
    """All rows of a set in the order of its files."""
    return [row for path in sorted((folder / "data").glob("*.parquet")) for row in pq.read_table(path).to_pylist()]


def test_files(written):
    assert sorted(path.name for path in written.rglob("*") if path.is_file()) == [
        "README.md",
        "dataset.json",
        *(f"train-{part:05d}-of-00003.parquet" for part in range(3)),
    ]
    record = json.loads((written / "dataset.json").read_text())
    assert (record["count"], record["resolution"], record["seed"], record["skins"]) == (COUNT, R, 3, "procedural")
    card = (written / "README.md").read_text()
    assert card.startswith("---\nlicense: cc0-1.0") and "10 samples at 16 x 16" in card
    assert [row["index"] for row in rows(written)] == list(range(COUNT))


def test_load_dataset(written, tmp_path):
    from datasets import load_dataset

    loaded = load_dataset(
        "parquet", data_files=str(written / "data" / "*.parquet"), split="train", cache_dir=str(tmp_path)
    )
    assert loaded.num_rows == COUNT
    assert loaded.features == dataset.features()
    row = loaded[5]
    assert [row[name].size for name in LAYOUT.names] == [(R, R)] * 4 and row["texture"].mode == "RGB"
    assert (row["index"], row["seed"], row["subject"]) == (5, 3, 1)
    assert len(row["expression"]) == 52 and len(row["light_sh"]) == 27 and len(row["sun"]) in (0, 6)


def test_images_are_the_sample(written, head):
    """8-bit PNGs of the generated maps; the background 0.5 is stored as 128."""
    texels = bake_atlas(head.atlas.uv, head.atlas.uv_triangles, R)
    sample = generate(head, SkinSources.load(head, texels, None), 3, 6)
    row = rows(written)[6]
    for name in LAYOUT.names:
        image = Image.open(io.BytesIO(row[name]["bytes"]))
        assert image.format == "PNG"
        values = np.asarray(image)
        assert (values[~texels.inside] == 128).all() and (~texels.inside).any()
        np.testing.assert_allclose(values / 255, sample.maps[name], atol=0.5 / 255 + 1e-6)
    assert row["tone"] == pytest.approx(sample.tone, abs=1e-4)
    np.testing.assert_allclose(row["light_sh"], sample.light.sh.ravel(), atol=1e-5)
    np.testing.assert_allclose(row["identity"], sample.geometry.identity, atol=1e-5)


def test_two_jobs_write_what_one_writes(written, tmp_path):
    for job in (1, 0):
        synthesize(tmp_path / "two", COUNT, R, seed=3, shard=(job, 2))
        parts = {path.name[6:11] for path in (tmp_path / "two" / "data").iterdir()}
        assert parts == ({"00001"} if job == 1 else {"00000", "00001", "00002"})
    assert rows(tmp_path / "two") == rows(written)
    assert (tmp_path / "two" / "dataset.json").read_bytes() == (written / "dataset.json").read_bytes()


def test_a_longer_set_starts_with_the_shorter_one(written, tmp_path):
    assert rows(synthesize(tmp_path / "short", 2, R, seed=3)) == rows(written)[:2]
    assert rows(synthesize(tmp_path / "other", 1, R, seed=4))[0]["texture"] != rows(written)[0]["texture"]


def test_resumed_run_keeps_finished_parts(tmp_path, monkeypatch):
    """A run that was cut off leaves no half part; the next one makes only what is missing."""
    made = []

    def counted(head, sources, seed, index, geometry=None):
        if index == 6 and not cut:
            raise KeyboardInterrupt
        made.append(index)
        return generate(head, sources, seed, index, geometry)

    cut: list[int] = []
    monkeypatch.setattr(dataset, "generate", counted)
    with pytest.raises(KeyboardInterrupt):
        synthesize(tmp_path / "set", COUNT, R, seed=3)
    assert made == [0, 1, 2, 3, 4, 5]
    assert [path.name for path in (tmp_path / "set" / "data").iterdir()] == ["train-00000-of-00003.parquet"]
    before = (tmp_path / "set" / "data" / "train-00000-of-00003.parquet").stat().st_mtime_ns

    cut.append(1)
    made.clear()
    synthesize(tmp_path / "set", COUNT, R, seed=3)
    assert made == list(range(4, 10))
    assert (tmp_path / "set" / "data" / "train-00000-of-00003.parquet").stat().st_mtime_ns == before
    assert [row["index"] for row in rows(tmp_path / "set")] == list(range(COUNT))
    made.clear()
    synthesize(tmp_path / "set", COUNT, R, seed=3)
    assert made == []


def test_resumed_rows_are_those_of_one_run(written, tmp_path):
    """Also where a part starts in the middle of a group that shares a geometry."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(dataset, "SAMPLES_PER_PART", 3)
        other = rows(synthesize(tmp_path / "set", 7, R, seed=3))
    assert other == rows(written)[:7]


@pytest.mark.parametrize("change", [{"count": 11}, {"resolution": 17}, {"seed": 4}])
def test_other_settings_are_refused(written, change):
    before = {path: path.stat().st_mtime_ns for path in written.rglob("*")}
    with pytest.raises(UsageError, match="other settings"):
        synthesize(written, **({"count": COUNT, "resolution": R, "seed": 3} | change))
    assert {path: path.stat().st_mtime_ns for path in written.rglob("*")} == before


@pytest.mark.parametrize(
    "numbers",
    [{"count": 0}, {"resolution": 8}, {"resolution": 2048}, {"shard": (2, 2)}, {"shard": (-1, 2)}, {"shard": (0, 0)}],
)
def test_bad_numbers(tmp_path, numbers):
    with pytest.raises(UsageError):
        synthesize(tmp_path / "set", **({"count": 1, "resolution": R} | numbers))
    assert not list(tmp_path.iterdir())


def test_missing_skins(tmp_path):
    with pytest.raises(AssetError, match="skins"):
        synthesize(tmp_path / "set", 1, R, assets=tmp_path / "nowhere")
    assert not (tmp_path / "set").exists()


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
