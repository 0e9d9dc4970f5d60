"""The preview sheet and the fit overlay."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from relightify_diffusers.export import preview


def test_sheet_of_ten_cells(ball_avatar, monkeypatch):
    monkeypatch.setattr(preview, "CELL", 40)
    sheet = preview.preview_sheet(ball_avatar)
    cell, row = 40 + preview.GAP, 40 + preview.GAP + preview.LABEL
    assert sheet.shape == (2 * row + preview.GAP, 5 * cell + preview.GAP, 3)
    assert sheet.min() >= 0 and sheet.max() <= 1
    # The last row: specular albedo (black here), normals, lit from the left and from the right, studio light.
    middle = preview.GAP + row + preview.LABEL + 20
    tiles = [sheet[middle, preview.GAP + index * cell :][:40] for index in range(5)]
    assert tiles[0].max() == 0 and tiles[1][20, 2] > 0.9
    assert tiles[2][8].mean() > 2 * tiles[2][32].mean() and tiles[3][32].mean() > 2 * tiles[3][8].mean()


def test_sheet_without_a_photo(ball_avatar, monkeypatch):
    monkeypatch.setattr(preview, "CELL", 40)
    assert preview.preview_sheet(replace(ball_avatar, photo=None)).shape[1] == 5 * 48 + 8


def test_overlay_marks_the_landmarks_on_the_photo(ball_avatar):
    overlay = preview.fit_overlay(ball_avatar, detected=np.array([[5.5, 6.5]]), fitted=np.array([[70.5, 6.5]]))
    assert overlay.shape == (64, 80, 3)
    np.testing.assert_allclose(overlay[6, 5] * 255, [255, 230, 0])
    np.testing.assert_allclose(overlay[6, 70] * 255, [230, 30, 30])
    np.testing.assert_allclose(overlay[0, 40], 0.25, atol=2e-3)
    # Halfway between the photo's gray and the color of a normal towards the viewer.
    np.testing.assert_allclose(overlay[32, 40], [0.375, 0.375, 0.625], atol=0.02)
    with pytest.raises(ValueError, match="photo"):
        preview.fit_overlay(replace(ball_avatar, photo=None))
