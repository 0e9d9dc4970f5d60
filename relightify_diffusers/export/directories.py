"""Output directories and files that appear whole or not at all."""

from __future__ import annotations

import contextlib
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

from relightify_diffusers.errors import UsageError


def check_target(directory: str | Path, overwrite: bool = False, marker: str | None = None) -> Path:
    """Say early whether an output directory can be written; nothing is touched.

    marker: the name of a file that an existing directory must hold to be replaced (an empty one may always be), so
    that a mistyped path cannot cost somebody's files. Returns the absolute path. Raises UsageError if the path is
    taken, or if the place is not writable.
    """
    target = Path(directory).resolve()
    if target.exists():
        if not target.is_dir():
            raise UsageError(f"{directory} exists and is not a directory; choose another output directory")
        if not overwrite:
            raise UsageError(f"{directory} exists; choose another output directory or pass --overwrite")
        if marker and any(target.iterdir()) and not (target / marker).is_file():
            raise UsageError(f"{directory} holds other files (no {marker}) and is not replaced; choose another one")
    parent = next(path for path in target.parents if path.exists())
    if not parent.is_dir() or not os.access(parent, os.W_OK | os.X_OK):
        raise UsageError(f"{parent} is not a writable directory; choose another output directory")
    return target


@contextlib.contextmanager
def whole_directory(directory: str | Path, overwrite: bool = False, marker: str | None = None) -> Iterator[Path]:
    """Context of writing a directory that appears, complete, when the block ends without an error.

    Yields a temporary sibling of `directory` to write into. On an error the sibling goes away and an existing target
    stays as it was. Raises UsageError as `check_target` does, and for an operating-system error in the block.
    """
    target = check_target(directory, overwrite, marker)
    created = [path for path in target.parents if not path.exists()]
    sibling = None
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        sibling = Path(tempfile.mkdtemp(prefix=f".{target.name}.", suffix=".part", dir=target.parent))
        yield sibling
        _make_readable(sibling)
        _swap(sibling, target)
    except BaseException as error:
        if sibling is not None:
            shutil.rmtree(sibling, ignore_errors=True)
        for path in created:
            with contextlib.suppress(OSError):
                path.rmdir()
        if isinstance(error, OSError):
            raise UsageError(f"cannot write {directory}: {error.strerror or error}") from error
        raise


def _make_readable(directory: Path) -> None:
    """Give a directory of mkdtemp (mode 0700) the mode that mkdir would have given it."""
    umask = os.umask(0)
    os.umask(umask)
    directory.chmod(0o777 & ~umask)


def _swap(sibling: Path, target: Path) -> None:
    if not target.exists():
        sibling.rename(target)
        return
    old = sibling.with_suffix(".old")
    target.rename(old)
    try:
        sibling.rename(target)
    except OSError:
        old.rename(target)
        raise
    shutil.rmtree(old, ignore_errors=True)


@contextlib.contextmanager
def whole_file(path: str | Path, overwrite: bool = False) -> Iterator[Path]:
    """Context of writing a file that appears, complete, when the block ends without an error.

    Yields the path of a temporary sibling of the same suffix. Raises UsageError if the file exists and `overwrite` is
    false, or if it cannot be written.
    """
    target = Path(path)
    if target.is_dir():
        raise UsageError(f"{path} is a directory; name a file")
    if target.exists() and not overwrite:
        raise UsageError(f"{path} exists; choose another output file or pass --overwrite")
    if not target.parent.is_dir():
        raise UsageError(f"the directory {target.parent} does not exist")
    sibling = target.with_name(f".{target.stem}.{os.getpid()}{target.suffix}")
    try:
        yield sibling
        sibling.replace(target)
    except OSError as error:
        raise UsageError(f"cannot write {path}: {error.strerror or error}") from error
    finally:
        sibling.unlink(missing_ok=True)
