"""The user's cache folder, and how several processes take turns in one folder of it."""

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
    r"""Return ``$XDG_CACHE_HOME/tiedae`` where that is set, else the platform's folder for a user's caches.

    That is ``~/.cache/tiedae`` on Linux, ``~/Library/Caches/tiedae`` on macOS and ``%LOCALAPPDATA%\tiedae\Cache`` on Windows.

    Raises:
        StorageError: this user has no home.
    """
    if os.environ.get("XDG_CACHE_HOME"):
        return Path(os.environ["XDG_CACHE_HOME"]) / "tiedae"
    with contextlib.suppress(RuntimeError):  # that there is no home; before platformdirs 4.14 the path then begins with "~"
        folder = user_cache_path("tiedae", appauthor=False)
        if folder.is_absolute():
            return folder
    raise StorageError("this user has no home folder; name a folder for caches with XDG_CACHE_HOME")


@contextlib.contextmanager
def taking_turns(folder: Path) -> Iterator[None]:
    """Make a folder and hold it; a second process waits until the first is done, however that ends.

    Args:
        folder: made if it is absent; what a killed process left in it is removed.

    Raises:
        StorageError: the folder cannot be made.
    """
    with storage_errors(folder, "made"):
        folder.mkdir(parents=True, exist_ok=True)

    def say() -> None:
        log.info(f"another process is filling {folder}; waiting for it")

    with holding(
        folder, say
    ) as held:  # without locks both do the work, and the second replaces the first's file by an equal one
        if held:
            remove_temporaries(folder)
        yield
