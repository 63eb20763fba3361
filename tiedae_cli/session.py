"""One training from its first step to its last picture: saves, reports, draws, and obeys signals."""

import signal
import time
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from tiedae_cli import checkpoint as checkpoints
from tiedae_cli import figures
from tiedae_cli.checkpoint import Checkpoint
from tiedae_cli.config import Config
from tiedae_cli.data import Splits
from tiedae_cli.errors import DivergedError, Interrupted
from tiedae_cli.evaluation import error_sum, reconstruct_items
from tiedae_cli.interruption import StopSignals
from tiedae_cli.runs import Run, principal_components
from tiedae_cli.storage import append_line, replacing
from tiedae_cli.terminal import Terminal, TrainingDisplay, json_text
from tiedae_cli.training import EpochReport, Trainer


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

    def train(self) -> None:
        """Train to the end, saving on the way, then draw the figures and print the checkpoint's path.

        Raises:
            Interrupted: a signal arrived; the state was saved.
            DivergedError: the loss is not finite; the last good checkpoint stays.
            StorageError: something cannot be written; the last good checkpoint stays.

        """
        with StopSignals() as stop, TrainingDisplay(self.terminal) as display:  # the bar goes before the figures are drawn
            saved = time.monotonic()
            try:
                for report in self.trainer.train():
                    if isinstance(report, EpochReport):
                        self._save(best=report.best)
                        self._record(report)
                        display.epoch(report)
                        saved = time.monotonic()
                    else:
                        display.progress(report)
                    if self.ranks.any(stop.received is not None):
                        self._save(best=False)
                        raise Interrupted(
                            f"interrupted and saved; continue with: {self._resume_command()}", stop.received or signal.SIGTERM
                        )
                    if self.ranks.any(time.monotonic() - saved > self.config.training.checkpoint_every):
                        self._save(best=False)
                        saved = time.monotonic()
            except DivergedError as error:
                raise DivergedError(f"{error}\nThe last good state is {self.run.last}") from None
        if self.ranks.leads:
            self._finish()

    def _save(self, best: bool) -> None:
        checkpoint = self.checkpoint()  # asked of all processes: it sums over them
        if self.ranks.leads:
            self.run.save(checkpoint, best)

    def checkpoint(self) -> Checkpoint:
        """Return everything as it stands now."""
        state = self.trainer.state()
        return Checkpoint(self.config, self.splits.form, self.trainer.model.state_dict(), state, self.run.name)

    def _record(self, report: EpochReport) -> None:
        values = epoch_values(report)
        if self.ranks.leads:
            append_line(self.run.metrics, json_text(values))
        self.terminal.json_line(**values)

    def _resume_command(self) -> str:
        return f"tiedae train --resume {self.run.folder}"

    def _finish(self) -> None:
        history = self.trainer.history
        best = next(report for report in reversed(history) if report.best)
        self.trainer.model.load_state_dict(checkpoints.load(self.run.best).weights)
        self._draw(history, best)
        self.terminal.result(str(self.run.best))
        self.terminal.json_line(
            event="done", run=str(self.run.folder), checkpoint=str(self.run.best), epochs=len(history), best=epoch_values(best)
        )

    def _draw(self, history: Sequence[EpochReport], best: EpochReport) -> None:
        model, device, splits = self.trainer.model, self.trainer.place.device, self.splits
        components = principal_components(self.run.folder, splits.train, self.config.model.hidden_sizes[-1])
        yardstick = error_sum(components.reconstruct, splits.validation or splits.train, device).mse_per_pixel
        count = components.components.shape[1]
        with replacing(self.run.loss_figure) as file:
            file.write(figures.loss_curve(history, yardstick, count))
        originals, reconstructions, errors = reconstruct_items(model, splits.test.slice(0, self.config.output.images), device)
        with replacing(self.run.reconstructions_figure) as file:
            file.write(figures.reconstruction_pairs(originals, reconstructions, errors, splits.form))
        ratio = best.selection_mse / yardstick
        verdict = f"{1 / ratio:.1f} times less than" if ratio < 1 else f"{ratio:.1f} times more than"
        if self.trainer.initial_mse is not None:
            start = self.trainer.initial_mse
            self.terminal.note(f"started at MSE {start:.6f} per pixel; training gained {1 - best.selection_mse / start:.1%}")
        self.terminal.note(
            f"best epoch {best.epoch}: MSE {best.selection_mse:.6f} per pixel, {verdict} PCA with the same {count} numbers "
            f"({yardstick:.6f})\npictures: {self.run.loss_figure}, {self.run.reconstructions_figure}"
        )


def epoch_values(report: EpochReport) -> dict[str, Any]:
    """Return an epoch as the JSON interface and ``metrics.jsonl`` have it."""
    return {"event": "epoch", **asdict(report)}
