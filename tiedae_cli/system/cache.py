"""The user's cache folder, and how several processes take turns in one folder of it."""

import contextlib
import fcntl
import logging
import os
from collections.abc import Iterator
from pathlib import Path

from tiedae_cli.errors import StorageError
from tiedae_cli.system.storage import HeldFolder, told_as_storage_error

log = logging.getLogger(__name__)


def cache_folder() -> Path:
    """Return ``$XDG_CACHE_HOME/tiedae``, else ``~/.cache/tiedae``.

    Raises:
        StorageError: this user has no home.
    """
    if os.environ.get("XDG_CACHE_HOME"):
        return Path(os.environ["XDG_CACHE_HOME"]) / "tiedae"
    try:
        return Path.home() / ".cache" / "tiedae"
    except RuntimeError:
        raise StorageError("this user has no home folder; name a folder for caches with XDG_CACHE_HOME") from None


@contextlib.contextmanager
def taking_turns(folder: Path) -> Iterator[None]:
    """Make a folder and hold it; a second process waits until the first is done, however that ends.

    Args:
        folder: made if it is absent; what a killed process left in it is removed.

    Raises:
        StorageError: the folder cannot be made.
    """
    with told_as_storage_error(folder, "made"):
        folder.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(folder, os.O_RDONLY)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            log.info(f"another process is filling {folder}; waiting for it")
            fcntl.flock(descriptor, fcntl.LOCK_EX)
        except (
            OSError
        ):  # a file system without locks: both do the work, and the second replaces the first's file by an equal one
            yield
            return
        with HeldFolder(folder) as held:
            held.remove_temporaries()
        yield
    finally:
        os.close(descriptor)
