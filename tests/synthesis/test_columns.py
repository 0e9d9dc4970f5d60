"""Rows of the real engine: what is stored is the sample, and it is the same from any number of processes."""

from __future__ import annotations

import io

import numpy as np
import pyarrow as pa
import pytest
from PIL import Image

from relightify_diffusers.maps import LAYOUT
from relightify_diffusers.synthesis.columns import COLUMNS, Engine, EngineSettings, columns, features, quantized
from relightify_diffusers.synthesis.dataset import synthesize
from relightify_diffusers.synthesis.sample import generate

R, SEED = 16, 3


@pytest.fixture(scope="module")
def engine() -> Engine:
    return Engine.load(EngineSettings(R, SEED, transfer=True))


@pytest.fixture(scope="module")
def rows(engine) -> list[dict]:
    """The rows of samples 4 to 7, one subject."""
    return engine.rows(range(4, 8))


def test_quantized_rounds_to_the_nearest():
    assert quantized(np.array([0, 0.49 / 255, 0.51 / 255, 0.5, 1], np.float32)).tolist() == [0, 0, 1, 128, 255]


def test_rows_have_all_columns_and_no_others(rows):
    assert all(set(row) == set(COLUMNS) for row in rows)
    table = pa.Table.from_pylist(rows, features(transfer=True).arrow_schema)
    assert sum(table[name].null_count for name in table.column_names) == 0
    assert set(columns(transfer=False)) == set(COLUMNS) - {"transfer"}


def test_a_record_holds_what_its_column_says(rows, head):
    lengths = {"ancestry": 3, "identity": len(head.identity_basis), "expression": len(head.expression_names)}
    lengths |= {"light_sh": 27, "white_balance": 3, "camera_K": 9, "camera_world_to_camera": 12}
    for row in rows:
        assert {name: len(row[name]) for name in lengths} == lengths
        assert all(len(source) == 8 and source[0] in (0, 1) for source in row["sources"])
        assert sum(row["ancestry"]) == pytest.approx(1, abs=1e-5)
        assert all(0 <= row[name] <= 1 for name in ("observed_share", "shadowed", "clipped", "light_saturation"))
        numbers = [row[name] for name, (kind, _) in COLUMNS.items() if kind == "float32"]
        assert np.isfinite(numbers).all() and np.isfinite(row["light_sh"]).all()
        rotation = np.reshape(row["camera_world_to_camera"], (3, 4))[:, :3]
        np.testing.assert_allclose(rotation @ rotation.T, np.eye(3), atol=1e-5)


def test_images_are_the_sample(rows, engine, head):
    """8-bit PNGs of the generated maps; the background 0.5 is stored as 128."""
    sample, inside = generate(head, engine.sources, SEED, 6), engine.sources.texels.inside
    for name in LAYOUT.names:
        values = np.asarray(Image.open(io.BytesIO(rows[2][name]["bytes"])))
        assert (values[~inside] == 128).all() and (~inside).any()
        np.testing.assert_array_equal(values, quantized(sample.maps[name]))
    mask = np.asarray(Image.open(io.BytesIO(rows[2]["observed"]["bytes"])))
    np.testing.assert_array_equal(mask == 255, sample.observed)
    assert set(np.unique(mask)) <= {0, 255}
    assert rows[2]["observed_share"] == pytest.approx(sample.observed[inside].mean())


def test_a_subject_shares_normals_and_transfer_but_not_skin(rows, head):
    assert len({row["normals"]["bytes"] for row in rows}) == len({row["transfer"] for row in rows}) == 1
    assert len({row["diffuse_albedo"]["bytes"] for row in rows}) == 4
    transfer = np.frombuffer(rows[0]["transfer"], np.float16).reshape(-1, 9)
    assert len(transfer) == len(head.template)
    # The first coefficient of an open point is that of the constant harmonic: pi / sqrt(4 pi).
    assert transfer[:, 0].max() == pytest.approx(np.sqrt(np.pi) / 2, rel=0.05)


@pytest.mark.slow
def test_workers_write_what_one_process_writes(tmp_path):
    alone = synthesize(tmp_path / "alone", 8, R, seed=SEED, workers=1, transfer=True)
    shared = synthesize(tmp_path / "shared", 8, R, seed=SEED, workers=2, transfer=True)
    files = sorted(path.relative_to(alone) for path in alone.rglob("*") if path.is_file())
    assert len(files) == 10
    for path in files:
        assert (shared / path).read_bytes() == (alone / path).read_bytes(), path
