"""An open table: its columns, its first rows, and how its rows are read, whatever the format.

Shapes: B rows per block.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from tiedae_cli.data.sources.dialect import DialectChoices
from tiedae_cli.data.sources.number_format import NumberFormat
from tiedae_cli.data.sources.part import Bad

NAME_COLUMN = "item"  # what ``encode`` puts before the numbers of each row
HEAD_ROWS = 1000  # examined to detect the dialect and the columns


@dataclass(frozen=True)
class TableOptions:
    """The user's choices for a table; None: detected."""

    dialect: DialectChoices = DialectChoices()
    key: str = "values"
    """Key of an item's list of numbers in JSON Lines."""


@dataclass(frozen=True)
class TableBlock:
    """Some rows of a table."""

    rows: np.ndarray
    """(B,) int64: row numbers, from 0."""
    columns: dict[str, Any]
    """A pyarrow array of B values per column name."""


@dataclass(frozen=True)
class Table:
    """An open table."""

    name: str
    """Name of the file, for messages."""
    names: tuple[str, ...]
    """Names of the columns; ``0``, ``1`` ... if the table has no names."""
    named: bool
    """Whether the table itself names its columns."""
    numbers: NumberFormat
    """How cells of text write numbers."""
    head: TableBlock
    """The first rows."""
    read: Callable[[Bad], Iterator[TableBlock]]
    """Yield all rows in order; called at most once if the table is a stream."""
    format: str
    """The detected format, for messages."""
    notes: tuple[str, ...] = ()
    """For the user, about the detected dialect."""
    key: str | None = None
    """For large files: path, size, time and options, which identify its cached values."""


def first_rows(blocks: Sequence[TableBlock]) -> TableBlock:
    """Return the first rows of a table, up to ``HEAD_ROWS``, given its first blocks."""
    block = blocks[0]
    count = min(HEAD_ROWS, len(block.rows))
    return TableBlock(block.rows[:count], {name: values.slice(0, count) for name, values in block.columns.items()})
