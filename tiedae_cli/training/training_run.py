"""Drive a trainer, obey signals and call the observers; independent of files and terminal."""

import contextlib
import signal
from collections.abc import Callable, Iterator, Sequence

from tiedae_cli.config import Config
from tiedae_cli.data.item_set import Splits
from tiedae_cli.errors import CheckpointError, DivergedError, Interrupted, StorageError
from tiedae_cli.runs.observer import Observer, Progress, StopTraining, TrainingResult, TrainingStart
from tiedae_cli.runs.run_folder import Run
from tiedae_cli.runs.training_state import EpochReport
from tiedae_cli.system.interruption import StopSignals
from tiedae_cli.system.portability import quoted
from tiedae_cli.training.checkpointing import Checkpoints
from tiedae_cli.training.trainer import Trainer


class TrainingRun:
    """A training that is ready to start, and its observers.

    Args:
        config: the whole config.
        splits: the data.
        trainer: trainer at the position to start or resume from.
        run: the run folder, for observers and messages.
        observers: observers, in the order in which they are called.
    """

    def __init__(self, config: Config, splits: Splits, trainer: Trainer, run: Run, observers: Sequence[Observer]) -> None:
        self.config, self.splits, self.trainer, self.run = config, splits, trainer, run
        self.observers = observers
        self.ranks = trainer.ranks
        self._following: list[Observer] = []  # started, and not yet called for the end

    def train(self) -> None:
        """Train to the end and call the observers.

        Raises:
            Interrupted: A signal arrived; the state is saved.
            DivergedError: The loss is not finite; the last good checkpoint is kept.
            StorageError: A file cannot be written; the last good checkpoint is kept.
            StopTraining: An observer stopped the training; the state is saved.
        """
        trainer = self.trainer
        history = tuple(trainer.history)
        start = TrainingStart(
            self.config, self.splits, self.run, trainer.model, trainer.device, history, trainer.initial_mse, trainer.components
        )
        with StopSignals() as stop, self._errors_reported():
            if not self.ranks.leads:
                self._start_observers(start)
            self._leader_alone(lambda: self._start_observers(start))
            stopped_by = self._until_stopped(stop)
            interrupted = self.ranks.any(stop.received is not None)
            if interrupted or stopped_by is not None:
                self._report_stopped(None)
        if interrupted:
            message = f"interrupted and saved; continue with: {self._resume_command()}"
            raise Interrupted(message, stop.received or signal.SIGTERM)
        if stopped_by is not None:
            raise stopped_by
        self._leader_alone(lambda: self._finish_and_advise(start))

    def _start_observers(self, start: TrainingStart) -> None:
        for observer in self.observers:
            self._following.append(observer)
            observer.started(start)

    def _leader_alone(self, work: Callable[[], None]) -> None:
        """Do work in the leading process; if processes hold shares of the items, the others answer for theirs meanwhile."""
        if self.splits.is_shared:
            self.ranks.led(work)
        elif self.ranks.leads:
            work()

    def _finish_and_advise(self, start: TrainingStart) -> None:
        try:
            self._finish(start)
        except Interrupted as stopped:
            message = f"interrupted; the training is complete and saved; to draw its pictures: {self._resume_command()}"
            raise Interrupted(message, stopped.signal_number) from None
        except StorageError as error:
            done = "the training is done and saved; after making room, this completes its pictures and reports"
            raise StorageError(f"{error}\n{done}: {self._resume_command()}") from None

    def _until_stopped(self, stop: StopSignals) -> StopTraining | None:
        """Train until the end, a signal, or an observer's ``StopTraining``, which is returned."""
        for report in self.trainer.train():
            try:
                self._report(report)
            except StopTraining as stopped_by:
                return stopped_by
            if self.ranks.any(stop.received is not None):
                break
        return None

    def _report(self, report: Progress | EpochReport) -> None:
        """Call the observers with a report: what all processes have first, because the others may read items."""
        if isinstance(report, Progress):
            for observer in self._following:
                observer.progress(report)
            return
        common = max(
            (place for place, observer in enumerate(self._following, 1) if isinstance(observer, Checkpoints)), default=0
        )
        for observer in self._following[:common]:
            observer.epoch(report)

        def rest() -> None:
            for observer in self._following[common:]:
                observer.epoch(report)

        self._leader_alone(rest)

    def _finish(self, start: TrainingStart) -> None:
        """Call the observers with the result."""
        history = tuple(self.trainer.history)
        with self._errors_reported():
            best = next((report for report in reversed(history) if report.best), None)
            if best is None:  # best.safetensors was lost within an epoch, and no epoch followed
                command = f"{self._resume_command()} --set training.epochs=N"
                raise CheckpointError(f"{self.run.best}: missing; train one more epoch to restore it: {command}")
            result = TrainingResult(start, history, best)
            while self._following:
                self._following[0].finished(result)
                del self._following[0]

    @contextlib.contextmanager
    def _errors_reported(self) -> Iterator[None]:
        """Report an error that ends the training to the observers."""
        try:
            yield
        except BaseException as error:
            self._report_stopped(error)
            if isinstance(error, DivergedError):
                raise DivergedError(f"{error}\nThe last good state is {self.run.last}") from None
            raise

    def _report_stopped(self, error: BaseException | None) -> None:
        """Call ``stopped`` of each observer, even if another one raises."""
        following, self._following = self._following, []
        with contextlib.ExitStack() as calls:
            for observer in reversed(following):  # the stack calls them in reverse order
                calls.callback(observer.stopped, error)

    def _resume_command(self) -> str:
        return f"tiedae train --resume {quoted(self.run.folder)}"
