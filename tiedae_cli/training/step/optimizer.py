"""The optimizer protocol, and the optimizer that a config names."""

import importlib
from collections.abc import Callable
from typing import Protocol

from torch import Tensor

from tiedae_cli.config import TrainingConfig
from tiedae_cli.training.step.parameters import FlatParameters


class Optimizer(Protocol):
    """Updates the flat parameters from their gradient.

    A module of ``optimizers/`` has the name used in the config and a function ``create`` that returns the optimizer.
    """

    def prepare(self, step: int) -> None:
        """Do the work on the host that precedes a step, numbered from 0 over the whole training; no CUDA graph captures it."""

    def step(self, learning_rate: float | Tensor) -> None:
        """Update the parameters from their gradient, which may be overwritten."""

    def buffers(self) -> dict[str, Tensor]:
        """Return the optimizer's state, not copied, by name; a checkpoint keeps it, and filling it in place resumes."""


Create = Callable[[FlatParameters, TrainingConfig], Optimizer]


def create_optimizer(parameters: FlatParameters, training: TrainingConfig) -> Optimizer:
    """Return the optimizer that a config names; only its module is imported."""
    create: Create = importlib.import_module(f"tiedae_cli.training.step.optimizers.{training.optimizer}").create
    return create(parameters, training)
