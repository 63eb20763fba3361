"""Data that changes during a training or after it is noticed: nothing is kept of what a changed file gave, and the message says how."""

import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from conftest import Tiedae

from tiedae_cli.config import DataConfig
from tiedae_cli.data.load_data import load_splits
from tiedae_cli.runs import checkpoint
from tiedae_cli.runs.data_identity import changed_data, identities
from tiedae_cli.system.mapped_files import MappedFile
from tiedae_cli.training.checkpointing import Checkpoints
from tiedae_cli.training.trainer import Trainer

RUN = Path("runs/x")
SMALL = ("-q", "--set", "training.epochs=2", "--set", "model.hidden_sizes=[4]")


def values() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 255, (600, 8, 8), dtype=np.uint8)


@pytest.fixture
def mapped(monkeypatch: pytest.MonkeyPatch) -> None:
    """Data is memory-mapped, as if memory were short."""
    monkeypatch.setattr("tiedae_cli.data.training_sets.fits_in_memory", lambda needed: False)


def truncate() -> None:
    os.truncate("x.npy", 1000)


def overwrite() -> None:
    np.lib.format.open_memmap("x.npy", "r+")[:] = 0
    os.utime("x.npy", ns=(0, 10**18))


def replace_by_rename() -> None:
    np.save("y.npy", values()[::-1])
    os.replace("y.npy", "x.npy")


def done(change: Callable[[], None]) -> bool:
    change()
    return True


CHANGES: tuple[tuple[Callable[[], None], str, str], ...] = (
    (truncate, "has 1,000 now", "cut off: 1,000 bytes"),
    (overwrite, "was written to at 2001-09-0", "has changed since this run was trained: "),
    (replace_by_rename, "was replaced by another file", "has changed since this run was trained: "),
    (lambda: os.unlink("x.npy"), "cannot be opened any more: No such file", "no such file"),
)


@pytest.mark.slow
@pytest.mark.parametrize(("change", "says", "resumed"), CHANGES, ids=["truncated", "overwritten", "replaced", "removed"])
@pytest.mark.parametrize("when", ["epoch", "end"])
def test_nothing_is_kept_of_a_mapped_file_that_changed(
    change: Callable[[], None],
    says: str,
    resumed: str,
    when: str,
    mapped: None,
    tiedae: Tiedae,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    np.save("x.npy", values())
    original = getattr(Checkpoints, "epoch" if when == "epoch" else "finished")

    def changes_before(self: Checkpoints, report: object) -> None:
        (change() if self.trainer.epoch == 2 else None)
        original(self, report)

    with monkeypatch.context() as patched:
        patched.setattr(Checkpoints, original.__name__, changes_before)
        result = tiedae("train", "x.npy", *SMALL)
    assert result.code == 2 and result.err.count("\n") == 1, result.err
    assert "x.npy: changed while it was trained on: it " in result.err and says in result.err
    assert f"the state before that is {RUN}/last.safetensors" in result.err
    assert len(checkpoint.load(RUN / "last.safetensors").training.history) == (1 if when == "epoch" else 2)
    result = tiedae("train", "--resume", RUN, "-q")
    assert result.code == 2 and resumed in result.err and result.err.count("\n") == 1, result.err


@pytest.mark.slow
def test_a_mapped_file_is_compared_once_a_second_within_an_epoch(
    mapped: None, tiedae: Tiedae, monkeypatch: pytest.MonkeyPatch
) -> None:
    np.save("x.npy", values())
    monkeypatch.setattr("tiedae_cli.training.checkpointing.LOOK_EVERY", 0.0)
    monkeypatch.setattr(Trainer, "_reports", lambda self, seconds: done(overwrite))
    result = tiedae("train", "x.npy", *SMALL)
    assert result.code == 2 and "x.npy: changed while it was trained on" in result.err
    assert not checkpoint.load(RUN / "last.safetensors").training.history


@pytest.mark.slow
def test_a_file_that_was_read_may_change_during_a_training(tiedae: Tiedae, monkeypatch: pytest.MonkeyPatch) -> None:
    np.save("x.npy", values())
    assert tiedae("train", "x.npy", *SMALL, "--run-dir", "untouched").code == 0
    monkeypatch.setattr(Trainer, "_reports", lambda self, seconds: not done(truncate))
    assert tiedae("train", "x.npy", *SMALL, "--run-dir", "touched").code == 0
    first, second = (checkpoint.load(Path(name, "last.safetensors")).weights for name in ("untouched", "touched"))
    assert all(first[name].equal(second[name]) for name in first)


def test_the_identity_of_data_covers_all_items() -> None:
    def identity_of(x: np.ndarray) -> dict[str, object]:
        np.save("x.npy", x)
        return dict(identities(load_splits(DataConfig(dataset="x.npy"))))

    x = np.random.default_rng(0).normal(size=(5000, 3)).astype(np.float32)
    before = identity_of(x)
    assert identity_of(x) == before
    for item in range(0, 5000, 499):
        other = x.copy()
        other[item, 1] = np.nextafter(other[item, 1], np.float32(9))
        assert changed_data(before, identity_of(other)) == "as many items, but their values differ"  # type: ignore[arg-type]
    assert "items before" in str(changed_data(before, identity_of(x[:4000])))  # type: ignore[arg-type]


def test_a_mapped_file_is_compared_with_the_same_file_read(monkeypatch: pytest.MonkeyPatch) -> None:
    np.save("x.npy", values())
    read = identities(load_splits(DataConfig(dataset="x.npy")))
    monkeypatch.setattr("tiedae_cli.data.training_sets.fits_in_memory", lambda needed: False)
    mapped = identities(load_splits(DataConfig(dataset="x.npy")))
    assert read["train"].digest and mapped["train"].digest is None
    assert changed_data(read, mapped) is None and changed_data(mapped, read) is None
    os.utime("x.npy", ns=(0, 10**18))
    touched = identities(load_splits(DataConfig(dataset="x.npy")))
    assert "2001-09-0" in str(changed_data(mapped, touched))
    assert changed_data(read, touched) is None
    np.save("x.npy", values()[::-1])
    assert changed_data(read, identities(load_splits(DataConfig(dataset="x.npy")))) is not None


@pytest.mark.slow
@pytest.mark.parametrize("command", [("score",), ("encode", "-o", "codes.npy"), ("eval",)])
def test_a_file_that_changes_while_it_is_read_is_an_error(
    command: tuple[str, ...], digits_run: Path, tiedae: Tiedae, monkeypatch: pytest.MonkeyPatch
) -> None:
    np.save("x.npy", values())
    original = MappedFile.change

    def change_after_a_write(self: MappedFile, now: os.stat_result | None = None) -> str | None:
        overwrite()
        return original(self, os.stat(self.path))

    monkeypatch.setattr(MappedFile, "change", change_after_a_write)
    result = tiedae(command[0], digits_run, "x.npy", *command[1:], "-q")
    assert result.code in (1, 2) and "x.npy: changed while it was read: it was written to at" in result.err, result.err
