"""Bytes of files and pipes as they arrive: whoever reads a pipe that stays open gets what has been written so far."""

import io
import os
import stat
import time
from typing import IO, Any

from tiedae_cli.system.portability import has_bytes

BRIEF_PAUSE, LONG_PAUSE = 0.05, 0.3  # s without a byte, after which a block, or the head of a table, is not waited for
MOST_SECONDS = 0.3  # s, from the first byte of a block on


class Joined(io.RawIOBase):
    """A stream with its first bytes put back.

    Args:
        head: its first bytes.
        rest: the stream after them.
        closes: whether closing this closes the stream.
    """

    def __init__(self, head: bytes, rest: IO[bytes], closes: bool = True) -> None:
        self.head, self.rest, self.closes = head, rest, closes

    def readable(self) -> bool:
        """Return True."""
        return True

    def fileno(self) -> int:
        """Return the descriptor of the stream."""
        return self.rest.fileno()

    def close(self) -> None:
        """Close this, and perhaps the stream."""
        if self.closes:
            self.rest.close()
        super().close()

    def readinto(self, buffer: Any, /) -> int:
        """Put the next bytes into the buffer, those of a pipe as soon as there are any; return how many."""
        part = self.head[: len(buffer)] or read_some(self.rest, len(buffer))
        self.head = self.head[len(part) :]
        buffer[: len(part)] = part
        return len(part)


def read_some(file: IO[bytes], size: int) -> bytes:
    """Return up to ``size`` bytes, those of a pipe as soon as there are any; none at the end."""
    read: Any = getattr(file, "read1", file.read)
    found: bytes = read(size)
    return found


class Arriving:
    """Reads a file in large blocks, and a pipe in blocks of what has arrived.

    Args:
        file: open in binary mode.
    """

    def __init__(self, file: IO[bytes]) -> None:
        self.file = file
        self.paused = False
        """Whether the last block ended because nothing more had arrived."""
        self.ended = False
        """Whether the last block was the last one."""
        self._pipe = _descriptor_of_pipe(file)

    def read(self, size: int, pause: float = BRIEF_PAUSE) -> bytes:
        """Return the next bytes: up to ``size`` of a file; of a pipe what arrives before it pauses; none at the end.

        Args:
            size: at most so many bytes.
            pause: seconds without a byte.
        """
        if self._pipe is None:
            found = self.file.read(size)
            self.ended = len(found) < size
            return found
        parts = [read_some(self.file, size)]
        length, began = len(parts[0]), time.monotonic()
        self.paused = False
        while parts[-1] and length < size:
            if time.monotonic() - began > max(pause, MOST_SECONDS) or not has_bytes(self._pipe, pause):
                self.paused = True
                break
            parts.append(read_some(self.file, size - length))
            length += len(parts[-1])
        self.ended = not parts[-1]
        return b"".join(parts)

    def close(self) -> None:
        """Close the file."""
        self.file.close()


def read_fully(file: IO[bytes], size: int) -> bytes:
    """Return ``size`` bytes, or fewer at the end."""
    parts = []
    while size > 0 and (part := read_some(file, size)):
        parts.append(part)
        size -= len(part)
    return b"".join(parts)


def first_bytes(file: IO[bytes], size: int) -> bytes:
    """Return ``size`` bytes, fewer at the end or if a pipe holds a shorter line of text: its next line may come much later."""
    found = b""
    while len(found) < size and (part := read_some(file, size - len(found))):
        found += part
        if found.endswith(b"\n") and all(byte >= 32 or byte in b"\t\r\n" for byte in found):
            break
    return found


def _descriptor_of_pipe(file: IO[bytes]) -> int | None:
    """Return the descriptor of a pipe, a socket or a terminal; None of a file."""
    try:
        descriptor = file.fileno()
        mode = os.fstat(descriptor).st_mode
    except (OSError, AttributeError):  # bytes in memory
        return None
    return descriptor if stat.S_ISFIFO(mode) or stat.S_ISSOCK(mode) or stat.S_ISCHR(mode) else None
