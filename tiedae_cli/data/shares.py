"""The share of an array that each of several processes holds, and how the leading process reads the rest.

Blocks of consecutive rows go to the processes in turn, so a process that reads a stream knows which rows are its own before it knows
how many follow. A block begins at a multiple of what ``data/checksum.py`` adds up, so the checksum of the whole is that of one process.
Each process also checks, but does not keep, the blocks of the next one: files that differ between two machines are noticed.
Shapes: M rows of an array, B rows of a block or a request; the other dimensions are an item's.
"""

import math
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Protocol, TypeVar

import numpy as np

from tiedae_cli.data.checksum import ROW_BYTES, Sums, checksum_of
from tiedae_cli.errors import DataError

T = TypeVar("T")
SMALLEST_BLOCK, LARGEST_BLOCK = 1 << 16, 1 << 20  # bytes
REQUEST_BYTES = 1 << 22  # of rows that the leading process asks for at once
BLOCKS_EACH = 8  # of each process at least, if the array is large enough and its length is known


class Processes(Protocol):
    """The processes that train together; ``system/devices.py`` implements it."""

    rank: int
    count: int

    def gather(self, value: T) -> list[T]:
        """Return the values that all processes passed, in the order of their ranks."""

    def led(self, work: Callable[[], T]) -> T:
        """Return what the leading process computes; the others answer its requests for rows. All processes call it together."""

    def keep(self, rows: np.ndarray) -> int:
        """Keep the rows of this process for ``rows_at``, and return the number of the array; all processes call it together."""

    def rows_at(self, number: int, places: list[np.ndarray]) -> np.ndarray:
        """Return rows that the processes keep, (B, ...): those of process 0 first. Only for the leading process, within ``led``.

        Args:
            number: of the array.
            places: of each process, the rows among those that it keeps.
        """


@dataclass(frozen=True)
class Share:
    """Which rows of an array this process holds."""

    processes: Processes
    number: int
    """Of the array, for ``Processes.rows_at``."""
    total: int
    """M"""
    block: int
    """Consecutive rows that lie in one process."""
    row_bytes: int
    """Of a row, or of a window if there are windows."""
    overlap: int = 0
    """Rows after each block that the process holds too, so that each window lies in one process."""
    windows: int | None = None
    """The number of the array of windows of these rows."""

    def owners(self, positions: np.ndarray) -> np.ndarray:
        """Return the ranks of the processes that hold some rows, (B,) -> (B,)."""
        ranks: np.ndarray = positions // self.block % self.processes.count
        return ranks

    def places(self, positions: np.ndarray) -> np.ndarray:
        """Return where rows lie among those of their process, (B,) -> (B,)."""
        before = positions // (self.block * self.processes.count)  # own blocks
        places: np.ndarray = before * (self.block + self.overlap) + positions % self.block
        return places

    def rows(self, positions: np.ndarray) -> np.ndarray:
        """Return rows of any process, (B,) -> (B, D); only for the leading process, within ``Processes.led``."""
        return self._found(self.number, positions)

    def items(self, positions: np.ndarray) -> np.ndarray:
        """Return rows, or the windows that begin with them, of any process, as ``rows`` does."""
        return self._found(self.number if self.windows is None else self.windows, positions)

    def _found(self, number: int, positions: np.ndarray) -> np.ndarray:
        size = max(1, REQUEST_BYTES // self.row_bytes)
        pieces = [positions[start : start + size] for start in range(0, max(1, len(positions)), size)]
        first = self._answered(number, pieces[0])
        rows = np.empty((len(positions), *first.shape[1:]), first.dtype)
        for start, piece in zip(range(0, max(1, len(positions)), size), pieces, strict=True):
            rows[start : start + size] = self._answered(number, piece) if start else first
        return rows

    def _answered(self, number: int, positions: np.ndarray) -> np.ndarray:
        owners, places = self.owners(positions), self.places(positions)
        parts = [places[owners == rank] for rank in range(self.processes.count)]
        found = self.processes.rows_at(number, parts)
        order = np.argsort(owners, kind="stable")
        rows = np.empty_like(found)
        rows[order] = found
        return rows


def block_rows(row_bytes: int, processes: int, count: int | None, overlap: int = 0) -> int:
    """Return how many rows make a block: a multiple of what the checksum adds up, and no fewer than overlap."""
    unit = ROW_BYTES // math.gcd(row_bytes, ROW_BYTES)
    even = LARGEST_BLOCK if count is None else count * row_bytes // (processes * BLOCKS_EACH)
    size = min(max(even, SMALLEST_BLOCK), SMALLEST_BLOCK if count is None else LARGEST_BLOCK)
    return unit * max(1, size // (unit * row_bytes), -(-overlap // unit))


class ShareReader:
    """Keeps the share of this process of rows that are read in order.

    Args:
        processes: those that share the rows.
        width: values of a row.
        dtype: of the rows that are kept.
        count: the number of rows, if it is known.
        overlap: rows after each block that are kept too.
    """

    def __init__(self, processes: Processes, width: int, dtype: np.dtype, count: int | None, overlap: int = 0) -> None:
        self.processes, self.width, self.dtype, self.overlap = processes, width, dtype, overlap
        self.row_bytes = max(1, width * dtype.itemsize)
        self.block = block_rows(self.row_bytes, processes.count, count, overlap)
        self.whole: np.ndarray | None = (
            None  # room for all rows that are kept, if their number is known: it is used as it fills
        )
        if count is not None:
            own = -(-count // (self.block * processes.count))  # blocks at most
            self.whole = np.empty((own * (self.block + overlap), width), dtype)
        self.done = 0  # rows that are kept
        self.kept: deque[np.ndarray] = deque()
        self.sums: list[tuple[int, Sums]] = []  # of this process's blocks
        self.seen: dict[int, bytes] = {}  # a digest of each block that was read
        self.waiting: list[np.ndarray] = []  # rows of a block that is not complete
        self.waits = self.number = self.total = 0

    def is_read(self, number: int) -> bool:
        """Return whether this process reads a block: its own, and those that it checks."""
        return (self.processes.rank - number) % self.processes.count in (0, self.processes.count - 1)

    def add(self, rows: np.ndarray) -> None:
        """Take the next rows of a stream, (B, width)."""
        self.total += len(rows)
        start = 0
        while start < len(rows):
            piece = rows[start : start + self.block - self.waits]
            self.waiting.append(piece)
            start, self.waits = start + len(piece), self.waits + len(piece)
            if self.waits == self.block:
                self._finish_block()

    def skip(self, rows: int) -> None:
        """Skip a block that other processes read."""
        self.total, self.number = self.total + rows, self.number + 1

    def _finish_block(self) -> None:
        block = np.concatenate(self.waiting) if len(self.waiting) > 1 else self.waiting[0]
        sums = Sums.of(block)
        self.seen[self.number] = sums.digest()
        rank, count = self.processes.rank, self.processes.count
        if self.overlap and self.number and (self.number - 1) % count == rank:
            self._keep(block[: self.overlap])
        if self.number % count == rank:
            self._keep(block)
            self.sums.append((self.number, sums))
        self.waiting, self.waits, self.number = [], 0, self.number + 1

    def finish(self, name: str, problem: DataError | None) -> tuple[np.ndarray, Share, str]:
        """Return this process's rows, (B, width), which rows they are, and the checksum of all.

        Args:
            name: of the data, for the messages.
            problem: why this process cannot read it.

        Raises:
            DataError: a process cannot read the data, or two processes read other values.
        """
        if self.waits and problem is None:
            self._finish_block()
        head = (self.total, self.width, self.dtype.str)
        reports = self.processes.gather((problem, head, self.sums, self.seen))
        _refuse_differing(name, [report[0] for report in reports], [report[1] for report in reports])
        _refuse_other_values(name, [report[3] for report in reports])
        rows = self._joined()
        share = Share(self.processes, self.processes.keep(rows), self.total, self.block, self.row_bytes, self.overlap)
        ordered = sorted((pair for report in reports for pair in report[2]), key=lambda pair: pair[0])
        return rows, share, checksum_of([sums for _, sums in ordered])

    def _keep(self, rows: np.ndarray) -> None:
        if self.whole is None:
            self.kept.append(rows.copy())
        else:
            self.whole[self.done : self.done + len(rows)] = rows
        self.done += len(rows)

    def _joined(self) -> np.ndarray:
        """Return the rows that are kept as one array, (B, width); each block is released when it is copied."""
        if self.whole is not None:
            return self.whole[: self.done]
        rows, done = np.empty((self.done, self.width), self.dtype), 0
        while self.kept:
            block = self.kept.popleft()
            rows[done : done + len(block)] = block
            done += len(block)
        return rows


def _refuse_differing(name: str, problems: list[DataError | None], heads: list[tuple[int, int, str]]) -> None:
    found = next((problem for problem in problems if problem is not None), None)
    if found is not None:
        raise found
    other = next((rank for rank, head in enumerate(heads) if head != heads[0]), None)
    if other is not None:
        (rows, width, kind), (theirs, their_width, their_kind) = heads[0], heads[other]
        raise DataError(
            f"{name}: the data of process {other} differs from that of process 0: {theirs:,} x {their_width:,} values of type "
            f"{np.dtype(their_kind)}, not {rows:,} x {width:,} of type {np.dtype(kind)}"
        )


def _refuse_other_values(name: str, seen: list[dict[int, bytes]]) -> None:
    first: dict[int, tuple[int, bytes]] = {}
    for rank, digests in enumerate(seen):
        for number, digest in digests.items():
            other, theirs = first.setdefault(number, (rank, digest))
            if theirs != digest:
                raise DataError(
                    f"{name}: the data of process {rank} differs from that of process {other}: as many items, but their values differ"
                )


def blocks_to_read(reader: ShareReader, count: int) -> Iterator[tuple[int, int]]:
    """Yield the [start, stop) ranges of rows that a process reads of an array that it can read in part; the others are skipped."""
    for number, start in enumerate(range(0, count, reader.block)):
        stop = min(start + reader.block, count)
        if reader.is_read(number):
            yield start, stop
        else:
            reader.skip(stop - start)
