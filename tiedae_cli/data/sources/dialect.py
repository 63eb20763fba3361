"""Detects the dialect of a CSV: preamble, delimiter, number format, and whether its first row names the columns."""

import csv
import logging
import re
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import takewhile, zip_longest

from tiedae_cli.data.sources.cells import MISSING
from tiedae_cli.data.sources.number_format import NumberFormat, detect_format, looks_numeric

log = logging.getLogger(__name__)

DELIMITERS = ",;\t|"
WHITE_SPACE = " "  # stands for runs of blanks and tabs
SEPARATOR_LINE = re.compile(r"\s*\"?sep=(.)\"?\s*$", re.IGNORECASE)  # the first line of a CSV for Excel
LONGEST_SAMPLE = 60  # characters of a skipped line in a note
SAMPLE_ROWS = 200  # rows that the structure is detected from


@dataclass(frozen=True)
class Dialect:
    """The dialect of a CSV."""

    names: tuple[str, ...]
    header: bool
    delimiter: str
    numbers: NumberFormat = NumberFormat()
    preamble: int = 0
    """Lines before the header or the first row."""
    units: bool = False
    """Whether a row of units follows the header."""
    notes: tuple[str, ...] = ()
    """For the user: what was skipped, and how doubtful numbers are read."""

    def describe(self) -> str:
        """Return the dialect as text, for messages."""
        marks = {"\t": "tabs", WHITE_SPACE: "white space"}
        header = "with a header row" if self.header else "without a header row"
        return f"text, columns by {marks.get(self.delimiter, repr(self.delimiter))}, {self.numbers.describe()}, {header}"


@dataclass(frozen=True)
class DialectChoices:
    """The user's choices for the dialect of a CSV; None: detected."""

    delimiter: str | None = None
    decimal: str | None = None
    header: bool | None = None
    thousands: str | None = None
    numbers: NumberFormat | None = None
    """Both marks, if they are known from other files."""


def find_dialect(lines: Sequence[str], choices: DialectChoices, name: str) -> Dialect:
    """Return the dialect of a CSV.

    Args:
        lines: its first lines, with blank ones.
        choices: the user's.
        name: of the table, for messages.

    Raises:
        DataError: its numbers contradict each other.
    """
    notes = []
    separator = SEPARATOR_LINE.match(lines[0])
    delimiter = choices.delimiter or (separator.group(1) if separator else None)
    preamble = _preamble(lines, 1 if separator else 0, delimiter)
    skipped = [line for line in lines[1 if separator else 0 : preamble] if line.strip()]
    if skipped:
        sample = skipped[0].strip()[:LONGEST_SAMPLE]
        notes.append(f"skipped {len(skipped):,} line{'s' * (len(skipped) != 1)} before the table: {sample!r}")
    lines = [line for line in lines[preamble:] if line.strip()]
    delimiter = delimiter or _find_delimiter(lines)
    commented = lines[0].lstrip().startswith("#")
    rows = _cells([lines[0].lstrip().lstrip("#").lstrip() if commented else lines[0], *lines[1:]], delimiter)
    header = (commented or _is_header(rows)) if choices.header is None else choices.header
    units = header and _is_units(rows)
    if units:
        notes.append(f"skipped the row of units after the header: {delimiter.join(rows[1])[:LONGEST_SAMPLE]!r}")
    names = _names(rows, header)
    columns = [[cell.strip() for cell in column] for column in zip_longest(*rows[header + units :], fillvalue="")]
    numbers, note = choices.numbers, None
    if numbers is None:
        numbers, note = detect_format(columns, delimiter, choices.decimal, choices.thousands, name)
    notes += [note] if note else []
    return Dialect(distinct(names), header, delimiter, numbers, preamble, units, tuple(notes))


def _names(rows: Sequence[Sequence[str]], header: bool) -> list[str]:
    """Return the names of the columns, "" for one without a name; their positions if there is no header."""
    width = len(rows[1] if header and len(rows) > 1 else rows[0])
    if not header:
        return [str(index) for index in range(width)]
    names = [cell.lstrip("\ufeff").strip() for cell in rows[0]]  # a text that was joined has a second byte order mark
    if len(names) == width - 1:  # the header has no name for the row numbers
        names = ["", *names]
    return [*names, *("" for _ in range(width - len(names)))][:width]


def _preamble(lines: Sequence[str], start: int, delimiter: str | None) -> int:
    """Return the number of lines before the header: comments, and titles with few cells.

    The last comment is the header if it has as many names as the rows have cells, as numpy writes it.
    """
    filled = [index for index in range(start, len(lines)) if lines[index].strip()]
    comments = list(takewhile(lambda index: lines[index].lstrip().startswith("#"), filled))
    body = filled[len(comments) :][:SAMPLE_ROWS]
    if not body:
        return start
    found = delimiter or _find_delimiter([lines[index] for index in body[len(body) // 2 :]])
    widths = [len(_line_cells(lines[index], found)) for index in body]
    width = max(set(widths), key=widths.count)
    titles = len(list(takewhile(lambda cells: cells == 1 < width or cells < width / 2, widths)))
    if comments and not titles and _names_columns(lines[comments[-1]], lines[body[0]], found):
        return comments[-1]
    return body[titles] if titles < len(body) else start


def _line_cells(line: str, delimiter: str) -> list[str]:
    return next(iter(_cells([line], delimiter)), [])


def _names_columns(comment: str, row: str, delimiter: str) -> bool:
    """Return whether a comment names the columns of the row after it, which has numbers."""
    names = [cell.strip() for cell in _line_cells(comment.lstrip().lstrip("#").strip(), delimiter)]
    cells = [cell.strip() for cell in _line_cells(row, delimiter)]
    return len(names) == len(cells) and not all(map(looks_numeric, names)) and any(map(looks_numeric, cells))


def _is_units(rows: Sequence[Sequence[str]]) -> bool:
    """Return whether the row after the header holds units: no number, above columns that hold numbers."""
    if len(rows) < 4:
        return False
    second = [cell.strip() for cell in rows[1]]
    if any(map(looks_numeric, second)) or all(cell in MISSING for cell in second):
        return False
    below = [[row[index].strip() for row in rows[2:12] if index < len(row)] for index in range(len(second))]
    numeric = [bool(cells) and sum(map(looks_numeric, cells)) > 0.8 * len(cells) for cells in below]
    units = [cell for cell, number in zip(second, numeric, strict=True) if number and cell not in MISSING]
    return bool(units) and len(units) >= sum(numeric) / 2 and all(len(cell) <= 20 for cell in units)


def _cells(lines: Sequence[str], delimiter: str) -> list[list[str]]:
    if delimiter == WHITE_SPACE:
        return [line.split() for line in lines]
    try:
        return [row for row in csv.reader(lines, delimiter=delimiter) if row]
    except csv.Error:  # a cell of more than 128 kB: the delimiter is another one, or nothing is quoted
        return [line.split(delimiter) for line in lines]


def _find_delimiter(lines: Sequence[str]) -> str:
    """Return the delimiter that splits the lines into equally many cells, with as many numbers as possible."""
    best, found = (0.0, 0), ""
    for delimiter in (*DELIMITERS, WHITE_SPACE):
        rows = _cells(lines[:100], delimiter)
        widths = [len(row) for row in rows[1:]] or [len(rows[0])]
        width = max(set(widths), key=widths.count)
        if width < 2:
            continue
        same = widths.count(width) / len(widths)
        cells = [cell.strip() for row in rows[1:] or rows for cell in row]
        numbers = sum(looks_numeric(cell) or cell in MISSING for cell in cells) / len(cells)
        fits = 1.0 if len(rows[0]) in (width - 1, width) else 0.5  # the header has as many cells
        score = (round(same, 3) * (1 + numbers) * fits, width)
        if score > best:
            best, found = score, delimiter
    return found or ","


def _is_header(rows: Sequence[Sequence[str]]) -> bool:
    """Return whether the first row names the columns: it holds no number, or it counts 0 ... D - 1 as pandas does."""
    first = [cell.strip() for cell in rows[0]]
    counted = first[1:] if first and not first[0] else first
    if len(counted) > 1 and counted == [str(index) for index in range(len(counted))]:
        return True
    numeric = [looks_numeric(cell) for cell in first]
    if not any(numeric):
        return not all(cell in MISSING for cell in first)
    if all(numeric) or len(rows) < 2:
        return False
    # Some numbers among the names: a header if the next row has numbers where this one has words.
    following = [looks_numeric(cell.strip()) for cell in rows[1]]
    words = [index for index, number in enumerate(numeric) if not number and first[index] not in MISSING]
    return bool(words) and all(index < len(following) and following[index] for index in words) and len(words) > len(first) / 2


def distinct(names: Sequence[str]) -> tuple[str, ...]:
    """Return distinct names: a repeated one gets the first number that makes a name of its own."""
    taken, found, seen = set(names), [], set()
    for name in names:
        new, number = name, 2
        while new in seen or (new != name and new in taken):
            new, number = f"{name}_{number}", number + 1
        seen.add(new)
        found.append(new)
    return tuple(found)
