"""What operating systems do differently, each thing once: other modules ask here, and nothing is missing when they are imported."""

import contextlib
import errno
import importlib.util
import os
import platform
import re
import shlex
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path, PurePath
from types import FrameType

HAS_FLOCK = importlib.util.find_spec("fcntl") is not None
"""Whether open files can be locked, renamed and removed. On Windows whoever has a file open keeps others from doing that."""
OPENS_FOLDERS = hasattr(os, "O_DIRECTORY")
"""Whether a folder can be opened, to flush its names to the disk. Not on Windows."""
PATIENCE = (0.01, 0.03, 0.1, 0.3, 1.0)  # s, between attempts to replace a file that another process reads just now


def open_flags(*names: str) -> int:
    """Return these flags of ``os.open`` together; one that this system does not have is left out."""
    return sum({getattr(os, name, 0) for name in ("O_BINARY", *names)})


def flock(descriptor: int, wait: bool) -> None:
    """Lock an open file for as long as it is open.

    Raises:
        BlockingIOError: another process holds it, and this one shall not wait.
        OSError: the system or the file system has no such locks.
    """
    if sys.platform == "win32" or not HAS_FLOCK:
        raise OSError(errno.ENOTSUP, os.strerror(errno.ENOTSUP))
    import fcntl

    fcntl.flock(descriptor, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))


def flush_to_disk(descriptor: int) -> None:
    """Make what was written to a file survive a power cut; on macOS ``fsync`` alone leaves it in the drive's own memory."""
    if sys.platform == "darwin":
        import fcntl

        with contextlib.suppress(OSError):  # a file system that knows only fsync
            fcntl.fcntl(descriptor, fcntl.F_FULLFSYNC)
            return
    os.fsync(descriptor)


def replace(source: Path, target: Path) -> None:
    """Rename a file over another one, atomically; where open files cannot be replaced, wait a moment for who reads the old one.

    Args:
        source: its path.
        target: its new path.

    Raises:
        OSError: it cannot be done.
    """
    for pause in () if HAS_FLOCK else PATIENCE:
        with contextlib.suppress(PermissionError):
            return os.replace(source, target)
        time.sleep(pause)
    os.replace(source, target)


def call_every(seconds: float, handler: Callable[[int, FrameType | None], None]) -> None:
    """Let a signal handler interrupt the main thread every so many seconds, 0 for no more; Windows has no timers, and it never does."""
    if sys.platform != "win32":
        signal.signal(signal.SIGALRM, handler)
        signal.setitimer(signal.ITIMER_REAL, seconds, seconds)


def machine_name() -> str:
    """Return the system and the processor, in words."""
    return f"{platform.system()} {platform.machine()}"


def is_amd() -> bool:
    """Return whether the processor is AMD's; False where the system does not tell."""
    if "AuthenticAMD" in platform.processor():  # Windows
        return True
    with contextlib.suppress(OSError), open("/proc/cpuinfo", encoding="ascii", errors="replace") as file:
        return "AuthenticAMD" in file.read(1 << 12)
    return False


def quoted(word: str | PurePath) -> str:
    """Return a word as it is typed in a command line: for a POSIX shell, on Windows for ``cmd`` and PowerShell."""
    text = str(word)
    if sys.platform != "win32":
        return shlex.quote(text)
    if text and all(letter.isalnum() or letter in "_-+=./\\:@~" for letter in text):
        return text
    text = re.sub(r'(\\*)"', r'\1\1\\"', text)  # a program reads backslashes as themselves, except before a quotation mark
    return '"' + re.sub(r"(\\+)$", r"\1\1", text) + '"'
