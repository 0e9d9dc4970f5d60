"""That setup.cfg, the constraints and the package agree, and that an installed package is whole."""

from __future__ import annotations

import configparser
import re
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

import relightify_diffusers

ROOT = Path(__file__).resolve().parent.parent


@pytest.fixture(scope="module")
def config() -> configparser.ConfigParser:
    parser = configparser.ConfigParser()
    parser.read(ROOT / "setup.cfg", encoding="utf-8")
    return parser


def lines(text: str) -> list[str]:
    return [line.strip() for line in text.splitlines() if line.strip()]


def normalized(requirement: str) -> str:
    """The name of a requirement as package indexes spell it (PEP 503)."""
    name = re.match(r"[A-Za-z0-9._-]+", requirement)
    assert name, requirement
    return re.sub(r"[-_.]+", "-", name.group()).lower()


def test_version(config):
    assert config["metadata"]["version"] == relightify_diffusers.__version__


def test_every_package_is_listed(config):
    package = ROOT / "relightify_diffusers"
    # Folders of data have no modules.
    folders = {path.parent for path in package.rglob("*.py")}
    expected = {".".join(folder.relative_to(ROOT).parts) for folder in folders} | {"relightify_diffusers.pipelines"}
    assert set(lines(config["options"]["packages"])) == expected


def test_constraints_pin_what_is_required(config):
    pins = (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
    pins = [line for line in pins if line and not line.startswith("#")]
    assert all("==" in line for line in pins)
    extras = config["options.extras_require"]
    required = lines(config["options"]["install_requires"])
    for extra in ("demo", "train", "test", "dev"):
        required += [line for line in lines(extras[extra]) if not line.startswith("relightify_diffusers")]
    missing = {normalized(line) for line in required} - {normalized(line) for line in pins}
    assert not missing


def test_public_names_are_lazy():
    code = (
        "import sys, relightify_diffusers as r; "
        "print('torch' in sys.modules, 'numpy' in sys.modules, set(r.__all__) <= set(dir(r)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT)
    assert done.stdout.split() == ["False", "False", "True"]


@pytest.mark.parametrize("name", relightify_diffusers.__all__)
def test_public_names_exist(name):
    assert getattr(relightify_diffusers, name) is not None


def test_unknown_name():
    with pytest.raises(AttributeError, match="no attribute 'Relighter'"):
        relightify_diffusers.Relighter  # noqa: B018


@pytest.mark.slow
def test_wheel_is_complete(tmp_path):
    source = tmp_path / "source"
    ignore = shutil.ignore_patterns("__pycache__", "*.egg-info")
    for name in ("relightify_diffusers", "pipelines"):
        shutil.copytree(ROOT / name, source / name, ignore=ignore)
    for name in ("setup.cfg", "pyproject.toml", "README.md", "LICENSE", "NOTICE"):
        if (ROOT / name).exists():
            shutil.copy(ROOT / name, source / name)
    command = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "-w", str(tmp_path), str(source)]
    subprocess.run(command, check=True, capture_output=True)
    (wheel,) = tmp_path.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
    code = {path.relative_to(ROOT).as_posix() for path in (ROOT / "relightify_diffusers").rglob("*.py")}
    code |= {f"relightify_diffusers/pipelines/{path.name}" for path in (ROOT / "pipelines").glob("*.py")}
    assets = {
        path.relative_to(ROOT).as_posix()
        for path in (ROOT / "relightify_diffusers" / "assets").rglob("*")
        if path.is_file()
    }
    assert assets and code | assets <= names
    assert any(name.endswith("licenses/NOTICE") for name in names)
