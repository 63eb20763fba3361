"""The user's cache folder, and how processes take turns in one of its subfolders."""

import contextlib
import logging
import os
from collections.abc import Iterator
from pathlib import Path

from platformdirs import user_cache_path

from tiedae_cli.errors import StorageError
from tiedae_cli.system.locks import holding
from tiedae_cli.system.storage import remove_temporaries, storage_errors

log = logging.getLogger(__name__)


def cache_folder() -> Path:
    r"""Return ``$XDG_CACHE_HOME/tiedae`` if it is set, otherwise the platform's cache folder.

    That is ``~/.cache/tiedae`` on Linux, ``~/Library/Caches/tiedae`` on macOS and ``%LOCALAPPDATA%\tiedae\Cache`` on Windows.

    Raises:
        StorageError: this user has no home folder.
    """
    if os.environ.get("XDG_CACHE_HOME"):
        return Path(os.environ["XDG_CACHE_HOME"]) / "tiedae"
    with contextlib.suppress(RuntimeError):  # no home folder; before platformdirs 4.14 the path then begins with "~"
        folder = user_cache_path("tiedae", appauthor=False)
        if folder.is_absolute():
            return folder
    raise StorageError("this user has no home folder; set XDG_CACHE_HOME to a folder for caches")


@contextlib.contextmanager
def taking_turns(folder: Path) -> Iterator[None]:
    """Create and lock a folder; a second process waits until the first one has finished or died.

    Args:
        folder: created if missing; temporary files of killed processes are removed from it.

    Raises:
        StorageError: the folder cannot be created.
    """
    with storage_errors(folder, "created"):
        folder.mkdir(parents=True, exist_ok=True)

    def say() -> None:
        log.info(f"another process is filling {folder}; waiting for it")

    with holding(folder, say) as held:
        if held:  # on a file system without locks both do the work, and the second file replaces an equal one
            remove_temporaries(folder)
        yield
