"""Files that are written whole or not at all: temporary file in the same folder, flush, fsync, rename, fsync of the folder.

A temporary file is locked by the process that writes it: one that nobody holds belongs to a dead process, and the next command that
writes there removes it. A folder that is renamed during a write takes the temporary file along, so nothing appears in a new folder of
the old name.
"""

import contextlib
import errno
import itertools
import os
import re
import secrets
import shutil
import stat
import time
from collections.abc import Iterator
from pathlib import Path
from typing import IO

from tiedae_cli.errors import StorageError
from tiedae_cli.system import portability
from tiedae_cli.system.interruption import stop_if_asked
from tiedae_cli.system.portability import flush_to_disk, open_flags

TEMPORARY_PREFIX = ".tiedae-"
LINK_PREFIX = f"{TEMPORARY_PREFIX}link-"  # a second name of a whole file, for an instant
WRITTEN = re.compile(re.escape(TEMPORARY_PREFIX) + r"[0-9a-f]{16}")  # the name of a file that is being written
SETTLED = 60  # s without a write
_tidied: set[Path] = set()  # folders in which this process has looked for what dead processes left


@contextlib.contextmanager
def storage_errors(path: Path | str, what: str = "written") -> Iterator[None]:
    """Turn an ``OSError`` into a message that names the file and the reason."""
    try:
        yield
    except BrokenPipeError:
        raise
    except OSError as error:
        raise StorageError(f"{path}: cannot be {what}: {error.strerror or error}") from None


@contextlib.contextmanager
def replacing_name(path: Path) -> Iterator[IO[bytes]]:
    """Yield a binary file that becomes ``path`` when the block ends without an error; until then ``path`` is untouched.

    A link at ``path`` is replaced, not followed: in a run folder from elsewhere nobody knows who made it.

    Raises:
        StorageError: the folder or the disk refuses it; no temporary file is left.
    """
    with storage_errors(path):
        temporary = _new_name(path.parent)
        try:  # from before there is a file: a signal may arrive as soon as it is made
            while (file := _held_file(temporary)) is None:
                temporary = _new_name(path.parent)
            with file:
                yield file
                stop_if_asked()
                sync_file(file)
                if not portability.HAS_FLOCK:
                    file.close()  # an open file could not be renamed
                portability.replace(temporary, path)
        except BaseException:
            _unlink(temporary)
            raise
        _sync_folder(path.parent)


def _new_name(folder: Path) -> Path:
    return folder / (TEMPORARY_PREFIX + secrets.token_hex(8))


def _held_file(path: Path) -> IO[bytes] | None:
    """Make a file, held until it is closed; None if another process took it for a dead one's before it was held."""
    file = path.open("xb")
    try:
        with contextlib.suppress(OSError):  # a file system without locks
            portability.flock(file.fileno(), wait=True)
        if os.fstat(file.fileno()).st_nlink:
            return file
    except BaseException:
        file.close()
        raise
    file.close()
    return None


def _unlink(path: Path) -> None:
    with contextlib.suppress(OSError):
        path.unlink()


def append_line(path: Path, line: str) -> None:
    """Append one line to a file and flush it to the disk. A link is refused.

    Raises:
        StorageError: it cannot be written, or is not a file.
    """
    flags = open_flags("O_WRONLY", "O_APPEND", "O_CREAT", "O_NOFOLLOW", "O_NONBLOCK", "O_CLOEXEC")
    with storage_errors(path), open(path, "ab", opener=lambda name, _: os.open(name, flags, 0o666)) as file:
        file.write(line.encode() + b"\n")
        sync_file(file)


def link_or_copy(source: Path, target: Path) -> None:
    """Make ``target`` the same file as ``source``, atomically; a copy where the file system has no hard links.

    Args:
        source: a file.
        target: a name in the same folder.

    Raises:
        StorageError: the folder or the disk refuses it; ``target`` is as before.
    """
    temporary = target.parent / (LINK_PREFIX + secrets.token_hex(8))
    with storage_errors(target):
        try:
            try:
                follow = os.link not in os.supports_follow_symlinks  # there the other answer is refused
                os.link(source, temporary, follow_symlinks=follow)
            except OSError:
                _copy(source, temporary)
            portability.replace(temporary, target)
        except BaseException:
            _unlink(temporary)
            raise
        _unlink(temporary)  # renaming a link onto the same file leaves both names
        _sync_folder(target.parent)


def _copy(source: Path, temporary: Path) -> None:
    with source.open("rb") as old, temporary.open("xb") as new:
        shutil.copyfileobj(old, new)
        sync_file(new)


def _sync_folder(folder: Path) -> None:
    """Make the names in a folder survive a power cut, where the file system can do that for folders."""
    if not portability.OPENS_FOLDERS:
        return
    try:
        descriptor = os.open(folder, open_flags("O_RDONLY", "O_DIRECTORY", "O_CLOEXEC"))
    except PermissionError:  # a folder that may be written to but not listed
        return
    try:
        flush_to_disk(descriptor)
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.ENOTSUP, errno.EBADF):  # some network and FUSE file systems
            raise
    finally:
        os.close(descriptor)


def remove_temporaries(folder: Path) -> None:
    """Remove all temporary files of a folder; only for the one process that may write there."""
    for name in os.listdir(folder):
        if name.startswith(TEMPORARY_PREFIX):
            _unlink(folder / name)


def _tidy(folder: Path) -> None:
    """Remove the temporary files of dead processes, once per folder and process."""
    if folder in _tidied:
        return
    _tidied.add(folder)
    with contextlib.suppress(OSError):  # a folder that may be written to, but not listed
        for name in filter(WRITTEN.fullmatch, os.listdir(folder)):
            _unlink_if_nobody_holds_it(folder / name)


def _unlink_if_nobody_holds_it(path: Path) -> None:
    with contextlib.suppress(OSError):  # held, gone, or on a file system without locks: it stays
        if not portability.HAS_FLOCK:  # one that is open cannot be removed there, only one that is being renamed
            if time.time() - path.stat().st_mtime > SETTLED:
                _unlink(path)
            return
        descriptor = os.open(path, open_flags("O_RDONLY", "O_NONBLOCK", "O_NOFOLLOW", "O_CLOEXEC"))
        try:
            portability.flock(descriptor, wait=False)
            if stat.S_ISREG(os.fstat(descriptor).st_mode):
                _unlink(path)
        finally:
            os.close(descriptor)


@contextlib.contextmanager
def replacing(path: Path) -> Iterator[IO[bytes]]:
    """Give a binary file that becomes ``path`` when the block ends without an error; until then ``path`` is untouched.

    A link keeps pointing where it does, and its target is replaced.

    Raises:
        StorageError: the folder or the disk does not take it; no temporary file is left.
    """
    with storage_errors(path):
        with contextlib.suppress(FileNotFoundError):
            os.stat(path)  # links that lead in a circle end here
        target = Path(os.path.realpath(path))
        _tidy(target.parent)
        try:
            with replacing_name(target) as file:
                yield file
        except StorageError as error:  # under the name that the user knows
            raise StorageError(str(error).replace(str(target), str(path), 1)) from None


def sync_file(file: IO[bytes]) -> None:
    """Make what was written so far survive a power cut; a full disk is noticed here at the latest."""
    file.flush()
    flush_to_disk(file.fileno())


def unused_name(path: Path, content: bytes) -> Path:
    """Return ``path``, or ``path-2``, ``path-3`` ... before its suffix: the first that is free or already holds this content.

    Raises:
        StorageError: what is there cannot be read.
    """
    candidates = itertools.chain([path], (path.with_stem(f"{path.stem}-{number}") for number in itertools.count(2)))
    with storage_errors(path, "compared"):
        return next(name for name in candidates if not os.path.lexists(name) or _holds(name, content))


def _holds(path: Path, content: bytes) -> bool:
    return path.is_file() and path.stat().st_size == len(content) and path.read_bytes() == content
