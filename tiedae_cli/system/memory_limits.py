"""How much memory this machine has, and whether data fits into it."""

import contextlib
import os
from collections.abc import Iterator

import psutil

from tiedae_cli.errors import DataError
from tiedae_cli.system.control_groups import control_groups
from tiedae_cli.system.portability import address_space_limit

LONGEST_LINE = 1 << 26  # bytes of one line of a text file
PER_COLUMN = 1 << 10  # bytes that a column of a table takes beside its values: its names and what is known of it


def available_memory() -> int:
    """Return the number of bytes that can be allocated without swapping: of the machine, a container or ``ulimit -v``."""
    left = [int(psutil.virtual_memory().available), *_left_in_groups()]
    limit = address_space_limit()
    if limit is not None:
        left.append(max(0, limit - int(psutil.Process().memory_info().vms)))
    return min(left)


def _left_in_groups() -> Iterator[int]:
    """Yield the bytes that each control group of this process may still allocate; nothing where the system has none."""
    for version, group in control_groups("memory"):
        most, used = ("memory.max", "memory.current") if version == 2 else ("memory.limit_in_bytes", "memory.usage_in_bytes")
        with contextlib.suppress(OSError, ValueError):  # "max": no limit
            limit = int((group / most).read_text())
            statistics = dict(line.split() for line in (group / "memory.stat").read_text().splitlines())
            cached = int(statistics.get("inactive_file", 0))
            yield max(0, limit - int((group / used).read_text()) + cached)


def total_memory() -> int:
    """Return the size of the memory in bytes."""
    return int(psutil.virtual_memory().total)


def fits_in_memory(needed: int) -> bool:
    """Return whether this many bytes are at most half of the available memory, shared by the processes that ``torchrun`` started."""
    processes = os.environ.get("LOCAL_WORLD_SIZE", "1")
    return needed <= available_memory() // 2 // max(1, int(processes) if processes.isdecimal() else 1)


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


def require_columns(name: str, count: int) -> None:
    """Refuse a table with more columns than fit into memory, before their names are made.

    Args:
        name: of the table, for the message.
        count: of its columns.

    Raises:
        DataError: there are too many.
    """
    if PER_COLUMN * count > available_memory():
        raise DataError(f"{name}: {count:,} columns do not fit into memory; if they are items, transpose the table")


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
