"""A run's name means the run in every command, even if another file or folder has that name."""

import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from tiny_models import random_bytes
from typer.testing import CliRunner

import tiedae_cli
from tiedae_cli.cli.app import app
from tiedae_cli.errors import InputError
from tiedae_cli.runs import checkpoint as checkpoints
from tiedae_cli.runs.checkpoint import Checkpoint
from tiedae_cli.runs.run_folder import find_checkpoint

RUNS = Path("runs")
COMMANDS = {
    "eval": ["eval", "MODEL"],
    "report": ["report", "MODEL", "-o", "out.html"],
    "inspect": ["inspect", "MODEL"],
    "export": ["export", "MODEL", "-o", "out.safetensors"],
    "compare": ["compare", "MODEL", "-o", "out.png"],
    "reconstruct": ["reconstruct", "MODEL", "-o", "out.png"],
    "encode": ["encode", "MODEL", "-o", "out.npy"],
    "decode": ["decode", "MODEL", "codes.npy", "-o", "out.npy"],
    "score": ["score", "MODEL"],
    "train --resume": ["train", "--resume", "MODEL"],
    "train init_from": ["train", "digits", "training.init_from=MODEL", "epochs=1", "hidden_sizes=32,8", "activation=silu"],
}


def folder_of_images(path: Path) -> None:
    path.mkdir()
    for index, pixels in enumerate(random_bytes(4, 8, 8)):
        Image.fromarray(pixels.numpy()).save(path / f"{index}.png")


def damaged_archive(path: Path) -> None:
    np.savez(Path("x.npz"), random_bytes(4, 8, 8).numpy())
    Path("x.npz").rename(path)


OBSTACLES = {  # what lies under the run's name
    "folder": ("photos", folder_of_images),
    "empty": ("photos", Path.mkdir),
    "file": ("photos", lambda path: path.write_text("1,2\n3,4\n")),
    "zip": ("photos", damaged_archive),
    "table": ("table.csv", lambda path: path.write_text("1,2\n3,4\n")),
    "image": ("one.png", lambda path: Image.new("L", (8, 8)).save(path)),
}


@pytest.fixture(params=OBSTACLES.values(), ids=OBSTACLES)
def name(request: pytest.FixtureRequest, digits_run: Path) -> str:
    """The name of an older run that is also the name of another file or folder."""
    word, make = request.param
    shutil.copytree(digits_run, RUNS / "newest")
    digits_run.rename(RUNS / word)
    make(Path(word))
    np.save("codes.npy", np.ones((2, 8), dtype=np.float32))
    return str(word)


@pytest.fixture
def opened(monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """The checkpoints that are read."""
    read: list[Path] = []

    def load(path: Path) -> Checkpoint:
        read.append(path)
        return real(path)

    real = checkpoints.load
    monkeypatch.setattr(checkpoints, "load", load)
    return read


@pytest.mark.slow
@pytest.mark.parametrize("command", COMMANDS.values(), ids=COMMANDS)
def test_what_has_a_runs_name_does_not_hide_it(command: list[str], name: str, opened: list[Path]) -> None:
    result = CliRunner().invoke(app, [word.replace("MODEL", name) for word in command])
    assert result.exit_code == 0, result.stderr
    assert opened[0] == RUNS / name / ("last.safetensors" if "--resume" in command else "best.safetensors")


def test_the_python_api(name: str, opened: list[Path]) -> None:
    tiedae_cli.load(name)
    assert opened == [RUNS / name / "best.safetensors"]


def test_a_word_that_says_where_it_lies_is_no_name(digits_run: Path) -> None:
    """``photos/`` and ``./photos`` are the folder; of a run that is not here its name may end in a slash."""
    folder_of_images(Path("digits"))
    for word in ("digits/", "./digits"):
        result = CliRunner().invoke(app, ["inspect", word])
        expected = (
            "digits: no best.safetensors in this folder: expected a checkpoint or a run folder (runs under runs/: digits)"
        )
        assert result.exit_code == 2 and expected in result.stderr
        items = CliRunner().invoke(app, ["score", "-q", word]).stdout.splitlines()
        assert len(items) == 4
    shutil.rmtree("digits")
    assert find_checkpoint("digits/", RUNS) == digits_run / "best.safetensors"
    with pytest.raises(InputError, match=r"^\./digits: no such checkpoint or run folder"):
        find_checkpoint("./digits", RUNS)


def test_a_run_or_a_checkpoint_of_the_name_comes_first(digits_run: Path) -> None:
    shutil.copytree(digits_run, "digits")
    assert find_checkpoint("digits", RUNS) == Path("digits/best.safetensors")
    shutil.rmtree("digits")
    shutil.copy(digits_run / "best.safetensors", "digits")  # a copy without a suffix is known by how it begins
    assert find_checkpoint("digits", RUNS) == Path("digits")
    Path("digits").write_bytes(b"")
    assert find_checkpoint("digits", RUNS) == digits_run / "best.safetensors"
    shutil.copytree(digits_run, RUNS / "x.safetensors")
    Path("x.safetensors").write_bytes(b"damaged")  # said to be one, and to be damaged
    assert find_checkpoint("x.safetensors", RUNS) == Path("x.safetensors")
