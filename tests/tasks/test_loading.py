"""Every command reports conversions and scales vectors with the statistics of the trained model."""

from pathlib import Path

import numpy as np
import pytest
from conftest import Tiedae
from typer.testing import CliRunner

from tiedae_cli.cli.app import app
from tiedae_cli.config import DataConfig
from tiedae_cli.data.load_data import load_splits

COMMANDS = {
    "eval": ["eval", "run"],
    "encode": ["encode", "run", "--format", "csv"],
    "score": ["score", "run"],
    "inspect": ["inspect", "run", "--codes", "-"],
    "compare": ["compare", "run", "run/best.safetensors", "--json"],
    "export": ["export", "run", "-o", "run.onnx"],
}
ARRAY = (
    (np.random.default_rng(0).normal(size=(300, 2)) @ [[1, 20, 300, 0.1], [5, 3, 40, 2]] + [5, 6, 7, 8]).round(1).astype(">f8")
)


def run(*arguments: str) -> tuple[bytes, str]:
    result = CliRunner().invoke(app, [*arguments])
    assert result.exit_code == 0, result.output
    return result.stdout_bytes, result.stderr


def train() -> str:
    np.save("x.npy", ARRAY)
    settings = ("data.dataset=x.npy", "model.hidden_sizes=[8, 2]", "model.output=linear", "training.epochs=2")
    return run("train", "--run-dir", "run", *(word for setting in settings for word in ("--set", setting)))[1]


@pytest.mark.slow
@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_reports_conversions(command: str) -> None:
    (note,) = [line for line in train().splitlines() if "converted to float64" in line]
    assert note in run(*COMMANDS[command])[1].splitlines()


@pytest.mark.slow
@pytest.mark.parametrize("command", ["encode", "score", "inspect"])
def test_every_command_scales_vectors_as_in_training(command: str) -> None:
    """Changed training items change their statistics, but no result on validation and test items."""
    train()
    before, _ = run(*COMMANDS[command])
    trained_on = load_splits(DataConfig(dataset="x.npy")).train.indices
    assert trained_on is not None
    changed = ARRAY.copy()
    changed[trained_on] *= 3
    np.save("x.npy", changed)
    assert run(*COMMANDS[command])[0] == before


@pytest.mark.slow
@pytest.mark.parametrize("command", ["encode", "score", "inspect", "compare"])
def test_every_command_refuses_data_of_another_form(command: str, tiedae: Tiedae) -> None:
    train()
    np.save("x.npy", ARRAY[:, :3])
    result = tiedae(*COMMANDS[command])
    assert result.code == 2
    assert "made for vectors of 4 features, but x.npy now has vectors of 3 features" in result.err
    assert not Path("run.onnx").exists()
