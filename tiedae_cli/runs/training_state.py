"""What resuming a training needs: its position, its history and the state of its optimizer."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

import torch
from pydantic import ConfigDict
from torch import Tensor

JOINT = "joint"  # the phase in which all layers are trained together
STRICT = ConfigDict(strict=True, extra="forbid", allow_inf_nan=False)  # for what comes out of a file


@dataclass(frozen=True)
class EpochReport:
    """What an epoch did; its fields are the names of the JSON interface."""

    __pydantic_config__ = STRICT

    phase: str
    """``joint``, or ``layer 1`` ... of greedy pretraining; its errors are those of the layer's own input."""
    epoch: int
    """Of the phase, from 1."""
    epochs: int
    """Of the phase."""
    train_mse_per_value: float
    """Mean over the images of the epoch, each as it was seen, before its step."""
    validation_mse_per_value: float | None
    """After the epoch; None without validation images."""
    seconds: float
    """Of the steps; evaluation and saving not counted."""
    items_per_second: float
    learning_rate: float
    """Of the last step."""
    best: bool
    """The lowest validation error (else training error) of the joint phase so far."""
    noisy_validation_mse_per_value: float | None = None
    """Validation error with corrupted inputs, which chooses the best epoch; only with ``linear_path`` and ``corruption``."""

    @property
    def selection_mse(self) -> float:
        """The error on clean items, by which the best epoch is chosen unless there is ``noisy_validation_mse_per_value``."""
        return self.train_mse_per_value if self.validation_mse_per_value is None else self.validation_mse_per_value

    @property
    def ranking_mse(self) -> float:
        """The error by which the best epoch is chosen."""
        return self.selection_mse if self.noisy_validation_mse_per_value is None else self.noisy_validation_mse_per_value

    def values(self) -> dict[str, Any]:
        """Return the epoch as the JSON interface and ``metrics.jsonl`` have it."""
        values = asdict(self)
        if self.noisy_validation_mse_per_value is None:
            del values["noisy_validation_mse_per_value"]
        return {"event": "epoch", **values}


@dataclass(frozen=True)
class SplitIdentity:
    """What tells one split from another."""

    __pydantic_config__ = STRICT

    images: int
    """How many."""
    digest: str
    """Of a sample of them."""


@dataclass(frozen=True)
class TrainingState:
    """A position between two steps, and all that must be remembered there beside the weights; tensors are copies on the CPU."""

    phase: str = JOINT
    epoch: int = 0
    """Finished epochs of the phase."""
    step: int = 0
    """Steps done in the epoch that is not finished."""
    seconds: float = 0.0
    """Spent on those steps."""
    history: tuple[EpochReport, ...] = ()
    """Of all finished epochs of all phases."""
    initial_mse: float | None = None
    """Validation error before the first step, where training starts from given weights."""
    data: Mapping[str, SplitIdentity] = field(default_factory=dict)
    """Of the splits that training sees."""
    errors: Tensor = field(default_factory=lambda: torch.zeros(0))
    """(step,) float32: squared error of each step of the unfinished epoch, summed over all processes."""
    optimizer: Mapping[str, Tensor] = field(default_factory=dict)
    """The optimizer's buffers by name."""
