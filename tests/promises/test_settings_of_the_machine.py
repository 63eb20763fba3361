"""The working directory and the settings of other programs change no result, and a command can be stopped from its first line on."""

import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from tiedae_cli.data.item_set import ItemForm
from tiedae_cli.output.figures.weights import feature_grid

pytestmark = pytest.mark.slow

ENVIRONMENT = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}
SIGNALLED_IMPORT = """
import os, signal, sys
class Signal:
    def find_spec(self, name, *_):
        if name == "typer":
            sys.meta_path.remove(self)
            os.kill(os.getpid(), {number})
sys.meta_path.insert(0, Signal())
from tiedae_cli.__main__ import main
sys.argv = ["tiedae", "--version"]
main()
"""


def run(*arguments: str, **variables: str) -> "subprocess.CompletedProcess[bytes]":
    """Run Python with these arguments in another process."""
    return subprocess.run(
        [sys.executable, *arguments], capture_output=True, timeout=120, env={**ENVIRONMENT, **variables}, check=False
    )


def pictures(folder: str, **variables: str) -> list[bytes]:
    """Train, and return the pictures of the run."""
    words = [
        "train",
        "digits",
        "-q",
        "--run-dir",
        f"{folder}/digits",
        "--set",
        "training.epochs=1",
        "--set",
        "model.hidden_sizes=[4]",
    ]
    result = run("-m", "tiedae_cli", *words, **variables)
    assert (result.returncode, result.stderr) == (0, b"")
    return [(Path(folder) / "digits" / name).read_bytes() for name in ("loss.png", "reconstructions.png")]


def test_no_settings_of_matplotlib_change_a_picture_or_stop_a_training(tmp_path: Path) -> None:
    plain = pictures("plain")
    settings: dict[str, Callable[[Path], object]] = {
        "usetex": lambda path: path.write_text("text.usetex: True\nsavefig.dpi: 3000\n"),
        "garbage": lambda path: path.write_bytes(bytes(range(256))),
        "pipe": os.mkfifo,
    }
    for name, put in settings.items():
        put(Path("matplotlibrc"))
        assert pictures(name, MPLBACKEND="garbage") == plain
        os.rename("matplotlibrc", tmp_path / "matplotlibrc")
        assert pictures(f"{name}-by-variable", MATPLOTLIBRC=str(tmp_path / "matplotlibrc")) == plain


def test_settings_of_a_notebook_change_no_picture_and_stay() -> None:
    import matplotlib

    form = ItemForm((1, 8, 8))
    plain = feature_grid(np.eye(5, 64), form, "digits")
    with matplotlib.rc_context({"savefig.dpi": 33, "font.size": 30, "text.color": "red"}):
        assert feature_grid(np.eye(5, 64), form, "digits") == plain
        assert matplotlib.rcParams["savefig.dpi"] == 33


def test_modules_in_the_working_directory_are_not_imported() -> None:
    for name in ("torch", "numpy", "typing", "signal", "random", "yaml", "typer"):
        Path(f"{name}.py").write_text("raise SystemExit('imported')")
    assert run("-m", "tiedae_cli", "inspect", "--help").returncode == 0
    assert run("-m", "tiedae_cli", "train", "-q", "--set", "training.epochs=1").returncode == 0


@pytest.mark.skipif(sys.platform == "win32", reason="POSIX signals")
@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGUSR1, 0), (signal.SIGTERM, -15)])
def test_a_signal_during_the_imports_shows_no_traceback(number: int, code: int) -> None:
    result = run("-c", SIGNALLED_IMPORT.format(number=int(number)))
    assert (result.returncode, result.stderr) == (code, b"")


@pytest.mark.parametrize("command", ["train", "eval", "score", "runs", "--help"])
def test_a_deleted_working_directory_is_one_line(command: str) -> None:
    code = f"import os, sys; os.mkdir('gone'); os.chdir('gone'); os.rmdir('../gone'); sys.argv = ['tiedae', '{command}']\n"
    result = run("-c", f"{code}from tiedae_cli.__main__ import main; main()")
    assert result.returncode == 2 and result.stdout == b""
    assert result.stderr.startswith(b"error: the working directory ") and result.stderr.count(b"\n") == 1


def test_the_package_in_a_zip_file_is_refused_in_one_line() -> None:
    shutil.make_archive("package", "zip", Path(__file__).parents[2], "tiedae_cli")
    result = run("-m", "tiedae_cli", "train", PYTHONPATH=str(Path("package.zip").absolute()))
    assert result.returncode == 2 and b"cannot run inside a zip file" in result.stderr and result.stderr.count(b"\n") == 1
