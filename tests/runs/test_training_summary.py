"""How far a run came, from its checkpoint and the last one beside it."""

from pathlib import Path

import numpy as np
import pytest
from small_runs import train_small, untrained

from tiedae_cli.data.item_set import ItemForm
from tiedae_cli.runs import checkpoint as checkpoints
from tiedae_cli.runs.run_folder import Run
from tiedae_cli.runs.training_summary import TrainingSummary, run_history, summarize_training

VECTORS = ItemForm((1, 1, 6), "vectors", np.arange(6.0), np.full(6, 2.0))


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    return train_small(tmp_path_factory.mktemp("runs") / "small", epochs=3)


def summary_of(path: Path) -> TrainingSummary:
    trained = checkpoints.load(path)
    return summarize_training(trained, run_history(path, trained))


def test_training_summary_of_best_reads_the_whole_history_beside_it(run: Run) -> None:
    summary = summary_of(run.best)
    whole = checkpoints.load(run.last).training.history
    assert (summary.epochs, summary.checkpoint_epochs) == (3, 1)
    assert summary.seconds == sum(report.seconds for report in whole)
    assert summary.best is not None
    assert summary.best.validation_mse_per_value == min(report.selection_mse for report in whole)


def test_no_damaged_or_foreign_last_checkpoint_is_believed(run: Run, tmp_path: Path) -> None:
    copy = tmp_path / "best.safetensors"
    copy.write_bytes(run.best.read_bytes())
    trained = checkpoints.load(copy)
    assert len(run_history(copy, trained)) == 1
    (tmp_path / "last.safetensors").write_bytes(b"no checkpoint")
    assert len(run_history(copy, trained)) == 1
    foreign = train_small(tmp_path / "foreign", epochs=2, hidden_sizes=[4])
    (tmp_path / "last.safetensors").write_bytes(foreign.last.read_bytes())
    assert len(run_history(copy, trained)) == 1


def test_a_finished_model_alone_knows_its_whole_training(run: Run, tmp_path: Path) -> None:
    copy = tmp_path / "best.safetensors"
    copy.write_bytes(run.best.read_bytes())
    alone, beside = summary_of(copy), summary_of(run.best)
    assert (alone.epochs, alone.seconds) == (beside.epochs, beside.seconds) and alone.epochs == 3


def test_training_summary_before_the_first_epoch(tmp_path: Path) -> None:
    summary = summarize_training(untrained(VECTORS), run_history(tmp_path / "last.safetensors", untrained(VECTORS)))
    assert (summary.epochs, summary.seconds, summary.best) == (0, 0, None)
