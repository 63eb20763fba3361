"""The training loop: yields a report a few times per second and after each epoch; independent of terminal and files."""

import contextlib
import logging
import math
import time
from collections.abc import Iterator, Mapping
from dataclasses import replace

import torch
from torch import Tensor

from tiedae_cli.config import Config, TrainingConfig
from tiedae_cli.data.item_set import ItemSet, Splits
from tiedae_cli.errors import CheckpointError, ConfigError, DivergedError
from tiedae_cli.model.autoencoder import TiedAutoencoder, build_autoencoder
from tiedae_cli.model.denoising import noisy_item_errors
from tiedae_cli.model.inference import error_sum_of_all, item_errors
from tiedae_cli.model.item_batches import ItemBatches
from tiedae_cli.model.pca import PrincipalComponents
from tiedae_cli.runs.observer import Progress
from tiedae_cli.runs.training_state import JOINT, EpochReport, TrainingState
from tiedae_cli.system.devices import Place, Ranks
from tiedae_cli.system.random_streams import WEIGHTS, seeded
from tiedae_cli.training.arithmetic import threads_for
from tiedae_cli.training.initial_weights import start_at_pca
from tiedae_cli.training.order import Order
from tiedae_cli.training.phases import Phase, Phases
from tiedae_cli.training.schedule import learning_rate
from tiedae_cli.training.step import TrainingStep, missing_derivative
from tiedae_cli.training.training_set import TrainingSet

log = logging.getLogger(__name__)

REPORT_EVERY = 0.1  # seconds between progress reports of a single process
FEW_ITEMS = 500  # training items below which epoch 0 is left only for a significant improvement
REPORT_STEPS = 20  # steps between progress reports of several processes


class Trainer:
    """A training that can stop after any step and resume with bit-identical results.

    Every random choice is a function of (seed, phase, epoch, step), so three numbers describe the position.

    Args:
        config: the whole config.
        splits: the data.
        place: device, precision and processes.
        weights: state dict to start from; None: random weights, and PCA for ``model.linear_path``.
        resumes: whether ``restore`` follows, so that PCA need not be fitted.

    Raises:
        ConfigError: A batch has fewer items than there are processes.
    """

    def __init__(
        self,
        config: Config,
        splits: Splits,
        place: Place,
        weights: Mapping[str, Tensor] | None = None,
        resumes: bool = False,
    ) -> None:
        self.training = config.training
        self.place = place
        self.device, self.ranks = place.device, place.ranks
        _refuse_empty_shares(self.training, len(splits.train), self.ranks)
        self.config, self.splits = config, splits
        self.linear_path = config.model.linear_path != "none"
        # A denoising network is worse than PCA on clean items, so it is compared under the noise that it is trained with.
        self.compares_noisy = self.linear_path and config.training.corruption != "none"
        self.components: PrincipalComponents | None = None  # PCA of the training items, if the linear path starts there
        self.model = self._starting_model(fits_pca=weights is None and not resumes)
        if weights is not None:
            self.model.load_state_dict(weights)
        missing = missing_derivative(self.model, self.training)
        if missing and self.training.engine == "auto":
            log.info(f"training.engine: autograd, because {missing} has no hand-written derivative that works here")
        self.phases = Phases(self.model, splits, self.training, self.device)
        self.epoch = 0  # epochs finished in this phase
        self.step_in_epoch = 0
        self.seconds = 0.0
        self.start_errors: Tensor | None = None  # of the validation items at epoch 0, (N,), if there are few training items
        self.history: list[EpochReport] = []
        self.initial_mse: float | None = None  # validation error before the first step, if training starts from given weights
        if weights is not None:
            self.initial_mse = error_sum_of_all(
                self.model, splits.validation or splits.train, self.device, self.ranks
            ).mse_per_value
        self._enter(self.phases.first())

    def _starting_model(self, fits_pca: bool) -> TiedAutoencoder:
        """Return a model with random weights and, for ``model.linear_path`` if asked for, PCA."""
        model = build_autoencoder(self.splits.form.shape, self.config.model, seeded(self.training.seed, WEIGHTS))
        if self.linear_path and fits_pca:
            self.components = start_at_pca(model, self.splits.train, self.ranks)
        return model.to(self.device)

    def _enter(self, phase: Phase) -> None:
        self.phase = phase
        self.order = Order(phase.train, phase.training.shuffle, phase.training.seed)
        self.step = TrainingStep(phase.model, phase.train, phase.training, self.place)

    @property
    def is_finished(self) -> bool:
        """Whether the training is complete."""
        joint = self.phase.name == JOINT and self.step_in_epoch == 0
        return joint and (self.epoch >= self.training.epochs or self._stops_early())

    def train(self) -> Iterator[Progress | EpochReport]:
        """Train from the current position to the last epoch of the last phase, or until early stopping.

        Raises:
            DivergedError: The loss of an epoch is not finite; raised before the epoch is reported.
        """
        while True:
            if self._has_unmeasured_start():
                yield self._measured_start()
            while self.epoch < self.phase.training.epochs and not self._stops_early():
                with threads_for(self.step.work) if self.device.type == "cpu" else contextlib.nullcontext():
                    yield from self._steps()
                yield self._finish_epoch()
            following = self.phases.after(self.phase)
            if following is None:
                return
            self._enter(following)
            self.epoch = 0

    def _has_unmeasured_start(self) -> bool:
        """Return whether epoch 0 is to be measured: the start of the joint phase of a model with a linear path."""
        at_start = self.phase.name == JOINT and self.epoch == self.step_in_epoch == 0
        return self.linear_path and at_start and all(report.phase != JOINT for report in self.history)

    def _measured_start(self) -> EpochReport:
        """Measure the model before its first step, as epoch 0."""
        train = error_sum_of_all(self.phase.model, self.phase.train, self.device, self.ranks).mse_per_value
        if self.compares_noisy:
            train = self._noisy_mse(self.splits.train, self.phase.train)
        validation = self._validation_mse()
        if not math.isfinite(train + (validation or 0.0)):
            raise DivergedError("epoch 0: the error of PCA, from which the training starts, is not finite")
        if validation is None:
            log.info(
                "without validation items, the best epoch is chosen by the training error and may be worse than PCA on new data"
            )
        if len(self.phase.train) < FEW_ITEMS and validation is not None:
            self.start_errors = self._item_errors(self.phase.model)
        noisy = self._noisy_mse(self.splits.validation, self.phase.validation) if self._ranks_noisy(validation) else None
        report = EpochReport(JOINT, 0, self.phase.training.epochs, train, validation, 0.0, 0.0, 0.0, True, noisy)
        self.history.append(report)
        return report

    def _ranks_noisy(self, validation: float | None) -> bool:
        """Return whether the best epoch is chosen by the validation error with corrupted inputs."""
        return self.compares_noisy and self.phase.name == JOINT and validation is not None

    def _validation_mse(self) -> float | None:
        """Return the error on the clean validation items; None if there are none."""
        items = self.phase.validation
        return error_sum_of_all(self.phase.model, items, self.device, self.ranks).mse_per_value if len(items) else None

    def _noisy_mse(self, items: ItemSet, on_device: TrainingSet) -> float:
        """Return the error per value of items with corrupted inputs, in the joint phase."""
        read: ItemBatches = on_device if items.share is None else items
        width = items.form.values_per_item
        return self.ranks.led(
            lambda: noisy_item_errors(self.phase.model, read, self.training, self.device).mean().item() / width
        )

    def _item_errors(self, model: TiedAutoencoder) -> Tensor:
        """Return the errors of the validation items by which epochs are compared, (N,), in the joint phase."""
        shared = self.splits.validation.share is not None
        items: ItemBatches = self.splits.validation if shared else self.phase.validation
        if self.compares_noisy:
            return self.ranks.led(lambda: noisy_item_errors(model, items, self.training, self.device))
        return self.ranks.led(lambda: item_errors(model, items, self.device))

    def _steps(self) -> Iterator[Progress]:
        training, steps = self.phase.training, self.step.steps
        order = self.order.of(self.epoch)
        first = self.epoch * steps
        rates = [learning_rate(training, first + step, steps * training.epochs) for step in range(steps)]
        self.step.begin_epoch(self.epoch, order.to(self.device), rates, self.step_in_epoch)
        began = reported = time.perf_counter()
        before = self.seconds
        while self.step_in_epoch < steps:
            self.order.read_ahead(order, self.step_in_epoch * self.step.batch_size)
            self.step.run(self.step_in_epoch)
            self.step_in_epoch += 1
            now = time.perf_counter()
            if self._reports(now - reported):
                self.seconds = before + now - began
                yield self.progress()
                # The consumer's work (drawing, saving) is not training time.
                before, began = self.seconds, time.perf_counter()
                reported = began
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)  # once per epoch, so that the seconds include all work
        self.seconds = before + time.perf_counter() - began

    def _reports(self, seconds: float) -> bool:
        """Return whether to report now; several processes report after the same steps, because they save together."""
        return seconds > REPORT_EVERY if self.ranks.count == 1 else self.step_in_epoch % REPORT_STEPS == 0

    def progress(self) -> Progress:
        """Return the current position."""
        done = self.step.done(self.step_in_epoch)
        items, epochs = done * self.step.batch_size, self.phase.training.epochs
        return Progress(self.phase.name, self.epoch + 1, epochs, done, self.step.steps, items, self.seconds)

    def _finish_epoch(self) -> EpochReport:
        items = self.step.steps * self.step.batch_size
        train = self._errors().sum().item()
        self._refuse_divergence()
        validation = self._validation_mse()
        noisy = self._noisy_mse(self.splits.validation, self.phase.validation) if self._ranks_noisy(validation) else None
        if not math.isfinite((validation or 0.0) + (noisy or 0.0)):
            raise DivergedError(f"epoch {self.epoch + 1}: the validation error is not finite\n{_advice()}")
        report = EpochReport(
            phase=self.phase.name,
            epoch=self.epoch + 1,
            epochs=self.phase.training.epochs,
            train_mse_per_value=train / (items * self.phase.train.form.values_per_item),
            validation_mse_per_value=validation,
            seconds=self.seconds,
            items_per_second=items / max(self.seconds, 1e-9),
            learning_rate=self.step.rates[-1],
            best=False,
            noisy_validation_mse_per_value=noisy,
        )
        if self.phase.name == JOINT:
            report = replace(report, best=self._is_best(report))
        self.history.append(report)
        self.epoch, self.step_in_epoch, self.seconds = self.epoch + 1, 0, 0.0
        self.step.errors.zero_()
        return report

    def _lowest_mse(self) -> float:
        return min((past.ranking_mse for past in self.history if past.best), default=math.inf)

    def _is_best(self, report: EpochReport) -> bool:
        """Return whether an epoch is better than all before; of few items, whether it is significantly better than PCA."""
        if report.ranking_mse >= self._lowest_mse():
            return False
        best = next((past for past in reversed(self.history) if past.best), None)
        beats_pca = self.linear_path and best is not None and best.epoch == 0 and self.training.init_from is None
        if not beats_pca or len(self.phase.train) >= FEW_ITEMS or len(self.phase.validation) < 2:
            return True
        return self._improves_significantly()

    def _improves_significantly(self) -> bool:
        """Return whether validation errors are lower than at epoch 0 by more than one standard error of the paired differences."""
        if self.start_errors is None:  # resumed
            self.start_errors = self._item_errors(self._starting_model(fits_pca=True))
        gains = self.start_errors - self._item_errors(self.phase.model)
        return bool(gains.mean() > gains.std() / math.sqrt(len(gains)))

    def _stops_early(self) -> bool:
        """Return whether the joint phase had no new best epoch for ``early_stopping`` epochs."""
        patience = self.training.early_stopping
        if patience is None or self.phase.name != JOINT or not self.epoch:
            return False
        done = [report for report in self.history if report.phase == JOINT]
        return self.epoch - max((report.epoch for report in done if report.best), default=self.epoch) >= patience

    def _errors(self) -> Tensor:
        """Return the squared error of each step of this epoch so far, (steps,) float64 on the CPU, over all processes.

        Raises:
            DivergedError: An error is not finite; names epoch and step. The device is synchronized once.
        """
        errors = self.step.errors[: self.step_in_epoch].cpu().to(torch.float64)
        self.ranks.add(errors)
        wrong = (~errors.isfinite()).nonzero()
        if len(wrong):
            step = int(wrong[0].item()) + 1
            raise DivergedError(
                f"epoch {self.epoch + 1}, step {step}: the loss is not finite: the training diverged\n{_advice()}"
            )
        return errors

    def _refuse_divergence(self) -> None:
        """Raise ``DivergedError`` if a weight or the optimizer's state is not finite."""
        values_kept = (self.step.parameters.master, *self.step.optimizer.buffers().values())
        if not all(bool(values.isfinite().all()) for values in values_kept):
            raise DivergedError(f"epoch {self.epoch + 1}, step {self.step_in_epoch}: a weight is not finite\n{_advice()}")

    def state(self) -> TrainingState:
        """Return the state that ``restore`` needs beside the weights. All processes must call it together.

        Raises:
            DivergedError: A loss of this epoch or a weight is not finite, so this state must not be saved.
        """
        errors = self._errors()
        self._refuse_divergence()
        self.phases.merge(self.phase)
        return TrainingState(
            phase=self.phase.name,
            epoch=self.epoch,
            step=self.step_in_epoch,
            seconds=self.seconds,
            history=tuple(self.history),
            initial_mse=self.initial_mse,
            errors=errors.to(torch.float32),
            optimizer=self.step.state(),
        )

    def restore(self, weights: Mapping[str, Tensor], state: TrainingState) -> None:
        """Restore a saved position.

        Args:
            weights: the model's state dict.
            state: returned by ``state``.

        Raises:
            CheckpointError: The state does not fit this training.
        """
        try:
            self._restore(weights, state)
        except (KeyError, ValueError, RuntimeError) as error:
            reason = (str(error).splitlines() or [type(error).__name__])[0]
            raise CheckpointError(f"its training state does not fit ({reason})") from None

    def _restore(self, weights: Mapping[str, Tensor], state: TrainingState) -> None:
        if state.phase not in self.phases.names:
            raise ValueError(f"unknown phase {state.phase[:40]!r}")
        self.model.load_state_dict(weights)
        self._enter(self.phases.named(state.phase))
        numbers = [report.epoch for report in state.history if report.phase == state.phase]
        if self.linear_path and numbers[:1] == [0]:
            del numbers[0]
        in_epoch = 0 <= state.step <= self.step.steps and state.errors.shape == (state.step,)
        if numbers != list(range(1, state.epoch + 1)) or not in_epoch:
            raise ValueError("its position does not match its history")
        self.step.restore(state.optimizer)
        if self.ranks.leads:  # the saved errors are the sums over all processes
            self.step.errors[: state.step] = state.errors.to(self.device)
        self.initial_mse, self.history = state.initial_mse, list(state.history)
        self.epoch, self.step_in_epoch, self.seconds = state.epoch, state.step, state.seconds

    def forget_best(self, stand_in: bool) -> None:
        """Choose a new best epoch because the weights of the old one are lost.

        Args:
            stand_in: whether the last epoch counts as the best so far.
        """
        last = len(self.history) - 1
        self.history = [replace(report, best=stand_in and number == last) for number, report in enumerate(self.history)]


def _refuse_empty_shares(training: TrainingConfig, items: int, ranks: Ranks) -> None:
    """Raise ``ConfigError`` if a process would get no item of a batch."""
    batch = min(training.batch_size, items)
    if batch < ranks.count:
        what = f"training.batch_size: {batch}" if batch < items else f"a batch of all {items} training items"
        line = f"batch_size={ranks.count} or more, or " if ranks.count <= items else ""
        raise ConfigError(
            f"{what} cannot be divided among {ranks.count} processes, because each needs at least one item; "
            f"use {line}torchrun --nproc-per-node {batch}"
        )


def _advice() -> str:
    return "What usually helps: a lower training.learning_rate, training.warmup: 0.05, or another model.activation."
