"""Opening of regular files only: reading a pipe may hang, and reading a device may never end."""

import errno
import os
import stat
from io import BufferedReader
from pathlib import Path

from tiedae_cli.system.portability import open_flags

KINDS = (
    (stat.S_ISFIFO, "a pipe"),
    (stat.S_ISSOCK, "a socket"),
    (stat.S_ISDIR, "a folder"),
    (stat.S_ISCHR, "a device"),
    (stat.S_ISBLK, "a device"),
)


def open_regular(path: Path | str) -> BufferedReader:
    """Open a regular file for reading, following links, without ever waiting for another process.

    Raises:
        OSError: the file is missing, unreadable or not a regular file; ``strerror`` says which.
    """
    try:
        descriptor = os.open(path, open_flags("O_RDONLY", "O_NONBLOCK", "O_CLOEXEC"))
    except PermissionError:
        if os.path.isdir(path):  # it cannot be opened on Windows
            raise OSError(errno.EINVAL, "a folder, not a file", str(path)) from None
        raise
    mode = os.fstat(descriptor).st_mode
    if not stat.S_ISREG(mode):
        os.close(descriptor)
        raise OSError(errno.EINVAL, f"{what_it_is(mode)}, not a file", str(path))
    return os.fdopen(descriptor, "rb")


def what_it_is(mode: int) -> str:
    """Return the kind of file that a mode describes."""
    return next((name for kind, name in KINDS if kind(mode)), "something else")
