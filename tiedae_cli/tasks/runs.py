"""``tiedae runs --remove``: delete runs, but never one that is training, and nothing that tiedae did not write."""

import contextlib
import os
import shutil
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from tiedae_cli.errors import InputError
from tiedae_cli.output.trackers import mlflow, tensorboard
from tiedae_cli.runs.run_folder import STATE, Run, is_run
from tiedae_cli.runs.run_list import known_runs
from tiedae_cli.system.locks import LOCK_FILE, is_held
from tiedae_cli.system.storage import TEMPORARY_PREFIX, storage_errors

FOLDERS = (mlflow.FOLDER, tensorboard.FOLDER)


@dataclass(frozen=True)
class RemovableRun:
    """A run that can be removed."""

    folder: Path
    bytes: int
    """Size of what is removed."""
    kept: tuple[str, ...]
    """Names of what tiedae did not write: it stays, and so does the folder."""


def removable_runs(words: Sequence[str], parent: Path) -> list[RemovableRun]:
    """Return the runs that words name.

    Args:
        words: names of runs, or their folders.
        parent: the folder that contains the runs.

    Raises:
        InputError: a word names no run, or one that is training, or one behind a symbolic link.
    """
    return [_removable(folder) for folder in dict.fromkeys(_folder(word, parent) for word in words)]


def _folder(word: str, parent: Path) -> Path:
    found = next((folder for folder in (parent / word, Path(word)) if is_run(folder)), None)
    if found is None:
        raise InputError(f"{word}: not a run{known_runs(parent)}")
    if found.is_symlink():
        raise InputError(f"{found}: a symbolic link; name the folder that it leads to: {found.resolve()}")
    if is_held(found):
        raise InputError(f"{found}: still training; stop it first")
    return found


def _removable(folder: Path) -> RemovableRun:
    with storage_errors(folder, "read"):
        names = sorted(os.listdir(folder))
        size = sum(path.lstat().st_size for name in names if _is_own(folder, name) for path in _files(folder / name))
    return RemovableRun(folder, size, tuple(name for name in names if not _is_own(folder, name)))


def remove_run(run: RemovableRun) -> None:
    """Delete what tiedae wrote into a run folder, and the folder if nothing else is in it.

    Raises:
        InputError: the run has been resumed meanwhile.
        StorageError: something cannot be deleted.
    """
    folder = Run(run.folder)
    with folder.locked(), storage_errors(run.folder, "removed"):
        for name in os.listdir(run.folder):
            path = run.folder / name
            if name == LOCK_FILE or not _is_own(run.folder, name):
                continue
            if path.is_dir():
                shutil.rmtree(path)
            else:
                path.unlink()
    with contextlib.suppress(OSError):
        (run.folder / LOCK_FILE).unlink(missing_ok=True)
        run.folder.rmdir()


def _is_own(folder: Path, name: str) -> bool:
    """Return whether tiedae writes an entry of that name into a run folder."""
    path, run = folder / name, Run(folder)
    if path.is_symlink():
        return False
    if path.is_dir():
        return name in FOLDERS
    pictures = (run.loss_figure, run.reconstructions_figure, run.report)
    return name in (*STATE, LOCK_FILE, mlflow.RUN_ID) or path in pictures or name.startswith(TEMPORARY_PREFIX)


def _files(path: Path) -> Iterator[Path]:
    yield from (path.rglob("*") if path.is_dir() else [path])
