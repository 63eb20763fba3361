"""How a training begins: as a new run, or as an old one at its saved position."""

import contextlib
import logging
import os
from collections.abc import Iterator, Sequence
from pathlib import Path

import torch
from torch import Tensor

from tiedae_cli.config import Config
from tiedae_cli.config.yaml_reader import changed_fields, dump_config, parse_config
from tiedae_cli.data import ItemForm, ItemSet, Splits, load_splits
from tiedae_cli.data.load_data import absolute
from tiedae_cli.errors import CheckpointError, ConfigError, DataError, InputError, StorageError
from tiedae_cli.model.autoencoder import TiedAutoencoder, build_autoencoder, untied_weights
from tiedae_cli.model.inference import batch_size
from tiedae_cli.output.terminal import Terminal
from tiedae_cli.runs import checkpoint as checkpoints
from tiedae_cli.runs.checkpoint import Checkpoint
from tiedae_cli.runs.run_folder import Run, create_named_run, create_run, find_checkpoint, named_model, newest_run
from tiedae_cli.runs.training_state import JOINT
from tiedae_cli.system.devices import Ranks, choose_place
from tiedae_cli.system.optional_packages import optional_package
from tiedae_cli.system.portability import quoted
from tiedae_cli.tasks.training_run import Session, identify
from tiedae_cli.training.order import shuffle_of
from tiedae_cli.training.trainer import Trainer

log = logging.getLogger(__name__)

CPU = torch.device("cpu")
MAY_CHANGE = (
    "training.epochs",
    "training.checkpoint_every",
    "data.root",
    "output.runs",
    "output.images",
    "output.report",
    "output.tensorboard",
)


@contextlib.contextmanager
def start(
    config: Config, name: str, run_dir: Path | None, device: torch.device, ranks: Ranks, terminal: Terminal
) -> Iterator[Session]:
    """Make a new run and its first checkpoint, and hold its lock.

    Args:
        config: the whole config.
        name: the run's name where ``run_dir`` is None.
        run_dir: exactly this folder.
        device: where to compute.
        ranks: the processes that train together; the leading one alone writes.
        terminal: where reports go.

    Raises:
        DataError: the data is missing or damaged; nothing was made.
        StorageError: the folder cannot be written.
    """
    _check_trackers(config)
    config = config.model_copy(update={"data": absolute(config.data)})
    place = choose_place(device, config.training, ranks)
    splits = data_to_train_on(config)
    config = in_epochs(config, len(splits.train))
    config = _with(config, shuffle=shuffle_of(splits.train, config.training.shuffle))
    weights = None if config.training.init_from is None else initial_weights(config, splits.form)
    trainer = Trainer(config, splits, place, weights)
    if not ranks.leads:
        session = Session(config, splits, trainer, Run(Path(name)), terminal)
        session.checkpoint()  # the leader's first one sums over all processes
        yield session
        return
    run = create_named_run(run_dir) if run_dir is not None else create_run(Path(os.path.expanduser(config.output.runs)), name)
    with run.locked():
        session = Session(config, splits, trainer, run, terminal)
        if run.last.exists():  # a process with the same --run-dir was faster
            raise InputError(f"--run-dir {run.folder}: another process has just trained here")
        try:
            run.save(session.checkpoint(), best=False)  # from the first second on there is something to resume
        except StorageError:
            run.remove_if_empty()
            raise
        run.write(run.config, dump_config(config).encode())
        log.info(f"{run.folder}: {_describe(splits, trainer)}")
        yield session


@contextlib.contextmanager
def resume(
    path: Path, config: Config | None, assignments: Sequence[str], device: torch.device, ranks: Ranks, terminal: Terminal
) -> Iterator[Session]:
    """Open a run at a saved position, and hold its lock.

    Args:
        path: ``last.safetensors`` or another checkpoint of the run folder.
        config: what ``--config`` and ``--set`` say, compared with the run's own; None takes the run's own.
        assignments: ``--set`` on the run's own config where ``config`` is None.
        device: where to compute.
        ranks: the processes that train together; the leading one alone writes.
        terminal: where reports go.

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
    with run.locked() if ranks.leads else contextlib.nullcontext():
        found = ranks.from_leader(_load_or_offer(path, run) if ranks.leads else None)
        assert found is not None
        wanted = config or parse_config(dump_config(found.config), str(run.config), assignments)
        wanted = wanted.model_copy(update={"data": absolute(wanted.data)})
        if "train" in found.training.data:
            wanted = in_epochs(wanted, found.training.data["train"].images)
        if wanted.training.shuffle == "auto":
            wanted = _with(wanted, shuffle=found.config.training.shuffle)
        _refuse_changes(found, wanted)
        _check_trackers(wanted)
        place = choose_place(device, wanted.training, ranks)
        splits = data_to_train_on(wanted, config is not None).for_model(found.form, str(path))
        _refuse_other_data(path, found, splits)
        trainer = Trainer(wanted, splits, place)
        try:
            trainer.restore(found.weights, found.training)
        except CheckpointError as error:
            raise CheckpointError(f"{path}: damaged: {error}") from None
        session = Session(wanted, splits, trainer, run, terminal)
        if ranks.leads and path != run.last:
            run.link(path, run.last)
        session.repair()
        log.info(f"{run.folder}: resumed after {trainer.epoch} epochs and {trainer.step_in_epoch} steps")
        if trainer.is_finished:
            more = f"tiedae train --resume {quoted(run.folder)} --epochs {2 * wanted.training.epochs}"
            log.info(f"{run.folder}: complete, {wanted.training.epochs:,} epochs; for more: {more}")
        yield session


def in_epochs(config: Config, items: int) -> Config:
    """Return the config with ``training.steps`` as whole epochs of so many training items, at least one."""
    training = config.training
    if training.steps is None:
        return config
    of_epoch = items // max(1, min(training.batch_size, items))
    epochs = max(1, round(training.steps / max(1, of_epoch)))
    return _with(config, epochs=epochs, steps=None)


def _with(config: Config, **training: object) -> Config:
    """Return the config with other values under ``training``."""
    return config.model_copy(update={"training": config.training.model_copy(update=training)})


def _check_trackers(config: Config) -> None:
    """Raise ``InputError`` before anything is made, if a tracker that the config asks for is not installed."""
    if config.output.tensorboard:
        optional_package("tensorboard", "tensorboard")


def data_to_train_on(config: Config, may_fill_root: bool = True) -> Splits:
    """Load a config's data.

    Args:
        config: the config.
        may_fill_root: as in ``load_splits``.

    Raises:
        DataError: the data is missing, damaged or of no use, such as rows that are all alike.
        ConfigError: the data and the config do not go together.
    """
    splits = load_splits(config.data, may_fill_root)
    if splits.form.kind == "vectors" and config.model.output == "sigmoid":
        raise ConfigError(
            "model.output: sigmoid stays in [0, 1], but features are standardised (mean 0, deviation 1): use linear"
        )
    if splits.form.kind == "vectors" and any(words.takes_images for words in config.model.encoder):
        raise ConfigError(
            f"model.layers: convolutions look at neighbouring pixels; {splits.source} holds {splits.form.describe()}: use dense"
        )
    if splits.form.kind == "vectors" and config.score.rank == "region":
        raise ConfigError(f"score.rank: region looks at parts of images; {splits.source} holds {splits.form.describe()}")
    for key, what in (("shift", "moves"), ("flip", "mirrors")):
        if splits.form.kind == "vectors" and getattr(config.training, key):
            raise ConfigError(f"training.{key}: {what} images; {splits.source} holds {splits.form.describe()}")
    if splits.form.kind == "vectors" and _all_alike(splits.train):
        count = (
            f"all {len(splits.train):,} training items are alike" if len(splits.train) > 1 else "only one item is for training"
        )
        raise DataError(f"{splits.source}: {count}: there is nothing to learn from them")
    return splits


def _all_alike(items: ItemSet) -> bool:
    """Return whether no item differs from the first one; a few are read where the second one differs."""
    first, size = items.batch(0, 1, CPU), batch_size(items)
    return all(
        torch.equal(block, first.expand_as(block))
        for block in (items.batch(i, i + size, CPU) for i in range(0, len(items), size))
    )


def initial_weights(config: Config, form: ItemForm) -> dict[str, Tensor]:
    """Return the weights of ``training.init_from``; where they are tied and the config is not, the decoder starts as their transpose.

    Raises:
        InputError: nothing of that name, or a model of another shape.
        CheckpointError: the checkpoint is damaged.
    """
    source = find_checkpoint(os.path.expanduser(str(config.training.init_from)), Path(os.path.expanduser(config.output.runs)))
    found = checkpoints.load(source)
    with torch.device("meta"):
        theirs, ours = build_autoencoder(found.form.shape, found.config.model), build_autoencoder(form.shape, config.model)
    if _build(theirs) != _build(ours):
        raise InputError(f"training.init_from: {source} is a model {_build(theirs)}, not {_build(ours)}")
    if config.model.tied and not found.config.model.tied:
        raise InputError(f"training.init_from: {source} is untied; a tied model cannot start from two different weights")
    unties = found.config.model.tied and not config.model.tied
    return untied_weights(found.weights) if unties else dict(found.weights)


def _build(model: TiedAutoencoder) -> str:
    """Return what has to agree between two models whose weights are to be exchanged."""
    return f"{model.shapes} ({', '.join(layer.describe() for layer in model.layers)})"


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
        path = named_model(target, parent) or Path(target)
        run = Run(path)
        if path.is_dir() and any(file.exists() for file in (run.last, run.previous, run.best)):
            return run.last
        if path.is_dir() or not path.exists():
            raise InputError(
                f"--resume {target}: nothing to resume; expected a run folder with last.safetensors, or a checkpoint of one"
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
