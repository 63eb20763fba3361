"""Every command on models with a linear path, and what a training says when nothing was better than PCA."""

import json
from pathlib import Path

import numpy as np
import pytest
from conftest import Tiedae

from tiedae_cli.runs import checkpoint as checkpoints

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
    assert "started at PCA: MSE 0.0" in tiedae("inspect", "run").out
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
