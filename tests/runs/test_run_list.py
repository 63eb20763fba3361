"""What ``tiedae runs`` says of a run at each moment of its life, from its first second on."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from typer.testing import CliRunner

from tiedae_cli.cli.app import app
from tiedae_cli.config.yaml_reader import parse_config
from tiedae_cli.errors import Interrupted
from tiedae_cli.runs.run_folder import is_run
from tiedae_cli.runs.training_state import EpochReport
from tiedae_cli.system.devices import Ranks
from tiedae_cli.tasks import train as task
from tiedae_cli.training.checkpointing import Checkpoints
from tiedae_cli.training.trainer import Trainer

CONFIG = "{model: {hidden_sizes: [6, 4]}, training: {epochs: 3, batch_size: 100}}"
PLACE = torch.device("cpu"), Ranks()


def listed() -> dict[str, object]:
    """Return what ``tiedae runs --json`` says of the only run, after the table said the same state."""
    result = CliRunner().invoke(app, ["runs", "--json"])
    assert result.exit_code == 0
    found = json.loads(result.stdout)
    words = CliRunner().invoke(app, ["runs"], env={"COLUMNS": "120"}).stdout.split()
    assert found["state"] in words and f"{found['epochs']}/{found['asked']}" in words and found["data"] in words
    return {name: found[name] for name in ("data", "shape", "epochs", "asked", "mse_per_value", "state")}


def expected(state: str, **others: object) -> dict[str, object]:
    return {"data": "digits", "shape": "6-4", "epochs": 0, "asked": 3, "mse_per_value": None, "state": state, **others}


@pytest.mark.slow
def test_a_run_in_its_first_epoch(monkeypatch: pytest.MonkeyPatch) -> None:
    """It runs, or was stopped: no epoch is finished, so no ``metrics.jsonl`` is there."""

    def stopped(trainer: Trainer) -> Iterator[EpochReport]:
        assert trainer.epoch == 0 and listed() == expected("running")
        yield from ()
        raise Interrupted("stopped", 2)

    train = Trainer.train
    monkeypatch.setattr(Trainer, "train", stopped)
    with task.start(parse_config(CONFIG, "x.yaml"), "live", None, *PLACE) as session:
        with pytest.raises(Interrupted):
            session.train()
    assert not Path("runs/live/metrics.jsonl").exists()
    assert listed() == expected("stopped")
    monkeypatch.setattr(Trainer, "train", train)
    with task.resume(Path("runs/live/last.safetensors"), None, [], *PLACE) as session:
        assert listed() == expected("running")  # now with an empty ``metrics.jsonl``
        session.train()
    found = listed()
    assert found == expected("finished", epochs=3, mse_per_value=found["mse_per_value"]) and found["mse_per_value"]


def test_a_run_before_its_config_is_written(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is somebody's who works on it; one that nobody holds cannot be read."""
    seen = []

    def position(checkpoints: Checkpoints) -> object:
        checkpoints.run.last.touch()
        assert is_run(checkpoints.run.folder) and not checkpoints.run.config.exists()
        seen.append(listed())
        raise KeyError("killed")

    monkeypatch.setattr(Checkpoints, "position", position)
    with pytest.raises(KeyError), task.start(parse_config(CONFIG, "x.yaml"), "live", None, *PLACE):
        pass
    nothing = {"data": "?", "shape": "?", "asked": 0}
    assert seen == [expected("running", **nothing)]
    assert listed() == expected("unreadable", **nothing)
