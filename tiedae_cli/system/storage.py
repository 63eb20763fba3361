"""Files that are written whole or not at all: temporary file in the same folder, flush, fsync, rename, fsync of the folder.

A temporary file is locked by the process that writes it. An unlocked one belongs to a dead process, and the next command that writes
to the folder removes it. A folder that is renamed during a write takes the temporary file along, so nothing appears in a new folder
of the old name.
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
LINK_PREFIX = f"{TEMPORARY_PREFIX}link-"  # a second name of a complete file, for a moment
WRITTEN = re.compile(re.escape(TEMPORARY_PREFIX) + r"[0-9a-f]{16}")  # names of files that are being written
SETTLED = 60  # s since the last write
_tidied: set[Path] = set()  # folders that this process has searched for files of dead processes


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

    A link at ``path`` is replaced, not followed: a run folder may come from someone else.

    Raises:
        StorageError: the file cannot be written; no temporary file remains.
    """
    with storage_errors(path):
        temporary = _new_name(path.parent)
        try:  # before the file exists: a signal may arrive as soon as it is created
            while (file := _held_file(temporary)) is None:
                temporary = _new_name(path.parent)
            with file:
                yield file
                _keep_mode_and_owner(file, path)
                stop_if_asked()
                sync_file(file)
                if not portability.HAS_FLOCK:
                    file.close()  # an open file cannot be renamed there
                portability.replace(temporary, path)
        except BaseException:
            _unlink(temporary)
            raise
        _sync_folder(path.parent)


def _keep_mode_and_owner(file: IO[bytes], path: Path) -> None:
    """Give a new file the permissions of the regular file that it replaces, and its owner as far as the system allows."""
    with contextlib.suppress(OSError):
        old, new = os.lstat(path), os.fstat(file.fileno())
        if stat.S_ISREG(old.st_mode):
            if (old.st_uid, old.st_gid) != (new.st_uid, new.st_gid):
                with contextlib.suppress(OSError):  # only the administrator may give files away
                    portability.change_owner(file.fileno(), old.st_uid, old.st_gid)
            portability.change_mode(file.fileno(), stat.S_IMODE(old.st_mode))


def _new_name(folder: Path) -> Path:
    return folder / (TEMPORARY_PREFIX + secrets.token_hex(8))


def _held_file(path: Path) -> IO[bytes] | None:
    """Create a file, locked until it is closed; return None if another process removed it before it was locked."""
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
    """Append one line to a file and flush it to the disk; refuse a link.

    Raises:
        StorageError: it cannot be written or is not a regular file.
    """
    flags = open_flags("O_WRONLY", "O_APPEND", "O_CREAT", "O_NOFOLLOW", "O_NONBLOCK", "O_CLOEXEC")
    with storage_errors(path), open(path, "ab", opener=lambda name, _: os.open(name, flags, 0o666)) as file:
        file.write(line.encode() + b"\n")
        sync_file(file)


def link_or_copy(source: Path, target: Path) -> None:
    """Make ``target`` the same file as ``source``, atomically; a copy if the file system has no hard links.

    Args:
        source: an existing file.
        target: a path in the same folder.

    Raises:
        StorageError: it cannot be written; ``target`` is unchanged.
    """
    temporary = target.parent / (LINK_PREFIX + secrets.token_hex(8))
    with storage_errors(target):
        try:
            try:
                follow = os.link not in os.supports_follow_symlinks  # such systems refuse False
                os.link(source, temporary, follow_symlinks=follow)
            except OSError:
                _copy(source, temporary)
            portability.replace(temporary, target)
        except BaseException:
            _unlink(temporary)
            raise
        _unlink(temporary)  # renaming a link to the same file keeps both names
        _sync_folder(target.parent)


def _copy(source: Path, temporary: Path) -> None:
    with source.open("rb") as old, temporary.open("xb") as new:
        shutil.copyfileobj(old, new)
        sync_file(new)


def _sync_folder(folder: Path) -> None:
    """Make the entries of a folder survive a power cut, if the file system supports that."""
    if not portability.OPENS_FOLDERS:
        return
    try:
        descriptor = os.open(folder, open_flags("O_RDONLY", "O_DIRECTORY", "O_CLOEXEC"))
    except PermissionError:  # a folder that is writable but not readable
        return
    try:
        flush_to_disk(descriptor)
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.ENOTSUP, errno.EBADF):  # some network and FUSE file systems
            raise
    finally:
        os.close(descriptor)


def remove_temporaries(folder: Path) -> None:
    """Remove all temporary files of a folder; only for the process that holds the folder's lock."""
    for name in os.listdir(folder):
        if name.startswith(TEMPORARY_PREFIX):
            _unlink(folder / name)


def _tidy(folder: Path) -> None:
    """Remove the temporary files of dead processes, once per folder and process."""
    if folder in _tidied:
        return
    _tidied.add(folder)
    with contextlib.suppress(OSError):  # a folder that is writable but not readable
        for name in filter(WRITTEN.fullmatch, os.listdir(folder)):
            _unlink_if_unlocked(folder / name)


def _unlink_if_unlocked(path: Path) -> None:
    with contextlib.suppress(OSError):  # locked, gone, or on a file system without locks: keep it
        if not portability.HAS_FLOCK:  # open files cannot be removed there, but a file about to be renamed can
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
    """Yield a binary file that becomes ``path`` when the block ends without an error; until then ``path`` is untouched.

    A link at ``path`` stays, and its target is replaced.

    Raises:
        StorageError: the file cannot be written; no temporary file remains.
    """
    with storage_errors(path):
        with contextlib.suppress(FileNotFoundError):
            os.stat(path)  # raises if links form a circle
        target = Path(os.path.realpath(path))
        _tidy(target.parent)
        try:
            with replacing_name(target) as file:
                yield file
        except StorageError as error:  # name the path that the user typed
            raise StorageError(str(error).replace(str(target), str(path), 1)) from None


def sync_file(file: IO[bytes]) -> None:
    """Make the data written so far survive a power cut; raise on a full disk at the latest here."""
    file.flush()
    flush_to_disk(file.fileno())


def unused_name(path: Path, content: bytes) -> Path:
    """Return ``path``, or ``path-2``, ``path-3`` ... before its suffix: the first that is free or already has this content.

    Raises:
        StorageError: an existing file cannot be read.
    """
    candidates = itertools.chain([path], (path.with_stem(f"{path.stem}-{number}") for number in itertools.count(2)))
    with storage_errors(path, "compared"):
        return next(name for name in candidates if not os.path.lexists(name) or _has_content(name, content))


def _has_content(path: Path, content: bytes) -> bool:
    return path.is_file() and path.stat().st_size == len(content) and path.read_bytes() == content
