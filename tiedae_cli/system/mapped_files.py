"""Memory-mapped files, and how a change to one is noticed while it is in use.

Reading a map whose file has been truncated kills the process (SIGBUS), and values that are written to the file appear in the map. A file
that is replaced by renaming stays as it was for whoever mapped it.
"""

import contextlib
import os
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np


@dataclass(frozen=True)
class MappedFile:
    """A file as it was when it was mapped or opened."""

    path: Path
    bytes: int
    mtime_ns: int
    inode: tuple[int, int]
    """Device and inode."""

    def change(self, now: os.stat_result | None = None) -> str | None:
        """Return what has happened to the file since then, as a clause; None if nothing has.

        Args:
            now: what the system says of an open file. Default: of what lies at the path.
        """
        try:
            now = now or os.stat(self.path)
        except OSError as error:
            return f"cannot be opened any more: {error.strerror or error}"
        if now.st_size != self.bytes:
            return f"had {self.bytes:,} bytes and has {now.st_size:,} now"
        if (now.st_dev, now.st_ino) != self.inode:
            return "was replaced by another file"
        return None if now.st_mtime_ns == self.mtime_ns else f"was written to at {clock_time(now.st_mtime_ns)}"


def mapped_file(path: Path, information: os.stat_result) -> MappedFile:
    """Return a file as ``os.fstat`` describes it."""
    return MappedFile(path, information.st_size, information.st_mtime_ns, (information.st_dev, information.st_ino))


def mapped_file_of(array: np.ndarray) -> MappedFile | None:
    """Return the file behind an array that is a view of a read-only memory map; None for arrays in memory and without a known file."""
    found = memory_map(array)
    if found is not None and found.filename is not None and found.mode == "r":
        with contextlib.suppress(OSError):
            return mapped_file(Path(found.filename), os.stat(found.filename))
    return None


def memory_map(array: np.ndarray) -> "np.memmap | None":
    """Return the memory map that an array is a view of; None for arrays in memory."""
    view: object = array
    while isinstance(view, np.ndarray):
        if isinstance(view, np.memmap):
            return view
        view = view.base
    return None


def clock_time(ns: int) -> str:
    """Return a time of a file, in ns since 1970, as local date and time."""
    try:
        return time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(ns / 1e9))
    except (OverflowError, ValueError, OSError):  # a time that no calendar has
        return f"{ns / 1e9:.0f} s after 1970"
