"""Reports and exported models name data and runs by the last part of their paths: no folder of their maker stands in them."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from conftest import Tiedae

from tiedae_cli.config.shareable import last_part
from tiedae_cli.runs import checkpoint

pytestmark = pytest.mark.slow


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        ("/home/ann/x.npy", "x.npy"),
        ("~/data/", "data"),
        ("https://user:secret@host/a/x.csv?token=1", "x.csv"),
        ("digits", "digits"),
        ("data/x.npy", "data/x.npy"),
        (r"C:\Users\ann\x.npy", "x.npy"),
    ],
)
def test_the_last_part_of_a_name(name: str, shown: str) -> None:
    assert last_part(name) == shown


def test_no_folder_stands_in_a_report_or_an_export(tmp_path: Path, tiedae: Tiedae) -> None:
    home = tmp_path / "home-of-ann"
    home.mkdir()
    np.save(home / "x.npy", np.random.default_rng(0).integers(0, 255, (60, 8, 8), dtype=np.uint8))
    run = home / "run"
    words = ("train", home / "x.npy", "-q", "--run-dir", run, "--set", "training.epochs=1", "--set", "model.hidden_sizes=[4]")
    assert tiedae(*words, "--set", "output.report=true").code == 0
    assert tiedae("report", run, "-q", "-o", "page.html").code == 0
    assert tiedae("report", run, run, "-q", "-o", "pages.html").code == 0
    assert tiedae("export", run, "-q", "-o", "x.safetensors").code == 0
    files = [run / "report.html", Path("page.html"), Path("pages.html"), Path("x.safetensors")]
    if tiedae("export", run, "-q", "-o", "x.onnx").code == 0:  # needs the extra
        files.append(Path("x.onnx"))
        assert tiedae("export", run, "-q", "-o", "score.onnx", "--part", "score").code == 0
        files.append(Path("score.onnx"))
    for path in files:
        assert b"home-of-ann" not in path.read_bytes(), path
        assert b"x.npy" in path.read_bytes()


@pytest.mark.parametrize("command", ["eval", "reconstruct", "report", "score"])
def test_a_checkpoint_shows_nothing_of_the_file_that_it_names(
    command: str, digits_run: Path, tmp_path: Path, tiedae: Tiedae
) -> None:
    (tmp_path / "secret.csv").write_text("root:x:0:0\n1,2,three\n")
    trained = checkpoint.load(digits_run / "best.safetensors")
    data = trained.config.data.model_copy(update={"dataset": str(tmp_path / "secret.csv")})
    replace(trained, config=trained.config.model_copy(update={"data": data})).save(Path("forged.safetensors"))
    result = tiedae(command, "forged.safetensors", "-q")
    assert result.code == 2 and "root" not in result.err.replace(str(tmp_path), "") and "three" not in result.err


def test_a_long_name_in_a_checkpoint_is_shortened(digits_run: Path, tiedae: Tiedae) -> None:
    trained = checkpoint.load(digits_run / "best.safetensors")
    replace(trained, run="a" * 1_000_000).save(Path("forged.safetensors"))
    result = tiedae("inspect", "forged.safetensors")
    assert result.code == 0 and len(result.out) + len(result.err) < 20_000


@pytest.mark.parametrize("command", ["eval", "reconstruct", "report", "score"])
def test_data_that_has_changed_since_the_training_is_reported(command: str, tiedae: Tiedae) -> None:
    values = np.random.default_rng(0).integers(0, 255, (60, 8, 8), dtype=np.uint8)
    np.save("x.npy", values)
    assert tiedae("train", "x.npy", "-q", "--set", "training.epochs=1", "--set", "model.hidden_sizes=[4]").code == 0
    assert "has changed" not in tiedae(command, "x").err
    np.save("x.npy", values[::-1])
    result = tiedae(command, "x")
    assert result.code == 0 and "the data has changed since this run was trained" in result.err
