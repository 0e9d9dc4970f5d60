"""Makes the scripts of training/ importable and writes a tiny data set in the format of `relightify synthesize`."""

from __future__ import annotations

import sys
from pathlib import Path

import datasets
import numpy as np
import pytest
from PIL import Image

from relightify_diffusers.maps import LAYOUT

sys.path.insert(0, str(Path(__file__).parents[2] / "training"))


def _write_dataset(directory: Path, samples: np.ndarray, names=LAYOUT.names) -> Path:
    """Write (N, 12, S, S) uint8 samples as directory/data/*.parquet with one image column for each name."""
    rows = {
        name: [Image.fromarray(sample[LAYOUT.slice(name)].transpose(1, 2, 0)) for sample in samples] for name in names
    }
    features = datasets.Features({name: datasets.Image() for name in names} | {"index": datasets.Value("int64")})
    (directory / "data").mkdir(parents=True)
    table = datasets.Dataset.from_dict(rows | {"index": list(range(len(samples)))}, features=features)
    table.to_parquet(str(directory / "data" / "train-00000-of-00001.parquet"))
    return directory


@pytest.fixture(scope="session")
def samples() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (20, LAYOUT.channels, 16, 16), dtype=np.uint8)


@pytest.fixture(scope="session")
def data(tmp_path_factory, samples) -> Path:
    return _write_dataset(tmp_path_factory.mktemp("set") / "maps", samples)


@pytest.fixture(scope="session")
def write_dataset():
    return _write_dataset
