"""What one command reads and writes, noted where it happens, so that no output takes the place of an input or of another output."""

import contextlib
import os
import stat
import sys
from collections.abc import Iterator
from contextvars import ContextVar
from dataclasses import dataclass, field
from pathlib import Path

from tiedae_cli.system.text import note_names

Identity = tuple[int, int]  # device and number of a file, whatever its names


@dataclass
class FilesInUse:
    """The files of one command."""

    inputs: set[Identity] = field(default_factory=set)
    """Files that are read."""
    folders: set[Path] = field(default_factory=set)
    """Folders whose images are read, by their real paths."""
    outputs: set[Path] = field(default_factory=set)
    """Files that were written, by their real paths."""
    stdout_is_taken: bool = False
    """Whether stdout already carries a result."""


_current: ContextVar[FilesInUse | None] = ContextVar("ledger", default=None)


@contextlib.contextmanager
def tracking_files_in_use() -> Iterator[FilesInUse]:
    """Keep a ledger in this block, which is one command."""
    ledger = FilesInUse()
    token = _current.set(ledger)
    try:
        yield ledger
    finally:
        _current.reset(token)


def files_in_use() -> FilesInUse:
    """Return the ledger of this command; outside of one, an empty one."""
    return _current.get() or FilesInUse()


def note_input(path: Path | str) -> None:
    """Note that this command reads a file, a folder of images or, for ``-``, stdin; what is not there is noted by nobody."""
    note_names([str(path)])
    book = _current.get()
    if book is None:
        return
    with contextlib.suppress(OSError, ValueError, AttributeError):  # a closed stdin too
        information = os.fstat(sys.stdin.fileno()) if str(path) == "-" else os.stat(path)
        if stat.S_ISDIR(information.st_mode):
            book.folders.add(Path(os.path.realpath(path)))
        elif stat.S_ISREG(information.st_mode):
            book.inputs.add((information.st_dev, information.st_ino))
