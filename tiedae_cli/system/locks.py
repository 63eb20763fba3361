"""How one process holds a folder against others: by a lock on a small file in it, which ends with the process, however that ends."""

import contextlib
import errno
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path

from filelock import FileLock, Timeout

from tiedae_cli.errors import StorageError

LOCK_FILE = ".tiedae.lock"  # stays when the lock ends: removing it could part two processes that wait for it
WITHOUT_LOCKS = (errno.EBADF, errno.EINVAL, errno.ENOLCK, errno.ENOSYS, errno.ENOTSUP)  # some network file systems


@contextlib.contextmanager
def holding(folder: Path, if_held: Callable[[], None]) -> Iterator[bool]:
    """Hold a folder while entered. Gives whether it is held: on a file system without locks nothing is.

    Args:
        folder: it exists.
        if_held: called if another process holds it. Where it returns, this one waits; where it raises, this one gives up.

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
    """Return whether a process holds a folder now; nothing is made there to find out."""
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
            warnings.simplefilter(
                "ignore", UserWarning
            )  # where there is no flock, the lock is a file with the process's number
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
