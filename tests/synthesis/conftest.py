"""The head, its atlas at 32 texels and one sampled geometry, shared by the tests of this folder."""

from __future__ import annotations

import numpy as np
import pytest

from relightify_diffusers.head.model import HeadModel
from relightify_diffusers.head.regions import region_masks
from relightify_diffusers.rendering.atlas import AtlasTexels, bake_atlas
from relightify_diffusers.synthesis.geometry import Geometry, sample_geometry


@pytest.fixture(scope="session")
def head() -> HeadModel:
    return HeadModel.bundled()


@pytest.fixture(scope="session")
def texels(head) -> AtlasTexels:
    return bake_atlas(head.atlas.uv, head.atlas.uv_triangles, 32)


@pytest.fixture(scope="session")
def masks(head, texels) -> dict[str, np.ndarray]:
    return region_masks(head, 32, texels)


@pytest.fixture(scope="session")
def geometry(head) -> Geometry:
    return sample_geometry(head, np.random.default_rng(0))
