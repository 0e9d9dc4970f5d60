"""Environments: HDR maps with their sources taken out, turning, and procedural skies and rooms."""

from __future__ import annotations

import numpy as np
import pytest

from relightify_diffusers.errors import UnsuitableImageError, UsageError
from relightify_diffusers.maps import LUMINANCE
from relightify_diffusers.rendering.environment import equirect_directions
from relightify_diffusers.rendering.lights import DirectionalLight, PointLight
from relightify_diffusers.rendering.spherical_harmonics import sh_basis
from relightify_diffusers.synthesis.environments import (
    FACE,
    FINE,
    SKY_TYPES,
    SOURCE_COUNT,
    Environment,
    aimed,
    extract_sources,
    incident,
    lamp,
    sample_room,
    sample_sky,
    scale_source,
    seen_from_face,
    sky_luminance,
    sun_color,
    to_cells,
)
from relightify_diffusers.synthesis.geometry import DIRECTIONS, SOLID_ANGLE


def write_hdr(path, image):
    """Write (H, W, 3) as a Radiance .hdr of plain pixels: a common exponent, mantissas of 8 bits."""
    exponent = np.ceil(np.log2(np.maximum(image.max(-1), 1e-30)))
    mantissa = np.clip(image / 2.0 ** exponent[..., None] * 256, 0, 255)
    pixels = np.concatenate([mantissa, exponent[..., None] + 128], axis=-1).round().astype(np.uint8)
    header = f"#?RADIANCE\nFORMAT=32-bit_rle_rgbe\n\n-Y {image.shape[0]} +X {image.shape[1]}\n"
    path.write_bytes(header.encode() + pixels.tobytes())
    return path


def disk(height, center, degrees):
    """Pixels (height, 2 height) bool within an angle of a direction."""
    directions, _ = equirect_directions(height)
    return directions @ (np.asarray(center) / np.linalg.norm(center)) > np.cos(np.radians(degrees))


def energy(image):
    """Integral of a map over the sphere (3,)."""
    return (image * equirect_directions(image.shape[0])[1][..., None]).sum(axis=(0, 1))


def energy_of(environment):
    """The same of an environment of directional sources."""
    return SOLID_ANGLE * environment.radiance.sum(axis=0) + sum(s.irradiance for s in environment.sources)


@pytest.fixture
def sunny(tmp_path):
    """A blue sky over brown ground, with a small sun and a lamp across the left and right edge of the map (-Z)."""
    height = 128
    directions, _ = equirect_directions(height)
    image = np.where(directions[..., 1:2] > 0, [0.3, 0.5, 0.9], [0.2, 0.15, 0.1])
    image[disk(height, [0.5, 0.6, 0.6], 3)] = [900, 800, 600]
    image[disk(height, [0, 0.2, -1], 6)] = [40, 50, 60]
    return write_hdr(tmp_path / "sunny.hdr", image), image


def test_hdr_sources_and_energy(sunny):
    path, image = sunny
    environment = Environment.from_hdr(path)
    assert environment.name == "sunny" and environment.radiance.shape == (192, 3)
    np.testing.assert_allclose(energy_of(environment), energy(image), rtol=0.01)
    sun, backlight = environment.sources
    direction = np.array([0.5, 0.6, 0.6]) / np.linalg.norm([0.5, 0.6, 0.6])
    assert np.asarray(sun.direction) @ direction > np.cos(np.radians(0.5))
    assert np.degrees(sun.angular_radius) == pytest.approx(3, abs=0.6)
    assert np.degrees(backlight.angular_radius) == pytest.approx(6, abs=0.8)
    # The lamp is one source although the map's edge cuts it.
    assert np.asarray(backlight.direction) @ np.array([0, 0.2, -1]) / np.linalg.norm([0, 0.2, -1]) > 0.999
    # Irradiance is radiance times solid angle, less what the threshold leaves in the map.
    solid = 2 * np.pi * (1 - np.cos(np.radians(3)))
    np.testing.assert_allclose(sun.irradiance, np.array([900, 800, 600]) * solid, rtol=0.1)
    # What is left around the sun is about the sky.
    assert environment.radiance.max() < 60


def test_hdr_without_spots_has_no_sources(tmp_path):
    even = np.full((32, 64, 3), 0.7)
    environment = Environment.from_hdr(write_hdr(tmp_path / "even.hdr", even))
    assert environment.sources == ()
    np.testing.assert_allclose(environment.radiance, 0.7, rtol=0.01)
    even[disk(32, [0, 0, 1], 30)] = 5  # bright, but as wide as a window
    environment = Environment.from_hdr(write_hdr(tmp_path / "window.hdr", even))
    assert environment.sources == ()
    np.testing.assert_allclose(energy_of(environment), energy(even), rtol=0.01)
    assert environment.radiance[(DIRECTIONS[:, 2]).argmax()].mean() == pytest.approx(5, rel=0.05)


def test_only_the_strongest_sources_are_kept():
    image = np.full((128, 256, 3), 0.01)
    azimuths = np.linspace(-2.5, 2.5, SOURCE_COUNT + 2)
    for index, azimuth in enumerate(azimuths):
        image[disk(128, [np.sin(azimuth), 0.1, np.cos(azimuth)], 2.5)] = 50 + 10 * index
    rest, sources = extract_sources(image)
    assert len(sources) == SOURCE_COUNT
    levels = [source.irradiance.sum() for source in sources]
    assert levels == sorted(levels, reverse=True)
    kept = energy(rest) + sum(source.irradiance for source in sources)
    np.testing.assert_allclose(kept, energy(image), rtol=1e-6)


def test_hdr_errors(tmp_path):
    with pytest.raises(UsageError, match="No such file"):
        Environment.from_hdr(tmp_path / "none.hdr")
    with pytest.raises(UsageError, match="twice as wide"):
        Environment.from_hdr(write_hdr(tmp_path / "square.hdr", np.ones((16, 16, 3))))
    (tmp_path / "text.hdr").write_text("not a map")
    with pytest.raises(UnsuitableImageError):
        Environment.from_hdr(tmp_path / "text.hdr")


def test_turning():
    """A quarter turn about +Y brings what is in front (+Z) to the subject's left (+X)."""
    front = np.exp(20 * (DIRECTIONS @ [0, 0, 1.0] - 1))[:, None] * np.ones(3)
    sources = (DirectionalLight(np.array([0, 0, 1.0]), np.ones(3)), PointLight(np.array([0, 0.5, 2.0]), np.ones(3)))
    turned = Environment("front", front, sources).turned(np.pi / 2)
    np.testing.assert_allclose(turned.radiance.sum(axis=0), front.sum(axis=0), rtol=1e-6)
    center = turned.radiance[:, 0] @ DIRECTIONS
    np.testing.assert_allclose(center / np.linalg.norm(center), [1, 0, 0], atol=0.03)
    np.testing.assert_allclose(turned.sources[0].direction, [1, 0, 0], atol=1e-9)
    np.testing.assert_allclose(turned.sources[1].position, [2, 0.5, 0], atol=1e-9)
    even = Environment("even", np.ones((192, 3)))
    np.testing.assert_allclose(even.turned(1.234).radiance, 1, atol=0.02)


def test_level_and_harmonics():
    even = Environment("even", np.full((192, 3), 2.0))
    np.testing.assert_allclose(even.level, 2 * np.pi)
    np.testing.assert_allclose(even.sh[0], 2 / 0.282095, rtol=1e-4)
    assert np.abs(even.sh[1:]).max() < 0.05
    direction = np.array([0.6, 0, 0.8])
    sun = Environment("sun", np.zeros((192, 3)), (DirectionalLight(2 * direction, np.array([1, 2, 3.0])),))
    # A sphere's surface is four times its cross-section.
    np.testing.assert_allclose(sun.level, [0.25, 0.5, 0.75])
    np.testing.assert_allclose(sun.sh, np.outer(sh_basis(direction), [1, 2, 3]))
    np.testing.assert_allclose(sun.scaled(np.array([1, 0, 2])).sh, sun.sh * [1, 0, 2])


def test_lamps_give_what_they_are_asked_for():
    position = aimed(90, 0, 2.0)
    np.testing.assert_allclose(position, FACE + [2, 0, 0], atol=1e-9)
    light = lamp(position, np.array([1, 2, 3.0]), 0.2)
    direction, irradiance = seen_from_face(light)
    np.testing.assert_allclose(direction, [1, 0, 0], atol=1e-9)
    np.testing.assert_allclose(irradiance, [1, 2, 3])
    toward, facing, radius = incident(light, np.array([FACE, FACE - [2, 0, 0]]))
    np.testing.assert_allclose(toward, [[1, 0, 0], [1, 0, 0]], atol=1e-6)
    np.testing.assert_allclose(facing, np.outer([1, 0.25], [1, 2, 3]), rtol=1e-5)
    np.testing.assert_allclose(radius, np.arctan([0.1, 0.05]), rtol=1e-5)
    assert scale_source(light, 2).intensity == pytest.approx(2 * light.intensity)


def test_cells_average():
    np.testing.assert_allclose(to_cells(np.full((len(FINE), 3), 3.0)), 3)
    # A smooth field changes little.
    np.testing.assert_allclose(to_cells(FINE + 2), DIRECTIONS + 2, atol=0.05)


def test_skies_of_the_standard():
    """Known values of the CIE general sky: type 1 is the overcast sky, type 5 uniform."""
    up, sun = np.array([0, 1.0, 0]), np.array([0, 0.6, 0.8])
    directions = np.array([up, [0, np.sin(np.radians(30)), np.cos(np.radians(30))], [0, 0.001, 1], [0, -0.5, 0.866]])
    for kind in range(len(SKY_TYPES)):
        relative = sky_luminance(kind, directions, sun)
        assert relative[0] == pytest.approx(1) and relative[3] == 0 and (relative[:3] > 0).all()
    # Type 1: (1 + 4 exp(-0.7 / sin(30 deg))) / (1 + 4 exp(-0.7)), no dependence on the sun.
    expected = (1 + 4 * np.exp(-1.4)) / (1 + 4 * np.exp(-0.7))
    assert sky_luminance(0, directions, sun)[1] == pytest.approx(expected)
    assert sky_luminance(0, directions, up)[1] == pytest.approx(expected)
    np.testing.assert_allclose(sky_luminance(4, directions, sun)[:3], 1)
    # The overcast sky is a third as bright at the horizon; a clear one is brighter there, and brightest at the sun.
    assert sky_luminance(0, directions, sun)[2] == pytest.approx(1 / (1 + 4 * np.exp(-0.7)), rel=0.01)
    clear = sky_luminance(11, np.stack([sun, sun * [1, 1, -1], up]), sun)
    assert clear[0] > 2 * clear[1] and clear[0] > 3 * clear[2]


def test_the_sun_reddens_and_fades_towards_the_horizon():
    high, low = sun_color(np.radians(60), 3), sun_color(np.radians(4), 3)
    assert (low < high).all() and (high < 1).all() and (low > 0).all()
    assert low[0] / low[2] > 3 * high[0] / high[2]
    assert (sun_color(np.radians(30), 9) < sun_color(np.radians(30), 2)).all()


def test_sampled_skies():
    skies = [sample_sky(np.random.default_rng(seed)) for seed in range(60)]
    for sky in skies:
        assert np.isfinite(sky.radiance).all() and (sky.radiance >= 0).all()
        above, below = sky.radiance[DIRECTIONS[:, 1] > 0.4], sky.radiance[DIRECTIONS[:, 1] < -0.4]
        assert above.mean() > 0 and below.mean() > 0
        for sun in sky.sources:
            assert sun.direction[1] > 0.06 and (sun.irradiance > 0).all()
    sunny = [sky for sky in skies if sky.sources]
    assert 0.2 < len(sunny) / len(skies) < 0.8
    share = [sky.sources[0].irradiance @ LUMINANCE / 4 / (sky.level @ LUMINANCE) for sky in sunny]
    assert max(share) > 0.4  # hard sun
    overcast = [sky for sky in skies if not sky.sources]
    top = [sky.radiance[DIRECTIONS[:, 1] > 0.8].mean() / sky.radiance[DIRECTIONS[:, 1] < 0].mean() for sky in overcast]
    assert np.median(top) > 1.5


def test_sampled_rooms():
    for seed in range(40):
        room = sample_room(np.random.default_rng(seed))
        assert (room.radiance > 0).all() and 1 <= len(room.sources) <= 6
        ceiling = room.radiance[DIRECTIONS[:, 1] > 0.9].mean()
        floor = room.radiance[DIRECTIONS[:, 1] < -0.9].mean()
        assert ceiling > floor
        # Lamps and windows and what the walls return are of one order.
        direct = sum(seen_from_face(source)[1] @ LUMINANCE for source in room.sources) / 4
        assert 0.05 < direct / (room.level @ LUMINANCE) < 0.95
