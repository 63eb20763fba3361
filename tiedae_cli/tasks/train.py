"""The ``train`` command: starts or resumes a run and attaches its observers."""

import contextlib
import logging
import os
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path

import torch

from tiedae_cli.config import Config, keys
from tiedae_cli.config.shareable import is_url
from tiedae_cli.config.yaml_reader import dump_config, parse_config
from tiedae_cli.data.item_set import ItemSet, Splits
from tiedae_cli.data.load_data import absolute, load_splits
from tiedae_cli.errors import CheckpointError, ConfigError, DataError, InputError, StorageError
from tiedae_cli.output.terminal import Terminal
from tiedae_cli.output.tracker import create_tracker
from tiedae_cli.output.training_display import TrainingDisplay
from tiedae_cli.output.training_lines import TrainingLines
from tiedae_cli.output.training_pictures import TrainingPictures
from tiedae_cli.output.training_verdict import TrainingVerdict
from tiedae_cli.report.report_observer import ReportPage
from tiedae_cli.runs.checkpoint import Checkpoint
from tiedae_cli.runs.data_identity import changed_data, comparable, identities
from tiedae_cli.runs.observer import Observer, Progress
from tiedae_cli.runs.run_config import MAY_CHANGE, config_in_folder, has_path, refused_changes
from tiedae_cli.runs.run_folder import CONFIG, Run, create_named_run, create_run
from tiedae_cli.runs.trained_run import OpenRun
from tiedae_cli.runs.training_state import JOINT, EpochReport
from tiedae_cli.scoring.false_alarms import QUANTILE
from tiedae_cli.scoring.finished_model import finished_parts
from tiedae_cli.scoring.rankers import RANKERS
from tiedae_cli.system.devices import Ranks
from tiedae_cli.system.mapped_files import memory_map
from tiedae_cli.system.portability import quoted
from tiedae_cli.training.arithmetic import arithmetic_restored, choose_place
from tiedae_cli.training.checkpointing import Checkpoints, OutcomeFile
from tiedae_cli.training.initial_weights import initial_weights
from tiedae_cli.training.order import shuffle_of
from tiedae_cli.training.schedule import in_epochs
from tiedae_cli.training.suitable_data import Load, data_to_train_on
from tiedae_cli.training.trainer import Trainer
from tiedae_cli.training.training_run import TrainingRun

log = logging.getLogger(__name__)

ENOUGH = 1.0  # seconds of steps that tell how long an epoch takes
Attach = Callable[[Checkpoints, Sequence[Observer], Terminal | None], list[Observer]]


def observers(
    checkpoints: Checkpoints, trackers: Sequence[Observer], terminal: Terminal | None, pictures: bool = True
) -> list[Observer]:
    """Return the observers of a training on the leading process, in the order of their calls.

    Each epoch is saved before trackers and pipelines see it. The progress bar is removed first, because slow work after the training
    draws its own bars. Trackers come after the pictures and the checkpoint that they copy.

    Args:
        checkpoints: saves the training.
        trackers: the trackers of ``output.trackers``.
        terminal: shows the training; None shows nothing.
        pictures: whether the run folder gets pictures.
    """
    config, run = checkpoints.config, checkpoints.run
    return [
        *([TrainingDisplay(terminal, checkpoints.form.items_name)] if terminal else []),
        checkpoints,
        *([TrainingPictures()] if pictures else []),
        OutcomeFile(run, config.training.epochs),
        *([ReportPage(_page)] if config.output.report else []),
        TrainingVerdict(in_shell=terminal is None or terminal.prints),
        *trackers,
        *([TrainingLines(terminal)] if terminal else []),
    ]


def recorders(checkpoints: Checkpoints, trackers: Sequence[Observer], terminal: Terminal | None) -> list[Observer]:
    """Return the observers of one training among many: it is saved and tracked, but neither shown nor drawn."""
    return [checkpoints, OutcomeFile(checkpoints.run, checkpoints.config.training.epochs), *trackers]


def _page(run: OpenRun, name: str, split: str) -> bytes:
    from tiedae_cli.tasks.report import report_page  # most trainings write none

    return report_page([run], [name], split, QUANTILE)


@contextlib.contextmanager
def start(
    config: Config,
    name: str,
    run_dir: Path | None,
    device: torch.device,
    ranks: Ranks,
    terminal: Terminal | None = None,
    load: Load | None = None,
    attach: Attach | None = None,
) -> Iterator[TrainingRun]:
    """Start a new run: create its folder and first checkpoint, and hold its lock.

    Args:
        config: the complete config.
        name: name of the run if ``run_dir`` is None.
        run_dir: the run folder; None for a new folder named after ``name``.
        device: where to compute.
        ranks: the processes that train together; only the leading one writes.
        terminal: shows the training; None shows nothing.
        load: loads what the data section asks for. Default: from its files; several processes each keep a share.
        attach: returns the observers on the leading process. Default: ``observers``.

    Raises:
        DataError: the data is missing or damaged; no run was created.
        StorageError: the folder cannot be written.
    """
    trackers = _trackers(config)
    with arithmetic_restored():
        config, splits, trainer = _new_trainer(config, device, ranks, load or partial(load_splits, processes=_sharing(ranks)))
        if not ranks.leads:
            checkpoints = Checkpoints(config, splits, trainer, Run(Path(name)))
            checkpoints.begin()  # all processes take part in the leader's first checkpoint
            yield TrainingRun(config, splits, trainer, checkpoints.run, [checkpoints])
            return
        run = create_named_run(run_dir) if run_dir is not None else create_run(_parent(config), name)
        with run.locked():
            checkpoints = Checkpoints(config, splits, trainer, run, finished_parts)
            if run.last.exists():  # another process with the same --run-dir was faster
                raise InputError(f"--run-dir {run.folder}: another process has just trained here")
            try:
                checkpoints.begin()
            except StorageError:
                run.remove_if_empty()
                raise
            checkpoints.write_config()
            log.info(f"{run.folder}: {_describe(splits, trainer)}")
            yield TrainingRun(config, splits, trainer, run, (attach or observers)(checkpoints, trackers, terminal))


def _new_trainer(config: Config, device: torch.device, ranks: Ranks, load: Load) -> tuple[Config, Splits, Trainer]:
    """Return the config completed from the data, the data, and a trainer before its first step."""
    config = config.model_copy(update={"data": absolute(config.data)})
    place = choose_place(device, config.training, ranks)
    splits = _suitable_data(config, load)
    _refuse_different_processes(splits, ranks)
    config = in_epochs(config, len(splits.train))
    # One choice for all processes: machines differ in memory.
    config = _with_shuffle(config, ranks.from_leader(shuffle_of(splits.train, config.training.shuffle)))
    weights = None if config.training.init_from is None else initial_weights(config, splits.form)
    return config, splits, Trainer(config, splits, place, weights)


def epoch_seconds(config: Config, device: torch.device, load: Load) -> float:
    """Return the seconds of the steps of an epoch, judged by the first second of the training; 0 if layers are pretrained first.

    Args:
        config: the complete config.
        device: where to compute.
        load: loads what the data section asks for.

    Raises:
        DataError: the data is missing or damaged.
        DivergedError: the first epoch diverges.
    """
    _, _, trainer = _new_trainer(config, device, Ranks(), load)
    for report in trainer.train():
        if report.phase != JOINT:
            break
        if isinstance(report, Progress) and report.seconds > ENOUGH:
            return report.seconds * report.steps / report.step
        if isinstance(report, EpochReport) and report.epoch:
            return report.seconds
    return 0.0


def _sharing(ranks: Ranks) -> Ranks | None:
    """Return the processes that share the items; None if there is one."""
    return ranks if ranks.count > 1 else None


def _suitable_data(config: Config, load: Load) -> Splits:
    """Load the data to train on; raise ``ConfigError`` if ``score.rank`` cannot score its items."""
    splits = data_to_train_on(config, load)
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
    load: Load | None = None,
    attach: Attach | None = None,
) -> Iterator[TrainingRun]:
    """Resume a run at a saved position, and hold its lock.

    Args:
        path: ``last.safetensors`` or another checkpoint of the run folder.
        config: the config of ``--config`` and ``--set``, which must agree with the run's; None takes the run's config.
        assignments: ``--set`` on the run's config if ``config`` is None.
        device: where to compute.
        ranks: the processes that train together; only the leading one writes.
        terminal: shows the training; None shows nothing.
        load: loads what the data section asks for. Default: from its files; a run's own config does not choose where a download goes.
        attach: returns the observers on the leading process. Default: ``observers``.

    Raises:
        CheckpointError: the checkpoint is damaged; the message offers undamaged ones.
        ConfigError: the config changes a key that must stay the same.
        DataError: the data has changed since the run was trained.
    """
    run = Run(path.parent)
    if path not in (run.last, run.previous, run.best):
        raise InputError(
            f"--resume {path}: not in a run folder; expected its last.safetensors, previous.safetensors or best.safetensors"
        )
    with arithmetic_restored(), run.locked() if ranks.leads else contextlib.nullcontext():
        found = ranks.from_leader(_load_or_offer(path, run) if ranks.leads else None)
        assert found is not None
        requested = _completed(found, config or _own_config(path, found, assignments, ranks))
        _refuse_changes(found, requested)
        trackers = _trackers(requested)
        place = choose_place(device, requested.training, ranks)
        typed = config is not None or any(map(is_url, requested.data.sources))
        loads = load or partial(load_splits, may_fill_root=typed, processes=_sharing(ranks))
        splits = _suitable_data(requested, loads).for_model(found.form, str(path))
        _refuse_other_data(path, found, splits)
        _refuse_different_processes(splits, ranks)
        trainer = Trainer(requested, splits, place, resumes=True)
        try:
            trainer.restore(found.weights, found.training)
        except CheckpointError as error:
            raise CheckpointError(f"{path}: damaged: {error}") from None
        checkpoints = Checkpoints(requested, splits, trainer, run, finished_parts)
        if ranks.leads and path != run.last:
            run.link(path, run.last)
        checkpoints.repair()
        log.info(f"{run.folder}: resumed after {trainer.epoch} epochs and {trainer.step_in_epoch} steps")
        if trainer.is_finished:
            log.info(f"{run.folder}: {_end(run, requested, trainer)}")
        attached = (attach or observers)(checkpoints, trackers, terminal) if ranks.leads else [checkpoints]
        yield TrainingRun(requested, splits, trainer, run, attached)


def _end(run: Run, config: Config, trainer: Trainer) -> str:
    """Return how a finished training ended, and the command that trains on."""
    planned, patience = config.training.epochs, config.training.early_stopping
    command = f"tiedae train --resume {quoted(run.folder)}"
    if trainer.epoch >= planned or patience is None:
        return f"all {planned:,} epochs are done; to train longer: {command} --epochs {2 * planned}"
    return (
        f"stopped early after {trainer.epoch:,} of {planned:,} epochs; to train longer: {command} early_stopping={2 * patience}"
    )


def _completed(found: Checkpoint, config: Config) -> Config:
    """Complete a config as at the start of the run: absolute paths, whole epochs, the order of items."""
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
    return [create_tracker(name) for name in dict.fromkeys(config.output.trackers)]


def _load_or_offer(path: Path, run: Run) -> Checkpoint:
    """Load a checkpoint; if it is damaged, raise an error that offers the run's undamaged ones."""
    try:
        return run.load(path)
    except CheckpointError as error:
        offers = []
        for other in (run.last, run.previous, run.best):
            if other != path and other.exists():
                with contextlib.suppress(CheckpointError):
                    epochs = len(run.load(other).training.history)
                    command = f"tiedae train --resume {quoted(other)}"
                    offers.append(f"to resume after the {epochs} epochs in {other.name}: {command}")
        raise CheckpointError("\n".join([str(error), *offers])) from None


def _refuse_other_data(path: Path, found: Checkpoint, splits: Splits) -> None:
    """Raise ``DataError`` if the data has changed since the run was trained."""
    before, now = found.training.data, identities(splits)
    if before.keys() != now.keys():
        raise CheckpointError(f"{path}: damaged: the identity of its training data is missing")
    if (change := changed_data(before, now)) is not None:
        raise DataError(f"{path}: {splits.source} has changed since this run was trained: {change}")


def _refuse_different_processes(splits: Splits, ranks: Ranks) -> None:
    """Raise ``DataError`` in every process if the data of one differs from the leading one's."""
    if ranks.count == 1:
        return
    own = {name: comparable(one) for name, one in identities(splits).items()}
    change = changed_data(ranks.from_leader(own), own)
    if ranks.any(change is not None):
        if change is None:
            raise DataError(f"{splits.source}: the data of another process differs from that of process 0; see its message")
        raise DataError(f"{splits.source}: the data of process {ranks.rank} differs from that of process 0: {change}")


def _own_config(path: Path, found: Checkpoint, assignments: Sequence[str], ranks: Ranks) -> Config:
    """Return the config of a run with changed keys; the path of the data from ``config.yaml``, unless a key gives it.

    Raises:
        ConfigError: ``config.yaml`` is needed, and missing, invalid or that of another run.
    """
    named = (keys.assignment(text) for text in assignments)
    if has_path(found.config) and not any(pair and keys.find_key(pair[0]) == ("data", "dataset") for pair in named):
        config = ranks.from_leader(config_in_folder(path, found.config) if ranks.leads else None)
        if config is None:
            command = f"tiedae train --resume {quoted(path.parent)} dataset=PATH"
            raise ConfigError(
                f"{path.parent / CONFIG}: missing, and it alone has the path of the data; name the data: {command}"
            )
    else:
        config = found.config
    return parse_config(dump_config(config), str(path.parent / CONFIG), assignments)


def _refuse_changes(found: Checkpoint, new: Config) -> None:
    refused = refused_changes(found.config, new)
    if refused:
        allowed = ", ".join(MAY_CHANGE)
        raise ConfigError(
            "\n".join(
                ["--resume continues the same training, but these keys differ:", *refused, f"Only these may change: {allowed}"]
            )
        )
    done = found.training.epoch if found.training.phase == JOINT else 0
    if new.training.epochs < done:
        raise ConfigError(f"training.epochs: {new.training.epochs} is less than the {done} epochs that are already done")


def _held(items: ItemSet) -> str:
    """Return what each of several processes holds of the training items."""
    if items.share is not None:
        return "each with a share of the items"
    return "which map the same file" if memory_map(items.values) is not None else "each with all items"


def _describe(splits: Splits, trainer: Trainer) -> str:
    parameters = sum(parameter.numel() for parameter in trainer.model.parameters())
    tied = "tied" if trainer.model.tied else "untied"
    tied += ", with a linear path" if trainer.model.path is not None else ""
    where = f"{trainer.place.device}, {str(trainer.place.dtype).removeprefix('torch.')}"
    processes = f", {trainer.ranks.count} processes, {_held(splits.train)}" if trainer.ranks.count > 1 else ""
    items = f"{len(splits.train):,} {splits.form.describe()} of {splits.source}"
    return f"{trainer.model.round_trip} {tied}, {parameters:,} parameters, on {items}, {where}{processes}"
