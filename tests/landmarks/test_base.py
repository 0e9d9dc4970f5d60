"""Choosing a detector and choosing a face."""

from __future__ import annotations

import numpy as np
import pytest

from relightify_diffusers.errors import NoFaceError, UnsuitableImageError, UsageError
from relightify_diffusers.landmarks import ASSET_NOTE, MIN_FACE_SIZE, Face, get_detector, select_face


def make_face(x: float, size: float) -> Face:
    return Face(np.array([x, 10, x + size, 10 + size], np.float32), np.zeros((68, 2), np.float32), 1.0)


def test_unknown_detector_names_the_available_ones():
    with pytest.raises(UsageError, match=r"'mtcnn'; available: dlib"):
        get_detector("mtcnn")


def test_no_face():
    with pytest.raises(NoFaceError, match="no face was found"):
        select_face(())


def test_a_single_face_needs_no_warning():
    face = make_face(0, 100)
    assert select_face([face]) == (face, ())


def test_the_largest_is_chosen_and_the_others_are_named():
    small, large = make_face(5, 80), make_face(200, 120)
    chosen, (warning,) = select_face([small, large])
    assert chosen is large
    assert "2 faces" in warning and "--face 1 is x 5-85, y 10-90" in warning


def test_index_counts_from_the_largest():
    small, large = make_face(5, 80), make_face(200, 120)
    assert select_face([small, large], 1) == (small, ())
    assert select_face([small, large], 0) == (large, ())


@pytest.mark.parametrize("index", [2, -1])
def test_index_out_of_range(index):
    with pytest.raises(UsageError, match=f"no face number {index}"):
        select_face([make_face(0, 100), make_face(200, 100)], index)


def test_small_faces_are_refused_with_the_stated_size():
    with pytest.raises(UnsuitableImageError, match=f"only 40 pixels wide; at least {MIN_FACE_SIZE}"):
        select_face([make_face(0, 40)])


def test_asset_note_states_the_restriction():
    assert set(ASSET_NOTE) == {"name", "licence"}
    assert "300-W" in ASSET_NOTE["licence"] and "excludes commercial use" in ASSET_NOTE["licence"]
