"""Train trials one after the other, or several at once in processes of their own."""

import math
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, ExitStack
from typing import Protocol

from tiedae_cli.runs.observer import Observer, Progress, StopTraining
from tiedae_cli.runs.training_state import JOINT, EpochReport
from tiedae_cli.runs.trials import Trial, TrialResult
from tiedae_cli.tuning.trial_source import TrialSource

PRUNED, STOPPED, FINISHED, DIVERGED = "pruned", "stopped", "finished", "diverged"
Epoch = Callable[[EpochReport], bool]  # returns whether the trial should end


class TrialTrainer(Protocol):
    """Trains one trial at a time."""

    def opened(self, trial: Trial, epoch: Epoch, deadline: float | None) -> AbstractContextManager[Callable[[], str]]:
        """Return a block in which the trial's run is locked; calling what it yields trains it and returns how that ended.

        Args:
            trial: the trial.
            epoch: called after each epoch.
            deadline: ``time.time()`` at which the training stops.
        """
        ...


class Listener(Protocol):
    """Shows what happens."""

    def moved(self, trial: Trial, report: EpochReport) -> None:
        """Show that a trial has finished an epoch."""
        ...

    def ended(self, result: TrialResult) -> None:
        """Show the result of a trial."""
        ...


class Follower(Observer):
    """Ends a training that is pruned or too slow, or whose time is up.

    Args:
        epoch: called after each epoch.
        deadline: as of ``TrialTrainer.opened``.
        longest: as of ``Trial``.
    """

    def __init__(self, epoch: Epoch, deadline: float | None, longest: float = math.inf) -> None:
        self._epoch, self._deadline, self._longest = epoch, deadline, longest
        self._seconds, self._epochs = 0.0, 0  # of the epochs that were trained here

    def progress(self, report: Progress) -> None:
        """Stop if the time is up, or if the training would take too long."""
        if self._deadline is not None and time.time() > self._deadline:
            raise StopTraining(STOPPED)
        if report.phase == JOINT:
            self._refuse_slowness(report.seconds, report.step / report.steps, report.epochs)

    def _refuse_slowness(self, seconds: float, share: float, epochs: int) -> None:
        """Stop if all epochs would take too long, judged by the seconds and the share of this one and by those before.

        The first twentieth of what it may take is not judged: it may be a busy moment.
        """
        seconds, done = self._seconds + seconds, self._epochs + share
        if seconds > self._longest / 20 and seconds * epochs > self._longest * done:
            raise StopTraining(PRUNED)

    def epoch(self, report: EpochReport) -> None:
        """Stop if the trial is pruned, or if the time is up before its last epoch."""
        is_last = report.epoch == report.epochs
        if report.phase == JOINT and report.epoch:
            self._seconds, self._epochs = self._seconds + report.seconds, self._epochs + 1
        if report.phase == JOINT and self._epoch(report) and not is_last:
            raise StopTraining(PRUNED)
        if not is_last and self._deadline is not None and time.time() > self._deadline:
            raise StopTraining(STOPPED)


def train_all(source: TrialSource, trainers: Sequence[TrialTrainer], listener: Listener, deadline: float | None = None) -> None:
    """Train the trials of a source until there are no more or the time is up; with several trainers, as many at once.

    Args:
        source: hands out trials.
        trainers: at least one; each but a single one is used in a thread of its own.
        listener: called by one thread at a time.
        deadline: ``time.time()`` at which everything stops.

    Raises:
        Interrupted: a signal arrived; all positions are saved.
        TiedaeError: the first error of a training.
    """
    loop = _Loop(source, listener, deadline)
    if len(trainers) == 1:
        loop.run(trainers[0])
        return
    threads = [threading.Thread(target=loop.run_noting_errors, args=(trainer,), daemon=True) for trainer in trainers]
    for thread in threads:
        thread.start()
    while any(thread.is_alive() for thread in threads) and loop.error is None:
        time.sleep(0.05)  # a signal interrupts it
    if loop.error is not None:
        raise loop.error


class _Loop:
    def __init__(self, source: TrialSource, listener: Listener, deadline: float | None) -> None:
        self.source, self.listener, self.deadline = source, listener, deadline
        self.error: BaseException | None = None
        self._lock = threading.Lock()  # around the listener

    def run_noting_errors(self, trainer: TrialTrainer) -> None:
        try:
            self.run(trainer)
        except BaseException as error:
            self.error = self.error or error

    def run(self, trainer: TrialTrainer) -> None:
        while (self.deadline is None or time.time() < self.deadline) and self.error is None:
            with ExitStack() as opened:
                with self.source.claimed() as trial:
                    if trial is None:
                        return
                    train = opened.enter_context(trainer.opened(trial, self._follow(trial), self.deadline))
                state = train()
            result = self.source.ended(trial, state)
            with self._lock:
                self.listener.ended(result)

    def _follow(self, trial: Trial) -> Epoch:
        def follow(report: EpochReport) -> bool:
            with self._lock:
                self.listener.moved(trial, report)
            return self.source.epoch(trial, report)

        return follow
