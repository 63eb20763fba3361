"""The run folder: names, what is meant when none is given, what is kept in it, and who may write to it."""

import os
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from tiedae_cli.config.yaml_reader import parse_config
from tiedae_cli.errors import InputError, StorageError
from tiedae_cli.model.metrics import ErrorSum
from tiedae_cli.runs import checkpoint
from tiedae_cli.runs.run_folder import Run, create_named_run, create_run, find_checkpoint, newest_run
from tiedae_cli.system.devices import Ranks
from tiedae_cli.system.json_text import json_text
from tiedae_cli.system.locks import LOCK_FILE
from tiedae_cli.tasks import train as task
from tiedae_cli.training import trainer as training

PARENT = Path("runs")


def fake_run(name: str, age: int) -> Run:
    """Make a run folder whose last.safetensors was written ``age`` seconds ago."""
    run = Run(PARENT / name)
    run.folder.mkdir(parents=True)
    run.last.touch()
    run.best.touch()
    os.utime(run.last, (1_000_000 - age, 1_000_000 - age))
    return run


def test_nothing_is_ever_overwritten() -> None:
    made = [create_run(PARENT, "mnist").folder for _ in range(3)]
    assert made == [PARENT / "mnist", PARENT / "mnist-2", PARENT / "mnist-3"]
    assert create_run(PARENT / "deep" / "er", "x").folder.is_dir()


def test_a_parent_that_is_a_file() -> None:
    PARENT.write_text("")
    with pytest.raises(StorageError, match="runs: cannot be created: File exists"):
        create_run(PARENT, "mnist")


def test_exactly_this_folder_which_must_be_new(empty_folder: Path) -> None:
    assert create_named_run(Path("a/b")).folder.is_dir()
    assert create_named_run(Path("a/b")).folder == Path("a/b")  # still empty
    Path("a/b/notes.txt").touch()
    with pytest.raises(InputError, match=r"--run-dir a/b: not empty; .*--resume a/b"):
        create_named_run(Path("a/b"))


def test_the_newest_run_is_the_one_saved_last() -> None:
    assert newest_run(PARENT) is None
    for name, age in (("mnist", 50), ("mnist-2", 70), ("mnist-best", 10), ("digits", 30)):
        fake_run(name, age)
    (PARENT / "half-made").mkdir()
    assert str(newest_run(PARENT).folder) == "runs/mnist-best"
    assert str(newest_run(PARENT, "mnist").folder) == "runs/mnist"  # not mnist-best, which has another name
    assert newest_run(PARENT, "fashion") is None


def test_what_a_model_argument_means() -> None:
    fake_run("old", 50)
    fake_run("new", 10)
    Path("copied.safetensors").touch()
    assert find_checkpoint(None, PARENT) == PARENT / "new" / "best.safetensors"
    assert find_checkpoint("runs/old", PARENT) == PARENT / "old" / "best.safetensors"
    assert find_checkpoint("old", PARENT) == PARENT / "old" / "best.safetensors"
    assert find_checkpoint("runs/old/last.safetensors", PARENT) == PARENT / "old" / "last.safetensors"
    assert find_checkpoint("copied.safetensors", PARENT) == Path("copied.safetensors")


@pytest.mark.parametrize(
    ("model", "message"),
    [
        (None, "no run under runs/ yet: train one with `tiedae train`, or name a checkpoint"),
        ("nothing", "nothing: no such checkpoint or run folder"),
        ("empty", "empty: no best.safetensors in this folder: expected a checkpoint or a run folder"),
        ("started", "started: no best.safetensors in this folder: no epoch is finished yet"),
    ],
)
def test_a_model_that_is_not_there(model: str | None, message: str) -> None:
    Path("empty").mkdir()
    Path("started").mkdir()
    Path("started/last.safetensors").touch()
    with pytest.raises(InputError) as caught:
        find_checkpoint(model, PARENT)
    assert str(caught.value) == message and caught.value.exit_code == 2


def test_a_trained_run_holds_what_the_design_says(digits_run: Path) -> None:
    files = {
        "config.yaml",
        "metrics.jsonl",
        "last.safetensors",
        "previous.safetensors",
        "best.safetensors",
        "loss.png",
        "reconstructions.png",
        "outcome.json",
    }
    assert {path.name for path in digits_run.iterdir()} - {LOCK_FILE} == files  # some versions of filelock remove theirs
    history = checkpoint.load(digits_run / "last.safetensors").training.history
    lines = (digits_run / "metrics.jsonl").read_text().splitlines()
    assert lines == [json_text(report.values()) for report in history] and len(lines) == 4


@pytest.mark.slow
def test_the_best_checkpoint_is_the_one_of_the_lowest_validation_error(monkeypatch: pytest.MonkeyPatch) -> None:
    """The second of four epochs, by the errors that are given here in place of the measured ones."""
    errors = iter((0.05, 0.03, 0.04, 0.03))
    monkeypatch.setattr(training, "error_sum_of_all", lambda *_: ErrorSum(next(errors), 1, 1))
    config = parse_config("{model: {hidden_sizes: [4]}, training: {epochs: 4, batch_size: 500}}", "x.yaml")
    with task.start(config, "x", Path("x"), torch.device("cpu"), Ranks()) as session:
        session.train()
    best, last = (checkpoint.load(Path("x") / name) for name in ("best.safetensors", "last.safetensors"))
    assert (best.training.epoch, last.training.epoch) == (2, 4)
    assert [report.best for report in last.training.history] == [True, True, False, False]
    assert not torch.equal(best.weights["layers.0.weight"], last.weights["layers.0.weight"])


def test_saving_keeps_the_one_before_and_the_best(digits_run: Path, tmp_path: Path) -> None:
    found = checkpoint.load(digits_run / "last.safetensors")
    run = Run(tmp_path / "new")
    run.folder.mkdir()
    for number, best in ((1, True), (2, False), (3, True), (4, False)):
        run.save(replace(found, run=str(number)), best)
    saved = {path.name: checkpoint.load(path).run for path in run.folder.iterdir()}
    assert saved == {"last.safetensors": "4", "previous.safetensors": "3", "best.safetensors": "3"}


def test_only_one_process_trains_a_run(digits_run: Path) -> None:
    with Run(digits_run).locked():
        with pytest.raises(InputError, match="another process is training this run"), Run(digits_run).locked():
            pass
    (digits_run / ".tiedae-left").touch()
    with Run(digits_run).locked():  # free again, and what a killed process left is removed
        assert not (digits_run / ".tiedae-left").exists()
