"""Files that are written whole or not at all: temporary file in the same folder, flush, fsync, rename, fsync of the folder.

A folder is held by its descriptor while it is written to, so that a folder that is renamed meanwhile stays the one that is meant. A
temporary file is locked by the process that writes it: one that nobody holds belongs to a dead process, and the next command that
writes there removes it.
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
_tidied: set[tuple[int, int]] = set()  # folders in which this process has looked for what dead processes left


@contextlib.contextmanager
def storage_errors(path: Path | str, what: str = "written") -> Iterator[None]:
    """Turn an ``OSError`` into a message that names the file and the reason."""
    try:
        yield
    except BrokenPipeError:
        raise
    except OSError as error:
        raise StorageError(f"{path}: cannot be {what}: {error.strerror or error}") from None


class HeldFolder:
    """A folder by its open descriptor: whatever becomes of its name, it is the same folder.

    Names in it are never followed as links, for who made a link there is not known.

    Args:
        path: its name now, which messages use.

    Raises:
        OSError: there is no such folder.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.descriptor: int | None = None  # where folders have no descriptors
        if portability.HAS_DIR_FD:
            self.descriptor = os.open(path, open_flags("O_RDONLY", "O_DIRECTORY", "O_CLOEXEC"))
        elif not stat.S_ISDIR(os.stat(path).st_mode):
            raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), str(path))
        self._information = os.stat(path) if self.descriptor is None else os.fstat(self.descriptor)

    def __enter__(self) -> "HeldFolder":
        return self

    def __exit__(self, *_: object) -> None:
        if self.descriptor is not None:
            os.close(self.descriptor)

    def _at(self, name: str) -> str:
        """Return what means an entry to the calls that take the descriptor beside it."""
        return name if self.descriptor is not None else str(self.path / name)

    def still_named(self) -> bool:
        """Return whether its name still means this folder."""
        try:
            return os.path.samestat(os.stat(self.path), self._information)
        except OSError:
            return False

    def exists(self, name: str) -> bool:
        """Return whether it has an entry of that name."""
        with contextlib.suppress(FileNotFoundError):
            os.stat(self._at(name), dir_fd=self.descriptor, follow_symlinks=False)
            return True
        return False

    @contextlib.contextmanager
    def replacing(self, name: str) -> Iterator[IO[bytes]]:
        """Give a binary file that becomes ``name`` when the block ends without an error; until then ``name`` is untouched.

        Raises:
            StorageError: the folder or the disk does not take it; no temporary file is left.
        """
        with storage_errors(self.path / name):
            temporary = _new_name()
            try:  # from before there is a file: a signal may arrive as soon as it is made
                while (file := self._held_file(temporary)) is None:
                    temporary = _new_name()
                with file:
                    yield file
                    stop_if_asked()
                    sync_file(file)
                    if not portability.HAS_FLOCK:
                        file.close()  # an open file could not be renamed
                    self._rename(temporary, name)
            except BaseException:
                self._unlink(temporary)
                raise
            self.sync()

    def _held_file(self, name: str) -> IO[bytes] | None:
        """Make a file, held until it is closed; None if another process took it for a dead one's before it was held."""
        file = open(name, "xb", opener=self._opener)
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

    def _opener(self, name: str, flags: int) -> int:
        return os.open(self._at(name), flags, 0o666, dir_fd=self.descriptor)

    def _rename(self, name: str, new: str) -> None:
        portability.replace(self._at(name), self._at(new), self.descriptor)

    def _unlink(self, name: str) -> None:
        with contextlib.suppress(OSError):
            os.unlink(self._at(name), dir_fd=self.descriptor)

    def append_line(self, name: str, line: str) -> None:
        """Append one line to a file and flush it to the disk.

        Raises:
            StorageError: it cannot be written, or is no file.
        """
        flags = open_flags("O_WRONLY", "O_APPEND", "O_CREAT", "O_NOFOLLOW", "O_NONBLOCK", "O_CLOEXEC")
        with (
            storage_errors(self.path / name),
            open(name, "ab", opener=lambda path, _: self._opener(path, flags)) as file,
        ):
            file.write(line.encode() + b"\n")
            sync_file(file)

    def link_or_copy(self, source: str, target: str) -> None:
        """Make ``target`` the same file as ``source``, atomically; a copy where the file system has no hard links."""
        temporary = LINK_PREFIX + secrets.token_hex(8)
        with storage_errors(self.path / target):
            try:
                try:
                    self._link(source, temporary)
                except OSError:
                    self._copy(source, temporary)
                self._rename(temporary, target)
            except BaseException:
                self._unlink(temporary)
                raise
            self._unlink(temporary)  # renaming a link onto the same file leaves both names
            self.sync()

    def _link(self, source: str, name: str) -> None:
        follow = os.link not in os.supports_follow_symlinks  # there the other answer is refused
        names = self._at(source), self._at(name)
        os.link(*names, src_dir_fd=self.descriptor, dst_dir_fd=self.descriptor, follow_symlinks=follow)

    def _copy(self, source: str, temporary: str) -> None:
        with open(source, "rb", opener=self._opener) as old, open(temporary, "xb", opener=self._opener) as new:
            shutil.copyfileobj(old, new)
            sync_file(new)

    def sync(self) -> None:
        """Make the names in it survive a power cut, where the file system can do that for folders."""
        if self.descriptor is None:
            return
        try:
            flush_to_disk(self.descriptor)
        except OSError as error:
            if error.errno not in (errno.EINVAL, errno.ENOTSUP, errno.EBADF):  # some network and FUSE file systems
                raise

    def remove_temporaries(self) -> None:
        """Remove all temporary files; only for who alone may write here."""
        for name in os.listdir(self.path if self.descriptor is None else self.descriptor):
            if name.startswith(TEMPORARY_PREFIX):
                self._unlink(name)

    def tidy(self) -> None:
        """Remove the temporary files of dead processes, once in the life of this one."""
        identity = self._information.st_dev, self._information.st_ino
        if identity in _tidied:
            return
        _tidied.add(identity)
        with contextlib.suppress(OSError):  # a folder that may be written to, but not listed
            for name in filter(WRITTEN.fullmatch, os.listdir(self.path if self.descriptor is None else self.descriptor)):
                self._unlink_if_nobody_holds_it(name)

    def _unlink_if_nobody_holds_it(self, name: str) -> None:
        with contextlib.suppress(OSError):  # held, gone, or on a file system without locks: it stays
            if not portability.HAS_FLOCK:  # one that is open cannot be removed there, only one that is being renamed
                if time.time() - os.stat(self._at(name)).st_mtime > SETTLED:
                    self._unlink(name)
                return
            descriptor = self._opener(name, open_flags("O_RDONLY", "O_NONBLOCK", "O_NOFOLLOW", "O_CLOEXEC"))
            try:
                portability.flock(descriptor, wait=False)
                if stat.S_ISREG(os.fstat(descriptor).st_mode):
                    self._unlink(name)
            finally:
                os.close(descriptor)


def _new_name() -> str:
    return TEMPORARY_PREFIX + secrets.token_hex(8)


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
        with HeldFolder(target.parent) as folder:
            folder.tidy()
            try:
                with folder.replacing(target.name) as file:
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
