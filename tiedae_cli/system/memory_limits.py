"""How much memory this machine has, and whether data fits into it."""

import psutil

from tiedae_cli.errors import DataError

LONGEST_LINE = 1 << 26  # bytes of one line of a text file


def available_memory() -> int:
    """Return the number of bytes that can be allocated without swapping."""
    return int(psutil.virtual_memory().available)


def total_memory() -> int:
    """Return the size of the memory in bytes."""
    return int(psutil.virtual_memory().total)


def require_memory(name: str, needed: int) -> None:
    """Refuse data that does not fit into memory, before it is unpacked.

    Args:
        name: of the data, for the message.
        needed: bytes that will be allocated.

    Raises:
        DataError: fewer bytes are available.
    """
    available = available_memory()
    if needed > available:
        raise DataError(f"{name}: takes {needed / 1e9:.1f} GB unpacked, but {available / 1e9:.1f} GB of memory are available")


def require_line(name: str, number: int, length: int) -> None:
    """Refuse a line of a text file that is longer than ``LONGEST_LINE``.

    Args:
        name: of the file, for the message.
        number: of the line, from 1.
        length: bytes of the line that have been read.

    Raises:
        DataError: it is longer.
    """
    if length > LONGEST_LINE:
        raise DataError(f"{name}: line {number:,} is longer than {LONGEST_LINE >> 20} MB")
