"""The loop of a training: it drives the trainer, obeys signals and tells the observers; it knows neither files nor the terminal."""

import contextlib
import signal
from collections.abc import Iterator, Sequence

from tiedae_cli.config import Config
from tiedae_cli.data.item_set import Splits
from tiedae_cli.errors import CheckpointError, DivergedError, Interrupted, StorageError
from tiedae_cli.runs.observer import Observer, TrainingResult, TrainingStart
from tiedae_cli.runs.run_folder import Run
from tiedae_cli.runs.training_state import EpochReport
from tiedae_cli.system.interruption import StopSignals
from tiedae_cli.system.portability import quoted
from tiedae_cli.training.trainer import Trainer


class TrainingRun:
    """A training that is ready to go, and whatever follows it.

    Args:
        config: the whole config.
        splits: the data.
        trainer: at the position where training starts or resumes.
        run: the run folder, for observers and messages.
        observers: in the order in which they are told.
    """

    def __init__(self, config: Config, splits: Splits, trainer: Trainer, run: Run, observers: Sequence[Observer]) -> None:
        self.config, self.splits, self.trainer, self.run = config, splits, trainer, run
        self.observers = observers
        self.ranks = trainer.ranks
        self._following: list[Observer] = []  # that were started and have not heard of the end

    def train(self) -> None:
        """Train to the end, and tell the observers.

        Raises:
            Interrupted: a signal arrived; the state is saved.
            DivergedError: the loss is not finite; the last good checkpoint stays.
            StorageError: something cannot be written; the last good checkpoint stays.
        """
        trainer = self.trainer
        start = TrainingStart(
            self.config, self.splits, self.run, trainer.model, trainer.device, tuple(trainer.history), trainer.initial_mse
        )
        with StopSignals() as stop, self._errors_told():
            for observer in self.observers:
                self._following.append(observer)
                observer.started(start)
            self._until_stopped(stop)
            interrupted = self.ranks.any(stop.received is not None)
            if interrupted:
                self._tell_stopped(None)
        if interrupted:
            message = f"interrupted and saved; continue with: {self._resume_command()}"
            raise Interrupted(message, stop.received or signal.SIGTERM)
        if self.ranks.leads:
            try:
                self._finish(start)
            except Interrupted as stopped:
                message = f"interrupted; the training is done and saved, its pictures are drawn by: {self._resume_command()}"
                raise Interrupted(message, stopped.signal_number) from None
            except StorageError as error:
                done = "the training is done and saved; after making room, this completes its pictures and reports"
                raise StorageError(f"{error}\n{done}: {self._resume_command()}") from None

    def _until_stopped(self, stop: StopSignals) -> None:
        """Train to the end or to a signal."""
        for report in self.trainer.train():
            for observer in self._following:
                if isinstance(report, EpochReport):
                    observer.epoch(report)
                else:
                    observer.progress(report)
            if self.ranks.any(stop.received is not None):
                return

    def _finish(self, start: TrainingStart) -> None:
        """Tell the observers what was reached."""
        history = tuple(self.trainer.history)
        with self._errors_told():
            best = next((report for report in reversed(history) if report.best), None)
            if best is None:  # best.safetensors was lost in the middle of an epoch, and no further one was asked for
                command = f"{self._resume_command()} --set training.epochs=N"
                raise CheckpointError(f"{self.run.best}: lost; one more epoch makes it again: {command}")
            result = TrainingResult(start, history, best)
            while self._following:
                self._following[0].finished(result)
                del self._following[0]

    @contextlib.contextmanager
    def _errors_told(self) -> Iterator[None]:
        """Tell the observers of an error that ends the training."""
        try:
            yield
        except BaseException as error:
            self._tell_stopped(error)
            if isinstance(error, DivergedError):
                raise DivergedError(f"{error}\nThe last good state is {self.run.last}") from None
            raise

    def _tell_stopped(self, error: BaseException | None) -> None:
        """Tell each observer of the end, also if another one raises."""
        following, self._following = self._following, []
        with contextlib.ExitStack() as calls:
            for observer in reversed(following):  # which the stack calls the other way round
                calls.callback(observer.stopped, error)

    def _resume_command(self) -> str:
        return f"tiedae train --resume {quoted(self.run.folder)}"
