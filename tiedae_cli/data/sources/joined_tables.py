"""Several tables read as one: columns are matched by name, and the rows follow each other, file by file.

Shapes: B rows per block.
"""

from bisect import bisect_right
from collections.abc import Iterator, Sequence
from dataclasses import replace

from tiedae_cli.data.sources.cells import as_text
from tiedae_cli.data.sources.number_format import NumberFormat, detect_format
from tiedae_cli.data.sources.part import Bad
from tiedae_cli.data.sources.table import Table, TableBlock, TableOptions
from tiedae_cli.data.sources.table_files import TableFile
from tiedae_cli.data.sources.tables import open_table
from tiedae_cli.errors import DataError
from tiedae_cli.system.progress import progress

MANY = 50  # files that are opened with a progress bar
LISTED_FILES = 3  # that a note names


def open_tables(files: Sequence[TableFile], options: TableOptions, bad: Bad) -> list[Table]:
    """Open files of tables. Those with one delimiter have one number format, which all of them together show.

    Args:
        files: in the order of the result.
        options: the user's choices.
        bad: called for a file that cannot be opened; if it returns, the file is skipped.

    Raises:
        DataError: raised by ``bad``, or numbers of two files contradict each other.
    """
    found: list[tuple[TableFile, Table]] = []
    for number, file in enumerate(files, start=1):
        try:
            found.append((file, open_table(file.path, file.kind, options)))
        except DataError as problem:
            bad(problem)
        if len(files) >= MANY:
            progress("opening tables", number, len(files))
    common = _common_formats([table for _, table in found], options)
    tables = []
    for file, table in found:
        numbers = None if table.dialect is None else common.get(table.dialect.delimiter)
        if numbers is not None and numbers != table.numbers:
            table = open_table(file.path, file.kind, replace(options, dialect=replace(options.dialect, numbers=numbers)))
        tables.append(with_keys(table, file.keys))
    return tables


def _common_formats(tables: Sequence[Table], options: TableOptions) -> dict[str, NumberFormat]:
    """Return the number format of text tables by their delimiter, where their own ones differ."""
    groups: dict[str, list[Table]] = {}
    for table in tables:
        if table.dialect is not None:
            groups.setdefault(table.dialect.delimiter, []).append(table)
    found = {}
    for delimiter, group in groups.items():
        if len({table.numbers for table in group}) > 1:
            columns = [[cell.strip() for cell in as_text(cells)] for table in group for cells in table.head.columns.values()]
            choices, names = options.dialect, f"{group[0].name} and {len(group) - 1:,} more"
            found[delimiter], _ = detect_format(columns, delimiter, choices.decimal, choices.thousands, names)
    return found


def with_keys(table: Table, keys: Sequence[tuple[str, str]]) -> Table:
    """Return a table with more columns, each of one value; columns that the table itself has stay as they are."""
    import pyarrow

    added = {name: value for name, value in keys if name not in table.names}
    if not added:
        return table

    def extended(block: TableBlock) -> TableBlock:
        constant = {name: pyarrow.repeat(pyarrow.scalar(value), len(block.rows)) for name, value in added.items()}
        return replace(block, columns={**block.columns, **constant})

    def read(bad: Bad) -> Iterator[TableBlock]:
        return map(extended, table.read(bad))

    return replace(table, names=(*table.names, *added), head=extended(table.head), read=read, keys=(*table.keys, *added))


def joined(tables: Sequence[Table], name: str) -> Table:
    """Return tables as one: all their columns, by name, and their rows one table after the other.

    Args:
        tables: in order.
        name: of the whole, for messages.

    Raises:
        DataError: some have names for their columns, and others do not.
    """
    first = tables[0]
    other = next((table for table in tables if table.named != first.named), None)
    if other is not None:
        raise DataError(
            f"{name}: {(first if first.named else other).name} has a header row and {(other if first.named else first).name} has none; "
            "say which is right for all: --set data.header=true (or false)"
        )
    names = tuple(dict.fromkeys(column for table in tables for column in table.names))
    head = {column: next(table.head.columns[column] for table in tables if column in table.names) for column in names}
    rows = _Rows(tables, name)
    notes: dict[str, list[str]] = {}
    for table in tables:
        for note in table.notes:
            notes.setdefault(note, []).append(table.name)
    return Table(
        name,
        names,
        first.named,
        first.numbers,
        replace(first.head, columns=head),
        rows.read,
        first.format,
        tuple(f"{_listed(files)}: {note}" for note, files in notes.items()),
        repr([table.identity for table in tables]),
        sum(table.size for table in tables),
        tuple(dict.fromkeys(key for table in tables for key in table.keys)),
        locate=rows.locate,
        files=tuple(tables),
    )


class _Rows:
    """The rows of several tables, numbered through: between two tables a number is missing, because no series spans them.

    Args:
        tables: in order.
        name: of the whole, for the progress bar.
    """

    def __init__(self, tables: Sequence[Table], name: str) -> None:
        self.tables, self.name = tables, name
        self.starts: list[int] = []  # number of the first row of each table that has been read

    def read(self, bad: Bad) -> Iterator[TableBlock]:
        """Yield the rows of all tables."""
        self.starts, after = [], 0
        for number, table in enumerate(self.tables):
            self.starts.append(after)
            for block in table.read(bad):
                yield TableBlock(block.rows + self.starts[-1], block.columns, number)
                after = self.starts[-1] + int(block.rows.max(initial=-1)) + 2
            if len(self.tables) >= MANY:
                progress(f"reading {self.name}, files", number + 1, len(self.tables))

    def locate(self, row: int) -> tuple[str, int]:
        """Return the table of a row that has been read, and its number there."""
        index = bisect_right(self.starts, row) - 1
        return self.tables[index].name, row - self.starts[index]


def _listed(names: Sequence[str]) -> str:
    shown = ", ".join(names[:LISTED_FILES])
    return shown if len(names) <= LISTED_FILES else f"{shown} and {len(names) - LISTED_FILES:,} more"
