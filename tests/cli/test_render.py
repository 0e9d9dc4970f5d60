"""`relightify render` on a saved avatar: files, frames and complaints."""

from __future__ import annotations

import argparse
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from relightify_diffusers.cli import render as command
from relightify_diffusers.errors import RelightifyError, UnsuitableImageError, UsageError


@pytest.fixture(scope="module")
def directory(ball_avatar, tmp_path_factory):
    return ball_avatar.save(tmp_path_factory.mktemp("render") / "avatar")


def relightify_render(*arguments: str) -> None:
    parser = argparse.ArgumentParser()
    command.add_parser(parser.add_subparsers())
    args = parser.parse_args(["render", *map(str, arguments)])
    command.run(args)


def test_photo_camera_is_aligned_with_the_photo(directory, tmp_path):
    relightify_render(directory, "-o", tmp_path / "a.png", "--aov", "mask")
    mask = np.asarray(Image.open(tmp_path / "a.png"))
    assert mask.shape == (64, 80) and mask[32, 40] == 255 and mask[0, 0] == 0
    columns = np.nonzero(mask[32] > 127)[0]
    # The ball's outline: 300 tan(asin(0.1)) = 30.15 pixels around the column 40.
    assert columns[0] == 10 and columns[-1] == 69


def test_default_light_is_the_avatars_own(directory, tmp_path):
    relightify_render(directory, "-o", tmp_path / "a.png")
    image = np.asarray(Image.open(tmp_path / "a.png"))
    assert image.shape == (64, 80, 3) and image[32, 40].min() >= 253  # white under radiance 1 from everywhere
    relightify_render(directory, "-o", tmp_path / "dim.png", "--exposure", -1)
    np.testing.assert_allclose(np.asarray(Image.open(tmp_path / "dim.png"))[32, 40], 188, atol=1)  # sRGB of 0.5


def test_directional_light(directory, tmp_path):
    relightify_render(directory, "-o", tmp_path / "a.png", "--light", "dir:-1,0,0", "--camera", "front", "--size", 48)
    image = np.asarray(Image.open(tmp_path / "a.png"))
    assert image.shape == (48, 48, 3) and image[24, 5].min() > 200 and image[24, 43].max() == 0


@pytest.mark.parametrize("aov", command.AOVS)
@pytest.mark.parametrize("camera", ["front", "yaw:30", "photo"])
def test_every_aov_and_camera(directory, tmp_path, aov, camera):
    relightify_render(
        directory, "-o", tmp_path / "a.png", "--aov", aov, "--camera", camera, "--size", 40, "--light", "dir:0,0,1"
    )
    with Image.open(tmp_path / "a.png") as image:
        assert image.size == ((40, 32) if camera == "photo" else (40, 40))
        center = np.asarray(image)[image.size[1] // 2, 20]
    if aov == "depth":
        assert center == (900 if camera == "photo" else 1100)  # the ball of 0.1 m at 1 m, or at the orbit's 1.2 m
    if aov in ("diffuse_albedo", "mask"):
        assert np.min(center) == 255
    if aov == "normals" and camera != "yaw:30":
        np.testing.assert_allclose(center, [128, 128, 255], atol=6)


def test_composite_keeps_the_background(directory, tmp_path):
    relightify_render(directory, "-o", tmp_path / "a.png", "--composite", "--light", "dir:0,0,1")
    image = np.asarray(Image.open(tmp_path / "a.png"))
    np.testing.assert_array_equal(image[0, 0], [64, 64, 64])  # the photo's 0.25
    assert image[32, 40].min() >= 253


@pytest.mark.parametrize(
    "arguments",
    [
        ["--camera", "yaw:x"],
        ["--camera", "top"],
        ["--light", "moon"],
        ["--light", "dir:0,0,0"],
        ["--light", "missing.hdr"],
        ["--composite", "--camera", "front"],
        ["--composite", "--aov", "mask"],
        ["--exposure", "nan"],
    ],
)
def test_wrong_usage(directory, tmp_path, arguments):
    with pytest.raises(UsageError):
        relightify_render(directory, "-o", tmp_path / "a.png", *arguments)
    assert not list(tmp_path.iterdir())


def test_files_that_cannot_be_used(directory, ball_avatar, tmp_path):
    (tmp_path / "a.hdr").write_bytes(b"no light")
    (tmp_path / "there.png").write_bytes(b"kept")
    with pytest.raises(UnsuitableImageError):
        relightify_render(directory, "-o", tmp_path / "a.png", "--light", tmp_path / "a.hdr")
    for output in ("there.png", "no/where.png", "a.jpg", "."):
        with pytest.raises(UsageError):
            relightify_render(directory, "-o", tmp_path / output)
    with pytest.raises(UsageError, match="not an avatar"):
        relightify_render(tmp_path, "-o", tmp_path / "a.png")
    replace(ball_avatar, photo=None).save(tmp_path / "bare")
    with pytest.raises(RelightifyError, match="photo"):
        relightify_render(tmp_path / "bare", "-o", tmp_path / "a.png", "--composite")
    assert (tmp_path / "there.png").read_bytes() == b"kept" and not (tmp_path / "a.png").exists()
    relightify_render(directory, "-o", tmp_path / "there.png", "--overwrite", "--aov", "mask")
    assert Image.open(tmp_path / "there.png").size == (80, 64)
