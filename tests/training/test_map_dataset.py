"""Decoding, mirroring and the reproducible order of training samples."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from map_dataset import batch_indices, load_samples, load_transfers, mirror, sample_generator, to_model_range

from relightify_diffusers.errors import AssetError, UsageError
from relightify_diffusers.maps import LAYOUT


def test_samples_come_back_in_channel_order(data, samples):
    np.testing.assert_array_equal(load_samples(data, 16), samples)
    np.testing.assert_array_equal(load_samples(data, 16, max_samples=3), samples[:3])


def test_smaller_resolutions_are_area_averages(data, samples):
    expected = samples.reshape(20, 12, 8, 2, 8, 2).astype(float).mean(axis=(3, 5))
    assert np.abs(load_samples(data, 8) - expected).max() <= 0.5


def test_cache_is_used_and_equal(data, samples, tmp_path):
    first = load_samples(data, 8, cache_dir=tmp_path)
    files = list(tmp_path.iterdir())
    assert len(files) == 1
    decoded = []
    second = load_samples(data, 8, cache_dir=tmp_path, progress=decoded.append)
    np.testing.assert_array_equal(first, second)
    assert decoded == [] and list(tmp_path.iterdir()) == files


def test_errors_name_the_fix(data, samples, tmp_path, write_dataset):
    with pytest.raises(AssetError, match="relightify synthesize"):
        load_samples(tmp_path, 8)
    with pytest.raises(UsageError, match="16 px, smaller than resolution 32"):
        load_samples(data, 32)
    bad = write_dataset(tmp_path / "bad", samples, names=("texture", "diffuse_albedo", "normals"))
    with pytest.raises(AssetError, match="no column specular_albedo"):
        load_samples(bad, 8)


def test_transfers_belong_to_subjects(data_with_transfer, open_transfer):
    transfers = load_transfers(data_with_transfer)
    assert transfers.values.shape == (5, *open_transfer.shape) and transfers.values.dtype == np.float16
    assert transfers.subject.tolist() == [i // 4 for i in range(20)]
    found = transfers[np.array([19, 0, 5])]
    expected = np.stack([open_transfer * share for share in (0.5, 1, 0.875)]).astype(np.float16)
    np.testing.assert_array_equal(found.numpy(), expected)
    first = load_transfers(data_with_transfer, max_samples=6)
    assert first.values.shape[0] == 2 and len(first.subject) == 6


def test_transfers_are_cached_beside_the_maps(data_with_transfer, tmp_path):
    first = load_transfers(data_with_transfer, cache_dir=tmp_path)
    stored = list(tmp_path.iterdir())
    assert len(stored) == 1 and stored[0].name.startswith("transfer-")
    second = load_transfers(data_with_transfer, cache_dir=tmp_path)
    assert list(tmp_path.iterdir()) == stored and isinstance(second.values, np.memmap)
    np.testing.assert_array_equal(first.values, second.values)
    np.testing.assert_array_equal(first.values, load_transfers(data_with_transfer).values)


def test_data_without_transfers_names_the_fix(data):
    with pytest.raises(AssetError, match=r"no column transfer or subject.*synthesize --transfer"):
        load_transfers(data)


def test_model_range():
    assert to_model_range(np.array([[0, 255]], np.uint8)).tolist() == [[-1.0, 1.0]]


def test_mirror_negates_only_the_normals_x():
    clean = torch.randn((2, 12, 4, 4), generator=torch.Generator().manual_seed(0))
    original = clean.clone()
    flipped = mirror(clean)
    x = LAYOUT.slice("normals").start
    for channel in range(12):
        sign = -1 if channel == x else 1
        assert torch.equal(flipped[:, channel], sign * clean[:, channel].flip(-1))
    assert torch.equal(clean, original)
    assert torch.equal(mirror(flipped), clean)


def test_every_epoch_is_a_permutation():
    drawn = np.concatenate([batch_indices(10, step, 4, seed=1) for step in range(5)])  # two epochs
    assert sorted(drawn[:10]) == list(range(10)) and sorted(drawn[10:]) == list(range(10))
    assert list(drawn[:10]) != list(drawn[10:])
    np.testing.assert_array_equal(batch_indices(10, 3, 4, seed=1), drawn[12:16])


def test_examples_have_their_own_generators():
    first, again, other = (torch.randn(4, generator=sample_generator(0, 1, p)) for p in (2, 2, 3))
    assert torch.equal(first, again) and not torch.equal(first, other)
