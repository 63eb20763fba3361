"""The three standard streams, also if the process was started without them or loses them later."""

import contextlib
import os
import sys
from typing import IO, Any

from tiedae_cli.errors import InputError
from tiedae_cli.system.portability import open_flags


def stdin() -> IO[bytes]:
    """Return stdin as a binary stream.

    Raises:
        InputError: stdin is closed.
    """
    if sys.stdin is None:
        raise InputError("-: stdin is closed")
    return sys.stdin.buffer


def open_closed_streams() -> None:
    """Open the descriptors 0, 1 and 2 if they are closed; otherwise the next file that is opened would get them.

    Text written to a closed stderr is then lost, but writing to a closed stdout fails: a result is never lost silently.
    """
    for number, mode in ((0, "O_RDONLY"), (1, "O_RDONLY"), (2, "O_WRONLY")):
        try:
            os.fstat(number)
        except OSError:
            opened = os.open(os.devnull, open_flags(mode))
            if opened != number:
                os.dup2(opened, number)
                os.close(opened)
    if sys.stdout is None:
        sys.stdout = open(1, "w", closefd=False)
    if sys.stderr is None:
        sys.stderr = open(os.devnull, "w")


class LastingStream:
    """A stream that ignores write errors (a closed terminal, a full disk), so that they do not stop the command.

    Args:
        stream: usually stderr.
    """

    def __init__(self, stream: Any) -> None:
        self._stream = stream

    def write(self, text: str) -> int:
        """Write text; ignore errors."""
        with _write_errors_ignored():
            self._stream.write(text)
        return len(text)

    def flush(self) -> None:
        """Flush; ignore errors."""
        with _write_errors_ignored():
            self._stream.flush()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


@contextlib.contextmanager
def _write_errors_ignored() -> Any:
    try:
        yield
    except BrokenPipeError:  # `2>&1 | head` ends the command, as with every Unix tool
        raise
    except (OSError, ValueError):
        pass
