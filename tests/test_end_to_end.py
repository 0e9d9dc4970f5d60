"""The whole way on a real portrait (NASA, public domain), with the bundled weights."""

import json

import numpy as np
import pytest
from PIL import Image

from relightify_diffusers.avatar import Avatar
from relightify_diffusers.cli.main import main
from relightify_diffusers.maps import individual_typology_angle, linear_to_srgb, srgb_to_linear
from relightify_diffusers.photo import load_photo
from relightify_diffusers.reconstruction import FaceReconstructor

RESOLUTION = 256


@pytest.fixture(scope="module")
def portrait(tmp_path_factory):
    data = pytest.importorskip("skimage.data")
    path = tmp_path_factory.mktemp("photo") / "astronaut.png"
    Image.fromarray(data.astronaut()).save(path)
    return path


@pytest.fixture(scope="module")
def directory(portrait):
    output = portrait.parent / "avatar"
    code = main(
        ["reconstruct", str(portrait), "-o", str(output), "--map-resolution", str(RESOLUTION), "--steps", "10"]
    )
    assert code == 0
    return output


@pytest.fixture(scope="module")
def avatar(directory):
    return Avatar.load(directory)


def test_every_file_of_the_contract_is_there(directory):
    names = {"texture", "diffuse_albedo", "specular_albedo", "roughness", "normals", "normals_tangent", "observed"}
    assert {path.stem for path in (directory / "maps").glob("*.png")} == names | {"uncertainty"}
    for name in ("avatar.json", "mesh.glb", "mesh.obj", "mesh.mtl", "preview.png"):
        assert (directory / name).stat().st_size > 0
    record = json.loads((directory / "avatar.json").read_text())
    assert record["image_size"] == [512, 512]
    assert np.shape(record["camera"]["K"]) == (3, 3)
    assert np.shape(record["camera"]["world_to_camera"]) == (3, 4)
    assert np.shape(record["light"]["sh"]) == (9, 3)
    assert record["model"]["method"] == "default" and record["model"]["unet_calls"] == 2
    assert record["model"]["strength"] == 0.2
    assert len(record["expression"]) == 52


def test_the_fit_lies_on_the_face(avatar):
    fit = avatar.record["fit"]
    assert fit["landmark_error_iod"] < 0.03
    # She smiles, with teeth, and faces the camera.
    assert avatar.record["expression"]["mouthSmileLeft"] > 0.2
    assert avatar.record["expression"]["mouthSmileRight"] > 0.2
    forward = avatar.camera.rotation @ [0, 0, 1]
    assert forward[2] < -0.85


def test_the_face_was_observed_and_the_back_was_not(avatar):
    observed = avatar.maps["observed"] > 0.5
    assert 0.2 < avatar.record["fit"]["observed_fraction"] < 0.6
    assert observed[int(0.55 * RESOLUTION), int(0.35 * RESOLUTION)]  # a cheek
    assert not observed[:, : int(0.08 * RESOLUTION)][: int(0.8 * RESOLUTION)].any()  # the back of the head


def test_observed_texels_are_the_photos_colors(portrait, avatar):
    """Where a texel is about a pixel, it must be the photo's bilinear color, within the 8 bits it is stored with."""
    from relightify_diffusers.head.model import HeadModel
    from relightify_diffusers.rendering.atlas import bake_atlas, interpolate
    from relightify_diffusers.texturing.sampling import footprint, sample_filtered

    head = HeadModel.bundled()
    texels = bake_atlas(head.atlas.uv, head.atlas.uv_triangles, RESOLUTION)
    points = interpolate(np.asarray(avatar.mesh.vertices, np.float64), head.triangles, texels)
    pixels = avatar.camera.project(points)
    close = (avatar.maps["observed"] > 0.5) & (footprint(pixels) < 1.0)
    assert close.sum() > 3000
    linear = srgb_to_linear(load_photo(portrait).image.astype(np.float64))
    expected = linear_to_srgb(sample_filtered(linear, pixels[close], np.ones(close.sum())))
    assert np.abs(avatar.maps["texture"][close] - expected).max() < 0.02


def test_the_render_under_the_fitted_light_is_close_to_the_photo(avatar):
    assert avatar.record["fit"]["photometric_psnr"] > 19
    flat = np.mean(avatar.photo)
    assert 10 * np.log10(1 / np.mean((avatar.photo - flat) ** 2)) < 15  # what a gray picture would score


def test_the_albedo_is_light_skin_and_the_completed_texture_has_no_step(avatar):
    skin = avatar.maps["diffuse_albedo"][int(0.5 * RESOLUTION) : int(0.65 * RESOLUTION), int(0.3 * RESOLUTION)]
    assert 20 < individual_typology_angle(srgb_to_linear(skin)).mean() < 75
    observed = avatar.maps["observed"] > 0.5
    texture = avatar.maps["texture"]
    first, second = observed[:, :-1], observed[:, 1:]
    step = np.abs(np.diff(texture, axis=1)).mean(-1)
    # Rows of the cheeks, where both sides of the border are skin.
    rows = slice(int(0.5 * RESOLUTION), int(0.7 * RESOLUTION))
    across, within = step[rows][(first != second)[rows]], step[rows][(first & second)[rows]]
    assert across.mean() < within.mean() + 0.03


def test_the_same_seed_writes_the_same_files(portrait, directory, tmp_path):
    again = tmp_path / "again"
    arguments = ["--map-resolution", str(RESOLUTION), "--steps", "10"]
    assert main(["reconstruct", str(portrait), "-o", str(again), *arguments]) == 0
    files = sorted(path.relative_to(directory) for path in directory.rglob("*") if path.is_file())
    assert files == sorted(path.relative_to(again) for path in again.rglob("*") if path.is_file())
    for name in files:
        if name.name == "avatar.json":
            one, two = (json.loads((folder / name).read_text()) for folder in (directory, again))
            one.pop("seconds"), two.pop("seconds")  # a clock is the one thing that differs
            assert one == two
        else:
            assert (directory / name).read_bytes() == (again / name).read_bytes(), name


def test_the_network_refines_the_closed_form_and_does_not_replace_it(portrait, avatar):
    """A network of another resolution, or one that was not trained, leaves colored patches here."""
    instant = FaceReconstructor.from_pretrained()(portrait, method="gaussian", map_resolution=RESOLUTION)
    specular = avatar.maps["specular_albedo"]
    assert np.ptp(specular, axis=-1).mean() < 0.02  # three equal channels
    difference = np.abs(avatar.maps["diffuse_albedo"] - instant.maps["diffuse_albedo"]).mean()
    assert 0.002 < difference < 0.05


def test_instant_mode_makes_no_network_call(portrait):
    avatar = FaceReconstructor.from_pretrained()(portrait, method="gaussian", map_resolution=128)
    assert avatar.record["model"]["unet_calls"] == 0
    assert avatar.record["fit"]["photometric_psnr"] > 18


def test_relighting_from_opposite_sides_lights_opposite_cheeks(directory, tmp_path):
    pictures = []
    for side in (-1, 1):
        path = tmp_path / f"{side}.png"
        light = f"dir:{side},0,0.5"
        assert (
            main(["render", str(directory), "-o", str(path), "--camera", "front", "--size", "96", "--light", light])
            == 0
        )
        pictures.append(np.asarray(Image.open(path).convert("L"), np.float32))
    left, right = slice(28, 46), slice(50, 68)
    rows = slice(40, 70)
    assert pictures[0][rows, left].mean() > 1.5 * pictures[0][rows, right].mean()
    assert pictures[1][rows, right].mean() > 1.5 * pictures[1][rows, left].mean()


@pytest.mark.parametrize("name", ["/no/such/model", "/nothing", "no/such/folder", "missing"])
def test_a_missing_model_is_one_line_and_exit_code_5(name, portrait, tmp_path, capsys):
    assert main(["reconstruct", str(portrait), "-o", str(tmp_path / "a"), "--model", name]) == 5
    error = capsys.readouterr().err.strip()
    assert "there is no model folder" in error and "\n" not in error
    assert not (tmp_path / "a").exists()
