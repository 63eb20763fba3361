"""Files that are written whole or not at all: temporary file in the same folder, flush, fsync, rename, fsync of the folder."""

import contextlib
import errno
import itertools
import os
import secrets
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import IO

from tiedae_cli.errors import StorageError

TEMPORARY_PREFIX = ".tiedae-"


@contextlib.contextmanager
def told_as_storage_error(path: Path | str, what: str = "written") -> Iterator[None]:
    """Turn an ``OSError`` into a message that names the file and the reason."""
    try:
        yield
    except BrokenPipeError:
        raise
    except OSError as error:
        raise StorageError(f"{path}: cannot be {what}: {error.strerror or error}") from None


@contextlib.contextmanager
def replacing(path: Path) -> Iterator[IO[bytes]]:
    """Give a binary file that becomes ``path`` when the block ends without an error; until then ``path`` is untouched.

    A link keeps pointing where it does, and its target is replaced; a device or a pipe (``/dev/null``) is written to directly.

    Raises:
        StorageError: the folder or the disk does not take it; no temporary file is left.
    """
    with told_as_storage_error(path):
        if path.exists() and not path.is_file() and not path.is_dir():
            with path.open("wb") as file:
                yield file
            return
        target = Path(os.path.realpath(path))
        temporary = target.with_name(TEMPORARY_PREFIX + secrets.token_hex(8))
        try:
            with temporary.open("xb") as file:
                yield file
                sync_file(file)
            os.replace(temporary, target)
        except BaseException:
            with contextlib.suppress(OSError):
                temporary.unlink()
            raise
        sync_folder(target.parent)


def sync_file(file: IO[bytes]) -> None:
    """Make what was written so far survive a power cut; a full disk is noticed here at the latest."""
    file.flush()
    os.fsync(file.fileno())


@contextlib.contextmanager
def opened_output(target: str) -> Iterator[IO[bytes]]:
    """Give the binary file that a result goes to: stdout for ``-``, else as in ``replacing``.

    Raises:
        StorageError: it cannot be written.
    """
    if target == "-":
        yield sys.stdout.buffer
        sys.stdout.buffer.flush()
        return
    with replacing(Path(target)) as file:
        yield file


def unused_name(path: Path, content: bytes) -> Path:
    """Return ``path``, or ``path-2``, ``path-3`` ... before its suffix: the first that is free or already holds this content.

    Raises:
        StorageError: what is there cannot be read.
    """
    candidates = itertools.chain([path], (path.with_stem(f"{path.stem}-{number}") for number in itertools.count(2)))
    with told_as_storage_error(path, "compared"):
        return next(name for name in candidates if not name.exists() or name.is_file() and name.read_bytes() == content)


def write_text(path: Path, text: str) -> None:
    """Write a text file whole or not at all."""
    with replacing(path) as file:
        file.write(text.encode())


def append_line(path: Path, line: str) -> None:
    """Append one line and flush it to the disk."""
    with told_as_storage_error(path), path.open("ab") as file:
        file.write(line.encode() + b"\n")
        sync_file(file)


def link_or_copy(source: Path, target: Path) -> None:
    """Make ``target`` the same file as ``source``, atomically; a copy where the file system has no hard links."""
    temporary = target.with_name(TEMPORARY_PREFIX + secrets.token_hex(8))
    with told_as_storage_error(target):
        try:
            try:
                os.link(source, temporary)
            except OSError:
                _copy(source, temporary)
            os.replace(temporary, target)
        except BaseException:
            with contextlib.suppress(OSError):
                os.unlink(temporary)
            raise
        with contextlib.suppress(FileNotFoundError):
            os.unlink(temporary)  # renaming a link onto the same file leaves both names
        sync_folder(target.parent)


def _copy(source: Path, temporary: Path) -> None:
    with source.open("rb") as old, temporary.open("wb") as new:
        shutil.copyfileobj(old, new)
        sync_file(new)


def sync_folder(folder: Path) -> None:
    """Make the names in a folder survive a power cut, where the file system can do that for folders."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.ENOTSUP, errno.EBADF):  # some network and FUSE file systems
            raise
    finally:
        os.close(descriptor)


def remove_temporaries(folder: Path) -> None:
    """Remove what a killed process left behind."""
    for path in folder.glob(f"{TEMPORARY_PREFIX}*"):
        with contextlib.suppress(OSError):
            path.unlink()
