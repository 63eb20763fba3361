"""What ``train`` does: a new run, or an old one at its saved position, and everything that follows the training."""

import contextlib
import logging
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import assert_never

import torch
from torch import Tensor

from tiedae_cli.config import Config
from tiedae_cli.config.schema import Tracker
from tiedae_cli.config.yaml_reader import changed_fields, dump_config, parse_config
from tiedae_cli.data.item_set import Splits
from tiedae_cli.data.load_data import absolute
from tiedae_cli.data.sources.memory import MemoryData
from tiedae_cli.errors import CheckpointError, ConfigError, DataError, InputError, StorageError
from tiedae_cli.model.autoencoder import TiedAutoencoder
from tiedae_cli.output.mlflow_tracker import MlflowTracker
from tiedae_cli.output.tensorboard import TensorBoard
from tiedae_cli.output.terminal import Terminal
from tiedae_cli.output.training_display import TrainingDisplay
from tiedae_cli.output.training_lines import TrainingLines
from tiedae_cli.output.training_pictures import TrainingPictures
from tiedae_cli.output.training_verdict import TrainingVerdict
from tiedae_cli.report.report_observer import ReportPage
from tiedae_cli.runs.checkpoint import Checkpoint
from tiedae_cli.runs.observer import Observer
from tiedae_cli.runs.run_folder import Run, create_named_run, create_run
from tiedae_cli.runs.training_state import JOINT
from tiedae_cli.scoring.false_alarms import QUANTILE
from tiedae_cli.scoring.rankers import RANKERS, fit_ranker
from tiedae_cli.system.devices import Ranks, arithmetic_restored, choose_place
from tiedae_cli.system.portability import quoted
from tiedae_cli.tasks.report import report_page
from tiedae_cli.training.checkpointing import Checkpoints, OutcomeFile, identify
from tiedae_cli.training.initial_weights import initial_weights
from tiedae_cli.training.order import shuffle_of
from tiedae_cli.training.schedule import in_epochs
from tiedae_cli.training.suitable_data import data_to_train_on
from tiedae_cli.training.trainer import Trainer
from tiedae_cli.training.training_run import TrainingRun

log = logging.getLogger(__name__)

MAY_CHANGE = (
    "training.epochs",
    "training.checkpoint_every",
    "data.root",
    "output.runs",
    "output.images",
    "output.report",
    "output.trackers",
)


def observers(
    checkpoints: Checkpoints, trackers: Sequence[Observer], terminal: Terminal | None, pictures: bool = True
) -> list[Observer]:
    """Return everything that follows a training on the leading process, in the order in which it is told.

    Each epoch is saved before trackers and pipelines hear of it. The bar goes first, because slow work after the training draws
    bars of its own. Trackers come after the pictures and the checkpoint that they copy.

    Args:
        checkpoints: saves the training.
        trackers: of ``output.trackers``.
        terminal: shows the training; None shows nothing.
        pictures: whether the run folder gets pictures.
    """
    config, run = checkpoints.config, checkpoints.run
    return [
        *([TrainingDisplay(terminal, checkpoints.form.items_name)] if terminal else []),
        checkpoints,
        *([TrainingPictures()] if pictures else []),
        OutcomeFile(run, config.training.epochs),
        *([ReportPage(lambda run, name, split: report_page([run], [name], split, QUANTILE))] if config.output.report else []),
        TrainingVerdict(in_shell=terminal is None or terminal.prints),
        *trackers,
        *([TrainingLines(terminal)] if terminal else []),
    ]


def tracker(name: Tracker) -> Observer:
    """Return a tracker by its name in ``output.trackers``.

    Raises:
        InputError: its package is not installed; the message says what installs it.
    """
    match name:
        case "tensorboard":
            return TensorBoard()
        case "mlflow":
            return MlflowTracker()
    assert_never(name)


@contextlib.contextmanager
def start(
    config: Config,
    name: str,
    run_dir: Path | None,
    device: torch.device,
    ranks: Ranks,
    terminal: Terminal | None = None,
    memory: MemoryData | None = None,
    pictures: bool = True,
) -> Iterator[TrainingRun]:
    """Make a new run and its first checkpoint, and hold its lock.

    Args:
        config: the whole config.
        name: the run's name if ``run_dir`` is None.
        run_dir: exactly this folder.
        device: where to compute.
        ranks: the processes that train together; the leading one alone writes.
        terminal: shows the training; None shows nothing.
        memory: data in memory, in place of what the config names.
        pictures: whether the run folder gets pictures.

    Raises:
        DataError: the data is missing or damaged; nothing was made.
        StorageError: the folder cannot be written.
    """
    trackers = _trackers(config)
    with arithmetic_restored():
        config, splits, trainer = _new_trainer(config, device, ranks, memory)
        if not ranks.leads:
            saving = Checkpoints(config, splits, trainer, Run(Path(name)))
            saving.begin()  # the leader's first checkpoint sums over all processes
            yield TrainingRun(config, splits, trainer, saving.run, [saving])
            return
        run = create_named_run(run_dir) if run_dir is not None else create_run(_parent(config), name)
        with run.locked():
            saving = Checkpoints(config, splits, trainer, run, _ranker_fitted(splits, device))
            if run.last.exists():  # a process with the same --run-dir was faster
                raise InputError(f"--run-dir {run.folder}: another process has just trained here")
            try:
                saving.begin()
            except StorageError:
                run.remove_if_empty()
                raise
            saving.write_config()
            log.info(f"{run.folder}: {_describe(splits, trainer)}")
            yield TrainingRun(config, splits, trainer, run, observers(saving, trackers, terminal, pictures))


def _new_trainer(
    config: Config, device: torch.device, ranks: Ranks, memory: MemoryData | None
) -> tuple[Config, Splits, Trainer]:
    """Return the config with all that depends on the data, the data, and the trainer before its first step."""
    config = config.model_copy(update={"data": absolute(config.data)})
    place = choose_place(device, config.training, ranks)
    splits = _suitable_data(config, memory=memory)
    config = in_epochs(config, len(splits.train))
    config = _with_shuffle(config, shuffle_of(splits.train, config.training.shuffle))
    weights = None if config.training.init_from is None else initial_weights(config, splits.form)
    return config, splits, Trainer(config, splits, place, weights)


def _suitable_data(config: Config, may_fill_root: bool = True, memory: MemoryData | None = None) -> Splits:
    """Do what ``data_to_train_on`` does, and refuse a rank that cannot score such items."""
    splits = data_to_train_on(config, may_fill_root, memory)
    if refusal := RANKERS[config.score.rank].refusal(splits.form):
        raise ConfigError(f"score.rank: {config.score.rank} {refusal}; {splits.source} holds {splits.form.describe()}")
    return splits


@contextlib.contextmanager
def resume(
    path: Path,
    config: Config | None,
    assignments: Sequence[str],
    device: torch.device,
    ranks: Ranks,
    terminal: Terminal | None = None,
) -> Iterator[TrainingRun]:
    """Open a run at a saved position, and hold its lock.

    Args:
        path: ``last.safetensors`` or another checkpoint of the run folder.
        config: what ``--config`` and ``--set`` say, compared with the run's own; None takes the run's own.
        assignments: ``--set`` on the run's own config if ``config`` is None.
        device: where to compute.
        ranks: the processes that train together; the leading one alone writes.
        terminal: shows the training; None shows nothing.

    Raises:
        CheckpointError: the checkpoint is damaged; the message offers those that are whole.
        ConfigError: the config differs in what may not change.
        DataError: the data is not what the run was trained on.
    """
    run = Run(path.parent)
    if path not in (run.last, run.previous, run.best):
        raise InputError(
            f"--resume {path}: not in a run folder; expected its last.safetensors, previous.safetensors or best.safetensors"
        )
    with arithmetic_restored(), run.locked() if ranks.leads else contextlib.nullcontext():
        found = ranks.from_leader(_load_or_offer(path, run) if ranks.leads else None)
        assert found is not None
        wanted = _wanted(found, config or parse_config(dump_config(found.config), str(run.config), assignments))
        _refuse_changes(found, wanted)
        trackers = _trackers(wanted)
        place = choose_place(device, wanted.training, ranks)
        splits = _suitable_data(wanted, config is not None).for_model(found.form, str(path))
        _refuse_other_data(path, found, splits)
        trainer = Trainer(wanted, splits, place)
        try:
            trainer.restore(found.weights, found.training)
        except CheckpointError as error:
            raise CheckpointError(f"{path}: damaged: {error}") from None
        saving = Checkpoints(wanted, splits, trainer, run, _ranker_fitted(splits, device))
        if ranks.leads and path != run.last:
            run.link(path, run.last)
        saving.repair()
        log.info(f"{run.folder}: resumed after {trainer.epoch} epochs and {trainer.step_in_epoch} steps")
        if trainer.is_finished:
            more = f"tiedae train --resume {quoted(run.folder)} --epochs {2 * wanted.training.epochs}"
            log.info(f"{run.folder}: complete, {wanted.training.epochs:,} epochs; for more: {more}")
        told = observers(saving, trackers, terminal) if ranks.leads else [saving]
        yield TrainingRun(wanted, splits, trainer, run, told)


def _wanted(found: Checkpoint, config: Config) -> Config:
    """Return a config with what the run decided at its start: absolute paths, whole epochs, the order of the items."""
    config = config.model_copy(update={"data": absolute(config.data)})
    if "train" in found.training.data:
        config = in_epochs(config, found.training.data["train"].images)
    return _with_shuffle(config, found.config.training.shuffle) if config.training.shuffle == "auto" else config


def _with_shuffle(config: Config, shuffle: str) -> Config:
    return config.model_copy(update={"training": config.training.model_copy(update={"shuffle": shuffle})})


def _parent(config: Config) -> Path:
    return Path(os.path.expanduser(config.output.runs))


def _trackers(config: Config) -> list[Observer]:
    """Return the trackers that the config asks for; raise ``InputError`` before anything is made if one is not installed."""
    return [tracker(name) for name in dict.fromkeys(config.output.trackers)]


def _ranker_fitted(splits: Splits, device: torch.device) -> Callable[[TiedAutoencoder, Config], Mapping[str, Tensor]]:
    """Return what fits the ranker of a config to a trained model, and gives the tensors that a checkpoint keeps of it."""
    return lambda model, config: fit_ranker(model, splits.train, config, device).tensors()


def _load_or_offer(path: Path, run: Run) -> Checkpoint:
    """Load a checkpoint; where it is damaged, say which others of the run are whole."""
    try:
        return run.load(path)
    except CheckpointError as error:
        offers = []
        for other in (run.last, run.previous, run.best):
            if other != path and other.exists():
                with contextlib.suppress(CheckpointError):
                    epochs = len(run.load(other).training.history)
                    command = f"tiedae train --resume {quoted(other)}"
                    offers.append(f"to go on from the {epochs} epochs in {other.name}: {command}")
        raise CheckpointError("\n".join([str(error), *offers])) from None


def _refuse_other_data(path: Path, found: Checkpoint, splits: Splits) -> None:
    """Raise ``DataError`` unless the data is what the run was trained on."""
    before, now = found.training.data, identify(splits)
    if before == now:
        return
    if before.keys() != now.keys():
        raise CheckpointError(f"{path}: damaged: it does not say what it was trained on")
    differences = [
        f"{before[name].images:,} {name} images, now {now[name].images:,}"
        for name in now
        if before[name].images != now[name].images
    ]
    what = "; ".join(differences) or "as many images, but others"
    raise DataError(f"{path}: {splits.source} is not the data any more that this run was trained on: {what}")


def _refuse_changes(found: Checkpoint, new: Config) -> None:
    old = found.config
    refused = [change for change in changed_fields(old, new) if change.partition(":")[0] not in MAY_CHANGE]
    if refused:
        allowed = ", ".join(MAY_CHANGE)
        raise ConfigError(
            "\n".join(["--resume goes on with the same training; these differ:", *refused, f"only {allowed} may change"])
        )
    done = found.training.epoch if found.training.phase == JOINT else 0
    if new.training.epochs < done:
        raise ConfigError(f"training.epochs: {new.training.epochs} is asked for, but {done} epochs are done")


def _describe(splits: Splits, trainer: Trainer) -> str:
    parameters = sum(parameter.numel() for parameter in trainer.model.parameters())
    tied = "tied" if trainer.model.tied else "untied"
    where = f"{trainer.place.device}, {str(trainer.place.dtype).removeprefix('torch.')}"
    processes = f", {trainer.ranks.count} processes" if trainer.ranks.count > 1 else ""
    images = f"{len(splits.train):,} {splits.form.describe()} of {splits.source}"
    return f"{trainer.model.round_trip} {tied}, {parameters:,} parameters, on {images}, {where}{processes}"
