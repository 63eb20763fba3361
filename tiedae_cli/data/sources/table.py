"""An open table: its columns, its first rows, and how its rows are read, whatever the format.

Shapes: B rows per block.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from tiedae_cli.data.option_text import set_option
from tiedae_cli.data.sources.dialect import Dialect, DialectChoices
from tiedae_cli.data.sources.number_format import NumberFormat
from tiedae_cli.data.sources.part import Bad
from tiedae_cli.errors import DataError

LARGE = 1 << 26  # bytes; larger tables are cached as values
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
    file: int = 0
    """Which file of a table of several it comes from."""


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
    identity: str | None = None
    """Path, size, time and options, which identify its content; None: a stream, or data in memory."""
    size: int = 0
    """Of the file, in bytes."""
    keys: tuple[str, ...] = ()
    """Columns beside the values of the items, which are not fed unless the config names them."""
    keys_from: str = "the names of folders"
    """Where they come from, for messages."""
    dialect: Dialect | None = None
    """Of a text table."""
    locate: Callable[[int], tuple[str, int]] | None = None
    """Of a table of several files: returns the file of a row that has been read, and its number there."""
    files: tuple["Table", ...] = ()
    """The tables that it consists of, if there are several."""

    @property
    def key(self) -> str | None:
        """Identifies the cached values of a large table."""
        return self.identity if self.size >= LARGE else None

    def where(self, row: int) -> tuple[str, int]:
        """Return the file that holds a row, and its number there, from 0."""
        return (self.name, row) if self.locate is None else self.locate(row)

    def place(self, row: int) -> str:
        """Return where a row is, for messages: the file and the number of the row in it, from 1."""
        name, number = self.where(row)
        return f"{name}: row {number + 1:,}"

    def require(self, columns: Iterable[str | None]) -> None:
        """Check that each file has some columns.

        Raises:
            DataError: a file lacks one; the message names both.
        """
        wanted = [column for column in columns if column is not None]
        for table in self.files:
            missing = next((column for column in wanted if column not in table.names), None)
            if missing is not None:
                has = next(other.name for other in self.files if missing in other.names)
                shown = missing or "(without a name)"
                raise DataError(
                    f"{table.name}: lacks the column {shown}, which {has} has; files that are read as one table have the same columns. "
                    f"To ignore it: {set_option('data.ignore', [missing])}"
                )


def first_rows(blocks: Sequence[TableBlock]) -> TableBlock:
    """Return the first rows of a table, up to ``HEAD_ROWS``, given its first blocks."""
    block = blocks[0]
    count = min(HEAD_ROWS, len(block.rows))
    return TableBlock(block.rows[:count], {name: values.slice(0, count) for name, values in block.columns.items()})
