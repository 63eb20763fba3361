"""Locks on folders: each is a lock on a small file in the folder, and ends with the process that holds it."""

import contextlib
import errno
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path

from filelock import FileLock, Timeout

from tiedae_cli.errors import StorageError

LOCK_FILE = ".tiedae.lock"  # never removed: two waiting processes could then lock different files
WITHOUT_LOCKS = (errno.EBADF, errno.EINVAL, errno.ENOLCK, errno.ENOSYS, errno.ENOTSUP)  # some network file systems


@contextlib.contextmanager
def holding(folder: Path, if_held: Callable[[], None]) -> Iterator[bool]:
    """Lock a folder in this block. Yield whether it is locked: False on a file system without locks.

    Args:
        folder: an existing folder.
        if_held: called if another process holds the lock. If it returns, wait for the lock; it may raise instead.

    Raises:
        StorageError: the folder cannot be written to.
    """
    lock = FileLock(folder / LOCK_FILE, thread_local=False)
    held = _acquired(lock, folder, if_held)
    try:
        yield held
    finally:
        if held:
            lock.release()


def is_held(folder: Path) -> bool:
    """Return whether a process holds a folder now, without creating anything there."""
    if not (folder / LOCK_FILE).exists():
        return False
    lock = FileLock(folder / LOCK_FILE, thread_local=False)
    try:
        lock.acquire(timeout=0)
    except Timeout:
        return True
    except OSError:
        return False
    lock.release()
    return False


def _acquired(lock: FileLock, folder: Path, if_held: Callable[[], None]) -> bool:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # about lock files that replace flock on some systems
            try:
                lock.acquire(timeout=0)
            except Timeout:
                if_held()
                lock.acquire()
        return True
    except OSError as error:
        if error.errno in WITHOUT_LOCKS:
            return False
        raise StorageError(f"{folder}: cannot be written: {error.strerror or error}") from None
