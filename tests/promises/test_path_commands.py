"""Every command on models with a linear path, and what a training says when nothing was better than PCA."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import Tiedae

from tiedae_cli.model import pca
from tiedae_cli.model.item_batches import ItemBatches
from tiedae_cli.runs import checkpoint as checkpoints
from tiedae_cli.runs.trained_run import open_run

pytestmark = pytest.mark.slow

NETS = {
    "network": ["hidden_sizes=[16,6]", "activation=silu"],
    "one layer": ["hidden_sizes=6"],
    "convolutions": ["layers=[conv 4 4 2, dense 6]", "activation=silu"],
}
SETTINGS = ("training.epochs=2", "learning_rate=0.003", "l2=0", "loss=squared_error", "schedule=one_cycle", "linear_path=pca")


@pytest.mark.parametrize("net", NETS)
def test_every_command_runs_on_a_model_with_a_linear_path(tiedae: Tiedae, net: str) -> None:
    trained = tiedae("train", "digits", *NETS[net], "output=clip", *SETTINGS, "--run-dir", "runs/run")
    assert trained.code == 0, trained.err
    lines = [json.loads(line) for line in Path("runs/run/metrics.jsonl").read_text().splitlines()]
    assert [line["epoch"] for line in lines] == [0, 1, 2] and lines[0]["best"]
    for words in (
        ("eval", "run"),
        ("encode", "run", "-o", "codes.npy"),
        ("decode", "run", "codes.npy", "-o", "decoded.npy"),
        ("reconstruct", "run", "-o", "answer.npy"),
        ("score", "run", "-o", "scores.csv"),
        ("export", "run", "-o", "model.onnx"),
        ("export", "run", "-o", "model.safetensors"),
        ("inspect", "run", "--features", "features.png", "--codes", "codes.png"),
        ("report", "run", "-o", "report.html"),
        ("compare", "run"),
        ("runs",),
    ):
        result = tiedae(*words)
        assert result.code == 0, (words, result.err)
    model = checkpoints.load(Path("runs/run/best.safetensors"))
    found = tiedae("inspect", "run", "--json").lines[-1]
    assert found["parameters"] == sum(value.numel() for value in model.weights.values())
    assert sum(layer["parameters"] for layer in found["layers"]) == found["parameters"] == found["parameters_tied"]
    said = tiedae("inspect", "run").out
    assert "started at PCA: MSE 0.0" in said
    finished = model.finished
    assert finished is not None
    results, kept = finished.results, finished.pca
    assert found["baseline_numbers"] == kept.mean.numel() + kept.components.numel() == 64 + 64 * 6
    assert f"the baseline PCA has {64 + 64 * 6} numbers" in said
    assert results.pca_clipped_mse_per_value is not None
    share = 1 - results.pca_clipped_mse_per_value / results.mean_mse_per_value
    more = 1 - results.mse_per_value / results.mean_mse_per_value - share
    sentence = f"PCA clipped to [0, 1] explains {share:.1%} of the variance, the model {more:.1%} more"
    assert sentence in said and sentence in trained.err
    assert "PCA clipped to [0, 1] explains" in Path("report.html").read_text()  # of the test split
    resumed = tiedae("train", "--resume", "run", "training.epochs=3")
    assert resumed.code == 0, resumed.err
    assert [json.loads(line)["epoch"] for line in Path("runs/run/metrics.jsonl").read_text().splitlines()] == [0, 1, 2, 3]


def test_a_training_that_gains_nothing_keeps_pca_and_says_so(tiedae: Tiedae) -> None:
    """Rows of three linear factors and noise, of which PCA with three numbers is the best model."""
    generator = np.random.default_rng(0)
    rows = generator.normal(size=(300, 3)) @ generator.normal(size=(3, 10)) + 0.3 * generator.normal(size=(300, 10))
    np.save("rows.npy", rows.astype(np.float32))
    result = tiedae("train", "rows.npy", "hidden_sizes=3", *SETTINGS, "training.batch_size=20", "--run-dir", "run")
    assert result.code == 0, result.err
    assert "best epoch 0: MSE" in result.err and "as much as PCA" in result.err
    assert "no epoch of the training improved on its start: the model is PCA\n" in result.err
    kept = checkpoints.load(Path("run/best.safetensors"))
    assert kept.training.epoch == 0


def test_a_training_fits_pca_once(tiedae: Tiedae, monkeypatch: pytest.MonkeyPatch) -> None:
    fitted: list[int] = []
    fit = pca.fit

    def counted(items: ItemBatches, count: int) -> pca.PrincipalComponents:
        fitted.append(count)
        return fit(items, count)

    monkeypatch.setattr(pca, "fit", counted)
    assert tiedae("train", "digits", "hidden_sizes=6", "output=clip", *SETTINGS, "--run-dir", "run").code == 0
    assert fitted == [6]
    kept = checkpoints.load(Path("run/best.safetensors")).finished
    assert kept is not None
    again = fit(open_run("run", "cpu").split("train"), 6).in_float32()
    assert torch.equal(kept.pca.components, again.components) and torch.equal(kept.pca.mean, again.mean)
