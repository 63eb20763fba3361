"""The run folder: where everything of one training lies, who may write to it, and which run is meant when none is named."""

import contextlib
import hashlib
import logging
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from tiedae_cli.config.samples import sample_configs
from tiedae_cli.data.item_set import ItemSet
from tiedae_cli.errors import CheckpointError, InputError, StorageError
from tiedae_cli.runs.export_document import is_exported
from tiedae_cli.runs.run_list import OUTCOME, choose_run, known_runs
from tiedae_cli.system.locks import LOCK_FILE, holding
from tiedae_cli.system.storage import (
    TEMPORARY_PREFIX,
    append_line,
    link_or_copy,
    remove_temporaries,
    replacing_name,
    storage_errors,
    sync_file,
)

if TYPE_CHECKING:
    from tiedae_cli.runs.checkpoint import Checkpoint

log = logging.getLogger(__name__)

CHECKPOINTS = ("last.safetensors", "previous.safetensors", "best.safetensors")
STATE = (*CHECKPOINTS, "config.yaml", "metrics.jsonl", OUTCOME)  # what no output ever replaces


class Run:
    """The files of one run. While it is locked, a folder that is renamed, removed or replaced is noticed before anything is written.

    Args:
        folder: the run folder.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._locked_folder: os.stat_result | None = None
        self.config = folder / "config.yaml"
        self.metrics = folder / "metrics.jsonl"
        self.last = folder / "last.safetensors"
        self.previous = folder / "previous.safetensors"
        self.best = folder / "best.safetensors"
        self.loss_figure = folder / "loss.png"
        self.reconstructions_figure = folder / "reconstructions.png"
        self.outcome = folder / OUTCOME
        self.report = folder / "report.html"

    def __fspath__(self) -> str:
        return str(self.folder)

    @property
    def name(self) -> str:
        """The folder's own name."""
        return self.folder.name

    def _check_folder(self) -> None:
        """Raise ``StorageError`` if the path no longer leads to the folder that was locked (device and inode)."""
        if self._locked_folder is None:
            return
        with contextlib.suppress(OSError):
            if os.path.samestat(os.stat(self.folder), self._locked_folder):
                return
        raise StorageError(
            f"{self.folder}: this run's folder was renamed, removed or replaced; nothing more is written there. "
            "If it was renamed, continue from its last save with: tiedae train --resume NEW_NAME"
        )

    @contextlib.contextmanager
    def _same_folder(self) -> Iterator[None]:
        """Check the folder before a block that uses it, and again if the block fails, because that may be the reason."""
        self._check_folder()
        try:
            yield
        except (CheckpointError, StorageError):
            self._check_folder()
            raise

    def save(self, checkpoint: "Checkpoint", best: bool) -> None:
        """Replace the last checkpoint, keep what it was as the previous one, and link the best to it if this epoch is the best.

        At every instant ``last.safetensors`` is whole: the old one or the new one.

        Raises:
            StorageError: something cannot be written, or the folder is not this run's any more; the old files are intact.
        """
        with self._same_folder():
            with replacing_name(self.last) as file:
                checkpoint.write(file)
                sync_file(file)  # a full disk shows here, before anything old has moved
                if os.path.lexists(self.last):
                    self.link(self.last, self.previous)
            if best:
                self.link(self.last, self.best)

    def load(self, path: Path) -> "Checkpoint":
        """Return one of its checkpoints.

        Raises:
            CheckpointError: it is damaged or missing.
            StorageError: the folder is not this run's any more.
        """
        from tiedae_cli.runs import checkpoint as checkpoints  # which imports torch; names of outputs are checked without it

        with self._same_folder():
            return checkpoints.load(path)

    def write(self, path: Path, content: bytes) -> None:
        """Write one of its files, whole or not at all.

        Raises:
            StorageError: it cannot be written, or the folder is not this run's any more; the old file is intact.
        """
        with self._same_folder(), replacing_name(path) as file:
            file.write(content)

    def append_line(self, path: Path, line: str) -> None:
        """Append a line to one of its files and flush it to the disk."""
        with self._same_folder():
            append_line(path, line)

    def link(self, source: Path, target: Path) -> None:
        """Make one of its files the same as another one."""
        with self._same_folder():
            link_or_copy(source, target)

    def remove_if_empty(self) -> None:
        """Remove the folder of a run in which nothing could be written."""
        with contextlib.suppress(OSError):
            if [path.name for path in self.folder.iterdir()] == [LOCK_FILE]:
                (self.folder / LOCK_FILE).unlink()
            self.folder.rmdir()

    def _refuse_a_second(self) -> None:
        raise InputError(f"{self.folder}: another process is training this run")

    @contextlib.contextmanager
    def locked(self) -> Iterator[None]:
        """Hold the run against a second training; the system lets go when this process ends, however it ends.

        On a file system without locks (some network ones) nothing is held.

        Raises:
            InputError: another process is training this run.
        """
        with storage_errors(self.folder, "opened"):
            folder = os.stat(self.folder)
        with holding(self.folder, self._refuse_a_second):
            self._locked_folder = folder
            try:
                self._check_folder()
                remove_temporaries(self.folder)
                yield
            finally:
                self._locked_folder = None


def is_run(folder: Path) -> bool:
    """Return whether a folder is a run's: it holds a checkpoint, or will as soon as its training has begun."""
    return any(os.path.lexists(folder / name) for name in CHECKPOINTS)


def is_state_of_a_run(path: Path) -> bool:
    """Return whether a run keeps its own state under this path, or would."""
    return path.name in STATE and is_run(path.parent)


def create_run(parent: Path, name: str) -> Run:
    """Make a new run folder ``parent/name``, or ``name-2``, ``name-3`` ... if the name is taken, also by a process of this second.

    Raises:
        StorageError: the folder cannot be created.
    """
    with storage_errors(parent, "created"):
        parent.mkdir(parents=True, exist_ok=True)
    for number in range(1, 1_000_000):
        folder = parent / (name if number == 1 else f"{name}-{number}")
        with storage_errors(folder, "created"), contextlib.suppress(FileExistsError):
            folder.mkdir()
            return Run(folder)
    raise StorageError(f"{parent}: a million runs named {name}")


def create_named_run(folder: Path) -> Run:
    """Make exactly this run folder; an empty one may exist.

    Raises:
        InputError: it exists and is not empty, for nothing is ever overwritten.
        StorageError: it cannot be created.
    """
    with storage_errors(folder, "created"):
        folder.mkdir(parents=True, exist_ok=True)
        if any(path.name != LOCK_FILE and not path.name.startswith(TEMPORARY_PREFIX) for path in folder.iterdir()):
            raise InputError(f"--run-dir {folder}: not empty; name a new folder, or continue that run with --resume {folder}")
    return Run(folder)


def newest_run(parent: Path, name: str | None = None) -> Run | None:
    """Return the run that was saved last, among those of a name (``name``, ``name-2`` ...) if one is given; None without any."""
    found = [
        path
        for path in parent.glob("*/last.safetensors")
        if name is None or re.fullmatch(re.escape(name) + r"(-\d+)?", path.parent.name)
    ]
    newest = max(found, key=lambda path: (path.stat().st_mtime_ns, path.parent.name), default=None)
    return None if newest is None else Run(newest.parent)


def named_model(word: str, parent: Path) -> Path | None:
    """Return the run folder or the checkpoint that a word names; None where it names neither.

    What lies under the word as a path comes first, if it is a run or a checkpoint; another folder or file there does not hide the
    run of that name. A word that says where something lies is not a name: never ``./photos``, and ``photos/`` only if nothing lies there.
    """
    from tiedae_cli.runs import checkpoint as checkpoints

    path = Path(word)
    if is_run(path) or checkpoints.is_checkpoint(path):
        return path
    named = parent / path
    if word.startswith((f".{os.sep}", "./")):
        return None
    return named if len(path.parts) == 1 and (word == path.name or not path.exists()) and is_run(named) else None


def find_checkpoint(model: str | None, parent: Path) -> Path:
    """Return the checkpoint that MODEL means: a file, a run folder's ``best.safetensors``, the name of a run, or the newest finished run's.

    Raises:
        InputError: nothing of that name.
    """
    if model is None:
        folder, note = choose_run(parent)
        if note is not None:
            log.info(note)
        model = str(folder)
    if is_exported(model):
        raise InputError(
            f"{model}: an exported file, which only score, encode, decode, reconstruct and inspect can use; "
            "this command needs the checkpoint or the run that it was exported from"
        )
    path = named_model(model, parent) or Path(model)
    if path.is_dir():
        best = Run(path).best
        if not best.exists():
            started = Run(path).last.exists()
            reason = "no epoch is finished yet" if started else f"expected a checkpoint or a run folder{known_runs(parent)}"
            raise InputError(f"{path}: no best.safetensors in this folder: {reason}")
        return best
    if not path.exists():
        if model.lower() in sample_configs():
            raise InputError(f"{model}: a sample config that has not been trained yet; type: tiedae train {model.lower()}")
        raise InputError(f"{model}: no such checkpoint or run folder{known_runs(parent)}")
    return path


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


def fingerprint(images: ItemSet) -> str:
    """Return a digest of the form and of up to 257 items spread over the set."""
    digest = hashlib.sha256(repr((len(images), images.form.shape, str(images.values.dtype))).encode())
    items = np.arange(0, len(images), max(1, len(images) // 256))
    for values in (images.rows[images.positions(items)], images.form.offset, images.form.scale):
        if isinstance(values, np.ndarray):
            digest.update(np.ascontiguousarray(values).data)
    return digest.hexdigest()
