"""How far the run of a checkpoint came: its epochs, also those after the best one, which ``last.safetensors`` knows."""

import contextlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from tiedae_cli.errors import CheckpointError
from tiedae_cli.runs import checkpoint as checkpoints
from tiedae_cli.runs.checkpoint import Checkpoint
from tiedae_cli.runs.run_folder import Run
from tiedae_cli.runs.training_state import JOINT, EpochReport


@dataclass(frozen=True)
class TrainingSummary:
    """How far a run came and how well."""

    epochs: int
    """Epochs that the run has finished."""
    checkpoint_epochs: int
    """Epochs behind the weights of this checkpoint."""
    seconds: float
    """Of all finished epochs' steps."""
    best: EpochReport | None
    """The best epoch; None before the first is finished."""


def run_history(path: Path, trained: Checkpoint) -> list[EpochReport]:
    """Return the reports of all epochs that the checkpoint's run has finished: ``best.safetensors`` itself ends with the best one.

    Args:
        path: the checkpoint.
        trained: what it holds.
    """
    history = trained.training.history
    last = Run(path.parent).last
    if last.exists():
        with contextlib.suppress(CheckpointError):  # damaged: then the checkpoint's own history is all there is
            longer = checkpoints.load(last).training.history
            if longer[: len(history)] == history:
                history = longer
    return list(history)


def summarize_training(trained: Checkpoint, history: Sequence[EpochReport]) -> TrainingSummary:
    """Return how far the run of a checkpoint came.

    Args:
        trained: the checkpoint.
        history: the reports of all epochs that its run has finished: see ``run_history``.
    """
    own, results = trained.training.history, None if trained.finished is None else trained.finished.results
    pretraining = sum(report.phase != JOINT for report in own)
    return TrainingSummary(
        epochs=finished_epochs(history) if results is None else results.epochs + pretraining,
        checkpoint_epochs=finished_epochs(own),
        seconds=sum(report.seconds for report in history) if results is None else results.seconds,
        best=next((report for report in reversed(history) if report.best), None),
    )


def finished_epochs(history: Sequence[EpochReport]) -> int:
    """Return the number of finished epochs; epoch 0 is the start of the training."""
    return sum(report.epoch > 0 for report in history)


def error_history(reports: Iterable[EpochReport]) -> list[float]:
    """Return the error after each epoch of the joint training, by which the best epoch is chosen; epoch 0 is not included."""
    return [report.selection_mse for report in reports if report.phase == JOINT and report.epoch]
