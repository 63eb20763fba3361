"""Only what was meant is opened, in bounded time and memory: files, in formats that are pixels, of the size that was promised."""

import io
import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner, Result

from tiedae_cli.cli.app import app
from tiedae_cli.errors import CheckpointError
from tiedae_cli.runs import checkpoint
from tiedae_cli.runs.run_folder import separate_model

pytestmark = pytest.mark.slow

EPS = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 8 8\n%%EndComments\nshowpage\n"
SLOWEST = 60  # s; a command that hangs is killed


def invoke(*arguments: object) -> Result:
    return CliRunner().invoke(app, list(map(str, arguments)))


def run(*arguments: str, **options: object) -> "subprocess.CompletedProcess[str]":
    command = [sys.executable, "-m", "tiedae_cli", *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=SLOWEST, **options)  # type: ignore[call-overload]


@pytest.fixture(autouse=True)
def hangs_are_failures() -> Iterator[None]:
    def stop(*_: object) -> None:
        raise TimeoutError

    before = signal.signal(signal.SIGALRM, stop)
    signal.alarm(SLOWEST)
    yield
    signal.alarm(0)
    signal.signal(signal.SIGALRM, before)


@pytest.fixture
def photos(digits_run: Path) -> Path:
    folder = Path("photos")
    folder.mkdir()
    generator = np.random.default_rng(0)
    for index in range(20):
        Image.fromarray(generator.integers(0, 256, (8, 8), dtype=np.uint8)).save(folder / f"{index}.png")
    os.mkfifo(folder / "pipe.png")
    return folder


@pytest.mark.parametrize(
    "arguments",
    [
        ("train", "--set", "data.dataset=photos", "--set", "training.epochs=1", "--set", "model.hidden_sizes=[4]"),
        ("score", "runs/digits", "photos"),
        ("encode", "runs/digits", "photos", "-o", "codes.csv"),
        ("reconstruct", "runs/digits", "photos", "--no-preview"),
        ("score", "runs/digits", "--against", "photos"),
    ],
    ids=lambda arguments: arguments[0],
)
def test_in_a_folder_only_files_are_opened(arguments: tuple[str, ...], photos: Path) -> None:
    result = invoke(*arguments)
    assert result.exit_code == 0, result.output
    assert "photos/pipe.png: a pipe, not a file; skipped" in result.stderr


@pytest.mark.parametrize("name", ["metrics.jsonl", "config.yaml", "loss.png", "reconstructions.png", "previous.safetensors"])
@pytest.mark.parametrize("command", ["eval", "train"])
def test_a_pipe_in_a_run_folder(name: str, command: str, digits_run: Path) -> None:
    (digits_run / name).unlink()
    os.mkfifo(digits_run / name)
    arguments = (
        ("eval", "runs/digits") if command == "eval" else ("train", "--resume", "runs/digits", "--set", "training.epochs=5")
    )
    assert invoke(*arguments).exit_code == 0


@pytest.mark.parametrize("name", ["best.safetensors", "last.safetensors"])
def test_a_pipe_in_the_place_of_a_checkpoint(name: str, digits_run: Path) -> None:
    (digits_run / name).unlink()
    os.mkfifo(digits_run / name)
    result = invoke(*(("eval", "runs/digits") if name.startswith("best") else ("train", "--resume", "runs/digits")))
    assert result.exit_code == 1 and "a pipe, not a file" in result.stderr


def test_a_hole_of_a_terabyte_is_no_checkpoint(tmp_path: Path) -> None:
    for head in (b"", b"\x10\0\0\0\0\0\0\0{}"):
        with (tmp_path / "x.safetensors").open("wb") as file:
            file.write(head)
            file.truncate(1 << 40)
        with pytest.raises(CheckpointError):
            checkpoint.load(tmp_path / "x.safetensors")


@pytest.mark.parametrize("name", ["x.npy", "x.png", "x.csv"])
def test_a_run_folder_is_a_model_whatever_its_name(name: str, digits_run: Path) -> None:
    shutil.copytree(digits_run, name)
    shutil.copytree(digits_run, Path("runs") / f"y{name}")
    assert separate_model(name, [], Path("runs")) == (name, [])
    assert separate_model(f"y{name}", [], Path("runs")) == (f"y{name}", [])
    result = invoke("score", "-q", name)
    assert result.exit_code == 0 and result.stdout.count("\n") > 50


@pytest.mark.parametrize("suffix", ["png", "jpg", "tif"])
def test_only_formats_that_are_pixels_are_decoded(suffix: str, digits_run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Pillow starts Ghostscript for EPS, whatever the file's name says."""
    started: list[object] = []
    monkeypatch.setattr(subprocess, "check_call", lambda *arguments, **_: started.append(arguments))
    Path(f"x.{suffix}").write_bytes(EPS)
    result = invoke("score", "runs/digits", f"x.{suffix}")
    assert result.exit_code == 2 and "not an image that can be decoded (unknown format)" in result.stderr
    assert started == []


@pytest.mark.parametrize("fortran", [False, True])
@pytest.mark.parametrize("shape", [(10**18, 6), (10**18, 0), (2**63, 1), (-1, 6)])
@pytest.mark.parametrize("stream", [False, True])
def test_an_array_that_promises_too_much(fortran: bool, shape: tuple[int, int], stream: bool, digits_run: Path) -> None:
    buffer = io.BytesIO()
    np.lib.format.write_array_header_1_0(buffer, {"descr": "<f4", "fortran_order": fortran, "shape": shape})
    Path("x.npy").write_bytes(buffer.getvalue() + bytes(64))
    result = CliRunner().invoke(app, ["score", "runs/digits", "-" if stream else "x.npy"], input=Path("x.npy").read_bytes())
    assert result.exit_code == 2 and "error: " in result.stderr, result.output
    assert "unexpected" not in result.stderr
    trained = invoke("train", "--set", "data.dataset=x.npy")
    assert trained.exit_code == 2 and "unexpected" not in trained.stderr


@pytest.mark.parametrize("source", ["/dev/zero", "-"])
def test_a_stream_without_end(source: str, digits_run: Path) -> None:
    with open("/dev/zero", "rb") as zeros:
        result = run("score", "runs/digits", source, stdin=zeros)
    assert result.returncode == 2 and "no image: goes on after 256 MiB" in result.stderr


@pytest.mark.parametrize("name", ["config.yaml", "metrics.jsonl", "outcome.json"])
def test_the_list_of_runs_waits_for_no_pipe(digits_run: Path, name: str) -> None:
    (digits_run / name).unlink()
    os.mkfifo(digits_run / name)
    result = CliRunner().invoke(app, ["runs", "--json"])
    assert result.exit_code == 0 and json.loads(result.stdout)["state"] == (
        "finished" if name == "outcome.json" else "unreadable"
    )
