"""Lit views of a ball against closed forms, and of occluders against numbers known beforehand."""

from __future__ import annotations

import numpy as np
import pytest
import trimesh

from relightify_diffusers.errors import UnsuitableImageError, UsageError
from relightify_diffusers.rendering.cameras import Camera, orbit_camera
from relightify_diffusers.rendering.environment import EnvironmentLight, equirect_directions, read_hdr
from relightify_diffusers.rendering.lights import PRESETS, DirectionalLight, PointLight, parse_light
from relightify_diffusers.rendering.mesh import normalize, vertex_normals
from relightify_diffusers.rendering.rasterizer import EmbreeRasterizer
from relightify_diffusers.rendering.shading import Scene
from relightify_diffusers.rendering.spherical_harmonics import fibonacci_sphere, irradiance
from relightify_diffusers.rendering.views import AOVS, composite, encode, render
from relightify_diffusers.rendering.visibility import radiance_transfer


@pytest.fixture(scope="module")
def scene(ball_avatar) -> Scene:
    return Scene(ball_avatar.mesh, ball_avatar.maps)


@pytest.fixture(scope="module")
def camera(ball_avatar) -> Camera:
    return ball_avatar.camera


def test_camera_rays_project_back(camera):
    camera = orbit_camera(np.eye(3), yaw=35, pitch=-20, size=16)
    origins, directions = camera.rays()
    x, y = np.meshgrid(np.arange(16) + 0.5, np.arange(16) + 0.5)
    np.testing.assert_allclose(camera.project(origins + 0.7 * directions), np.stack([x, y], -1), atol=1e-9)


def test_orbit_camera_directions():
    vertices = np.array([[-0.1, -0.1, -0.1], [0.1, 0.1, 0.1]])
    front, left = orbit_camera(vertices), orbit_camera(vertices, yaw=90)
    np.testing.assert_allclose(front.center, [0, 0, 1.2], atol=1e-12)
    np.testing.assert_allclose(left.center, [1.2, 0, 0], atol=1e-12)
    np.testing.assert_allclose(front.view_to_world, np.eye(3), atol=1e-12)
    # +X is on the right of the image, +Y at the top.
    assert front.project(np.array([0.1, 0, 0]))[0] > 256 and front.project(np.array([0, 0.1, 0]))[1] < 256
    np.testing.assert_allclose(np.linalg.det(left.rotation), 1)
    window = front.cropped(100, 50, 20, 30)
    np.testing.assert_allclose(window.project(vertices), front.project(vertices) - [100, 50])


def test_white_lambertian_facing_the_light_is_one(scene, camera):
    lit = render(scene, camera, parse_light("dir:0,0,2", camera.view_to_world)).image
    np.testing.assert_allclose(lit[31:33, 39:41], 1, atol=2e-3)


def test_directional_light_follows_the_cosine(scene, camera):
    direction = normalize(np.array([1.0, 1, 1]))
    lit = render(scene, camera, parse_light("dir:1,1,1", camera.view_to_world), supersampling=1).image[..., 0]
    normals = render(scene, camera, aov="normals", supersampling=1)
    expected = np.maximum(normals.image @ direction, 0)
    view = np.array([0.0, 0, 1])
    half = normalize(direction + view)
    # Where the Fresnel term of this light is negligible.
    inside = (normals.alpha == 1) & (normals.image[..., 2] > 0.3) & ((expected > 0.05) | (expected == 0))
    assert half[2] > 0.85 and inside.sum() > 500
    np.testing.assert_allclose(lit[inside], expected[inside], atol=0.02)


def test_lights_are_given_in_the_view_frame(scene, ball_avatar):
    # From the side, light along the view's +z still lights what the camera sees.
    camera = orbit_camera(ball_avatar.mesh.vertices, yaw=90, size=32)
    lit = render(scene, camera, parse_light("dir:0,0,1", camera.view_to_world)).image
    np.testing.assert_allclose(lit[15:17, 15:17], 1, atol=5e-3)


def test_point_light_falls_with_the_squared_distance(scene, camera):
    near = render(scene, camera, [PointLight(np.array([0, 0, 0.6]), np.full(3, np.pi * 0.25))]).image[32, 40]
    np.testing.assert_allclose(near, 1, atol=0.01)  # 0.5 m from the surface


def test_disk_light_keeps_its_irradiance(scene, camera):
    soft = DirectionalLight(np.array([0.0, 0, 1]), np.full(3, np.pi), angular_radius=0.1)
    np.testing.assert_allclose(render(scene, camera, [soft]).image[32, 40], 1, atol=0.01)


def test_constant_environment_shows_a_white_ball_as_one(scene, camera):
    for light in (EnvironmentLight.constant(1.0), EnvironmentLight.from_sh(np.eye(9)[:, :1] * np.ones(3) / 0.282095)):
        view = render(scene, camera, [light])
        np.testing.assert_allclose(view.image[view.alpha == 1], 1, atol=0.04)
        np.testing.assert_allclose(view.image[30:34, 38:42], 1, atol=0.01)


def test_sh_environment_matches_analytic_irradiance(scene, camera):
    coefficients = np.random.default_rng(0).normal(scale=0.3, size=(9, 3))
    coefficients[0] = 3
    view = render(scene, camera, [EnvironmentLight.from_sh(coefficients)], supersampling=1)
    normals = render(scene, camera, aov="normals", supersampling=1).image
    inside = (view.alpha == 1) & (normals[..., 2] > 0.5)
    expected = irradiance(coefficients, normals[inside]) / np.pi
    np.testing.assert_allclose(view.image[inside], expected, rtol=0.05)


def test_environment_orientation():
    directions, solid = equirect_directions(64)
    assert solid.sum() == pytest.approx(4 * np.pi)
    np.testing.assert_allclose(directions[31:33, 63:65].mean(axis=(0, 1)), [0, 0, 1], atol=1e-2)
    assert directions[0, 0, 1] > 0.99 and directions[32, 96, 0] < -0.99


def test_environment_keeps_its_energy_and_its_side(scene, camera):
    image = np.zeros((256, 512, 3))
    image[100:110, 130:140] = 50  # left of the center: towards +X
    light = EnvironmentLight(image)
    assert light.image.shape == (64, 128, 3)
    solid = equirect_directions(256)[1]
    total = (image * solid[..., None]).sum(axis=(0, 1))
    np.testing.assert_allclose(light.power(scene.directions).sum(axis=0), total, rtol=1e-5)
    lit = render(scene, camera, [light]).image
    assert lit[32, 60].mean() > 3 * lit[32, 20].mean()
    np.testing.assert_allclose(light.to_sh()[0], 0.282095 * total, rtol=1e-5)
    np.testing.assert_allclose(EnvironmentLight.from_sh(light.to_sh()).to_sh(), light.to_sh(), atol=1e-3 * total[0])


def test_reflected_radiance_of_a_constant_map():
    light = EnvironmentLight.constant(0.5)
    found = light.reflected(fibonacci_sphere(50), np.linspace(0, 1, 50))
    np.testing.assert_allclose(found, 0.5, atol=1e-5)


def test_transfer_without_occluders_is_the_irradiance():
    ball = trimesh.creation.icosphere(3, 0.1)
    normals = vertex_normals(np.asarray(ball.vertices), ball.faces)
    transfer = radiance_transfer(ball.vertices, normals, EmbreeRasterizer(ball.vertices, ball.faces), 512)
    light = np.random.default_rng(0).normal(size=(9, 3))
    np.testing.assert_allclose(transfer @ light, irradiance(light, normals), atol=0.12)
    np.testing.assert_allclose(transfer[:, 0] / 0.282095, np.pi, rtol=1e-4)


def test_transfer_under_a_lid_is_dark():
    # A small plate with a large one closely above it, and one far off.
    plate = np.array([[-1.0, 0, -1], [-1, 0, 1], [1, 0, 0]])
    vertices = np.concatenate([plate * 0.01, plate * 10 + [0, 0.05, 0], plate * 0.01 + [0, 50, 0]])
    normals = np.tile([0.0, 1, 0], (9, 1))
    transfer = radiance_transfer(vertices, normals, EmbreeRasterizer(vertices, np.arange(9).reshape(3, 3)))
    constant = transfer[:, 0] / 0.282095
    assert (constant[:3] < 0.05).all() and constant[7] == pytest.approx(np.pi, rel=1e-3)


def test_a_lid_shadows_the_ball(ball_avatar, camera):
    from dataclasses import replace

    mesh, lid = ball_avatar.mesh, np.array([[-1.0, 0.2, -1], [-1, 0.2, 1], [2, 0.2, 0]], np.float32)
    count = len(mesh.vertices)
    covered = replace(
        mesh,
        vertices=np.concatenate([mesh.vertices, lid]),
        triangles=np.concatenate([mesh.triangles, [[count, count + 1, count + 2]]]),
        uv_triangles=np.concatenate([mesh.uv_triangles, [[0, 0, 0]]]),
        triangle_regions=None,
    )
    lit = render(Scene(covered, ball_avatar.maps), camera, parse_light("dir:0,1,0", np.eye(3))).image
    free = render(Scene(mesh, ball_avatar.maps), camera, parse_light("dir:0,1,0", np.eye(3))).image
    assert lit[20:44, 28:52].max() == 0 and free[20, 40].min() > 0.3


def test_aovs(scene, camera, ball_avatar):
    depth = render(scene, camera, aov="depth")
    assert depth.image[32, 40, 0] == pytest.approx(0.9, abs=1e-3) and depth.image[0, 0, 0] == 0
    millimeters = encode(depth, "depth")
    assert millimeters.dtype == np.uint16 and millimeters[32, 40] == 900
    mask = render(scene, camera, aov="mask")
    # The disk of the ball's outline: radius f tan(asin(r / d)).
    assert mask.alpha.sum() == pytest.approx(np.pi * (300 * np.tan(np.arcsin(0.1))) ** 2, rel=0.01)
    assert 0 < mask.alpha[(mask.alpha > 0) & (mask.alpha < 1)].min() < 1
    normals = encode(render(scene, camera, aov="normals"), "normals")
    np.testing.assert_allclose(normals[32, 40], [0.5, 0.5, 1], atol=0.01)
    np.testing.assert_allclose(normals[0, 0], 0.5)
    for name in AOVS:
        encoded = encode(render(scene, camera, aov=name), name)
        assert encoded.shape[:2] == (64, 80) and encoded[32, 40].max() >= 0
    with pytest.raises(KeyError, match="albedos"):
        render(scene, camera, aov="albedos")


def test_bands_and_windows_change_nothing(scene, camera, monkeypatch):
    whole = render(scene, camera, aov="normals").image
    monkeypatch.setattr("relightify_diffusers.rendering.views.BAND_RAYS", 500)
    np.testing.assert_array_equal(render(scene, camera, aov="normals").image, whole)


def test_a_head_out_of_sight_gives_an_empty_view(scene):
    behind = Camera(np.array([[80.0, 0, 8], [0, 80, 8], [0, 0, 1]]), np.c_[np.eye(3), [0, 0, -1.0]], (16, 16))
    assert not render(scene, behind, parse_light("front", np.eye(3))).image.any()


def test_composite_keeps_the_photo_outside_the_face(scene, camera, ball_avatar):
    view = render(scene, camera, parse_light("dir:0,0,1", np.eye(3)))
    observed = np.zeros((64, 80), np.float32)
    observed[20:44, 30:54] = 1
    observed[30:33, 40:43] = 0  # a gap, as a nostril is
    result = composite(view, observed, ball_avatar.photo)
    far = np.ones((64, 80), bool)
    far[18:46, 28:56] = False
    np.testing.assert_array_equal(result[far], ball_avatar.photo[far])
    np.testing.assert_allclose(result[26:38, 36:48], 1, atol=0.02)
    nothing = composite(view, np.zeros((64, 80)), ball_avatar.photo)
    np.testing.assert_array_equal(nothing, ball_avatar.photo)


@pytest.mark.parametrize("text", ["dir:0,0,0", "dir:1,2", "dir:a,b,c", "dir:nan,0,1", "moon", "", "light.png"])
def test_unknown_lights_are_refused(text):
    with pytest.raises(UsageError):
        parse_light(text, np.eye(3))


def test_presets_light_the_side_they_name(scene, camera):
    images = {name: render(scene, camera, parse_light(name, np.eye(3))).image.mean(axis=-1) for name in PRESETS}
    assert images["left"][:, :40].sum() > 2 * images["left"][:, 40:].sum()
    assert images["right"][:, 40:].sum() > 2 * images["right"][:, :40].sum()
    assert images["top"][:32].sum() > 2 * images["top"][32:].sum()
    assert images["front"][32, 40] > 0.8 and images["rim"][32, 40] < 0.2


def write_hdr(path, rows: list[bytes], width: int) -> None:
    header = b"#?RADIANCE\nFORMAT=32-bit_rle_rgbe\n\n-Y %d +X %d\n" % (len(rows), width)
    path.write_bytes(header + b"".join(rows))


def test_hdr_run_lengths_by_hand(tmp_path):
    # Red: a run of 5 times 128 and 3 literals; green: zeros; blue: 64; exponent 129: times 2^(129 - 136).
    row = b"\2\2\0\10" + b"\x85\x80\3\1\2\3" + b"\x88\0" + b"\x88\x40" + b"\x88\x81"
    write_hdr(tmp_path / "a.hdr", [row] * 4, 8)
    image = read_hdr(tmp_path / "a.hdr")
    assert image.shape == (4, 8, 3) and image.dtype == np.float32
    np.testing.assert_array_equal(image[2, :, 0] * 128, [128] * 5 + [1, 2, 3])
    np.testing.assert_array_equal(image[0, 0], [1, 0, 0.5])
    lights = parse_light(str(tmp_path / "a.hdr"), np.eye(3))
    assert isinstance(lights[0], EnvironmentLight)


def test_damaged_hdr(tmp_path):
    row = b"\2\2\0\10" + b"\x88\x80\x88\0\x88\x40\x88\x81"
    write_hdr(tmp_path / "short.hdr", [row] * 4, 8)
    (tmp_path / "short.hdr").write_bytes((tmp_path / "short.hdr").read_bytes()[:-3])
    (tmp_path / "text.hdr").write_text("hello")
    write_hdr(tmp_path / "square.hdr", [row] * 8, 8)
    for name in ("short", "text"):
        with pytest.raises(UnsuitableImageError, match=name):
            read_hdr(tmp_path / f"{name}.hdr")
    with pytest.raises(UsageError, match="twice as wide"):
        parse_light(str(tmp_path / "square.hdr"), np.eye(3))
    with pytest.raises(UsageError, match="missing"):
        read_hdr(tmp_path / "missing.hdr")
