"""What the end of a training adds to its best checkpoint: it is saved whole, validated, and missing only after a kill."""

import json
import math
import os
import signal
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import Tiedae
from tiny_models import DIGITS, VECTORS, parts_of, save_run
from torch import Tensor

from tiedae_cli.data.item_set import ItemForm
from tiedae_cli.data.sources.digits import load_digits
from tiedae_cli.errors import CheckpointError, DataError
from tiedae_cli.model import pca
from tiedae_cli.output.training_display import TrainingDisplay
from tiedae_cli.runs import checkpoint
from tiedae_cli.runs.calibration import MOST_KEPT, calibrate, kept_ranks
from tiedae_cli.runs.finished_parts import FinishedParts
from tiedae_cli.runs.trained_run import open_run
from tiedae_cli.runs.training_state import EpochReport
from tiedae_cli.scoring.threshold import threshold_of


@pytest.mark.parametrize("form", [DIGITS, VECTORS])
def test_parts_come_back_from_the_file(form: ItemForm) -> None:
    save_run(Path("."), "model", form)
    path, parts = Path("model/best.safetensors"), parts_of(form, 4, {"mean": torch.ones(3)})
    replace(checkpoint.load(path), finished=parts).save(path)
    found = checkpoint.load(path).finished
    assert found is not None and found.document() == parts.document()
    assert found.tensors().keys() == parts.tensors().keys()
    assert all(torch.equal(value, parts.tensors()[name]) for name, value in found.tensors().items())


def test_only_the_best_checkpoint_of_a_finished_training_has_them(digits_run: Path) -> None:
    found = checkpoint.load(digits_run / "best.safetensors").finished
    assert found is not None and found.results.state == "finished" and found.results.epochs == 4
    assert found.calibration is not None and found.calibration.items == 200 and found.window_calibration is None
    assert checkpoint.load(digits_run / "last.safetensors").finished is None
    train = load_digits().train
    values = train.batch(0, len(train))
    assert found.reference.items == len(train)
    np.testing.assert_allclose(found.reference.mean, values.astype(np.float64).mean(0), atol=1e-12)
    np.testing.assert_allclose(found.reference.deviation, values.astype(np.float64).std(0), atol=1e-12)
    assert np.array_equal(found.reference.low, values.min(0)) and np.array_equal(found.reference.high, values.max(0))


@pytest.mark.slow
def test_epoch_0_of_a_training_that_starts_at_pca_is_not_counted(tiedae: Tiedae) -> None:
    arguments = ("digits", "hidden_sizes=8", "linear_path=pca", "output=clip", "learning_rate=0.5", "--run-dir", "run", "-q")
    assert tiedae("train", *arguments, "epochs=3", "early_stopping=2").code == 0  # whose steps lead away from PCA
    found, outcome = checkpoint.load(Path("run/best.safetensors")).finished, json.loads(Path("run/outcome.json").read_text())
    assert found is not None and outcome["best_epoch"] == 0
    assert (found.results.epochs, found.results.state, outcome["stopped_early_after"]) == (2, "stopped early", 2)


Change = Callable[[dict[str, Tensor]], None]


def filled(name: str, value: float) -> Change:
    return replaced(name, lambda tensor: tensor.fill_(value))


def replaced(name: str, change: Callable[[Tensor], Tensor]) -> Change:
    def apply(tensors: dict[str, Tensor]) -> None:
        tensors[name] = change(tensors[name])

    return apply


DAMAGE: dict[str, tuple[Change, str]] = {
    "zeros as components": (filled("pca.components", 0), "orthonormal"),
    "not a number": (filled("pca.mean", math.nan), "not finite"),
    "infinite scores": (filled("calibration.scores", math.inf), "not finite"),
    "scaled components": (replaced("pca.components", lambda value: value * 1.01), "orthonormal"),
    "too many components": (replaced("pca.components", lambda value: torch.eye(64)), "PCA does not have"),
    "another width": (replaced("pca.mean", lambda value: value[:-1].clone()), "PCA does not have"),
    "float64 components": (replaced("pca.components", Tensor.double), "not of type float32"),
    "scores out of order": (replaced("calibration.scores", lambda value: value.flip(0)), "ascending"),
    "a score less": (replaced("calibration.scores", lambda value: value[1:].clone()), "not the scores of 200 items"),
    "scores of another type": (
        replaced("calibration.scores", Tensor.float),
        "calibration.scores: missing, or not of type float64",
    ),
    "a negative deviation": (filled("reference.deviation", -1), "impossible"),
    "a range that is none": (filled("reference.low", 2), "impossible"),
    "a reference of other items": (replaced("reference.mean", lambda value: value[1:].clone()), "reference statistics"),
    "one part more": (lambda tensors: tensors.update({"pca.more": torch.ones(1)}), "other names"),
}


@pytest.mark.parametrize("damage", DAMAGE)
def test_parts_that_no_training_kept_are_refused_also_with_a_right_digest(
    damage: str, digits_run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = digits_run / "best.safetensors"
    found, (change, message) = checkpoint.load(path), DAMAGE[damage]
    assert found.finished is not None
    tensors = {name: value.clone() for name, value in found.finished.tensors().items()}
    change(tensors)
    with monkeypatch.context() as patch:
        patch.setattr(FinishedParts, "tensors", lambda _: tensors)
        found.save(path)
    with pytest.raises(CheckpointError, match=f"^{path}: damaged: .*{message}"):
        checkpoint.load(path)


@pytest.mark.parametrize("items", [0, -1, 201, 2000, 2001, 10**18])
def test_a_calibration_of_another_number_of_items_is_refused(items: int, digits_run: Path) -> None:
    """In bounded memory: no count that a file claims is trusted."""
    path = digits_run / "best.safetensors"
    found = checkpoint.load(path)
    assert found.finished is not None and found.finished.calibration is not None
    calibration = replace(found.finished.calibration, items=items)
    replace(found, finished=replace(found.finished, calibration=calibration)).save(path)
    with pytest.raises(CheckpointError, match="damaged: calibration.scores: not the scores of"):
        checkpoint.load(path)


# Calibration


@pytest.mark.slow
def test_beyond_a_hundred_thousand_scores_the_largest_tenth_and_quantiles_are_kept() -> None:
    items = 3 * MOST_KEPT + 17
    scores = torch.from_numpy(np.random.default_rng(0).lognormal(size=items))
    kept, ordered = calibrate(scores), scores.sort().values
    assert len(kept.scores) < 0.11 * items and kept.items == items
    assert torch.equal(kept.scores[-30_000:], ordered[-30_000:]) and kept.scores[0] == ordered[0]
    for rate in (1e-5, 0.001, 0.01, 0.0999):
        assert threshold_of(kept, rate).value == ordered[items - math.floor(rate * (items + 1) + 1e-9)]
    for rate in (0.11, 0.5, 0.999, 1.0):
        found = threshold_of(kept, rate)
        assert rate - 0.001 - 2 / items <= found.expected <= rate
        assert found.value == ordered[items - round(found.expected * (items + 1))]


@pytest.mark.parametrize("items", [1, 2, 99_999, 100_000, 100_001])
def test_kept_ranks_are_ascending_places_of_the_scores(items: int) -> None:
    ranks = kept_ranks(items)
    assert ranks[0] == 0 and ranks[-1] == items - 1 and bool((ranks[1:] > ranks[:-1]).all())
    assert (len(ranks) == items) == (items <= MOST_KEPT)


# PCA


def test_components_up_to_the_kept_number_need_no_data(digits_run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fitted = pca.fit(load_digits().train, 8).in_float32()
    run = open_run(digits_run, "cpu")
    with monkeypatch.context() as patch:
        patch.setattr(pca, "fit", lambda *_: pytest.fail("PCA was fitted"))
        assert torch.equal(run.components().components, fitted.components) and torch.equal(run.components().mean, fitted.mean)
        assert torch.equal(run.components(3).components, fitted.components[:, :3])
    assert run.components(12).components.shape == (64, 12)
    assert run.components(1000).components.shape == (64, 64)


def test_more_components_need_the_training_data_and_say_so(digits_run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = open_run(digits_run, "cpu")

    def gone(*_: object) -> None:
        raise DataError("x.npy: no such file")

    monkeypatch.setattr("tiedae_cli.runs.trained_run.load_splits", gone)
    expected = "keeps 8 principal components, and fitting 12 needs its training data: x.npy: no such file$"
    with pytest.raises(DataError, match=expected):
        run.components(12)


# Runs that were killed


@pytest.mark.slow
def test_a_killed_run_has_no_threshold_until_it_is_resumed(digits_run: Path, tiedae: Tiedae) -> None:
    best = digits_run / "best.safetensors"
    whole = best.read_bytes()
    replace(checkpoint.load(best), finished=None).save(best)
    ran = tiedae("score", "digits", "--summary")
    assert ran.code == 2 and not ran.out
    assert "no threshold, because its training was killed; it is added by: tiedae train --resume runs/digits" in ran.err
    assert "--no-threshold" in ran.err
    assert "outlier" not in tiedae("score", "digits", "--no-threshold", "-q").lines[0]
    assert tiedae("train", "--resume", "digits", "-q").code == 0
    assert best.read_bytes() == whole


@pytest.mark.slow
def test_without_validation_items_there_is_no_threshold_and_an_error_says_so(tiedae: Tiedae) -> None:
    np.save("x.npy", np.random.default_rng(0).normal(size=(60, 5)))
    assert (
        tiedae("train", "x.npy", "--epochs", 1, "data.validation=0", "early_stopping=null", "--run-dir", "run", "-q").code == 0
    )
    ran = tiedae("score", "run")
    assert ran.code == 2 and "trained without validation items (data.validation)" in ran.err and not ran.out
    assert "outlier" not in tiedae("score", "run", "--no-threshold", "-q").lines[0]
    assert tiedae("eval", "run", "-q").code == 0 and tiedae("report", "run", "-q").code == 0


def test_an_interrupted_training_completes_its_best_checkpoint(tiedae: Tiedae, monkeypatch: pytest.MonkeyPatch) -> None:
    np.save("x.npy", np.random.default_rng(0).normal(size=(200, 5)))

    def interrupt(self: TrainingDisplay, report: EpochReport) -> None:
        if report.epoch:
            os.kill(os.getpid(), signal.SIGTERM)

    with monkeypatch.context() as patch:
        patch.setattr(TrainingDisplay, "epoch", interrupt)
        assert tiedae("train", "x.npy", "--epochs", 3, "--run-dir", "run").code == 143
    found = checkpoint.load("run/best.safetensors").finished
    assert found is not None and (found.results.state, found.results.epochs, found.results.planned) == ("interrupted", 1, 3)
    assert tiedae("score", "run", "-q").code == 0
    assert checkpoint.load("run/last.safetensors").finished is None
