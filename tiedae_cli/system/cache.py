"""The user's cache folder: how processes take turns in one of its subfolders, and how damaged files in it are detected."""

import contextlib
import hashlib
import json
import logging
import os
import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path

from platformdirs import user_cache_path

from tiedae_cli.errors import StorageError
from tiedae_cli.system.locks import holding
from tiedae_cli.system.regular_files import open_regular
from tiedae_cli.system.storage import remove_temporaries, replacing, storage_errors

log = logging.getLogger(__name__)

SEAL = "seal.json"  # sizes, digests and times of the files of a cache entry
ALWAYS_DIGESTED = 1 << 30  # bytes; the digest of a larger file is compared only if its time has changed


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
        folder: created if missing; temporary files of killed processes are removed from it, and so is what is not a file (damage).

    Raises:
        StorageError: the folder cannot be created.
    """
    with storage_errors(folder, "created"):
        if os.path.lexists(folder) and not folder.is_dir():
            folder.unlink()
        folder.mkdir(parents=True, exist_ok=True)

    def say() -> None:
        log.info(f"another process is filling {folder}; waiting for it")

    with holding(folder, say) as held:
        if held:  # on a file system without locks both do the work, and the second file replaces an equal one
            remove_temporaries(folder)
            _remove_damage(folder)
        yield


def _remove_damage(folder: Path) -> None:
    """Remove folders, links and pipes. No cache entry holds any, and a file could not replace some of them."""
    for path in folder.iterdir():
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path, ignore_errors=True)
        elif path.is_symlink() or not path.is_file():
            with contextlib.suppress(OSError):
                path.unlink()


def seal(files: Sequence[Path]) -> None:
    """Record the sizes and digests of the files of a cache entry, all in one folder, after they have been written.

    Raises:
        StorageError: the record cannot be written.
    """
    entries = {path.name: _entry(path) for path in files}
    with replacing(files[0].parent / SEAL) as file:
        file.write(json.dumps(entries).encode())


def undamaged_files(folder: Path) -> set[str]:
    """Return the names of the files of a cache entry; empty if there is none, or any file differs from its record."""
    with contextlib.suppress(OSError, ValueError, AttributeError, TypeError, KeyError, RecursionError):
        with open_regular(folder / SEAL) as file:
            entries = json.loads(file.read(1 << 16))
        if all(_is_undamaged(folder / name, entry) for name, entry in entries.items()):
            return set(entries)
    return set()


def _entry(path: Path) -> dict[str, object]:
    with storage_errors(path, "read"), open_regular(path) as file:
        information = os.fstat(file.fileno())
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    return {"bytes": information.st_size, "mtime_ns": information.st_mtime_ns, "sha256": digest}


def _is_undamaged(path: Path, entry: dict[str, object]) -> bool:
    with open_regular(path) as file:
        information = os.fstat(file.fileno())
        if information.st_size != entry["bytes"]:
            return False
        if information.st_size > ALWAYS_DIGESTED and information.st_mtime_ns == entry["mtime_ns"]:
            return True
        return hashlib.file_digest(file, "sha256").hexdigest() == entry["sha256"]
