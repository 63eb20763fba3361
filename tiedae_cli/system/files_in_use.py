"""The files that one command reads and writes, so that an output never replaces an input or another output."""

import contextlib
import os
import stat
import sys
from collections.abc import Iterator
from contextvars import ContextVar
from dataclasses import dataclass, field
from pathlib import Path

from tiedae_cli.system.text import note_names

Identity = tuple[int, int]  # device and inode: the same for all names of a file


@dataclass
class FilesInUse:
    """The files of one command."""

    inputs: set[Identity] = field(default_factory=set)
    """Files that the command reads."""
    folders: set[Path] = field(default_factory=set)
    """Real paths of the folders that the command reads images from."""
    outputs: set[Path] = field(default_factory=set)
    """Real paths of the files that the command has written."""
    stdout_is_taken: bool = False
    """Whether a result already goes to stdout."""


_current: ContextVar[FilesInUse | None] = ContextVar("files_in_use", default=None)


@contextlib.contextmanager
def tracking_files_in_use() -> Iterator[FilesInUse]:
    """Track the files of the command that runs in this block."""
    files = FilesInUse()
    token = _current.set(files)
    try:
        yield files
    finally:
        _current.reset(token)


def files_in_use() -> FilesInUse:
    """Return the files of the current command, or an empty record outside a command."""
    return _current.get() or FilesInUse()


def note_input(path: Path | str) -> None:
    """Record that this command reads a file, a folder of images or (``-``) stdin; missing files are ignored."""
    note_names([str(path)])
    files = _current.get()
    if files is None:
        return
    with contextlib.suppress(OSError, ValueError, AttributeError):  # also when stdin is closed
        information = os.fstat(sys.stdin.fileno()) if str(path) == "-" else os.stat(path)
        if stat.S_ISDIR(information.st_mode):
            files.folders.add(Path(os.path.realpath(path)))
        elif stat.S_ISREG(information.st_mode):
            files.inputs.add((information.st_dev, information.st_ino))
