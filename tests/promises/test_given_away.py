"""Reports and exported models name data and runs by the last part of their paths: no folder of their maker stands in them."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from conftest import Tiedae
from PIL import Image

from tiedae_cli.config.shareable import last_part, shareable_name
from tiedae_cli.runs import checkpoint

pytestmark = pytest.mark.slow


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        ("/home/ann/x.npy", "x.npy"),
        ("~/data/", "data"),
        ("https://user:secret@host/a/x.csv?token=1", "x.csv"),
        ("digits", "digits"),
        ("data/x.npy", "x.npy"),
        ("./mnist", "mnist"),
        (r"C:\Users\ann\x.npy", "x.npy"),
    ],
)
def test_the_last_part_of_a_name(name: str, shown: str) -> None:
    assert last_part(name) == shown
    assert shareable_name(name) == (name if name in ("data/x.npy", "./mnist") else shown)


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
    for line in (
        "reconstruct RUN -o",
        "compare RUN RUN -o",
        "inspect RUN --features",
        "inspect RUN --codes",
        "score RUN --contact-sheet",
    ):
        assert tiedae(*line.replace("RUN", str(run)).split(), f"{line[:4]}.png").code == 0
    for path in [*Path().glob("*.png"), *run.iterdir()]:
        holds = b"home-of-ann" in path.read_bytes()
        assert holds == (path.name == "config.yaml"), path


def titles_of(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Return a list to which each text that matplotlib draws from now on is appended."""
    from matplotlib.text import Text

    texts: list[str] = []
    original = Text.set_text

    def set_text(self: Text, text: object) -> None:
        texts.append(str(text))
        original(self, text)

    monkeypatch.setattr(Text, "set_text", set_text)
    return texts


def test_no_folder_stands_in_a_picture(tmp_path: Path, tiedae: Tiedae, monkeypatch: pytest.MonkeyPatch) -> None:
    home = tmp_path / "home-of-ann"
    home.mkdir()
    np.save(home / "x.npy", np.random.default_rng(0).integers(0, 255, (60, 8, 8), dtype=np.uint8))
    Image.new("L", (8, 8)).save(home / "one.png")
    texts, run = titles_of(monkeypatch), "runs/x"
    assert tiedae("train", home / "x.npy", "-q", "--set", "training.epochs=1", "--set", "model.hidden_sizes=[4]").code == 0
    for words in (
        "reconstruct RUN -o",
        "reconstruct RUN HOME/one.png -o",
        "compare RUN RUN -o",
        "inspect RUN --codes",
        "score RUN HOME/one.png --contact-sheet",
    ):
        result = tiedae(*words.replace("RUN", run).replace("HOME", str(home)).split(), "new.png")
        assert result.code == 0, result.err
    assert any("x.npy" in text for text in texts) and any("one.png" in text for text in texts)
    assert not [text for text in texts if "home-of-ann" in text or str(home)[-12:] in text]


def trained(tiedae: Tiedae, folder: Path) -> Path:
    """Train on ``folder/x.npy`` and return the run folder."""
    folder.mkdir()
    np.save(folder / "x.npy", np.random.default_rng(0).integers(0, 255, (60, 8, 8), dtype=np.uint8))
    words = ("train", folder / "x.npy", "-q", "--set", "training.epochs=1", "--set", "model.hidden_sizes=[4]")
    assert tiedae(*words).code == 0
    return Path("runs/x")


@pytest.mark.parametrize("command", ["eval", "reconstruct", "report", "score", "inspect --codes c.png", "compare"])
def test_a_model_moved_alone_opens_no_file_of_its_datas_name(command: str, tmp_path: Path, tiedae: Tiedae) -> None:
    run = trained(tiedae, tmp_path / "data")
    (run / "best.safetensors").rename("model.safetensors")
    np.save("x.npy", np.zeros((60, 8, 8), np.uint8))
    first, *rest = command.split()
    result = tiedae(first, "model.safetensors", *rest, "-q")
    assert result.code == 2 and "was trained on x.npy; where that lies" in result.err, result.err
    assert "tiedae eval model.safetensors FILE" in result.err
    assert tiedae("eval", "model.safetensors", "x.npy", "-q").code == 0


def test_a_path_named_like_a_data_set_is_not_that_data_set(tmp_path: Path, tiedae: Tiedae) -> None:
    folder = tmp_path / "digits"
    folder.mkdir()
    np.save(folder / "train.npy", np.zeros(3))
    np.save(tmp_path / "x.npy", np.random.default_rng(0).integers(0, 255, (60, 8, 8), dtype=np.uint8))
    (tmp_path / "x.npy").rename(folder.with_name("digits.npy"))
    folder.rename(tmp_path / "other")
    folder.with_name("digits.npy").rename(folder)
    words = ("train", folder, "-q", "--run-dir", "run", "--set", "training.epochs=1", "--set", "model.hidden_sizes=[4]")
    assert tiedae(*words).code == 0
    Path("run/best.safetensors").rename("model.safetensors")
    result = tiedae("eval", "model.safetensors")
    assert result.code == 2 and "was trained on ./digits; where that lies" in result.err


def test_a_config_that_is_not_the_checkpoints_is_an_error(tmp_path: Path, tiedae: Tiedae) -> None:
    run = trained(tiedae, tmp_path / "data")
    config, text = run / "config.yaml", (run / "config.yaml").read_text()
    config.write_text(text.replace("split_seed: 0", "split_seed: 1"))
    for words in (("eval", run), ("train", "--resume", run)):
        result = tiedae(*words)
        assert result.code == 2 and "not the config of" in result.err and "data.split_seed: 0 -> 1" in result.err
    config.write_text(text.replace("epochs: 1", "epochs: 9"))  # what --resume may change
    assert tiedae("eval", run, "-q").code == 0
    config.write_text("data: [")
    assert tiedae("eval", run, "-q").code == 2
    assert tiedae("eval", run, tmp_path / "data" / "x.npy", "-q").code == 0  # a model is used without its run folder


def test_data_that_was_moved_is_named_on_the_command_line(tmp_path: Path, tiedae: Tiedae) -> None:
    run = trained(tiedae, tmp_path / "data")
    (tmp_path / "data").rename(tmp_path / "elsewhere")
    assert tiedae("train", "--resume", run, "-q", "epochs=2").code == 2
    (run / "config.yaml").unlink()
    result = tiedae("train", "--resume", run, "-q", "epochs=2")
    assert result.code == 2 and "tiedae train --resume runs/x dataset=PATH" in result.err
    np.save(tmp_path / "x.npy", np.random.default_rng(1).integers(0, 255, (60, 8, 8), dtype=np.uint8))
    result = tiedae("train", "--resume", run, "-q", "epochs=2", f"dataset={tmp_path}/x.npy")
    assert result.code == 2 and "has changed since this run was trained: as many items" in result.err
    assert tiedae("train", "--resume", run, "-q", "epochs=2", f"dataset={tmp_path}/elsewhere/x.npy").code == 0
    assert tiedae("eval", run, "-q").code == 0


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
