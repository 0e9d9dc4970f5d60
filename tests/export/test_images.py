"""PNG and OBJ files."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from relightify_diffusers.avatar import Mesh
from relightify_diffusers.errors import AssetError, UnsuitableImageError, UsageError
from relightify_diffusers.export.directories import whole_file
from relightify_diffusers.export.images import read_png, write_png
from relightify_diffusers.export.obj import read_obj, write_obj
from relightify_diffusers.rendering.atlas import dilate


@pytest.mark.parametrize("shape", [(5, 7), (5, 7, 3), (5, 7, 4)])
@pytest.mark.parametrize("bits", [8, 16])
def test_png_round_trip(tmp_path, shape, bits):
    image = np.random.default_rng(0).random(shape).astype(np.float32)
    write_png(tmp_path / "a.png", image, bits)
    np.testing.assert_allclose(read_png(tmp_path / "a.png"), image, atol=0.51 / (2**bits - 1))
    if bits == 16:  # other programs read it too
        pillow = np.asarray(Image.open(tmp_path / "a.png"), np.float64)
        np.testing.assert_allclose(pillow / (65535 if len(shape) == 2 else 255), image, atol=1 / 255)


def test_unreadable_png(tmp_path):
    (tmp_path / "a.png").write_bytes(b"no image")
    with pytest.raises(UnsuitableImageError, match=r"a\.png"):
        read_png(tmp_path / "a.png")


def test_dilate_takes_the_nearest():
    image, inside = np.zeros((1, 6)), np.zeros((1, 6), bool)
    image[0, [1, 4]] = [1, 2]
    inside[0, [1, 4]] = True
    np.testing.assert_array_equal(dilate(image, inside), [[1, 1, 1, 2, 2, 2]])


def test_obj_round_trip_is_exact(tmp_path):
    rng = np.random.default_rng(0)
    mesh = Mesh(
        rng.normal(scale=0.1, size=(40, 3)).astype(np.float32),
        rng.integers(0, 40, (60, 3)),
        (rng.random((50, 2)) ** 3 + 1e-6).astype(np.float32),
        rng.integers(0, 50, (60, 3)),
        rng.integers(0, 3, 60),
    )
    write_obj(tmp_path / "a.obj", mesh, material_library="a.mtl")
    for name, values in read_obj(tmp_path / "a.obj").items():
        np.testing.assert_array_equal(values, getattr(mesh, name))


@pytest.mark.parametrize("text", ["", "v 0 0 0\nvt 0 0\nf 1/1 2/1 1/1\n", "v 0 0\nf 1 1 1\n", "g hair\n"])
def test_damaged_obj(tmp_path, text):
    (tmp_path / "a.obj").write_text(text)
    with pytest.raises(AssetError, match=r"a\.obj"):
        read_obj(tmp_path / "a.obj")


def test_whole_file(tmp_path):
    with whole_file(tmp_path / "a.png") as path:
        write_png(path, np.zeros((2, 2)))
    with pytest.raises(UsageError), whole_file(tmp_path / "a.png"):
        pass
    with pytest.raises(RuntimeError), whole_file(tmp_path / "a.png", overwrite=True) as path:
        path.write_bytes(b"half")
        raise RuntimeError
    assert read_png(tmp_path / "a.png").shape == (2, 2) and len(list(tmp_path.iterdir())) == 1
