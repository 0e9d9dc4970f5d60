"""Checkpoints of a training run: one file each, written atomically, pruned, found again by name."""

from __future__ import annotations

import os
import re
from pathlib import Path

import torch

from relightify_diffusers.errors import AssetError

_NAME = re.compile(r"checkpoint-(\d{8})\.pt")


def list_checkpoints(directory: str | Path) -> list[Path]:
    """Checkpoint files of a run, oldest first."""
    return sorted(p for p in Path(directory).glob("checkpoint-*.pt") if _NAME.fullmatch(p.name))


def save_checkpoint(directory: str | Path, step: int, state: dict, total_limit: int) -> Path:
    """Write checkpoint-STEP.pt through a temporary sibling, then delete all but the newest `total_limit`."""
    directory = Path(directory)
    path = directory / f"checkpoint-{step:08d}.pt"
    partial = directory / f".{path.name}.partial"
    torch.save(state, partial)
    os.replace(partial, path)
    for old in list_checkpoints(directory)[: -max(total_limit, 1)]:
        old.unlink()
    return path


def load_checkpoint(directory: str | Path, name: str, architecture: dict) -> dict | None:
    """The state saved under `name` (a file or "latest"; None when "latest" finds nothing).

    Raises AssetError for a file that is missing, damaged, or of another architecture.
    """
    if name == "latest":
        found = list_checkpoints(directory)
        if not found:
            return None
        path = found[-1]
    else:
        path = Path(name)
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # torch raises many types for a truncated file
        raise AssetError(f"cannot read checkpoint {path}: {' '.join(str(error).split())[:120]}") from None
    for key, value in architecture.items():
        saved = state.get("architecture", {}).get(key)
        if saved != value:
            raise AssetError(f"checkpoint {path} has {key} = {saved}, this run has {value}; they cannot be mixed")
    return state
