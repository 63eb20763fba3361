"""Observers: an own one is a file and a line in the task's list; each hears of the start, of each epoch and of exactly one end."""

from collections.abc import Sequence
from pathlib import Path

import pytest
import torch

from tiedae_cli.config import Config
from tiedae_cli.config.yaml_reader import parse_config
from tiedae_cli.errors import DivergedError, Interrupted, StorageError
from tiedae_cli.output.terminal import Terminal
from tiedae_cli.runs.observer import Observer, Progress, StopTraining, TrainingResult, TrainingStart
from tiedae_cli.runs.run_folder import Run
from tiedae_cli.runs.training_state import EpochReport
from tiedae_cli.system.devices import Ranks
from tiedae_cli.system.interruption import StopSignals
from tiedae_cli.tasks import train as task
from tiedae_cli.training import trainer as training_module
from tiedae_cli.training.checkpointing import Checkpoints

PLACE = torch.device("cpu"), Ranks()


def small(*assignments: str) -> Config:
    return parse_config("{model: {hidden_sizes: [4]}, training: {epochs: 2, batch_size: 500}}", "x.yaml", assignments)


class Toy:
    """An observer that inherits nothing."""

    def __init__(self, fails_in: str = "") -> None:
        self.heard: list[str] = []
        self.fails_in = fails_in

    def _hear(self, call: str) -> None:
        self.heard.append(call)
        if call.split()[0] == self.fails_in:
            raise StorageError("the toy is full")

    def started(self, start: TrainingStart) -> None:
        assert start.run.last.exists() and start.shown_split == "test" and len(start.shown) == 10
        self._hear(f"started after {len(start.history)}")

    def progress(self, report: Progress) -> None:
        if report.step == 1:
            self._hear(f"progress in {report.epoch}")

    def epoch(self, report: EpochReport) -> None:
        self._hear(f"epoch {report.epoch}")

    def finished(self, result: TrainingResult) -> None:
        best = result.start.run.load(result.start.run.best)
        assert all(torch.equal(result.start.model.state_dict()[name], weight) for name, weight in best.weights.items())
        assert result.start.run.loss_figure.exists() and result.pca_mse_per_value is not None
        self._hear(f"finished with {len(result.history)}")

    def stopped(self, error: BaseException | None) -> None:
        self._hear(f"stopped by {type(error).__name__}")


def follow(monkeypatch: pytest.MonkeyPatch, *added: Observer) -> None:
    """Add observers to the list of the task, and report after every step."""
    usual = task.observers

    def longer(
        checkpoints: Checkpoints, trackers: Sequence[Observer], terminal: Terminal | None, pictures: bool = True
    ) -> list[Observer]:
        return [*usual(checkpoints, trackers, terminal, pictures), *added]

    monkeypatch.setattr(task, "observers", longer)
    monkeypatch.setattr(training_module, "REPORT_EVERY", -1.0)


@pytest.mark.slow
def test_an_observer_is_a_file_and_a_line(monkeypatch: pytest.MonkeyPatch) -> None:
    toy = Toy()
    follow(monkeypatch, toy)
    with task.start(small(), "x", Path("x"), *PLACE) as training:
        training.train()
    epochs = ["progress in 1", "epoch 1", "progress in 2", "epoch 2"]
    assert toy.heard == ["started after 0", *epochs, "finished with 2"]
    toy.heard.clear()
    with task.resume(Path("x/last.safetensors"), None, ["training.epochs=3"], *PLACE) as training:
        training.train()
    assert toy.heard == ["started after 2", "progress in 3", "epoch 3", "finished with 3"]


def test_a_signal_stops_observers_with_no_error_and_the_position_is_saved(monkeypatch: pytest.MonkeyPatch) -> None:
    toy = Toy()
    follow(monkeypatch, toy)
    monkeypatch.setattr(
        StopSignals, "received", property(lambda _: 2 if "epoch 1" in toy.heard else None, lambda *_: None), False
    )
    with task.start(small(), "x", Path("x"), *PLACE) as training, pytest.raises(Interrupted):
        training.train()
    assert toy.heard == ["started after 0", "progress in 1", "epoch 1", "stopped by NoneType"]
    assert Run(Path("x")).load(Path("x/last.safetensors")).training.epoch == 1


@pytest.mark.parametrize("call", ["started", "epoch", "finished"])
@pytest.mark.slow
def test_what_an_observer_raises_ends_the_training_and_each_hears_of_one_end(
    call: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    before, failing, after = Toy(), Toy(call), Toy()
    follow(monkeypatch, before, failing, after)
    with task.start(small(), "x", Path("x"), *PLACE) as training, pytest.raises(StorageError, match="the toy is full"):
        training.train()
    assert failing.heard[-1] == "stopped by StorageError"
    if call == "started":
        assert after.heard == []
    else:
        assert after.heard[-1] == "stopped by StorageError"
    assert before.heard[-1] == ("finished with 2" if call == "finished" else "stopped by StorageError")
    assert all(sum(line.startswith("stopped") for line in toy.heard) <= 1 for toy in (before, failing, after))


def test_observers_are_called_after_a_divergence(monkeypatch: pytest.MonkeyPatch) -> None:
    toy = Toy()
    follow(monkeypatch, toy)
    wild = small(
        "model.hidden_sizes=[32,32,32,32,32]",
        "model.activation=relu",
        "training.learning_rate=10",
        "training.epochs=200",
        "training.batch_size=50",
    )
    with task.start(wild, "x", Path("x"), *PLACE) as training, pytest.raises(DivergedError, match="The last good state is"):
        training.train()
    assert toy.heard[-1] == "stopped by DivergedError"
    assert '"state": "diverged"' in Path("x/outcome.json").read_text()


@pytest.mark.slow
def test_a_training_that_an_observer_stops_is_saved_and_resumes_bit_identically(monkeypatch: pytest.MonkeyPatch) -> None:
    class Stops(Toy):
        def epoch(self, report: EpochReport) -> None:
            super().epoch(report)
            if report.epoch == 1:
                raise StopTraining("enough")

    with task.start(small(), "z", Path("z"), *PLACE) as training:
        training.train()
    toy = Stops()
    follow(monkeypatch, toy)
    with task.start(small(), "x", Path("x"), *PLACE) as training, pytest.raises(StopTraining, match="enough"):
        training.train()
    assert toy.heard[-2:] == ["epoch 1", "stopped by NoneType"]
    with task.resume(Path("x/last.safetensors"), None, [], *PLACE) as training:
        training.train()
    resumed, whole = (Run(Path(name)).load(Path(name, "last.safetensors")).weights for name in ("x", "z"))
    assert all(resumed[name].equal(whole[name]) for name in whole)
