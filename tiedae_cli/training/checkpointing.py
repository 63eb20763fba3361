"""When a training is saved: at the ends of its epochs, but not more often than once a second, and always before it ends.

Where an epoch takes milliseconds, as that of a small table does, writing it to the disk would take most of the time. So a power cut costs
at most a second's work, or as much as lies between two epochs. The best epoch since the last save is kept in memory and written before
what came after it, in the order in which both would have been written at once: whatever instant the power goes at, the files are
those of some epoch that was saved on time.
"""

import time
from collections.abc import Callable
from dataclasses import replace

from tiedae_cli.runs.checkpoint import Checkpoint
from tiedae_cli.runs.run_folder import Run
from tiedae_cli.system.devices import Ranks

AT_MOST_LOST = 1.0  # seconds of whole epochs


class Saving:
    """Writes the checkpoints and ``metrics.jsonl`` of one training.

    Args:
        run: the run folder.
        ranks: the processes that train together; all of them must call the same methods, the leading one writes.
        position: returns everything as it stands now.
        every: seconds after which an epoch is saved in its middle.
    """

    def __init__(self, run: Run, ranks: Ranks, position: Callable[[], Checkpoint], every: float) -> None:
        self.run = run
        self.ranks = ranks
        self.position = position
        self.every = every
        self.saved = time.monotonic()
        self.first = True  # no epoch is saved yet: the first one is at once, so that there is something to look at
        self.best: Checkpoint | None = None  # of an epoch that was not saved
        self.lines: list[str] = []  # of epochs that were not saved

    def after_epoch(self, best: bool, line: str, at_once: bool) -> None:
        """Save the epoch that has just ended, now or with a later one.

        Args:
            best: it is the best one so far.
            line: what ``metrics.jsonl`` says of it.
            at_once: it cannot wait.
        """
        self.lines.append(line)
        if self.ranks.any(at_once or self.first or self._waited() >= min(AT_MOST_LOST, self.every)):
            self.first = False
            self.save(best)
        elif best:
            now = self.position()
            self.best = replace(now, weights={name: weight.clone() for name, weight in now.weights.items()})

    def after_step(self, at_once: bool) -> None:
        """Save in the middle of an epoch, if it is time to."""
        if self.ranks.any(at_once or self._waited() > self.every):
            self.save(best=False)

    def save(self, best: bool) -> None:
        """Save the position, and before it the best epoch that was not saved."""
        now, waiting = self.position(), self.best
        if waiting is not None and not best:
            best = now.training.step == 0 and len(now.training.history) == len(waiting.training.history)  # it is this epoch
        if best:
            self.best = None
        self._keep_best()
        if self.ranks.leads:
            self.run.save(now, best)
        self._write_lines()
        self.saved = time.monotonic()

    def finish(self) -> None:
        """Save what was not saved."""
        if self.lines:
            self.save(best=False)

    def give_up(self) -> None:
        """Save the best epoch, if it was not saved, and what is to say of the others: what follows is of no use."""
        self._keep_best()
        self._write_lines()

    def _keep_best(self) -> None:
        waiting, self.best = self.best, None
        if waiting is not None and self.ranks.leads:
            self.run.save(waiting, best=True)

    def _write_lines(self) -> None:
        lines, self.lines = self.lines, []
        if lines and self.ranks.leads:
            self.run.append_line(self.run.metrics, "\n".join(lines))

    def _waited(self) -> float:
        return time.monotonic() - self.saved
