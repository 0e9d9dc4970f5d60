"""The head, its atlas at 32 texels and one sampled geometry, shared by the tests of this folder."""

from __future__ import annotations

import numpy as np
import pytest

from relightify_diffusers.head.model import HeadModel
from relightify_diffusers.rendering.atlas import AtlasTexels, bake_atlas
from relightify_diffusers.synthesis.identities import Geometry, sample_geometry
from relightify_diffusers.synthesis.skin import SkinSources


@pytest.fixture(scope="session")
def head() -> HeadModel:
    return HeadModel.bundled()


@pytest.fixture(scope="session")
def texels(head) -> AtlasTexels:
    return bake_atlas(head.atlas.uv, head.atlas.uv_triangles, 32)


@pytest.fixture(scope="session")
def sources(head, texels) -> SkinSources:
    return SkinSources.load(head, texels, None)


@pytest.fixture(scope="session")
def geometry(head) -> Geometry:
    return sample_geometry(head, np.random.default_rng(0), directions=32)
