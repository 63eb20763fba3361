"""What every source gives: parts, each the items of one split as they lie there, read in order, in blocks, in bounded memory.

Shapes: N items, B items a block; the other dimensions are an item's.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from tiedae_cli.data.columns import Columns
from tiedae_cli.errors import DataError

Bad = Callable[[DataError], None]  # is told of an item that cannot be read; if it returns, that one is left out


def item_name(item: int | str) -> str:
    """Return what a message calls an item: rows count from 1 there, as lines do; in results they count from 0, as numpy's do."""
    return f"row {item + 1:,}" if isinstance(item, int) else item


def stop(problem: DataError) -> None:
    """Answer a bad item by stopping: what a reader does whose rows must match its input's."""
    raise problem


@dataclass(frozen=True)
class RawBlock:
    """Some items in the source's own values."""

    rows: Sequence[int | str]
    """What tells each apart: its row in the part, from 0, or an image file's path."""
    values: np.ndarray
    """(B, ...)"""
    labels: np.ndarray | None = None
    """(B,) text, of a table whose label is known row by row."""


@dataclass(frozen=True)
class Part:
    """The items of one split of a source."""

    name: str
    """For messages: the path, and the array's name where the file holds several."""
    shape: tuple[int, ...]
    """Of one item as it lies there."""
    dtype: np.dtype
    count: int | None
    """N, where it is known before the last block."""
    read: Callable[[int, Bad], Iterator[RawBlock]]
    """(items of a block, who is told of bad ones) -> all items in order; to be called once where the source is a pipe."""
    labels: np.ndarray | None = None
    """(N,) int64"""
    label_names: tuple[str, ...] | None = None
    """What each label stands for, where they count words."""
    array: np.ndarray | None = None
    """(N, ...), all of it, where it lies in memory or in a memory map."""
    columns: Columns | None = None
    """What the values are, where the source names them."""
    key: str | None = None
    """What a copy of the values in the user's cache folder is known by; None where none is worth it."""

    def describe(self) -> str:
        """Return shape and type in words, for messages."""
        count = "N" if self.count is None else str(self.count)
        return f"an array of shape {' x '.join([count, *map(str, self.shape)])}, {self.dtype}"


def array_part(array: np.ndarray, name: str, labels: np.ndarray | None = None) -> Part:
    """Return an array that lies in memory or in a memory map, (N, ...), as a part."""

    def read(size: int, bad: Bad) -> Iterator[RawBlock]:
        for start in range(0, len(array), size):
            rows = range(start, min(start + size, len(array)))
            yield RawBlock(rows, np.ascontiguousarray(array[rows.start : rows.stop]))

    return Part(name, array.shape[1:], array.dtype, len(array), read, labels, array=array)
