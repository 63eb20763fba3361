"""Every optimizer that the schema names is a module of ``optimizers/``, does what the protocol says and lowers the error."""

import inspect
from pathlib import Path
from typing import get_args

import pytest
import torch

from tiedae_cli.config import Config
from tiedae_cli.config.schema import Optimizer as OptimizerName
from tiedae_cli.data.load_data import load_splits
from tiedae_cli.runs.training_state import EpochReport
from tiedae_cli.system.devices import Place
from tiedae_cli.training.step import optimizers
from tiedae_cli.training.step.optimizer import Optimizer
from tiedae_cli.training.trainer import Trainer


def test_the_modules_are_those_that_the_schema_names() -> None:
    folder = Path(inspect.getfile(optimizers)).parent
    assert {path.stem for path in folder.glob("*.py")} - {"__init__"} == set(get_args(OptimizerName))


@pytest.mark.parametrize("name", get_args(OptimizerName))
def test_an_optimizer_keeps_the_protocol_and_lowers_the_error(name: str) -> None:
    config = Config.model_validate(
        {"model": {"hidden_sizes": [12, 3]}, "training": {"optimizer": name, "epochs": 3, "learning_rate": 0.003}}
    )
    trainer = Trainer(config, load_splits(config.data), Place(torch.device("cpu")))
    optimizer = trainer.step.optimizer
    for method in ("prepare", "step", "buffers"):
        expected = inspect.signature(getattr(Optimizer, method))
        assert list(inspect.signature(getattr(type(optimizer), method)).parameters) == list(expected.parameters)
    assert type(optimizer).__module__ == f"tiedae_cli.training.step.optimizers.{name}"
    before = {key: (value.data_ptr(), value.shape) for key, value in optimizer.buffers().items()}
    errors = [report.train_mse_per_value for report in trainer.train() if isinstance(report, EpochReport)]
    assert errors[-1] < errors[0]
    assert {key: (value.data_ptr(), value.shape) for key, value in optimizer.buffers().items()} == before
