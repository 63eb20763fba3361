"""An open table: its columns, its first rows, and how its rows are read, whatever the format.

Shapes: B rows per block.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from tiedae_cli.data.option_text import set_option
from tiedae_cli.data.sources.cells import exact_values
from tiedae_cli.data.sources.dialect import Dialect, DialectChoices
from tiedae_cli.data.sources.number_format import NumberFormat
from tiedae_cli.data.sources.part import Bad, item_name
from tiedae_cli.errors import DataError
from tiedae_cli.system.text import note_names

LARGE = 1 << 26  # bytes; larger tables are cached as values
NAME_COLUMN, ID_COLUMN = "item", "id"  # what ``encode`` puts before the numbers of each row; the second only if there are keys
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
    lines: np.ndarray | None = None
    """(B,) int64: the line at which each row begins, from 1; None unless the table is text."""
    exact: Mapping[str, list[Any]] = field(default_factory=dict)
    """(B,) values per column name, where a column does not hold them as they are in the file."""

    def slice(self, start: int, count: int) -> "TableBlock":
        """Return ``count`` rows from a row of the block on, or fewer at its end."""
        columns = {name: values.slice(start, count) for name, values in self.columns.items()}
        lines = None if self.lines is None else self.lines[start : start + count]
        exact = {name: values[start : start + count] for name, values in self.exact.items()}
        return TableBlock(self.rows[start : start + count], columns, self.file, lines, exact)

    def ids(self, column: str) -> list[Any]:
        """Return the values of a column as they are in the file, (B,): text, numbers, or None."""
        return self.exact[column] if column in self.exact else exact_values(self.columns[column])

    def line(self, index: int) -> int | None:
        """Return the line of a row of the block; None unless the table is text."""
        return None if self.lines is None else int(self.lines[index])


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
    is_early: bool = False
    """Whether the first rows are those of a pipe that paused: fewer than are known of other tables."""

    @property
    def has_lines(self) -> bool:
        """Whether the table is text, with a line for each row."""
        return self.head.lines is not None

    @property
    def key(self) -> str | None:
        """Identifies the cached values of a large table."""
        return self.identity if self.size >= LARGE else None

    def where(self, row: int) -> tuple[str, int]:
        """Return the file that holds a row, and its number there, from 0."""
        return (self.name, row) if self.locate is None else self.locate(row)

    def place(self, row: int, line: int | None = None) -> str:
        """Return where a row is, for messages: the file, and the number of the row in it and its line, from 1."""
        name, number = self.where(row)
        return f"{name}: {item_name(number, line)}"

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

    def __post_init__(self) -> None:
        note_names(self.names)


def first_rows(blocks: Sequence[TableBlock]) -> TableBlock:
    """Return the first rows of a table, up to ``HEAD_ROWS``, given its first blocks."""
    return blocks[0].slice(0, HEAD_ROWS)
