"""Saving and loading of avatars, whole or not at all."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest

from relightify_diffusers.avatar import Avatar
from relightify_diffusers.errors import AssetError, UsageError
from relightify_diffusers.export import gltf


def test_round_trip(ball_avatar, tmp_path):
    light = np.random.default_rng(0).normal(size=(9, 3)).astype(np.float32)
    saved = replace(ball_avatar, light_sh=light)
    directory = saved.save(tmp_path / "new" / "a", preview=np.zeros((4, 4, 3)))
    names = {path.relative_to(directory).as_posix() for path in directory.rglob("*") if path.is_file()}
    maps = {f"maps/{name}.png" for name in [*saved.maps, "normals_tangent"]}
    assert names == maps | {"avatar.json", "mesh.glb", "mesh.obj", "mesh.mtl", "photo.png", "preview.png"}
    loaded = Avatar.load(directory)
    for name in ("vertices", "triangles", "uv", "uv_triangles", "triangle_regions"):
        np.testing.assert_array_equal(getattr(loaded.mesh, name), getattr(saved.mesh, name))
    np.testing.assert_array_equal(loaded.light_sh, saved.light_sh)
    np.testing.assert_array_equal(loaded.camera.K, saved.camera.K)
    np.testing.assert_array_equal(loaded.camera.world_to_camera, saved.camera.world_to_camera)
    assert loaded.camera.image_size == (80, 64) and loaded.record["seed"] == 7
    assert loaded.maps["roughness"].shape == (64, 64) and loaded.maps["normals"].shape == (64, 64, 3)
    np.testing.assert_allclose(loaded.maps["normals"], saved.maps["normals"], atol=0.5 / 255 + 1e-6)
    np.testing.assert_allclose(loaded.photo, saved.photo, atol=0.5 / 255 + 1e-6)


def test_16_bit_maps_and_the_same_bytes_twice(ball_avatar, tmp_path):
    ball_avatar.save(tmp_path / "a", bits=16)
    Avatar.load(tmp_path / "a").save(tmp_path / "b", bits=16)
    np.testing.assert_allclose(Avatar.load(tmp_path / "b").maps["normals"], ball_avatar.maps["normals"], atol=1e-5)
    files = [path.relative_to(tmp_path / "a") for path in (tmp_path / "a").rglob("*") if path.is_file()]
    assert all((tmp_path / "a" / file).read_bytes() == (tmp_path / "b" / file).read_bytes() for file in files)


def test_record_has_the_documented_fields(ball_avatar, tmp_path):
    record = {"fit": {"photometric_psnr": np.float32("inf"), "warnings": ["a"]}, "light": {"model": "sh2"}}
    replace(ball_avatar, record=record).save(tmp_path / "a")
    read = json.loads((tmp_path / "a" / "avatar.json").read_text())
    assert read["schema_version"] == 1 and read["image_size"] == [80, 64]
    assert np.shape(read["camera"]["K"]) == (3, 3) and np.shape(read["camera"]["world_to_camera"]) == (3, 4)
    assert np.shape(read["light"]["sh"]) == (9, 3) and read["light"]["model"] == "sh2"
    assert read["fit"] == {"photometric_psnr": None, "warnings": ["a"]}


def test_existing_directory_is_kept_without_overwrite(ball_avatar, tmp_path):
    ball_avatar.save(tmp_path / "a")
    (tmp_path / "a" / "mine.txt").write_text("kept")
    with pytest.raises(UsageError, match="--overwrite"):
        ball_avatar.save(tmp_path / "a")
    assert (tmp_path / "a" / "mine.txt").exists()
    ball_avatar.save(tmp_path / "a", overwrite=True)
    assert not (tmp_path / "a" / "mine.txt").exists() and Avatar.load(tmp_path / "a")
    assert [path.name for path in tmp_path.iterdir()] == ["a"]


def test_overwrite_does_not_replace_other_peoples_files(ball_avatar, tmp_path):
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "me.jpg").write_text("dear")
    with pytest.raises(UsageError, match=r"no avatar\.json"):
        ball_avatar.save(tmp_path / "photos", overwrite=True)
    (tmp_path / "file").write_text("dear")
    with pytest.raises(UsageError):
        ball_avatar.save(tmp_path / "file", overwrite=True)
    with pytest.raises(UsageError):
        ball_avatar.save(tmp_path / "file" / "below")


@pytest.mark.parametrize("overwrite", [False, True])
def test_failure_leaves_nothing_behind(ball_avatar, tmp_path, monkeypatch, overwrite):
    target = tmp_path / "deep" / "er"
    if overwrite:
        ball_avatar.save(target)
        before = (target / "avatar.json").read_bytes()

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(gltf, "write_glb", full)
    with pytest.raises(UsageError, match="No space left"):
        ball_avatar.save(target, overwrite=overwrite)
    if overwrite:
        assert [path.name for path in target.parent.iterdir()] == ["er"]
        assert (target / "avatar.json").read_bytes() == before and (target / "mesh.glb").exists()
    else:
        assert not list(tmp_path.iterdir())


def test_load_says_what_is_wrong(ball_avatar, tmp_path):
    with pytest.raises(UsageError, match=r"avatar\.json"):
        Avatar.load(tmp_path)
    directory = ball_avatar.save(tmp_path / "a")
    (directory / "maps" / "normals.png").write_bytes(b"")
    with pytest.raises(AssetError, match=r"normals\.png"):
        Avatar.load(directory)
    (directory / "avatar.json").write_text("{")
    with pytest.raises(AssetError, match=r"avatar\.json"):
        Avatar.load(directory)


def test_missing_maps_are_refused(ball_avatar, tmp_path):
    maps = {name: image for name, image in ball_avatar.maps.items() if name != "normals"}
    with pytest.raises(UsageError, match="normals"):
        replace(ball_avatar, maps=maps).save(tmp_path / "a")
    assert not list(tmp_path.iterdir())
