"""Files that are opened for reading only where they are files: a pipe would be waited for, a device read without end."""

import errno
import os
import stat
from pathlib import Path
from typing import IO

from tiedae_cli.system.portability import open_flags

KINDS = (
    (stat.S_ISFIFO, "a pipe"),
    (stat.S_ISSOCK, "a socket"),
    (stat.S_ISDIR, "a folder"),
    (stat.S_ISCHR, "a device"),
    (stat.S_ISBLK, "a device"),
)


def open_regular(path: Path | str) -> IO[bytes]:
    """Open a regular file, following links, without ever waiting for another process.

    Raises:
        OSError: there is none, it may not be read, or it is something else; its ``strerror`` says what.
    """
    if os.path.isdir(path):  # which cannot be opened on Windows
        raise OSError(errno.EINVAL, "a folder, not a file", str(path))
    descriptor = os.open(path, open_flags("O_RDONLY", "O_NONBLOCK", "O_CLOEXEC"))
    mode = os.fstat(descriptor).st_mode
    if not stat.S_ISREG(mode):
        os.close(descriptor)
        raise OSError(errno.EINVAL, f"{what_it_is(mode)}, not a file", str(path))
    return os.fdopen(descriptor, "rb")


def what_it_is(mode: int) -> str:
    """Return what a file's mode says that it is, in words."""
    return next((name for kind, name in KINDS if kind(mode)), "something else")
