"""Detects the dialect of a CSV: delimiter, decimal mark, and whether its first row names the columns."""

import csv
import re
from collections.abc import Sequence
from dataclasses import dataclass

from tiedae_cli.data.sources.cells import MISSING

DELIMITERS = ",;\t|"
WHITE_SPACE = " "  # stands for runs of blanks and tabs
NUMBER = re.compile(r"[-+]?(\d+\.?\d*|\.\d+)([eE][-+]?\d+)?$")
COMMA_NUMBER = re.compile(r"[-+]?\d*,\d+([eE][-+]?\d+)?$")


@dataclass(frozen=True)
class Dialect:
    """The dialect of a CSV."""

    names: tuple[str, ...]
    header: bool
    delimiter: str
    decimal: str

    def describe(self) -> str:
        """Return the dialect as text, for messages."""
        marks = {"\t": "tabs", WHITE_SPACE: "white space"}
        heading = "with a header row" if self.header else "without a header row"
        return f"text, columns by {marks.get(self.delimiter, repr(self.delimiter))}, decimal {self.decimal!r}, {heading}"


def find_dialect(lines: Sequence[str], delimiter: str | None, decimal: str | None, header: bool | None) -> Dialect:
    """Return the dialect of a CSV, by its first lines and the user's choices (None: detected)."""
    delimiter = delimiter or _find_delimiter(lines)
    rows = _cells(lines, delimiter)
    decimal = decimal or _find_decimal(rows, delimiter)
    header = _is_header(rows, decimal) if header is None else header
    width = len(rows[1] if header and len(rows) > 1 else rows[0])
    if header:
        names = [cell.strip().lstrip("#").strip() for cell in rows[0]]
        if len(names) == width - 1:  # the header has no name for the row numbers
            names = ["", *names]
        names = [*names, *("" for _ in range(width - len(names)))][:width]
    else:
        names = [str(index) for index in range(width)]
    return Dialect(_distinct(names), header, delimiter, decimal)


def _cells(lines: Sequence[str], delimiter: str) -> list[list[str]]:
    if delimiter == WHITE_SPACE:
        return [line.split() for line in lines]
    return [row for row in csv.reader(lines, delimiter=delimiter) if row]


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
        numbers = sum(bool(NUMBER.match(cell) or COMMA_NUMBER.match(cell) or cell in MISSING) for cell in cells) / len(cells)
        score = (round(same, 3) * (1 + numbers), width)
        if score > best:
            best, found = score, delimiter
    return found or ","


def _find_decimal(rows: Sequence[Sequence[str]], delimiter: str) -> str:
    """Return the decimal mark: a comma only where it does not delimit and no cell has a point in its place."""
    if delimiter == ",":
        return "."
    cells = [cell.strip() for row in rows[1:] or rows for cell in row]
    commas = sum(bool(COMMA_NUMBER.match(cell)) for cell in cells)
    points = sum("." in cell and bool(NUMBER.match(cell)) for cell in cells)
    return "," if commas > points else "."


def _is_header(rows: Sequence[Sequence[str]], decimal: str) -> bool:
    """Return whether the first row names the columns: it holds no number, or it counts 0 ... D - 1 as pandas does."""
    first = [cell.strip() for cell in rows[0]]
    if first and first[0].startswith("#"):
        return True
    counted = first[1:] if first and not first[0] else first
    if len(counted) > 1 and counted == [str(index) for index in range(len(counted))]:
        return True
    numeric = [bool(NUMBER.match(cell.replace(decimal, "."))) for cell in first]
    if not any(numeric):
        return not all(cell in MISSING for cell in first)
    if all(numeric) or len(rows) < 2:
        return False
    # Some numbers among the names: a header if the next row has numbers where this one has words.
    following = [bool(NUMBER.match(cell.strip().replace(decimal, "."))) for cell in rows[1]]
    words = [index for index, number in enumerate(numeric) if not number and first[index] not in MISSING]
    return bool(words) and all(index < len(following) and following[index] for index in words) and len(words) > len(first) / 2


def _distinct(names: Sequence[str]) -> tuple[str, ...]:
    """Return distinct names."""
    seen: dict[str, int] = {}
    found = []
    for name in names:
        seen[name] = seen.get(name, 0) + 1
        found.append(name if seen[name] == 1 else f"{name}_{seen[name]}")
    return tuple(found)
