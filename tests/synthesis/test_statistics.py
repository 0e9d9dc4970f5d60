"""Statistics of a set: classes, bins and correlations, by hand-made numbers."""

from __future__ import annotations

import json

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from relightify_diffusers.synthesis.columns import features
from relightify_diffusers.synthesis.statistics import (
    TONE_CLASSES,
    Table,
    compute_statistics,
    correlation,
    empty_bins,
    histogram,
    summary,
    tables,
    tone_classes,
)


def test_tone_classes_at_their_limits():
    """A limit belongs to the darker class, as in "> 55 is very light"."""
    limits = np.array([55.0, 41, 28, 10, -30])
    assert tone_classes(limits) == dict(zip(TONE_CLASSES, (0, 1, 1, 1, 1, 1)))
    assert tone_classes(limits + 0.01) == dict(zip(TONE_CLASSES, (1, 1, 1, 1, 1, 0)))
    assert tone_classes(np.array([-90.0, 90.0])) == dict(zip(TONE_CLASSES, (1, 0, 0, 0, 0, 1)))


def test_histogram():
    found = histogram(np.array([-1.0, 0, 5, 19.9, 30, 31]), (0, 10, 20, 30))
    assert found == {
        "edges": [0, 10, 20, 30], "counts": [2, 1, 1], "below": 1, "above": 1, "empty": [],
    }  # fmt: skip
    assert histogram(np.array([5.0]), (0, 10, 20, 30))["empty"] == ["10 to 20", "20 to 30"]


def test_correlation_of_a_hand_computed_case():
    """x = 0 1 2 3, y = 0 2 1 3: covariance 1, both variances 1.25."""
    found = correlation(np.arange(4.0), np.array([0.0, 2, 1, 3]), np.arange(4))
    assert found is not None and found["r"] == pytest.approx(0.8)
    assert found["low"] < 0.8 < found["high"] <= 1


def test_correlation_that_is_not_defined():
    groups = np.arange(8)
    assert correlation(np.arange(8.0), np.full(8, 0.3), groups) is None
    assert correlation(np.arange(8.0), np.arange(8.0) ** 2, groups // 4) is None
    perfect = correlation(np.arange(8.0), np.arange(8.0), groups)
    assert perfect is not None and perfect["r"] > 0.999


def test_interval_of_independent_samples_is_fishers():
    rng = np.random.default_rng(0)
    x = rng.normal(size=2000)
    y = 0.5 * x + rng.normal(size=2000)
    found = correlation(x, y, np.arange(2000))
    r = np.corrcoef(x, y)[0, 1]
    low, high = np.tanh(np.arctanh(r) + np.array([-1.96, 1.96]) / np.sqrt(1997))
    assert found is not None
    assert [found["r"], found["low"], found["high"]] == pytest.approx([r, low, high], abs=0.01)


def test_interval_covers_the_truth_although_samples_come_in_groups():
    """500 sets of 60 subjects of 4 equal samples, r = 0: about 95 % of the intervals hold it.

    Without the groups the intervals are half as wide and hold it in about 67 % of the sets.
    """
    rng = np.random.default_rng(1)
    groups = np.repeat(np.arange(60), 4)
    held = {"grouped": 0, "single": 0}
    for _ in range(500):
        x, y = np.repeat(rng.normal(size=(2, 60)), 4, axis=1)
        for name, labels in (("grouped", groups), ("single", np.arange(240))):
            found = correlation(x, y, labels)
            assert found is not None
            held[name] += found["low"] <= 0 <= found["high"]
    assert 0.91 <= held["grouped"] / 500 <= 0.98
    assert held["single"] / 500 < 0.8


@pytest.fixture(scope="module")
def parts(tmp_path_factory):
    """Eight samples of four subjects in two parts; tones -55, -40, ... 50."""
    schema = features().arrow_schema
    scalars: dict = {name: [0.0] * 8 for name, kind in features().items() if getattr(kind, "dtype", "") == "float32"}
    scalars |= {
        "subject": np.arange(8) // 2,
        "index": range(8),
        "seed": [0] * 8,
        "tone": [-55.0, -40, -25, -10, 5, 20, 35, 50],
        "age": [22.0, 22, 45, 45, 46, 46, 88, 88],
        "gender": [0, 0, 1, 1, 0.5, 0.5, 0.9, 0.9],
        "ancestry": [[1.0, 0, 0], [1, 0, 0], [0, 0.6, 0.4], [0, 0.6, 0.4], *[[0.2, 0.2, 0.6]] * 4],
        "light_kind": ["sky", "sky", "sky", "flash", "flash", "room", "room", "room"],
        "features": [["beard", "mole", "mole"], ["beard"], [], [], [], [], [], []],
        "occluders": [["hand"], [], [], [], [], [], [], []],
        "observed_share": [0.25, 0.35, 0.25, 0.25, 0.25, 0.25, 0.25, 0.25],
        "shadowed": [0.019, 0.03, 0.5, 0, 0, 0, 0, 0],
        "clipped": [0.0009, 0.002, 0, 0, 0, 0, 0, 0],
        "light_saturation": [0.14, 0.2, 0.3, 0.4, 0, 0, 0, 0],
        "light_level": [1.0, 2, 3, 4, 5, 6, 7, 8.5],
        "sharpness": [0.1] * 8,
    }
    folder = tmp_path_factory.mktemp("parts")
    paths = [folder / "a.parquet", folder / "b.parquet"]
    for number, path in enumerate(paths):
        columns = {name: list(values)[number::2] for name, values in scalars.items()}
        pq.write_table(pa.table(columns, pa.schema([schema.field(name) for name in columns])), path)
    return paths


def test_compute_statistics(parts):
    found = compute_statistics(parts)
    assert json.loads(json.dumps(found, allow_nan=False)) == found
    assert (found["samples"], found["subjects"]) == (8, 4)
    assert found["tone_classes"] == dict(zip(TONE_CLASSES, (0, 1, 1, 1, 3, 2)))
    assert found["tone"]["empty"] == ["-50 to -40", "-20 to -10", "10 to 20", "40 to 50", "60 to 70"]
    assert found["age"]["empty"] == ["30 to 40", "50 to 60", "60 to 70", "70 to 80"]
    assert found["gender"] == {"female": 2, "between": 2, "male": 4}
    assert found["ancestry"] == {"African": 2, "Asian": 2, "European": 4}
    assert list(found["light_kinds"].items()) == [("room", 3), ("sky", 3), ("flash", 2)]
    assert found["features"] == {"beard": 2, "mole": 1}  # samples with it, not times
    assert found["without"] == {"features": 6, "occluders": 7}
    assert found["observed_share"]["counts"] == [0, 0, 7, 1, 0, 0, 0, 0, 0, 0]
    assert found["shares"] == {"shadowed": 0.25, "clipped highlights": 0.125, "colored light": 0.375}
    assert found["tone_correlations"]["sharpness"] is None
    expected = np.corrcoef(np.arange(8.0), [1, 2, 3, 4, 5, 6, 7, 8.5])[0, 1]
    assert found["tone_correlations"]["light_level"]["r"] == pytest.approx(expected, abs=1e-4)
    assert found["quantiles"]["light_level"][2] == pytest.approx(4.5)


def test_the_order_of_the_parts_does_not_matter(parts):
    assert compute_statistics(parts) == compute_statistics(parts[::-1])


def test_summary_names_what_is_empty(parts):
    found = compute_statistics(parts)
    text = summary(found)
    assert "| very light (> 55)       | 0       | 0.0%  |" in text
    assert "| dark (<= -30)           | 2       | 25.0% |" in text
    assert "sharpness        | not defined" in text
    expected = "skin tone -50 to -40, -20 to -10, 10 to 20, 40 to 50, 60 to 70; age 30 to 40, 50 to 60, 60 to 70"
    assert expected in empty_bins(found) and text.endswith(empty_bins(found))
    for table in tables(found):
        assert all(len(row) == len(table.header) for row in table.rows)


def test_table_is_markdown():
    table = Table("Title", ("a", "long"), (("1", "2"),))
    assert str(table) == "**Title**\n\n| a | long |\n|---|------|\n| 1 | 2    |"
