"""When a training is saved: at the ends of its epochs, but not more often than once a second, and always before it ends.

Where an epoch takes milliseconds, as that of a small table does, writing it to the disk would take most of the time. So a power cut costs
at most a second's work, or as much as lies between two epochs. The best epoch since the last save is kept in memory and written before
what came after it, in the order in which both would have been written at once: whatever instant the power goes at, the files are
those of some epoch that was saved on time.
"""

import io
import logging
import time
from collections.abc import Callable
from dataclasses import replace

from tiedae_cli.config import Config
from tiedae_cli.config.yaml_reader import dump_config
from tiedae_cli.data.item_set import Splits
from tiedae_cli.errors import CheckpointError, DivergedError, LostProcessError
from tiedae_cli.runs.checkpoint import Checkpoint
from tiedae_cli.runs.finished_parts import End, FinishedParts
from tiedae_cli.runs.observer import Observer, Progress, TrainingResult, TrainingStart
from tiedae_cli.runs.run_folder import Run, fingerprint
from tiedae_cli.runs.run_list import Outcome
from tiedae_cli.runs.training_state import EpochReport, SplitIdentity
from tiedae_cli.runs.training_summary import error_history
from tiedae_cli.system.interruption import saving_is_asked_for
from tiedae_cli.system.json_text import json_text
from tiedae_cli.training.trainer import Trainer

log = logging.getLogger(__name__)

AT_MOST_LOST = 1.0  # seconds of whole epochs


class Checkpoints(Observer):
    """Writes the checkpoints, ``metrics.jsonl`` and ``config.yaml`` of one training.

    Saving sums over all processes, so each of them needs this observer; the leading one writes.

    Args:
        config: the whole config.
        splits: the data.
        trainer: what is saved.
        run: the run folder.
        finish: returns what the end of the training adds to ``best.safetensors``, given the training and how it ended.
    """

    def __init__(
        self,
        config: Config,
        splits: Splits,
        trainer: Trainer,
        run: Run,
        finish: Callable[[TrainingResult, End], FinishedParts] | None = None,
    ) -> None:
        self.config, self.trainer, self.run, self.finish = config, trainer, run, finish
        self.start: TrainingStart | None = None
        self.form, self.data = splits.form, identify(splits)
        self.ranks = trainer.ranks
        self.every = config.training.checkpoint_every
        self.saved = time.monotonic()
        self.behind = False  # the position has moved since it was saved
        self.first = True  # no epoch is saved yet: the first one is at once, so that there is something to look at
        self.best: Checkpoint | None = None  # of an epoch that was not saved
        self.lines: list[str] = []  # of epochs that were not saved

    def position(self) -> Checkpoint:
        """Return everything as it stands now; all processes must ask together."""
        state = replace(self.trainer.state(), data=self.data)
        return Checkpoint(self.config, self.form, self.trainer.model.state_dict(), state, self.run.name)

    def begin(self) -> None:
        """Save before the first step, so that there is something to resume from the first second on."""
        now = self.position()
        if self.ranks.leads:
            self.run.save(now, best=False)

    def repair(self) -> None:
        """Bring the rest of the run folder to the position of ``last.safetensors``: a process may die between two files."""
        if self.ranks.from_leader(self.ranks.leads and self._best_is_lost()):
            log.warning(f"{self.run.best}: not the best epoch's weights; from here on the best is chosen anew")
            at_epoch_end = self.trainer.step_in_epoch == 0
            self.trainer.forget_best(stand_in=at_epoch_end)
            self.save(best=at_epoch_end)
        if self.ranks.leads:
            self.write_config()
            lines = (json_text(report.values()) + "\n" for report in self.trainer.history)
            self.run.write(self.run.metrics, "".join(lines).encode())

    def write_config(self) -> None:
        """Write ``config.yaml``."""
        self.run.write(self.run.config, dump_config(self.config).encode())

    def _best_is_lost(self) -> bool:
        """Return whether the best checkpoint is damaged or too old; one that was only not linked yet is linked now."""
        history = self.trainer.history
        best = max((number for number, report in enumerate(history, 1) if report.best), default=0)
        try:
            seen = len(self.run.load(self.run.best).training.history) if best else 0
        except CheckpointError:
            seen = 0
        if seen != best and best == len(history) and self.trainer.step_in_epoch == 0:
            self.run.link(self.run.last, self.run.best)
            return False
        return seen < best  # it may have seen more, where an older file than last.safetensors is resumed

    def epoch(self, report: EpochReport) -> None:
        """Save the epoch, now or with a later one; the last one and the first one cannot wait."""
        self.behind = True
        self.lines.append(json_text(report.values()))
        asked = saving_is_asked_for()
        at_once = asked or self.first or self.trainer.is_finished
        if self.ranks.any(at_once or self._waited() >= min(AT_MOST_LOST, self.every)):
            self.first = False
            self.save(report.best)
        elif report.best:
            now = self.position()
            self.best = replace(now, weights={name: weight.clone() for name, weight in now.weights.items()})
        _say_if(asked, report.epoch)

    def progress(self, report: Progress) -> None:
        """Save in the middle of an epoch, if it is time to."""
        self.behind = True
        asked = saving_is_asked_for()
        if self.ranks.any(asked or self._waited() > self.every):
            self.save(best=False)
        _say_if(asked, report.epoch)

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
        self.saved, self.behind = time.monotonic(), False

    def started(self, start: TrainingStart) -> None:
        """Remember what the training works with, for its end."""
        self.start = start

    def finished(self, result: TrainingResult) -> None:
        """Put the best epoch's weights into the model, and complete ``best.safetensors``."""
        end: End = "finished" if self.trainer.epoch >= self.config.training.epochs else "stopped early"
        result.start.model.load_state_dict(self._complete(result, end).weights)

    def stopped(self, error: BaseException | None) -> None:
        """Save what is good: after a signal the position, after a divergence or a lost process the best epoch before it."""
        if error is None and self.behind:
            self.save(best=False)
        lost = isinstance(error, (DivergedError, LostProcessError))
        if lost:
            self._keep_best()
            self._write_lines()
        best = next((report for report in reversed(self.trainer.history) if report.best), None)
        if (error is None or lost) and self.ranks.leads and self.start is not None and best is not None:
            end: End = "diverged" if isinstance(error, DivergedError) else "interrupted"
            self._complete(TrainingResult(self.start, tuple(self.trainer.history), best), end)

    def _complete(self, result: TrainingResult, end: End) -> Checkpoint:
        """Add to ``best.safetensors`` what only the end of a training knows, and return it."""
        best = self.run.load(self.run.best)
        if self.finish is not None:
            best = replace(best, finished=self.finish(result, end))
            file = io.BytesIO()
            best.write(file)
            self.run.write(self.run.best, file.getvalue())
        return best

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


class OutcomeFile(Observer):
    """Writes ``outcome.json``: how the training ended, for ``tiedae runs``.

    Args:
        run: the run folder.
        epochs: how many were asked for.
    """

    def __init__(self, run: Run, epochs: int) -> None:
        self.run, self.epochs = run, epochs

    def finished(self, result: TrainingResult) -> None:
        """Write what was reached, beside PCA."""
        best, done = result.best, len(error_history(result.history))
        early = done if done < self.epochs else None
        self._write(Outcome("finished", self.epochs, best.epoch, best.selection_mse, result.pca_mse_per_value, early))

    def stopped(self, error: BaseException | None) -> None:
        """Write that the training diverged, if it did."""
        if isinstance(error, DivergedError):
            self._write(Outcome("diverged", self.epochs))

    def _write(self, outcome: Outcome) -> None:
        self.run.write(self.run.outcome, outcome.text().encode())


def identify(splits: Splits) -> dict[str, SplitIdentity]:
    """Return what tells one data set from another: sizes and digests of the splits that training sees."""
    seen = {"train": splits.train, "validation": splits.validation}
    return {name: SplitIdentity(len(items), fingerprint(items)) for name, items in seen.items()}


def _say_if(asked: bool, epoch: int) -> None:
    if asked:
        log.info(f"saved in epoch {epoch}, as SIGUSR1 asks; the training continues")
