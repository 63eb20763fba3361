"""Parts: what every source gives. Each holds the items of one split in their own form, read in order, in blocks, in bounded memory.

Shapes: N items, B items per block; the other dimensions are an item's.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np

from tiedae_cli.data.columns import Columns
from tiedae_cli.data.origin import Origin
from tiedae_cli.errors import DataError
from tiedae_cli.system.mapped_files import MappedFile

Bad = Callable[[DataError], None]  # called for each unreadable item; if it returns, the item is skipped; it may raise instead


def item_name(item: int | str, line: int | None = None) -> str:
    """Return the name of an item in messages, with its line in a text file: rows count from 1 there; in results from 0, as in numpy."""
    if isinstance(item, str):
        return item
    return f"row {item + 1:,}" if line is None else f"row {item + 1:,} (line {line:,})"


def stop(problem: DataError) -> None:
    """Raise the problem: the ``Bad`` of readers that must return every item of their input."""
    raise problem


@dataclass(frozen=True)
class RawBlock:
    """Some items in the source's own values."""

    rows: Sequence[int | str]
    """Identifies each item: its row in the part, from 0, or the path of an image file."""
    values: np.ndarray
    """(B, ...)"""
    labels: np.ndarray | None = None
    """(B,) text; only of tables with a label column."""
    positions: np.ndarray | None = None
    """(B,) int64, positions in time: consecutive rows of one series differ by 1. Default: ``rows``."""
    times: np.ndarray | None = None
    """(B,) float64, time stamps of rows in seconds since 1970, UTC; only of series with a column of times."""
    origin: Origin = Origin()
    """Lines and keys of the items, if the source has them."""

    def numbers(self) -> np.ndarray:
        """Return the rows as (B,) int64; they must not be paths."""
        rows = self.rows
        if isinstance(rows, range):  # np.array would take its numbers one by one
            return np.arange(rows.start, rows.stop, rows.step, dtype=np.int64)
        return np.array(rows, np.int64)

    def name_of(self, index: int) -> str:
        """Return what an item of the block is called in messages."""
        return item_name(self.rows[index], self.origin.line(index))

    def only(self, good: np.ndarray, values: np.ndarray) -> "RawBlock":
        """Return some items.

        Args:
            good: which ones, (B,) bool.
            values: of all items, (B, ...).
        """
        if good.all():
            return replace(self, values=values)
        places = np.flatnonzero(good).tolist()
        rows = [self.rows[index] for index in places]
        labels, positions, times = (None if kept is None else kept[good] for kept in (self.labels, self.positions, self.times))
        return RawBlock(rows, values[good], labels, positions, times, self.origin.only(places))

    def slice(self, start: int, stop: int) -> "RawBlock":
        """Return items start to stop."""
        kept = slice(start, stop)
        labels, positions, times = (None if each is None else each[kept] for each in (self.labels, self.positions, self.times))
        return RawBlock(self.rows[kept], self.values[kept], labels, positions, times, self.origin.slice(start, stop))


@dataclass(frozen=True)
class Part:
    """The items of one split of a source."""

    name: str
    """For messages: the path, and the array's name if the file holds several."""
    shape: tuple[int, ...]
    """Of one item in the source."""
    dtype: np.dtype
    count: int | None
    """N, if it is known before the last block."""
    read: Callable[[int, Bad], Iterator[RawBlock]]
    """(items per block, handler of unreadable items) -> all items in order; called at most once if the source is a pipe."""
    labels: np.ndarray | None = None
    """(N,) int64"""
    label_names: tuple[str, ...] | None = None
    """The text of each label, if labels are words."""
    array: np.ndarray | None = None
    """(N, ...), the whole array, if it is in memory or memory-mapped."""
    read_range: Callable[[int, int], RawBlock] | None = None
    """(start, stop) -> these items, without reading the others; None if the source cannot be read in part."""
    columns: Columns | None = None
    """The named columns of the values, if the source has names."""
    base: np.ndarray | None = None
    """(D,) float64: what ``read`` has subtracted from whole numbers beyond 2**53 (``data/whole_numbers.py``); None: nothing."""
    key: str | None = None
    """Identifies the copy of the values in the user's cache folder; None: the values are not cached."""
    mapped: MappedFile | None = None
    """The file behind ``array``, if that is memory-mapped and the file is the user's."""
    locate: Callable[[int], tuple[str, int]] | None = None
    """Of a part of several files: returns the file of a row that has been read, and its number there."""
    has_lines: bool = False
    """Whether the items have lines, because the source is text."""
    id: str | None = None
    """The column or array that holds the user's key of each item, if it is read."""

    def describe(self) -> str:
        """Return shape and type as text, for messages."""
        count = "N" if self.count is None else str(self.count)
        return f"an array of shape {' x '.join([count, *map(str, self.shape)])}, {self.dtype}"


def array_part(array: np.ndarray, name: str, labels: np.ndarray | None = None) -> Part:
    """Return an array in memory or in a memory map, (N, ...), as a part."""

    def read_range(start: int, stop: int) -> RawBlock:
        return RawBlock(range(start, stop), np.ascontiguousarray(array[start:stop]))

    def read(size: int, bad: Bad) -> Iterator[RawBlock]:
        return (read_range(start, min(start + size, len(array))) for start in range(0, len(array), size))

    return Part(name, array.shape[1:], array.dtype, len(array), read, labels, array=array, read_range=read_range)
