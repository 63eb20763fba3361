"""One training from its first step to its last picture: saves, reports, draws, and obeys signals."""

import contextlib
import io
import logging
import signal
from collections.abc import Iterator, Sequence
from dataclasses import asdict, replace
from typing import Any

from tiedae_cli.config import Config
from tiedae_cli.config.yaml_reader import dump_config
from tiedae_cli.data import Splits
from tiedae_cli.data.item_set import ItemSet
from tiedae_cli.errors import CheckpointError, DivergedError, Interrupted, LostProcessError
from tiedae_cli.model.inference import error_sum
from tiedae_cli.model.ranking import fit_ranking
from tiedae_cli.output import figures
from tiedae_cli.output.next_steps import next_steps
from tiedae_cli.output.tensorboard import Board
from tiedae_cli.output.terminal import Terminal, TrainingDisplay, json_text
from tiedae_cli.report import report as writing
from tiedae_cli.runs.checkpoint import Checkpoint
from tiedae_cli.runs.run_folder import Run, fingerprint, principal_components
from tiedae_cli.runs.run_list import Outcome
from tiedae_cli.runs.trained_run import OpenRun
from tiedae_cli.runs.training_state import EpochReport, SplitIdentity
from tiedae_cli.system.interruption import StopSignals
from tiedae_cli.system.portability import quoted
from tiedae_cli.tasks.defaults import QUANTILE
from tiedae_cli.tasks.diagnosis import diagnose
from tiedae_cli.tasks.reconstruct import pictured, reconstruct_images
from tiedae_cli.training.checkpointing import Saving
from tiedae_cli.training.trainer import Trainer

log = logging.getLogger(__name__)


class Session:
    """A training with its run folder and its terminal.

    Args:
        config: the whole config.
        splits: the data.
        trainer: at the position where training goes on.
        run: the run folder.
        terminal: where reports go.
    """

    def __init__(self, config: Config, splits: Splits, trainer: Trainer, run: Run, terminal: Terminal) -> None:
        self.config = config
        self.splits = splits
        self.trainer = trainer
        self.run = run
        self.ranks = trainer.place.ranks
        self.terminal = terminal
        self.data = identify(splits)
        self.saving = Saving(run, self.ranks, self.checkpoint, config.training.checkpoint_every)
        self.board: Board | None = None

    def train(self) -> None:
        """Train to the end, saving on the way, then draw the figures and print the checkpoint's path.

        Raises:
            Interrupted: a signal arrived; the state is saved.
            DivergedError: the loss is not finite; the last good checkpoint stays.
            StorageError: something cannot be written; the last good checkpoint stays.
        """
        with (
            StopSignals() as stop,
            self._board() as self.board,
            TrainingDisplay(self.terminal, self.splits.form.items_name) as display,
        ):  # the bar goes before the figures are drawn, and so does the writer
            try:
                self._train(stop, display)
            except LostProcessError:
                self.saving.give_up()
                raise
            except DivergedError as error:
                self.saving.give_up()
                if self.ranks.leads:
                    self._keep_outcome(Outcome("diverged", self.config.training.epochs))
                raise DivergedError(f"{error}\nThe last good state is {self.run.last}") from None
        if self.ranks.any(stop.received is not None):
            message = f"interrupted and saved; continue with: {self._resume_command()}"
            raise Interrupted(message, stop.received or signal.SIGTERM)
        if self.ranks.leads:
            try:
                self._finish()
            except Interrupted as stopped:
                message = f"interrupted; the training is done and saved, its pictures are drawn by: {self._resume_command()}"
                raise Interrupted(message, stopped.signal_number) from None

    def _train(self, stop: StopSignals, display: TrainingDisplay) -> None:
        """Train to the end or to a signal, and leave everything saved."""
        for report in self.trainer.train():
            stopping = self.ranks.any(stop.received is not None)
            asked = stop.saving_is_asked_for()
            if isinstance(report, EpochReport):
                values = epoch_values(report)
                self.saving.after_epoch(report.best, json_text(values), stopping or asked)
                self.terminal.json_line(**values)
                if self.board is not None:
                    shown = self._shown().slice(0, self.config.output.images)
                    self.board.epoch(report, len(self.trainer.history), self.trainer.model, shown, self.trainer.place.device)
                display.epoch(report)
            else:
                display.progress(report)
                self.saving.after_step(stopping or asked)
            if asked:
                log.info(f"saved in epoch {report.epoch}, as SIGUSR1 asks; the training goes on")
            if stopping:
                return
        self.saving.finish()

    @contextlib.contextmanager
    def _board(self) -> Iterator[Board | None]:
        """Give where the events for TensorBoard go, if the config asks for them."""
        if not self.config.output.tensorboard or not self.ranks.leads:
            yield None
            return
        board = Board(self.run.folder, len(self.trainer.history))
        try:
            yield board
        finally:
            board.close()

    def _shown(self) -> ItemSet:
        """Return the split that pictures show: the test split, if there is one."""
        return self.splits.get(self._shown_name())

    def _shown_name(self) -> str:
        return next(name for name in ("test", "validation", "train") if len(self.splits.get(name)))

    def checkpoint(self) -> Checkpoint:
        """Return everything as it stands now."""
        state = replace(self.trainer.state(), data=self.data)
        return Checkpoint(self.config, self.splits.form, self.trainer.model.state_dict(), state, self.run.name)

    def repair(self) -> None:
        """Bring the rest of the run folder to the position of ``last.safetensors``, for a process may die between two files."""
        if self.ranks.from_leader(self.ranks.leads and self._best_is_lost()):
            log.warning(f"{self.run.best}: not the best epoch's weights; from here on the best is chosen anew")
            at_epoch_end = self.trainer.step_in_epoch == 0
            self.trainer.forget_best(stand_in=at_epoch_end)
            self.saving.save(best=at_epoch_end)
        if self.ranks.leads:
            lines = (json_text(epoch_values(report)) + "\n" for report in self.trainer.history)
            self.run.write(self.run.config, dump_config(self.config).encode())
            self.run.write(self.run.metrics, "".join(lines).encode())

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

    def _resume_command(self) -> str:
        return f"tiedae train --resume {quoted(self.run.folder)}"

    def _finish(self) -> None:
        history = self.trainer.history
        best = next((report for report in reversed(history) if report.best), None)
        if best is None:  # best.safetensors was lost in the middle of an epoch, and no further one was asked for
            raise CheckpointError(
                f"{self.run.best}: lost; one more epoch makes it again: {self._resume_command()} --set training.epochs=N"
            )
        kept = self.run.load(self.run.best)
        self.trainer.model.load_state_dict(kept.weights)
        if self.config.score.rank == "neighbours":
            self._keep_ranking(kept)
        yardstick = self._draw(history, best)
        asked = self.config.training.epochs
        self._keep_outcome(Outcome("finished", asked, best.epoch, best.selection_mse, yardstick))
        self._write_report()
        with self._board() as board:
            if board is not None:
                board.finish(len(history), self.trainer.model, self._shown(), self.trainer.place.device)
        if self.run.moved():
            log.warning(
                f"{self.run.folder} was renamed or removed meanwhile: this run's files are in its folder, wherever that is"
            )
        self.terminal.result(str(self.run.best))
        self.terminal.json_line(
            event="done", run=str(self.run.folder), checkpoint=str(self.run.best), epochs=len(history), best=epoch_values(best)
        )

    def _keep_ranking(self, best: Checkpoint) -> None:
        """Write the best checkpoint again, with what the score needs of the training items."""
        training, device = self.config.training, self.trainer.place.device
        ranking = fit_ranking(self.trainer.model, self.splits.train, self.config.score.neighbours, training.seed, device)
        file = io.BytesIO()
        replace(best, ranking=ranking).write(file)
        self.run.write(self.run.best, file.getvalue())

    def _keep_outcome(self, outcome: Outcome) -> None:
        self.run.write(self.run.outcome, outcome.text().encode())

    def _write_report(self) -> None:
        """Write the report if the config asks for it."""
        if not self.config.output.report or self.run.moved():
            return
        opened = OpenRun(self.run.best, self.trainer.place.device, self.splits)
        split = next(name for name in ("test", "validation", "train") if len(self.splits.get(name)))
        self.run.write(self.run.report, writing.report([opened], [str(self.run.folder)], split, QUANTILE))
        log.info(f"report: {self.run.report}")

    def _draw(self, history: Sequence[EpochReport], best: EpochReport) -> float | None:
        """Draw the figures and tell the verdict; return PCA's error, where it is a yardstick."""
        model, device, splits = self.trainer.model, self.trainer.place.device, self.splits
        components = principal_components(self.run, splits.train, model.sizes[-1])
        count = components.components.shape[1]
        yardstick = error_sum(components.reconstruct, splits.validation or splits.train, device).mse_per_value
        told, exact = diagnose(self.trainer, self.config, self.run.folder, splits, components, best)
        value_name = splits.form.value_name
        loss = figures.loss_curve(self.run.name, history, None if exact else yardstick, count, value_name)
        self.run.write(self.run.loss_figure, loss)
        pictures = [str(self.run.loss_figure)]
        if splits.form.kind == "images":  # feature vectors have no picture
            shown = self._shown().slice(0, self.config.output.images)
            title = pictured(self.run.name, model, f"{splits.source}, {self._shown_name()} split, the first {len(shown):,}")
            drawn = reconstruct_images(model, shown, components, title, device)
            self.run.write(self.run.reconstructions_figure, drawn.png())
            pictures.append(str(self.run.reconstructions_figure))
        if self.trainer.initial_mse is not None:
            start = self.trainer.initial_mse
            gained = 1 - best.selection_mse / max(start, 1e-12)
            log.info(f"started at MSE {start:.6f} per {value_name}; training gained {gained:.1%}")
        log.info(f"best epoch {best.epoch}: {told}\npictures: {', '.join(pictures)}")
        log.info(next_steps(self.run.folder, splits.form.kind == "images", self.terminal.prints))
        return None if exact else yardstick


def identify(splits: Splits) -> dict[str, SplitIdentity]:
    """Return what tells one data set from another: sizes and digests of the splits that training sees."""
    seen = {"train": splits.train, "validation": splits.validation}
    return {name: SplitIdentity(len(images), fingerprint(images)) for name, images in seen.items()}


def epoch_values(report: EpochReport) -> dict[str, Any]:
    """Return an epoch as the JSON interface and ``metrics.jsonl`` have it."""
    return {"event": "epoch", **asdict(report)}
