"""Where trials come from: the protocol ``TrialSource``, and the grid, which has all of them from the start."""

import contextlib
import threading
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager
from typing import Protocol

from tiedae_cli.runs.training_state import EpochReport
from tiedae_cli.runs.trials import Trial, TrialResult, finished_result, result_of


class TrialSource(Protocol):
    """Hands out trials, one at a time. All calls may come from several threads."""

    def claimed(self) -> AbstractContextManager[Trial | None]:
        """Return a block with the next trial; None: there is none. The trial's run must be locked before the block ends."""
        ...

    def epoch(self, trial: Trial, report: EpochReport) -> bool:
        """Take note of an epoch; return whether the trial is so bad that its training should end."""
        ...

    def ended(self, trial: Trial, state: str) -> TrialResult:
        """Take note of a trial's end (finished, diverged, pruned or stopped), and return its result."""
        ...


class GridSource:
    """The trials of a grid that have not ended yet.

    Args:
        trials: all of them.
    """

    def __init__(self, trials: Sequence[Trial]) -> None:
        self.results = {trial.number: done for trial in trials if (done := finished_result(trial)) is not None}
        self._open = iter([trial for trial in trials if trial.number not in self.results])
        self._lock = threading.Lock()

    @contextlib.contextmanager
    def claimed(self) -> Iterator[Trial | None]:
        """Yield the next trial."""
        with self._lock:
            trial = next(self._open, None)
        yield trial

    def epoch(self, trial: Trial, report: EpochReport) -> bool:
        """Return False: every combination is trained to its end."""
        return False

    def ended(self, trial: Trial, state: str) -> TrialResult:
        """Keep the result of a trial."""
        result = result_of(trial, state)
        self.results[trial.number] = result
        return result
