"""Differences between operating systems, each handled once, so that all other modules work and import everywhere."""

import contextlib
import errno
import importlib.util
import os
import platform
import re
import select
import shlex
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path, PurePath
from types import FrameType

HAS_FLOCK = importlib.util.find_spec("fcntl") is not None
"""Whether open files can be locked, renamed and removed. On Windows a file that is open cannot be renamed or removed."""
OPENS_FOLDERS = hasattr(os, "O_DIRECTORY")
"""Whether a folder can be opened to flush its entries to the disk. False on Windows."""
PATIENCE = (0.01, 0.03, 0.1, 0.3, 1.0)  # s, between attempts to replace a file that another process is reading


def open_flags(*names: str) -> int:
    """Return these flags of ``os.open`` combined; flags that this system lacks are ignored."""
    return sum({getattr(os, name, 0) for name in ("O_BINARY", *names)})


def flock(descriptor: int, wait: bool) -> None:
    """Lock an open file for as long as it is open.

    Raises:
        BlockingIOError: another process holds the lock, and ``wait`` is False.
        OSError: the system or the file system has no such locks.
    """
    if sys.platform == "win32" or not HAS_FLOCK:
        raise OSError(errno.ENOTSUP, os.strerror(errno.ENOTSUP))
    import fcntl

    fcntl.flock(descriptor, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))


def flush_to_disk(descriptor: int) -> None:
    """Make written data survive a power cut; on macOS ``fsync`` alone leaves it in the drive's cache."""
    if sys.platform == "darwin":
        import fcntl

        with contextlib.suppress(OSError):  # a file system that only supports fsync
            fcntl.fcntl(descriptor, fcntl.F_FULLFSYNC)
            return
    os.fsync(descriptor)


def replace(source: Path, target: Path) -> None:
    """Rename a file over another one, atomically; on Windows, wait a moment for readers of the old file.

    Args:
        source: its path.
        target: its new path.

    Raises:
        OSError: the file cannot be replaced.
    """
    for pause in () if HAS_FLOCK else PATIENCE:
        with contextlib.suppress(PermissionError):
            return os.replace(source, target)
        time.sleep(pause)
    os.replace(source, target)


def change_owner(descriptor: int, user: int, group: int) -> None:
    """Change the owner of an open file if the platform has owners; raise ``OSError`` if this is not permitted."""
    if sys.platform != "win32":
        os.fchown(descriptor, user, group)


def change_mode(descriptor: int, mode: int) -> None:
    """Change the permissions of an open file if the platform has them."""
    if sys.platform != "win32":
        os.fchmod(descriptor, mode)


def address_space_limit() -> int | None:
    """Return the bytes of address space that ``ulimit -v`` allows this process; None if it sets no limit, and on Windows."""
    if sys.platform == "win32":
        return None
    import resource

    limit, _ = resource.getrlimit(resource.RLIMIT_AS)
    return None if limit == resource.RLIM_INFINITY else limit


def call_every(seconds: float, handler: Callable[[int, FrameType | None], None]) -> None:
    """Call a signal handler in the main thread every ``seconds`` (0 stops it). No-op on Windows, which has no timers."""
    if sys.platform != "win32":
        signal.signal(signal.SIGALRM, handler)
        signal.setitimer(signal.ITIMER_REAL, seconds, seconds)


def has_bytes(descriptor: int, seconds: float) -> bool:
    """Return whether a pipe has bytes, or ends, within some seconds. False at once on Windows, where only sockets can be waited for."""
    return sys.platform != "win32" and bool(select.select([descriptor], [], [], seconds)[0])


def machine_name() -> str:
    """Return the names of the system and the processor."""
    return f"{platform.system()} {platform.machine()}"


def is_amd() -> bool:
    """Return whether the processor is made by AMD; False if that is unknown."""
    if "AuthenticAMD" in platform.processor():  # Windows
        return True
    with contextlib.suppress(OSError), open("/proc/cpuinfo", encoding="ascii", errors="replace") as file:
        return "AuthenticAMD" in file.read(1 << 12)
    return False


def quoted(word: str | PurePath) -> str:
    """Return a word quoted for a POSIX shell, or on Windows for ``cmd`` and PowerShell."""
    text = str(word)
    if sys.platform != "win32":
        return shlex.quote(text)
    if text and all(letter.isalnum() or letter in "_-+=./\\:@~" for letter in text):
        return text
    text = re.sub(r'(\\*)"', r'\1\1\\"', text)  # backslashes are literal except before a quotation mark
    return '"' + re.sub(r"(\\+)$", r"\1\1", text) + '"'
