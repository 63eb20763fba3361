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
from tiedae_cli.data.item_set import SPLITS, Splits
from tiedae_cli.errors import CheckpointError, DataError, DivergedError, LostProcessError, StorageError
from tiedae_cli.runs.checkpoint import Checkpoint
from tiedae_cli.runs.data_identity import identities
from tiedae_cli.runs.finished_parts import End, FinishedParts
from tiedae_cli.runs.observer import Observer, Progress, TrainingResult, TrainingStart
from tiedae_cli.runs.run_folder import Run
from tiedae_cli.runs.run_list import Outcome
from tiedae_cli.runs.training_state import EpochReport
from tiedae_cli.runs.training_summary import error_history
from tiedae_cli.system.interruption import saving_is_asked_for
from tiedae_cli.system.json_text import json_text
from tiedae_cli.training.trainer import Trainer

log = logging.getLogger(__name__)

AT_MOST_LOST = 1.0  # seconds of whole epochs
LOOK_EVERY = 1.0  # seconds between two looks at the files of memory-mapped data


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
        self.form, self.data, self.is_shared = splits.form, identities(splits), splits.is_shared
        self.sources = {split.mapped for split in map(splits.get, SPLITS) if split.mapped is not None}
        self.looked = 0.0  # when the files were last compared
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
        """Save before the first step, so that there is something to resume from the first second on, and read it back once.

        Raises:
            StorageError: it cannot be written, or what was written cannot be read.
        """
        now = self.position()
        if self.ranks.leads:
            self.run.save(now, best=False)
            try:
                self.run.load(self.run.last)
            except CheckpointError as error:
                self.run.last.unlink(missing_ok=True)
                raise StorageError(
                    f"{error}; it cannot be read back after it was written, so the training does not begin"
                ) from None

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
        if time.monotonic() - self.looked > LOOK_EVERY:
            self._refuse_changed_files()
        asked = saving_is_asked_for()
        if self.ranks.any(asked or self._waited() > self.every):
            self.save(best=False)
        _say_if(asked, report.epoch)

    def save(self, best: bool) -> None:
        """Save the position, and before it the best epoch that was not saved.

        Raises:
            DataError: a memory-mapped file of the data has changed; nothing is saved.
        """
        self._refuse_changed_files()
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
        self._refuse_changed_files()
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
        if (error is None or lost) and self.start is not None and best is not None:
            end: End = "diverged" if isinstance(error, DivergedError) else "interrupted"
            result = TrainingResult(self.start, tuple(self.trainer.history), best)
            if self.is_shared and not isinstance(error, LostProcessError):  # its items are lost with a process
                self.ranks.led(lambda: self._complete(result, end))
            elif self.ranks.leads and not self.is_shared:
                self._complete(result, end)

    def _complete(self, result: TrainingResult, end: End) -> Checkpoint:
        """Add to ``best.safetensors`` what only the end of a training knows, and return it."""
        best = self.run.load(self.run.best)
        if self.finish is not None:
            best = replace(best, finished=self.finish(result, end))
            file = io.BytesIO()
            best.write(file)
            self.run.write(self.run.best, file.getvalue())
        return best

    def _refuse_changed_files(self) -> None:
        """Raise ``DataError`` if a memory-mapped file of the data has changed."""
        self.looked = time.monotonic()
        for source in self.sources:
            if (change := source.change()) is not None:
                kept = f"the state before that is {self.run.last}" if self.run.last.exists() else "nothing is saved"
                raise DataError(f"{source.path}: changed while it was trained on: it {change}; {kept}")

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


def _say_if(asked: bool, epoch: int) -> None:
    if asked:
        log.info(f"saved in epoch {epoch}, as SIGUSR1 asks; the training continues")
