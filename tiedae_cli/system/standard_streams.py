"""The three standard streams, also where this process was started without them, or loses them on the way."""

import contextlib
import os
import sys
from typing import IO, Any

from tiedae_cli.errors import InputError
from tiedae_cli.system.portability import open_flags


def stdin() -> IO[bytes]:
    """Return stdin as bytes.

    Raises:
        InputError: it is closed.
    """
    if sys.stdin is None:
        raise InputError("-: stdin is closed")
    return sys.stdin.buffer


def open_closed_streams() -> None:
    """Give the numbers 0, 1 and 2 to something where they are free: else the next file that is opened would get them.

    Then what is written to stderr is lost, but what is written to a closed stdout fails: a result is never lost in silence.
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
    """A stream whose reader may go (a closed terminal, a full disk) without ending what is told about.

    Args:
        stream: stderr.
    """

    def __init__(self, stream: Any) -> None:
        self._stream = stream

    def write(self, text: str) -> int:
        """Write what can be written."""
        with _nobody_reads():
            self._stream.write(text)
        return len(text)

    def flush(self) -> None:
        """Flush what can be flushed."""
        with _nobody_reads():
            self._stream.flush()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


@contextlib.contextmanager
def _nobody_reads() -> Any:
    try:
        yield
    except BrokenPipeError:  # `2>&1 | head`: ends the command, as for every Unix tool
        raise
    except (OSError, ValueError):
        pass
