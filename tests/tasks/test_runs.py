"""``tiedae runs``: the order of the table, and what ``--remove`` deletes."""

import os
import shutil
from pathlib import Path

import pytest
from conftest import Tiedae

from tiedae_cli.errors import StorageError
from tiedae_cli.runs.run_folder import Run
from tiedae_cli.runs.run_list import RunSummary, in_order
from tiedae_cli.tasks.runs import FOLDERS, removable_runs, remove_run


def folder_of_a_run(name: str) -> Path:
    """Make a folder with every file that a training leaves."""
    folder = Path("runs") / name
    for part in FOLDERS:
        (folder / part / "deep").mkdir(parents=True)
        (folder / part / "deep" / "events").write_bytes(bytes(10))
    run = Run(folder)
    for file in (run.last, run.previous, run.best, run.config, run.metrics, run.outcome, run.loss_figure, run.report):
        file.write_bytes(bytes(100))
    return folder


def test_runs_are_sorted_by_each_key() -> None:
    first = RunSummary("b", "x.npy", "8", 3, 5, None, None, "2026-11-30T10:00:00Z", "stopped")
    second = RunSummary("a", "y.npy", "8", 5, 5, 0.2, 0.3, "2026-11-30T09:00:00Z", "finished")
    third = RunSummary("c", "a.npy", "8", 4, 4, 0.1, 0.3, "2026-11-30T08:00:00Z", "running")
    names = {
        key: "".join(run.name for run in in_order([first, second, third], key))
        for key in ("saved", "name", "data", "epochs", "mse", "state")
    }
    assert names == {"saved": "bac", "name": "abc", "data": "cba", "epochs": "acb", "mse": "cab", "state": "acb"}


def test_a_removed_run_leaves_no_file_and_the_others_stay(tiedae: Tiedae) -> None:
    removed, other = folder_of_a_run("one"), folder_of_a_run("two")
    files = sorted(path.name for path in other.iterdir())
    ran = tiedae("runs", "--remove", "one", "--yes")
    assert ran.code == 0 and "removed runs/one" in ran.err and not removed.exists()
    assert sorted(path.name for path in other.iterdir()) == files


def test_a_file_of_the_user_in_a_run_folder_stays(tiedae: Tiedae) -> None:
    folder = folder_of_a_run("one")
    (folder / "notes.txt").write_text("mine")
    (folder / "data").mkdir()
    os.symlink("/", folder / "loss.txt")
    ran = tiedae("runs", "--remove", "runs/one", "--yes")
    assert ran.code == 0 and "keeps data, loss.txt, notes.txt, which tiedae did not write" in ran.err
    assert sorted(path.name for path in folder.iterdir()) == ["data", "loss.txt", "notes.txt"]


def test_without_a_terminal_removing_needs_a_yes(tiedae: Tiedae) -> None:
    folder = folder_of_a_run("one")
    ran = tiedae("runs", "--remove", "one")
    assert ran.code == 2 and "tiedae runs --remove one --yes" in ran.err and Run(folder).best.exists()


def test_a_run_that_is_training_is_never_removed(tiedae: Tiedae) -> None:
    folder = folder_of_a_run("one")
    with Run(folder).locked():
        ran = tiedae("runs", "--remove", "one", "--yes")
        assert ran.code == 2 and "still training" in ran.err
    assert Run(folder).best.exists()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--remove"], "no run is named"),
        (["--remove", "none", "--yes"], "none: not a run (runs under runs/: one)"),
        (["--remove", "link", "--yes"], "a symbolic link"),
        (["--yes"], "needs --remove"),
        (["one", "two"], "tiedae runs --remove one two"),
    ],
)
def test_what_cannot_be_removed_is_refused(tiedae: Tiedae, words: list[str], message: str) -> None:
    folder = folder_of_a_run("one")
    os.symlink(folder.resolve(), "link")
    ran = tiedae("runs", *words)
    assert ran.code == 2 and message in ran.err and Run(folder).best.exists()


def test_a_run_that_was_removed_meanwhile_is_an_error(tiedae: Tiedae) -> None:
    [found] = removable_runs(["one"], folder_of_a_run("one").parent)
    shutil.rmtree(found.folder)
    with pytest.raises(StorageError, match="runs/one: cannot be opened"):
        remove_run(found)
