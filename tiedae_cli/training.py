"""The training loop: it yields a report a few times a second and after each epoch, and knows neither the terminal nor files."""

import math
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Any

import torch

from tiedae_cli.config import Config
from tiedae_cli.data.image_set import Splits
from tiedae_cli.errors import DivergedError
from tiedae_cli.evaluation import error_sum
from tiedae_cli.model import TiedAutoencoder
from tiedae_cli.schedule import epoch_order, learning_rate, seeded
from tiedae_cli.step import TrainingStep

REPORT_EVERY = 0.1  # seconds between progress reports


@dataclass(frozen=True)
class Progress:
    """Where training stands inside an epoch; between two of these nothing is in flight, so the state can be saved."""

    epoch: int
    """From 1."""
    step: int
    """Steps done in this epoch."""
    steps: int
    """Steps of an epoch."""
    images: int
    """Images seen in this epoch."""
    seconds: float
    """Spent on this epoch's steps."""


@dataclass(frozen=True)
class EpochReport:
    """What an epoch did; its fields are the names of the JSON interface."""

    epoch: int
    """From 1."""
    train_mse_per_pixel: float
    """Mean over the images of the epoch, each as it was seen, before its step."""
    validation_mse_per_pixel: float | None
    """After the epoch; None without validation images."""
    seconds: float
    """Of the steps; evaluation and saving not counted."""
    images_per_second: float
    learning_rate: float
    """Of the last step."""
    best: bool
    """The lowest validation error (else training error) so far."""

    @property
    def selection_mse(self) -> float:
        """The error by which the best epoch is chosen."""
        return self.train_mse_per_pixel if self.validation_mse_per_pixel is None else self.validation_mse_per_pixel


class Trainer:
    """A training that can stop after any step and go on to the same bits.

    Everything random is a function of (seed, epoch, step), so the position is two numbers.

    Args:
        config: the whole config.
        splits: the data.
        device: where to compute.

    """

    def __init__(self, config: Config, splits: Splits, device: torch.device) -> None:
        self.training = config.training
        self.device = device
        self.model = TiedAutoencoder(splits.form.pixels, config.model, seeded(self.training.seed, 0)).to(device)
        self.train_set = splits.train.to(device)
        self.validation_set = splits.validation.to(device)
        self.step = TrainingStep(self.model, self.train_set, self.training, torch.float32)
        self.steps = len(self.train_set) // self.step.batch_size
        self.epoch = 0  # epochs finished
        self.step_in_epoch = 0
        self.errors = torch.zeros(self.steps, dtype=torch.float32, device=device)  # squared error of each step of this epoch
        self.seconds = 0.0
        self.history: list[EpochReport] = []

    def train(self) -> Iterator[Progress | EpochReport]:
        """Train from the current position to the last epoch.

        Raises:
            DivergedError: the loss of an epoch is not finite; raised before the epoch is reported.

        """
        while self.epoch < self.training.epochs:
            yield from self._steps()
            yield self._finish_epoch()

    def _steps(self) -> Iterator[Progress]:
        order = epoch_order(self.training.seed, self.epoch, len(self.train_set))
        order = self.train_set.positions(order.to(self.device))
        size, total = self.step.batch_size, self.steps * self.training.epochs
        began = reported = time.perf_counter()
        before = self.seconds
        while self.step_in_epoch < self.steps:
            step = self.step_in_epoch
            rate = learning_rate(self.training, self.epoch * self.steps + step, total)
            self.errors[step] = self.step.run(order[step * size : (step + 1) * size], rate)
            self.step_in_epoch = step + 1
            now = time.perf_counter()
            if now - reported > REPORT_EVERY:
                self.seconds = before + now - began
                yield self.progress()
                # What the reader of the report did meanwhile (drawing, saving) is not training time.
                before, began = self.seconds, time.perf_counter()
                reported = began
        self.seconds = before + time.perf_counter() - began

    def progress(self) -> Progress:
        """Return the current position."""
        images = self.step_in_epoch * self.step.batch_size
        return Progress(self.epoch + 1, self.step_in_epoch, self.steps, images, self.seconds)

    def _finish_epoch(self) -> EpochReport:
        images = self.steps * self.step.batch_size
        squared_error = self._finite(self.errors.to("cpu", torch.float64)).sum().item()
        validation = None
        if len(self.validation_set):
            validation = error_sum(self.model, self.validation_set, self.device).mse_per_pixel
            if not math.isfinite(validation):
                raise DivergedError(f"epoch {self.epoch + 1}: the validation error is not finite\n{_advice()}")
        last_rate = learning_rate(self.training, (self.epoch + 1) * self.steps - 1, self.steps * self.training.epochs)
        report = EpochReport(
            epoch=self.epoch + 1,
            train_mse_per_pixel=squared_error / (images * self.train_set.form.pixels),
            validation_mse_per_pixel=validation,
            seconds=self.seconds,
            images_per_second=images / self.seconds,
            learning_rate=last_rate,
            best=False,
        )
        best = min((past.selection_mse for past in self.history), default=math.inf)
        report = EpochReport(**{**asdict(report), "best": report.selection_mse < best})
        self.history.append(report)
        self.epoch, self.step_in_epoch, self.seconds = self.epoch + 1, 0, 0.0
        self.errors.zero_()
        return report

    def _finite(self, errors: torch.Tensor) -> torch.Tensor:
        """Return the epoch's errors if all are finite; the device was asked once for the whole epoch."""
        wrong = (~errors.isfinite()).nonzero()
        if len(wrong):
            step = int(wrong[0].item()) + 1
            raise DivergedError(
                f"epoch {self.epoch + 1}, step {step}: the loss is not finite: the training diverged\n{_advice()}"
            )
        return errors

    def state(self) -> dict[str, Any]:
        """Return all that ``restore`` needs beside the weights; tensors on the CPU.

        Raises:
            DivergedError: a loss of this epoch or a weight is not finite, so this state is not worth keeping.

        """
        self._finite(self.errors[: self.step_in_epoch])
        if not self.step.parameters.master.isfinite().all():
            raise DivergedError(f"epoch {self.epoch + 1}, step {self.step_in_epoch}: a weight is not finite\n{_advice()}")
        return {
            "epoch": self.epoch,
            "step": self.step_in_epoch,
            "errors": self.errors[: self.step_in_epoch].to("cpu", copy=True),
            "seconds": self.seconds,
            "history": [asdict(report) for report in self.history],
            "optimizer": self.step.state(),
        }

    def restore(self, weights: dict[str, torch.Tensor], state: dict[str, Any]) -> None:
        """Go back to a saved position.

        Args:
            weights: the model's state dict.
            state: a ``state()``.

        """
        self.model.load_state_dict(weights)
        self.step.restore(state["optimizer"])
        self.epoch, self.step_in_epoch, self.seconds = state["epoch"], state["step"], state["seconds"]
        self.errors[: self.step_in_epoch] = state["errors"].to(self.device)
        self.history = [EpochReport(**report) for report in state["history"]]


def _advice() -> str:
    return "What usually helps: a lower training.learning_rate, training.warmup: 0.05, or another model.activation."
