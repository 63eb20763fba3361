"""One training from its run folder to its last picture: starts or resumes it, saves, draws, and obeys signals."""

import contextlib
import shlex
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
from tiedae_cli.errors import CheckpointError, ConfigError, DataError, DivergedError, InputError, Interrupted, StorageError
from tiedae_cli.evaluation import error_sum, reconstruct_items
from tiedae_cli.interruption import StopSignals
from tiedae_cli.runs import Run, create_named_run, create_run, fingerprint, newest_run, principal_components
from tiedae_cli.storage import append_line, link_or_copy, replacing, write_text
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
        self.data = _identify(splits)

    def train(self) -> None:
        """Train to the end, saving on the way, then draw the figures and print the checkpoint's path.

        Raises:
            Interrupted: a signal arrived; the state is saved.
            DivergedError: the loss is not finite; the last good checkpoint stays.
            StorageError: something cannot be written; the last good checkpoint stays.

        """
        with StopSignals() as stop, TrainingDisplay(self.terminal, self.config.training.epochs) as display:
            try:
                self._train(stop, display)
            except DivergedError as error:
                raise DivergedError(f"{error}\nThe last good state is {self.run.last}") from None
        if stop.received is not None:
            raise Interrupted(f"interrupted and saved; continue with: {self._resume_command()}", stop.received)
        try:
            self._finish()
        except Interrupted as signal:
            what = f"interrupted; the training is done and saved, its pictures are drawn by: {self._resume_command()}"
            raise Interrupted(what, signal.signal_number) from None

    def _train(self, stop: StopSignals, display: TrainingDisplay) -> None:
        """Train to the end or to a signal, and leave everything saved."""
        saved = time.monotonic()
        for report in self.trainer.train():
            if isinstance(report, EpochReport):
                self._save(best=report.best)
                self._record(report)
                display.epoch(report)
                saved = time.monotonic()
            else:
                display.progress(report)
                if stop.received is not None or time.monotonic() - saved > self.config.training.checkpoint_every:
                    self._save(best=False)
                    saved = time.monotonic()
            if stop.received is not None:
                return

    def _save(self, best: bool) -> None:
        self.run.save(self.checkpoint(), best)

    def checkpoint(self) -> Checkpoint:
        """Return everything as it stands now."""
        state = {**self.trainer.state(), "data": self.data}
        return Checkpoint(self.config, self.splits.form, self.trainer.model.state_dict(), state, self.run.name)

    def repair(self) -> None:
        """Bring the rest of the run folder to the position of ``last.pt``, for a process may die between two files."""
        write_text(self.run.config, dump_config(self.config))
        write_text(self.run.metrics, "".join(json_text(_epoch_values(report)) + "\n" for report in self.trainer.history))
        best = max((report.epoch for report in self.trainer.history if report.best), default=0)
        if not self.trainer.history or self._best_holds(best):
            return
        at_epoch_end = self.trainer.step_in_epoch == 0
        if best != self.trainer.epoch or not at_epoch_end:
            self.terminal.warn(
                f"{self.run.best}: not the weights of epoch {best} any more; from here on the best is chosen anew"
            )
            self.trainer.forget_best(stand_in=at_epoch_end)
        if at_epoch_end:
            link_or_copy(self.run.last, self.run.best)

    def _best_holds(self, epoch: int) -> bool:
        """Return whether ``best.pt`` is whole and of this epoch (or of a later one, when an older file is resumed)."""
        try:
            return len(checkpoints.load(self.run.best).training["history"]) >= epoch > 0
        except CheckpointError:
            return False

    def _record(self, report: EpochReport) -> None:
        values = _epoch_values(report)
        append_line(self.run.metrics, json_text(values))
        self.terminal.json_line(**values)

    def _resume_command(self) -> str:
        return f"tiedae train --resume {shlex.quote(str(self.run.folder))}"

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
        count = components.components.shape[1]
        yardstick = error_sum(components.reconstruct, splits.validation or splits.train, device).mse_per_pixel
        exact = count >= splits.form.pixels or yardstick == 0  # all but rounding is explained: no yardstick
        with replacing(self.run.loss_figure) as file:
            file.write(figures.loss_curve(history, None if exact else yardstick, count))
        originals, reconstructions, errors = reconstruct_items(model, splits.test.slice(0, self.config.output.images), device)
        with replacing(self.run.reconstructions_figure) as file:
            file.write(figures.reconstruction_pairs(originals, reconstructions, errors, splits.form))
        verdict = "" if exact else _verdict(best.selection_mse, yardstick, count)
        self.terminal.note(
            f"best epoch {best.epoch}: MSE {best.selection_mse:.6f} per pixel{verdict}\n"
            f"pictures: {self.run.loss_figure}, {self.run.reconstructions_figure}"
        )


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
    splits = load_splits(config.data)
    trainer = Trainer(config, splits, device)
    run = create_named_run(run_dir) if run_dir is not None else create_run(Path(config.output.runs), name)
    with run.locked():
        session = Session(config, splits, trainer, run, terminal)
        try:
            if run.last.exists():  # a process with the same --run-dir was faster
                raise InputError(f"--run-dir {run.folder}: another process has just trained here")
            run.save(session.checkpoint(), best=False)  # from the first second on there is something to resume
        except StorageError:
            with contextlib.suppress(OSError):
                run.folder.rmdir()  # empty: nothing was written
            raise
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
        DataError: the data is not what the run was trained on.

    """
    run = Run(path.parent)
    if path not in (run.last, run.previous, run.best):
        raise InputError(f"--resume {path}: not in a run folder; expected its last.pt, previous.pt or best.pt")
    with run.locked():
        found = _load_or_offer(path, run)
        wanted = config or parse_config(dump_config(found.config), str(run.config), assignments)
        _refuse_changes(found.config, wanted, len(found.training["history"]))
        splits = load_splits(wanted.data)
        _refuse_other_data(path, found, splits)
        trainer = Trainer(wanted, splits, device)
        try:
            trainer.restore(found.weights, found.training)
        except CheckpointError as error:
            raise CheckpointError(f"{path}: damaged: {error}") from None
        session = Session(wanted, splits, trainer, run, terminal)
        if path != run.last:
            link_or_copy(path, run.last)
        session.repair()
        done = trainer.epoch >= wanted.training.epochs
        where = (
            f"all {trainer.epoch} epochs are done" if done else f"at epoch {trainer.epoch + 1}, step {trainer.step_in_epoch}"
        )
        terminal.note(f"{run.folder}: resumed {where}")
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
        if run_dir is not None:
            raise InputError(f"--resume {target} --run-dir {run_dir}: both name a run; expected one of them")
        path = Path(target) if Path(target).exists() else parent / target
        run = Run(path)
        if path.is_dir() and any(file.exists() for file in (run.last, run.previous, run.best)):
            return run.last
        if path.is_dir() or not path.exists():
            raise InputError(
                f"--resume {target}: nothing to resume; expected a run folder with last.pt, or a checkpoint of one"
            )
        return path
    if run_dir is not None or name is not None:
        known = Run(run_dir) if run_dir is not None else newest_run(parent, name)
        if known is not None and known.last.exists():
            return known.last
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
                    command = f"tiedae train --resume {shlex.quote(str(other))}"
                    offers.append(f"to go on from the {epochs} epochs in {other.name}: {command}")
        raise CheckpointError("\n".join([str(error), *offers])) from None


def _identify(splits: Splits) -> dict[str, Any]:
    """Return what tells one data set from another: sizes and digests of the splits that training sees."""
    seen = {"train": splits.train, "validation": splits.validation}
    return {name: {"images": len(images), "digest": fingerprint(images)} for name, images in seen.items()}


def _refuse_other_data(path: Path, found: Checkpoint, splits: Splits) -> None:
    """Raise ``DataError`` unless the data is what the run was trained on."""
    if (splits.form.shape, splits.form.kind) != (found.form.shape, found.form.kind):
        raise DataError(f"{path}: trained on {found.form.describe()}, but {splits.source} now has {splits.form.describe()}")
    before: Any = found.training.get("data")
    now = _identify(splits)
    if before == now:
        return
    try:
        differences = [
            f"{before[name]['images']:,} {name} images, now {now[name]['images']:,}"
            for name in now
            if before[name]["images"] != now[name]["images"]
        ]
    except (KeyError, TypeError, ValueError):
        raise CheckpointError(f"{path}: damaged: it does not say what it was trained on") from None
    what = "; ".join(differences) or "as many images, but others"
    raise DataError(f"{path}: {splits.source} is not the data any more that this run was trained on: {what}")


def _refuse_changes(old: Config, new: Config, epochs_done: int) -> None:
    refused = [change for change in changed_fields(old, new) if change.partition(":")[0] not in MAY_CHANGE]
    if refused:
        allowed = ", ".join(MAY_CHANGE)
        raise ConfigError(
            "\n".join(["--resume goes on with the same training; these differ:", *refused, f"only {allowed} may change"])
        )
    if new.training.epochs < epochs_done:
        raise ConfigError(f"training.epochs: {new.training.epochs} is asked for, but {epochs_done} epochs are done")


def _verdict(error: float, yardstick: float, count: int) -> str:
    less = error < yardstick
    ratio = yardstick / max(error, 1e-12) if less else error / yardstick
    return f", {ratio:.1f} times {'less' if less else 'more'} than PCA with the same {count} numbers ({yardstick:.6f})"


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
