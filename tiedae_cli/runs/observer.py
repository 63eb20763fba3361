"""What follows a training: the protocol ``Observer``, and what its five calls are given."""

from dataclasses import dataclass
from functools import cached_property
from typing import Protocol

import torch

from tiedae_cli.config import Config
from tiedae_cli.data.item_set import ItemSet, Splits
from tiedae_cli.model import pca
from tiedae_cli.model.autoencoder import TiedAutoencoder
from tiedae_cli.model.inference import error_sum
from tiedae_cli.model.pca import PrincipalComponents
from tiedae_cli.model.verdict import Errors
from tiedae_cli.runs.run_folder import Run
from tiedae_cli.runs.training_state import EpochReport
from tiedae_cli.runs.training_summary import error_history


@dataclass(frozen=True)
class TrainingStart:
    """What a training works with, as it stands before its first step of this process."""

    config: Config
    splits: Splits
    run: Run
    model: TiedAutoencoder
    """On the device. Its weights change with every step; in ``finished`` they are those of the best epoch."""
    device: torch.device
    history: tuple[EpochReport, ...]
    """Epochs that earlier processes finished, of all phases; empty unless the run is resumed."""
    initial_mse: float | None
    """Validation error before the first step, if training starts from given weights."""
    components: PrincipalComponents | None = None
    """PCA of the training items as it was fitted for the linear path, which is the baseline too; None without one, or after a resume."""

    @property
    def shown_split(self) -> str:
        """The split that pictures show: the test split, if there is one."""
        return next(name for name in ("test", "validation", "train") if len(self.splits.get(name)))

    @property
    def shown(self) -> ItemSet:
        """The items that pictures show, ``output.images`` at most."""
        return self.splits.get(self.shown_split).slice(0, self.config.output.images)


@dataclass(frozen=True)
class Progress:
    """The position inside an epoch; between two of these nothing is in flight, so the state can be saved."""

    phase: str
    """``joint``, or ``layer 1`` ... of greedy pretraining."""
    epoch: int
    """Of the phase, from 1."""
    epochs: int
    """Of the phase."""
    step: int
    """Steps done in this epoch."""
    steps: int
    """Steps of an epoch."""
    items: int
    """Items seen in this epoch."""
    seconds: float
    """Spent on this epoch's steps."""


@dataclass(frozen=True)
class TrainingResult:
    """A finished training; PCA is fitted when it is first asked for."""

    start: TrainingStart
    history: tuple[EpochReport, ...]
    """Of all epochs of all phases."""
    best: EpochReport

    @cached_property
    def components(self) -> PrincipalComponents:
        """PCA of the training items, with as many components as the code has numbers, in float32."""
        fitted = self.start.components
        return (pca.fit(self.start.splits.train, self.start.model.sizes[-1]) if fitted is None else fitted).in_float32()

    @cached_property
    def measured(self) -> dict[str, float | None]:
        """The errors per value of PCA, of PCA clipped (None unless the items are images) and of the mean, on the verdict's items."""
        start, components = self.start, self.components
        items = start.splits.validation or start.splits.train
        baselines = {
            "pca": components.reconstruct,
            "pca_clipped": components.reconstruct_clipped if start.splits.form.kind == "images" else None,
            "mean": components.truncated(0).reconstruct,
        }
        return {
            name: None if reconstruct is None else error_sum(reconstruct, items, start.device).mse_per_value
            for name, reconstruct in baselines.items()
        }

    @cached_property
    def errors(self) -> Errors:
        """The best epoch's error beside the stronger PCA and the mean, on the validation items or, without those, the training items."""
        form, count = self.start.splits.form, self.components.components.shape[1]
        errors = {name: error for name, error in self.measured.items() if error is not None}
        mean, baseline = errors.pop("mean"), min(errors, key=lambda name: errors[name])
        sizes = (count, self.start.model.sizes[-1], form.values_per_item)
        history = tuple(error_history(self.history))
        clipped = baseline == "pca_clipped"
        return Errors(self.best.selection_mse, errors[baseline], mean, *sizes, form.value_name, history, clipped)

    @property
    def pca_mse_per_value(self) -> float | None:
        """The error of the stronger PCA; None if PCA explains all but rounding, in which case it is not a baseline."""
        return None if self.errors.pca_is_exact else self.errors.pca


class StopTraining(Exception):
    """Raised by an observer to end a training as a signal does: its position is saved, and it can be resumed."""


class Observer(Protocol):
    """Whatever follows a training: the loop calls each observer in the order of the task's list.

    An observer that was started hears of exactly one end, ``finished`` or ``stopped``; one whose ``finished`` raises hears of
    ``stopped`` too. What an observer raises ends the training; after ``StopTraining`` it can be resumed. Only the leading process has
    observers, except for the one that saves. Subclass it to inherit calls that do nothing. All calls but ``progress`` may read items.
    """

    def started(self, start: TrainingStart) -> None:
        """Prepare for the training; the run folder exists."""
        return

    def progress(self, report: Progress) -> None:
        """Take note of the position, several times per second."""
        return

    def epoch(self, report: EpochReport) -> None:
        """Take note of an epoch that has just ended."""
        return

    def finished(self, result: TrainingResult) -> None:
        """Make what the training ends with, and release everything."""
        return

    def stopped(self, error: BaseException | None) -> None:
        """Release everything.

        Args:
            error: what ended the training; None after a stopping signal, between two steps, so that the state can be saved.
        """
        return
