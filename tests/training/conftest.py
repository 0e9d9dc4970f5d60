"""Makes the scripts of training/ importable and writes a tiny data set in the format of `relightify synthesize`."""

from __future__ import annotations

import sys
from pathlib import Path

import datasets
import numpy as np
import pytest
from PIL import Image

from relightify_diffusers.head.model import HeadModel
from relightify_diffusers.maps import LAYOUT
from relightify_diffusers.rendering.mesh import vertex_normals
from relightify_diffusers.rendering.spherical_harmonics import COSINE_LOBE, sh_basis

sys.path.insert(0, str(Path(__file__).parents[2] / "training"))


def _write_dataset(directory: Path, samples: np.ndarray, names=LAYOUT.names, transfers=None, group: int = 4) -> Path:
    """Write (N, 12, S, S) uint8 samples as directory/data/*.parquet with one image column for each name.

    transfers: (S, V, 9); each is shared by `group` consecutive samples, its subject.
    """
    rows = {
        name: [Image.fromarray(sample[LAYOUT.slice(name)].transpose(1, 2, 0)) for sample in samples] for name in names
    }
    rows["index"] = list(range(len(samples)))
    columns = {name: datasets.Image() for name in names} | {"index": datasets.Value("int64")}
    if transfers is not None:
        rows["subject"] = [i // group for i in range(len(samples))]
        rows["transfer"] = [transfers[i].astype(np.float16).tobytes() for i in rows["subject"]]
        columns |= {"subject": datasets.Value("int64"), "transfer": datasets.Value("binary")}
    features = datasets.Features(columns)
    (directory / "data").mkdir(parents=True)
    table = datasets.Dataset.from_dict(rows, features=features)
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


@pytest.fixture(scope="session")
def head() -> HeadModel:
    return HeadModel.bundled()


@pytest.fixture(scope="session")
def open_transfer(head) -> np.ndarray:
    """(V, 9) float32, the transfer of the mean head if nothing hid anything from its vertices."""
    normals = vertex_normals(head.template, head.triangles)
    return (sh_basis(normals) * np.asarray(COSINE_LOBE)).astype(np.float32)


@pytest.fixture(scope="session")
def data_with_transfer(tmp_path_factory, samples, open_transfer) -> Path:
    """The samples of `data` with the transfers of five subjects; that of subject i is scaled by 1 - i / 8."""
    transfers = np.stack([open_transfer * (1 - i / 8) for i in range(5)])
    return _write_dataset(tmp_path_factory.mktemp("set") / "transfer", samples, transfers=transfers)
