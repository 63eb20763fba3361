"""The reference model on the real MNIST data reaches the error of the reference implementation."""

import pytest
import torch

from tiedae_cli.config.samples import find_config
from tiedae_cli.config.yaml_reader import load_config
from tiedae_cli.data.load_data import load_splits
from tiedae_cli.model.inference import error_sum
from tiedae_cli.system.devices import Place
from tiedae_cli.training.trainer import Trainer

pytestmark = pytest.mark.slow

CPU = torch.device("cpu")


def test_the_reference_config_reaches_the_reference_error(mnist_root: str) -> None:
    """The tied-weights notebook of "Hands-On Machine Learning", chapter 15, whose settings give .0161 to .0174 with three seeds."""
    config = load_config(find_config("mnist"))
    splits = load_splits(config.data.model_copy(update={"root": mnist_root}))
    assert (len(splits.train), len(splits.validation), len(splits.test)) == (55_000, 5_000, 10_000)
    trainer = Trainer(config, splits, Place(CPU))
    assert trainer.step.steps == 366  # the last 100 images of an epoch are dropped
    assert sum(parameter.numel() for parameter in trainer.model.parameters()) == 281_734
    list(trainer.train())
    found = error_sum(trainer.model, splits.test, CPU)
    assert 0.0155 <= found.mse_per_value <= 0.0185
    assert found.squared_error_per_item == pytest.approx(784 * found.mse_per_value)
    assert len(trainer.history) == 5
    assert trainer.history[-1].selection_mse == pytest.approx(found.mse_per_value, rel=0.1)
