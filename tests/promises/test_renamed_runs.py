"""A run is never mixed with its successor if its folder is renamed, removed or replaced during training."""

import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import IO

import pytest
import torch
from conftest import Tiedae

from tiedae_cli.config import Config
from tiedae_cli.config.yaml_reader import parse_config
from tiedae_cli.errors import StorageError
from tiedae_cli.output.terminal import Terminal
from tiedae_cli.runs import checkpoint
from tiedae_cli.runs.checkpoint import Checkpoint
from tiedae_cli.runs.run_folder import Run
from tiedae_cli.system.devices import Ranks
from tiedae_cli.system.storage import replacing
from tiedae_cli.tasks import train as opening


def config_of_seed(seed: int) -> Config:
    return parse_config(f"{{model: {{hidden_sizes: [4]}}, training: {{epochs: 2, batch_size: 500, seed: {seed}}}}}", "x.yaml")


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


@pytest.mark.slow
@pytest.mark.parametrize("successor", [True, False])
def test_a_run_that_is_renamed_while_it_is_trained_is_never_mixed_with_its_successor(successor: bool, tiedae: Tiedae) -> None:
    """The training stops and prints the command that resumes it in the renamed folder; a new run with the old name stays unchanged."""
    place = torch.device("cpu"), Ranks(), Terminal(quiet=True)
    with opening.start(config_of_seed(1), "x", Path("x"), *place) as first:
        os.rename("x", "moved")
        if successor:
            with opening.start(config_of_seed(2), "x", Path("x"), *place) as second:
                second.train()
        before = contents(Path("x")) if successor else {}
        with pytest.raises(StorageError) as caught:
            first.train()
    assert str(caught.value).startswith("x: this run's folder was renamed, removed or replaced; nothing more is written there.")
    assert str(caught.value).endswith("continue from its last save with: tiedae train --resume NEW_NAME")
    assert contents(Path("x")) == before if successor else not Path("x").exists()
    assert tiedae("train", "-q", "--device", "cpu", "--resume", "moved").code == 0
    for folder, seed in (("moved", 1), ("x", 2))[: 1 + successor]:
        for name in ("last.safetensors", "previous.safetensors", "best.safetensors"):
            assert checkpoint.load(Path(folder) / name).config.training.seed == seed
        assert f"seed: {seed}" in Path(folder, "config.yaml").read_text()
        assert Path(folder, "metrics.jsonl").read_text().count("\n") == 2
        assert Path(folder, "loss.png").exists()


@pytest.mark.parametrize("action", ["save", "write", "append_line", "link", "load"])
def test_a_run_uses_no_file_of_another_folder_of_its_name(digits_run: Path, action: str) -> None:
    run = Run(digits_run)
    saved = run.load(run.last)
    uses: dict[str, Callable[[], object]] = {
        "save": lambda: run.save(saved, best=True),
        "write": lambda: run.write(run.config, b""),
        "append_line": lambda: run.append_line(run.metrics, "{}"),
        "link": lambda: run.link(run.last, run.best),
        "load": lambda: run.load(run.best),
    }
    with run.locked():
        os.rename(digits_run, "moved")
        shutil.copytree("moved", digits_run)
        before = contents(digits_run)
        with pytest.raises(StorageError, match="was renamed, removed or replaced"):
            uses[action]()
        assert contents(digits_run) == before


def test_a_rename_in_the_middle_of_a_save_leaves_the_successor_alone(digits_run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = Run(digits_run)
    saved = run.load(run.last)

    def renamed(_: Checkpoint, file: IO[bytes]) -> None:
        file.write(b"half")
        os.rename(digits_run, "moved")
        shutil.copytree("moved", digits_run, ignore=shutil.ignore_patterns(".tiedae*"))

    monkeypatch.setattr(Checkpoint, "write", renamed)
    with run.locked():
        before = contents(digits_run)
        with pytest.raises(StorageError, match="was renamed, removed or replaced"):
            run.save(saved, best=True)
    kept = {name: content for name, content in before.items() if not name.startswith(".tiedae")}
    assert contents(digits_run) == kept
    assert kept.items() <= contents(Path("moved")).items()


def test_nothing_is_written_into_the_successor_of_a_folder_that_is_renamed_during_a_write(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    with pytest.raises(StorageError, match="a/file: cannot be written: No such file"), replacing(tmp_path / "a/file") as file:
        file.write(b"of a")
        os.rename(tmp_path / "a", tmp_path / "b")
        (tmp_path / "a").mkdir()
    assert not (tmp_path / "b/file").exists()
    assert list((tmp_path / "a").iterdir()) == []
