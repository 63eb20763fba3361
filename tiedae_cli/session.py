"""One training from its run folder to its last picture: starts or resumes it, saves, draws, and obeys signals."""

import contextlib
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch

from tiedae_cli import checkpoint as checkpoints
from tiedae_cli import figures
from tiedae_cli.checkpoint import Checkpoint
from tiedae_cli.config import Config
from tiedae_cli.config_file import changed_fields, dump_config, parse_config
from tiedae_cli.data import Splits, load_splits
from tiedae_cli.errors import CheckpointError, ConfigError, DivergedError, InputError, Interrupted
from tiedae_cli.evaluation import error_sum, reconstruct_items
from tiedae_cli.interruption import StopSignals
from tiedae_cli.runs import Run, create_named_run, create_run, newest_run, principal_components
from tiedae_cli.storage import append_line, replacing, write_text
from tiedae_cli.terminal import Terminal, TrainingDisplay, json_text
from tiedae_cli.training import EpochReport, Trainer

MAY_CHANGE = ("training.epochs", "training.checkpoint_every", "data.root", "output.runs", "output.images")


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
        self.terminal = terminal

    def train(self) -> None:
        """Train to the end, saving on the way, then draw the figures and print the checkpoint's path.

        Raises:
            Interrupted: a signal arrived; the state was saved.
            DivergedError: the loss is not finite; the last good checkpoint stays.
            StorageError: something cannot be written; the last good checkpoint stays.

        """
        epochs = self.config.training.epochs
        with StopSignals() as stop, TrainingDisplay(self.terminal, epochs) as display:
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
                    if stop.received is not None:
                        self._save(best=False)
                        raise Interrupted(f"interrupted and saved; continue with: {self._resume_command()}", stop.received)
                    if time.monotonic() - saved > self.config.training.checkpoint_every:
                        self._save(best=False)
                        saved = time.monotonic()
            except DivergedError as error:
                raise DivergedError(f"{error}\nThe last good state is {self.run.last}") from None
            self._finish()

    def _save(self, best: bool) -> None:
        self.run.save(self.checkpoint(), best)

    def checkpoint(self) -> Checkpoint:
        """Return everything as it stands now."""
        state = self.trainer.state()
        return Checkpoint(self.config, self.splits.form, self.trainer.model.state_dict(), state, self.run.name)

    def _record(self, report: EpochReport) -> None:
        values = _epoch_values(report)
        append_line(self.run.metrics, json_text(values))
        self.terminal.json_line(**values)

    def _resume_command(self) -> str:
        return f"tiedae train --resume {self.run.folder}"

    def _finish(self) -> None:
        history = self.trainer.history
        best = max((report for report in history if report.best), key=lambda report: report.epoch)
        self.trainer.model.load_state_dict(checkpoints.load(self.run.best).weights)
        self._draw(history, best)
        self.terminal.result(str(self.run.best))
        self.terminal.json_line(
            event="done", run=str(self.run.folder), checkpoint=str(self.run.best), epochs=len(history), best=_epoch_values(best)
        )

    def _draw(self, history: Sequence[EpochReport], best: EpochReport) -> None:
        model, device, splits = self.trainer.model, self.trainer.device, self.splits
        components = principal_components(self.run.folder, splits.train, self.config.model.hidden_sizes[-1])
        yardstick = error_sum(components.reconstruct, splits.validation or splits.train, device).mse_per_pixel
        count = components.components.shape[1]
        value_name = splits.form.value_name
        with replacing(self.run.loss_figure) as file:
            file.write(figures.loss_curve(history, yardstick, count, value_name))
        pictures = [str(self.run.loss_figure)]
        if splits.form.kind == "images":  # feature vectors have no picture
            shown = (splits.test or splits.validation or splits.train).slice(0, self.config.output.images)
            originals, reconstructions, errors = reconstruct_items(model, shown, device)
            with replacing(self.run.reconstructions_figure) as file:
                file.write(figures.reconstruction_pairs(originals, reconstructions, errors, splits.form))
            pictures.append(str(self.run.reconstructions_figure))
        ratio = best.selection_mse / yardstick
        verdict = f"{1 / ratio:.1f} times less than" if ratio < 1 else f"{ratio:.1f} times more than"
        self.terminal.note(
            f"best epoch {best.epoch}: MSE {best.selection_mse:.6f} per {value_name}, {verdict} PCA with the same {count} numbers "
            f"({yardstick:.6f})\npictures: {', '.join(pictures)}"
        )


def load_data(config: Config, terminal: Terminal) -> Splits:
    """Load a config's data, telling the terminal what is inferred and how far slow work is.

    Raises:
        DataError: the data is missing, damaged or of no use.
        ConfigError: the data and the config do not go together.

    """
    with terminal.counting() as count:
        splits = load_splits(config.data, terminal.note, count)
    if splits.form.kind == "vectors" and config.model.output == "sigmoid":
        raise ConfigError(
            "model.output: sigmoid stays in [0, 1], but features are standardised (mean 0, standard deviation 1): use linear"
        )
    return splits


@contextlib.contextmanager
def start(config: Config, name: str, run_dir: Path | None, device: torch.device, terminal: Terminal) -> Iterator[Session]:
    """Make a new run and its first checkpoint, and hold its lock.

    Args:
        config: the whole config.
        name: the run's name where ``run_dir`` is None.
        run_dir: exactly this folder.
        device: where to compute.
        terminal: where reports go.

    Raises:
        DataError: the data is missing or damaged; nothing was made.
        StorageError: the folder cannot be written.

    """
    splits = load_data(config, terminal)
    trainer = Trainer(config, splits, device)
    run = create_named_run(run_dir) if run_dir is not None else create_run(Path(config.output.runs), name)
    with run.locked():
        session = Session(config, splits, trainer, run, terminal)
        run.save(session.checkpoint(), best=False)  # from the first second on there is something to resume
        write_text(run.config, dump_config(config))
        terminal.note(f"{run.folder}: {_describe(splits, trainer)}")
        yield session


@contextlib.contextmanager
def resume(
    path: Path, config: Config | None, assignments: Sequence[str], device: torch.device, terminal: Terminal
) -> Iterator[Session]:
    """Open a run at a saved position, and hold its lock.

    Args:
        path: ``last.pt`` or another checkpoint of the run folder.
        config: what ``--config`` and ``--set`` say, compared with the run's own; None takes the run's own.
        assignments: ``--set`` on the run's own config where ``config`` is None.
        device: where to compute.
        terminal: where reports go.

    Raises:
        CheckpointError: the checkpoint is damaged; the message offers those that are whole.
        ConfigError: the config differs in what may not change.

    """
    run = Run(path.parent)
    with run.locked():
        found = _load_or_offer(path, run)
        wanted = config or parse_config(dump_config(found.config), str(run.config), assignments)
        _refuse_changes(found.config, wanted, len(found.training["history"]))
        splits = load_data(wanted, terminal).for_model(found.form, str(path))
        trainer = Trainer(wanted, splits, device)
        trainer.restore(found.weights, found.training)
        session = Session(wanted, splits, trainer, run, terminal)
        if wanted != found.config:
            write_text(run.config, dump_config(wanted))
        write_text(run.metrics, "".join(json_text(_epoch_values(report)) + "\n" for report in trainer.history))
        terminal.note(f"{run.folder}: resumed at epoch {trainer.epoch + 1}, step {trainer.step_in_epoch}")
        yield session


def find_resumable(target: str | None, name: str | None, run_dir: Path | None, parent: Path) -> Path | None:
    """Return the checkpoint that ``--resume`` means, or None where a config was given and there is nothing to resume yet.

    Args:
        target: RUN, a run folder, a checkpoint of one, or the name of a run.
        name: the run name of ``--config``, if it was given.
        run_dir: ``--run-dir``.
        parent: where runs lie.

    Raises:
        InputError: there is nothing to resume and no config to start from.

    """
    if target is not None:
        path = Path(target) if Path(target).exists() else parent / target
        path = Run(path).last if path.is_dir() else path
        if not path.exists():
            raise InputError(
                f"--resume {target}: nothing to resume; expected a run folder with last.pt, or a checkpoint of one"
            )
        return path
    if run_dir is not None or name is not None:
        run = Run(run_dir) if run_dir is not None else newest_run(parent, name)
        if run is not None and run.last.exists():
            return run.last
        if name is not None:
            return None
        raise InputError(f"--resume --run-dir {run_dir}: nothing to resume there; --config says what to start")
    newest = newest_run(parent)
    if newest is None:
        raise InputError(f"--resume: no run under {parent}/; with --config it would start one")
    return newest.last


def _load_or_offer(path: Path, run: Run) -> Checkpoint:
    """Load a checkpoint; where it is damaged, say which others of the run are whole."""
    try:
        return checkpoints.load(path)
    except CheckpointError as error:
        offers = []
        for other in (run.last, run.previous, run.best):
            if other != path and other.exists():
                with contextlib.suppress(CheckpointError):
                    epochs = len(checkpoints.load(other).training["history"])
                    offers.append(f"to go on from the {epochs} epochs in {other.name}: tiedae train --resume {other}")
        raise CheckpointError("\n".join([str(error), *offers])) from None


def _refuse_changes(old: Config, new: Config, epochs_done: int) -> None:
    refused = [change for change in changed_fields(old, new) if change.partition(":")[0] not in MAY_CHANGE]
    if refused:
        allowed = ", ".join(MAY_CHANGE)
        raise ConfigError(
            "\n".join(["--resume goes on with the same training; these differ:", *refused, f"only {allowed} may change"])
        )
    if new.training.epochs < epochs_done:
        raise ConfigError(f"training.epochs: {new.training.epochs} is asked for, but {epochs_done} epochs are done")


def _describe(splits: Splits, trainer: Trainer) -> str:
    sizes = trainer.model.sizes
    shape = "-".join(str(size) for size in (*sizes, *reversed(sizes[:-1])))
    parameters = sum(parameter.numel() for parameter in trainer.model.parameters())
    tied = "tied" if trainer.model.config.tied else "untied"
    return (
        f"{shape} {tied}, {parameters:,} parameters, on {len(splits.train):,} {splits.form.describe()} of {splits.source}, "
        f"{trainer.device}"
    )


def _epoch_values(report: EpochReport) -> dict[str, Any]:
    return {"event": "epoch", **asdict(report)}
