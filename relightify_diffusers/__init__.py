"""One photo in, a relightable 3D head out. The public names are imported on first use (PEP 562)."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from relightify_diffusers.avatar import Avatar
    from relightify_diffusers.head.model import HeadModel
    from relightify_diffusers.photo import load_photo
    from relightify_diffusers.pipelines.relightify_inpaint import RelightifyInpaintPipeline
    from relightify_diffusers.priors.gaussian import GaussianPrior
    from relightify_diffusers.reconstruction import FaceReconstructor

# One place for the version: setup.cfg states the same, and a test compares them.
__version__ = "0.1.0"

_MODULES = {
    "Avatar": ".avatar",
    "FaceReconstructor": ".reconstruction",
    "GaussianPrior": ".priors.gaussian",
    "HeadModel": ".head.model",
    "RelightifyInpaintPipeline": ".pipelines.relightify_inpaint",
    "load_photo": ".photo",
}

__all__ = [
    "Avatar",
    "FaceReconstructor",
    "GaussianPrior",
    "HeadModel",
    "RelightifyInpaintPipeline",
    "__version__",
    "load_photo",
]


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(_MODULES[name], __name__), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(set(globals()) | set(__all__))
