"""Exit codes, one-line errors, and that nothing is written when something is wrong."""

from __future__ import annotations

import subprocess
import sys
import types
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from relightify_diffusers import __version__
from relightify_diffusers.cli.main import main
from relightify_diffusers.errors import AssetError, NoFaceError, UnsuitableImageError, UsageError


@pytest.fixture
def photo(tmp_path) -> Path:
    path = tmp_path / "photo.png"
    Image.new("RGB", (100, 100), (120, 90, 70)).save(path)
    return path


class FakeAvatar:
    """Writes one file, so that the command has something to name."""

    def __init__(self, calls: dict):
        self.calls = calls
        self.record = {"fit": {"warnings": ["the hair\nis long"]}}

    def save(self, directory, overwrite=False, preview=None):
        self.calls["save"] = (str(directory), overwrite, preview)
        Path(directory).mkdir()
        (Path(directory) / "mesh.glb").write_bytes(b"glTF")
        return Path(directory)


@pytest.fixture
def reconstructor(monkeypatch) -> dict:
    """A stand-in for the models: records how it is called, and raises calls["error"] when that is set."""
    calls: dict = {"error": None}

    class FaceReconstructor:
        @classmethod
        def from_pretrained(cls, **options):
            calls["from_pretrained"] = options
            return cls()

        def __call__(self, path, **options):
            calls["call"] = (path, options)
            if calls["error"] is not None:
                raise calls["error"]
            return FakeAvatar(calls)

    module = types.ModuleType("relightify_diffusers.reconstruction")
    module.FaceReconstructor = FaceReconstructor  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, module.__name__, module)
    monkeypatch.setattr("relightify_diffusers.export.preview.preview_sheet", lambda avatar: "sheet")
    return calls


def one_line(capsys) -> str:
    """What was said on stderr, which has to be one line without a traceback."""
    text = capsys.readouterr().err
    assert text.count("\n") == 1 and text.endswith("\n") and "Traceback" not in text
    return text


def test_version_and_help(capsys):
    assert main(["--version"]) == 0
    assert capsys.readouterr().out == f"relightify {__version__}\n"
    assert main(["--help"]) == 0
    listed = capsys.readouterr().out
    assert all(name in listed for name in ("reconstruct", "render", "synthesize", "evaluate", "demo", "doctor"))


@pytest.mark.parametrize(
    "arguments",
    [
        [],
        ["sing"],
        ["reconstruct"],
        ["reconstruct", "a.jpg"],
        ["reconstruct", "a.jpg", "-o", "x", "--method", "magic"],
        ["reconstruct", "a.jpg", "-o", "x", "--steps", "0"],
        ["reconstruct", "a.jpg", "-o", "x", "--steps", "many"],
        ["reconstruct", "a.jpg", "-o", "x", "--seed", "-1"],
        ["reconstruct", "a.jpg", "-o", "x", "--face", "-1"],
        ["reconstruct", "a.jpg", "-o", "x", "--strength", "1.5"],
        ["reconstruct", "a.jpg", "-o", "x", "--map-resolution", "1"],
        ["synthesize", "-o", "x"],
        ["synthesize", "-o", "x", "-n", "4", "--shard", "4/4"],
        ["synthesize", "-o", "x", "-n", "4", "--shard", "half"],
    ],
)
def test_wrong_usage(arguments, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert main(arguments) == 2
    assert "error:" in one_line(capsys)
    assert list(tmp_path.iterdir()) == []


def test_reconstruct_passes_its_arguments_on(photo, tmp_path, reconstructor, capsys):
    out = tmp_path / "out"
    options = ["--seed", "7", "--steps", "5", "--map-resolution", "128", "--method", "gaussian", "--model", "m"]
    options += ["--face", "1", "--strength", "0.5", "--detector", "dlib"]
    assert main(["reconstruct", str(photo), "-o", str(out), *options]) == 0
    assert reconstructor["from_pretrained"]["model"] == "m"
    assert reconstructor["from_pretrained"]["device"] == "cpu"
    path, call = reconstructor["call"]
    assert path == str(photo)
    assert call == {
        "seed": 7,
        "num_inference_steps": 5,
        "map_resolution": 128,
        "method": "gaussian",
        "strength": 0.5,
        "face": 1,
    }
    assert reconstructor["save"] == (str(out), False, "sheet")
    captured = capsys.readouterr()
    assert str(out / "mesh.glb") in captured.out
    assert captured.err == "relightify: warning: the hair is long\n"


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (UsageError("no face number 3"), 2),
        (NoFaceError("no face\nwas found"), 3),
        (UnsuitableImageError("too small"), 4),
        (AssetError("no model"), 5),
        (RuntimeError("two\nlines"), 1),
        (KeyboardInterrupt(), 130),
    ],
)
def test_exit_codes(error, code, photo, tmp_path, reconstructor, capsys):
    reconstructor["error"] = error
    assert main(["reconstruct", str(photo), "-o", str(tmp_path / "out")]) == code
    assert " ".join(str(error).split()) in one_line(capsys)
    assert sorted(tmp_path.iterdir()) == [photo]


@pytest.mark.parametrize("before", [True, False])
def test_debug_shows_the_traceback(before, photo, tmp_path, reconstructor, capsys):
    reconstructor["error"] = RuntimeError("inside")
    arguments = ["reconstruct", str(photo), "-o", str(tmp_path / "out")]
    assert main(["--debug", *arguments] if before else [*arguments, "--debug"]) == 1
    assert "Traceback" in capsys.readouterr().err


@pytest.mark.parametrize("content", [None, b"", b"some text"], ids=["missing", "empty", "text"])
def test_unreadable_photos(content, tmp_path, reconstructor, capsys):
    path = tmp_path / "a.jpg"
    if content is not None:
        path.write_bytes(content)
    assert main(["reconstruct", str(path), "-o", str(tmp_path / "out")]) == 4
    assert str(path) in one_line(capsys)
    assert "call" not in reconstructor and not (tmp_path / "out").exists()


def test_an_existing_output_is_refused_before_the_work(photo, tmp_path, reconstructor, capsys):
    out = tmp_path / "out"
    out.mkdir()
    (out / "mine.txt").write_text("keep")
    assert main(["reconstruct", str(photo), "-o", str(out)]) == 2
    assert "--overwrite" in one_line(capsys)
    # What is no avatar is not replaced even then.
    assert main(["reconstruct", str(photo), "-o", str(out), "--overwrite"]) == 2
    assert "avatar.json" in one_line(capsys)
    assert "call" not in reconstructor and (out / "mine.txt").read_text() == "keep"


def test_an_output_that_cannot_be_made_is_refused_before_the_work(photo, tmp_path, reconstructor, capsys):
    assert main(["reconstruct", str(photo), "-o", str(photo / "out")]) == 2
    one_line(capsys)
    if Path("/proc").is_dir():  # not even root can write there
        assert main(["reconstruct", str(photo), "-o", "/proc/out"]) == 2
        one_line(capsys)
    assert "call" not in reconstructor


def test_unknown_detector_and_device(photo, tmp_path, reconstructor, capsys):
    out = str(tmp_path / "out")
    assert main(["reconstruct", str(photo), "-o", out, "--detector", "mtcnn"]) == 2
    assert "'dlib'" in one_line(capsys)
    assert main(["reconstruct", str(photo), "-o", out, "--device", "abacus"]) == 2
    assert "'abacus'" in one_line(capsys)
    assert "call" not in reconstructor


def test_demo_replaces_only_its_own_output(tmp_path, monkeypatch, reconstructor, capsys):
    monkeypatch.chdir(tmp_path)
    assert main(["demo"]) == 0
    assert str(Path("demo_output") / "mesh.glb") in capsys.readouterr().out
    assert reconstructor["save"] == ("demo_output", True, "sheet")
    other = tmp_path / "other"
    other.mkdir()
    (other / "mine.txt").write_text("keep")
    assert main(["demo", "-o", str(other)]) == 2
    one_line(capsys)
    assert (other / "mine.txt").exists()


def test_demo_photo_is_the_portrait(tmp_path, monkeypatch, reconstructor):
    import skimage.data

    seen = []
    from relightify_diffusers.cli import demo

    monkeypatch.setattr(demo, "reconstruct", lambda args, photo: seen.append(np.asarray(Image.open(photo))))
    assert main(["demo", "-o", str(tmp_path / "out")]) == 0
    assert np.array_equal(seen[0], skimage.data.astronaut())


def test_synthesize_passes_its_arguments_on(tmp_path, monkeypatch):
    calls = []
    module = types.ModuleType("relightify_diffusers.synthesis.dataset")
    module.synthesize = lambda *args, **options: calls.append((args, options))  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, module.__name__, module)
    out = str(tmp_path / "set")
    assert main(["synthesize", "-o", out, "-n", "12", "--resolution", "64", "--seed", "3", "--shard", "1/4"]) == 0
    expected = {"count": 12, "resolution": 64, "seed": 3, "shard": (1, 4), "assets": None, "overwrite": False}
    expected |= {"workers": None, "transfer": False}
    assert calls == [((out,), expected)]


def test_doctor_names_what_is_missing_and_the_restriction(monkeypatch, capsys):
    from relightify_diffusers.cli import doctor

    monkeypatch.setattr(doctor, "REQUIRED", (("numpy", "numpy", "arrays"), ("no-such", "no_such_module", "nothing")))
    assert main(["doctor"]) == 1
    report = capsys.readouterr().out
    assert f"relightify_diffusers {__version__}" in report
    assert "Broken or missing: no-such" in report
    assert "300-W" in report and "excludes commercial use" in report
    assert "head.npz" in report


def test_as_a_process_without_heavy_imports():
    code = "import sys; from relightify_diffusers.cli.main import main; main(['-h']); print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.startswith("usage: relightify") and done.stdout.split()[-1] == "False"
    failed = subprocess.run(
        [sys.executable, "-m", "relightify_diffusers.cli.main", "reconstruct"], capture_output=True, text=True
    )
    assert failed.returncode == 2 and failed.stderr.count("\n") == 1
