"""Tables that fit the window.

No word is broken. If the columns do not fit, optional ones are hidden; if that is not enough, each row becomes a list.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from rich.console import Console
from rich.measure import Measurement
from rich.table import Column, Table
from rich.text import Text

from tiedae_cli.system.text import shown_lines

UNBOUNDED = 10_000  # characters: no line wraps


@dataclass(frozen=True)
class Fitted:
    """A table as a window shows it."""

    table: Table | Text
    """The table, or each row as a list of headings and values."""
    hidden: list[str]
    """Headings of the columns that do not fit."""


class PipedConsole(Console):
    """A console that raises ``BrokenPipeError`` like any other stream; rich's own would exit with code 1."""

    def on_broken_pipe(self) -> None:
        """Raise the error that is being handled."""
        raise


def print_table(table: Table, optional: Sequence[str] = ()) -> str:
    """Print a table to stdout, fitted to the window if stdout is a terminal; return a note about hidden columns, or "".

    Args:
        table: its title is printed above it; its cells are plain text, not markup.
        optional: headings of columns to hide if the window is too narrow, the first one first.
    """
    console = PipedConsole(highlight=False, markup=False, emoji=False)
    if not console.is_terminal:
        console = PipedConsole(highlight=False, markup=False, emoji=False, width=200)
    table = shown_table(table)
    if table.title:
        console.print(Text(str(table.title), style="italic"))
        table.title = None
    fitting = fitted(table, optional, console)
    console.print(fitting.table)
    hidden = ", ".join(fitting.hidden)
    return f"not shown at {console.width} columns: {hidden} (--json has all)" if hidden else ""


def fitted(table: Table, optional: Sequence[str], console: Console) -> Fitted:
    """Fit a table to a window.

    Args:
        table: without a title; rows of text.
        optional: headings of columns that may be hidden, the first one first.
        console: the window.
    """
    columns, hidden = list(table.columns), []
    for heading in ("", *optional):
        gone = [column for column in columns if heading and column.header == heading]
        columns = [column for column in columns if column not in gone]
        hidden += [_plain(heading)] * len(gone)
        candidate = _rebuilt(table, columns)
        ranges = [_range(column, console) for column in candidate.columns]
        frame = _width(candidate, console) - sum(one.maximum for one in ranges)
        room = console.width - frame - sum(one.minimum for one in ranges)
        if room >= 0:
            for column, one in zip(candidate.columns, ranges, strict=True):
                wider = min(room, one.maximum - one.minimum)
                column.width = one.minimum + wider
                room -= wider
            return Fitted(candidate, hidden)
    return Fitted(_listed(table), [])


def _rebuilt(table: Table, columns: Sequence[Column]) -> Table:
    new = Table(box=table.box, show_header=table.show_header, collapse_padding=table.collapse_padding, pad_edge=table.pad_edge)
    for column in columns:
        new.add_column(column.header, justify=column.justify)
    for row, cells in zip(table.rows, zip(*(column.cells for column in columns), strict=True), strict=True):
        new.add_row(*cells, end_section=row.end_section)
    return new


def _range(column: Column, console: Console) -> Measurement:
    """Return the widths of a column's longest word and longest line."""
    options = console.options.update_width(UNBOUNDED)
    found = [Measurement.get(console, options, cell) for cell in (column.header, *column.cells)]
    return Measurement(max(one.minimum for one in found), max(one.maximum for one in found))


def _width(table: Table, console: Console) -> int:
    return Measurement.get(console, console.options.update_width(UNBOUNDED), table).maximum


def _listed(table: Table) -> Text:
    """Return the rows as lines, each heading before its value, with an empty line between rows."""
    blocks = []
    for cells in zip(*(column.cells for column in table.columns), strict=True):
        named = zip((_plain(column.header) for column in table.columns), map(_plain, cells), strict=True)
        if table.show_header:
            blocks.append("\n".join(f"{name}: {value}" if name else value for name, value in named if value))
        else:
            blocks.append(": ".join(value for _, value in named))
    return Text(("\n\n" if table.show_header else "\n").join(blocks))


def _plain(cell: object) -> str:
    text = cell.plain if isinstance(cell, Text) else str(cell)
    return text.replace("-\n", "").replace("\n", " ")


def shown_table(table: Table) -> Table:
    """Escape untrusted text in a table's cells and title."""
    for column in table.columns:
        column._cells = [_shown_cell(cell) for cell in column.cells]
    table.title = None if table.title is None else _shown_cell(table.title)
    return table


def _shown_cell(cell: Any) -> Any:
    if isinstance(cell, Text) and shown_lines(cell.plain) != cell.plain:
        return Text(shown_lines(cell.plain), style=cell.style)
    return shown_lines(cell) if isinstance(cell, str) else cell
