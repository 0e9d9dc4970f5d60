"""The sample portrait and the detector, loaded once."""

from __future__ import annotations

import numpy as np
import pytest
import skimage.data

from relightify_diffusers.landmarks import Face, get_detector


@pytest.fixture(scope="session")
def detector():
    return get_detector("dlib")


@pytest.fixture(scope="session")
def portrait() -> np.ndarray:
    """Head and shoulders of the astronaut: (300, 300, 3) float32."""
    return skimage.data.astronaut()[:300, 80:380].astype(np.float32) / 255


@pytest.fixture(scope="session")
def face(detector, portrait) -> Face:
    (found,) = detector.detect(portrait)
    return found
