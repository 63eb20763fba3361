"""Data at a URL: fetched once into the cache folder, and again when the server says that it has changed; needs the extra ``remote``.

fsspec opens ``https://``, ``s3://`` and its other protocols. Credentials come from the usual places of each protocol (environment,
``~/.aws``, ``user:password@`` in the URL), and stand in no message and no checkpoint.
"""

import contextlib
import hashlib
import json
import logging
import re
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any
from urllib.parse import unquote, urlsplit

from tiedae_cli.config.shareable import public_url
from tiedae_cli.data.data_errors import first_line
from tiedae_cli.errors import DataError, InputError, TiedaeError
from tiedae_cli.system.cache import cache_folder, taking_turns
from tiedae_cli.system.optional_packages import optional_package
from tiedae_cli.system.progress import progress
from tiedae_cli.system.storage import replacing

log = logging.getLogger(__name__)

STATE = "state.json"  # what the server said about the file when it was fetched
MARKS = (
    "size",
    "ETag",
    "Last-Modified",
    "LastModified",
    "mtime",
    "last_modified",
    "Content-MD5",
    "updated",
)  # of the server's answer
DENIED = (401, 403)  # of HTTP
PART_BYTES = 1 << 22  # read at once
GLOB = re.compile(r"[*\[{]")
SECRET = re.compile(r"(\w+://)[^/\s@'\"]*@|(\w+://[^\s?'\"]*)\?[^\s'\")]*")


def local_copy(url: str) -> Path:
    """Return the path of a file with the content of a URL, fetched now unless the cache has it.

    Raises:
        InputError: the extra ``remote`` is not installed, or fsspec needs a further package for the protocol.
        DataError: nothing is there, access is denied, or it cannot be fetched; the message holds no credentials.
    """
    name = public_url(url)
    folder = cache_folder() / "remote" / hashlib.sha256(url.encode()).hexdigest()[:32]
    path = folder / (_file_name(url) or "data")
    with _fetching(name):
        system, remote = _opened(url, name)
        if GLOB.search(remote):
            raise DataError(f"{name}: patterns of URLs are not read; name one file")
        try:
            found = system.info(remote)
        except OSError as error:
            reason = _unreachable(error)
            if reason is None or not path.is_file() or not _state(folder):
                raise
            log.warning(f"{name}: cannot be reached ({reason}); the copy in {folder} is used")
            return path
        if found.get("type") == "directory":
            raise DataError(f"{name}: a folder; name one file")
        state = {mark: str(found[mark]) for mark in MARKS if found.get(mark) is not None}
        with taking_turns(folder):
            if len(state) < 2 or state != _state(folder) or not path.is_file():
                _fetch(system, remote, path, name, found.get("size"))
                with replacing(folder / STATE) as file:
                    file.write(json.dumps(state).encode())
    return path


def _opened(url: str, name: str) -> tuple[Any, str]:
    """Return the file system of a URL, and its path there."""
    core = optional_package("fsspec.core", "remote", f"{name}: reading it")
    try:
        found: tuple[Any, str] = core.url_to_fs(url)
    except ImportError as error:
        raise InputError(f"{name}: {first_line(error)}; for https and s3: pip install 'tiedae[remote]'") from None
    except ValueError as error:
        raise DataError(f"{name}: {_scrubbed(error)}") from None
    return found


def _fetch(system: Any, remote: str, path: Path, name: str, size: int | None) -> None:
    """Write a remote file to a path, whole or not at all."""
    with system.open(remote, "rb") as source, replacing(path) as file:
        done = _copy(source, file, name, size)
    if size is not None and done != size:
        path.unlink(missing_ok=True)
        raise DataError(f"{name}: the transfer ended after {done:,} of {size:,} bytes; try again")
    log.info(f"{name}: fetched once, {done / 1e6:.1f} MB, into {path.parent}")


def _copy(source: Any, file: IO[bytes], name: str, size: int | None) -> int:
    done = 0
    while part := source.read(PART_BYTES):
        file.write(part)
        done += len(part)
        if size:
            progress(f"fetching {name}, MB", min(done, size) >> 20, max(1, size >> 20))
    return done


def _state(folder: Path) -> dict[str, str]:
    with contextlib.suppress(OSError, ValueError):
        state = json.loads((folder / STATE).read_bytes())
        return state if isinstance(state, dict) else {}
    return {}


def _file_name(url: str) -> str:
    """Return the last part of a URL's path, whose suffix tells what the file is; without what file systems do not allow."""
    name = unquote(urlsplit(url).path).rstrip("/").rsplit("/", 1)[-1]
    return re.sub(r"[^\w.+-]", "_", name)[-100:].lstrip(".") if name != STATE else ""


@contextlib.contextmanager
def _fetching(name: str) -> Iterator[None]:
    """Raise ``DataError`` for whatever the libraries of a protocol raise; they share no base class."""
    try:
        yield
    except TiedaeError:
        raise
    except FileNotFoundError as error:
        status, reason = getattr(error.__cause__, "status", None), _unreachable(error)
        if status in DENIED:
            raise DataError(f"{name}: access denied (HTTP {status})") from None
        raise DataError(
            f"{name}: nothing is there (404)" if reason is None else f"{name}: cannot be reached ({reason})"
        ) from None
    except PermissionError as error:
        why = f"access denied ({_scrubbed(error)}); credentials come from where the protocol's own tools look for them"
        raise DataError(f"{name}: {why}") from None
    except Exception as error:
        status = getattr(error, "status", None)
        if status in DENIED:
            raise DataError(f"{name}: access denied (HTTP {status})") from None
        raise DataError(f"{name}: cannot be fetched: {_scrubbed(error)}") from None


def _unreachable(error: OSError) -> str | None:
    """Return why a server cannot be reached; None if it was, and answered with an error. fsspec calls both "not found"."""
    cause = error.__cause__ if isinstance(error, FileNotFoundError) else error
    if isinstance(cause, OSError) and not isinstance(cause, (FileNotFoundError, PermissionError)):
        return _scrubbed(cause)
    return None


def _scrubbed(error: BaseException) -> str:
    """Return the first line of an exception's message without user names, passwords and queries of URLs."""
    return SECRET.sub(lambda match: match.group(1) or match.group(2), first_line(error)) or type(error).__name__
