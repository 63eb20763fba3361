"""Tables of numbers in text: CSV and JSON Lines, a row an item, read line by line from a file or a pipe."""

import contextlib
import csv
import io
import itertools
import json
from collections.abc import Generator, Iterable, Iterator
from pathlib import Path
from typing import IO

import numpy as np

from tiedae_cli.data.sources.part import Bad, Part, RawBlock
from tiedae_cli.errors import DataError

NAME_COLUMN = "item"  # what ``encode`` puts before the numbers of each row
Rows = Generator[tuple[int, list[float]], None, None]


def open_table(path: Path, kind: str, key: str = "values") -> dict[str, Part]:
    """Return the rows of a file as a source of one part; its first row, which says how many numbers there are, is read at once.

    Args:
        path: the file.
        kind: ``csv`` or ``jsonl``.
        key: where JSON Lines have an item's numbers.

    Raises:
        DataError: it cannot be read, or has no row of numbers.
    """
    name = str(path)
    try:
        early: list[DataError] = []
        rows = _rows(path.open("rb"), name, kind, key, early.append)
        with contextlib.closing(rows):
            width = _width(next(rows, None), early, name)
    except OSError as error:
        raise DataError(f"{name}: cannot be read: {error.strerror or error}") from None

    def read(size: int, bad: Bad) -> Iterator[RawBlock]:
        return _blocks(_rows(path.open("rb"), name, kind, key, bad), width, size, name, bad)

    return {"train": Part(name, (width,), np.dtype(np.float64), None, read)}


def stream_table(file: IO[bytes], name: str, kind: str, key: str = "values") -> dict[str, Part]:
    """Do what ``open_table`` does with a stream, which can be read once."""
    early: list[DataError] = []  # bad rows before the first good one; who is told of them is known when the rows are read
    told: list[Bad] = [early.append]
    rows = _rows(file, name, kind, key, lambda problem: told[0](problem))
    first = next(rows, None)
    width = _width(first, early, name)

    def read(size: int, bad: Bad) -> Iterator[RawBlock]:
        told[0] = bad
        for problem in early:
            bad(problem)
        return _blocks(itertools.chain([first] if first else [], rows), width, size, name, bad)

    return {"train": Part(name, (width,), np.dtype(np.float64), None, read)}


def _rows(file: IO[bytes], name: str, kind: str, key: str, bad: Bad) -> Rows:
    return csv_rows(file, name, bad) if kind == "csv" else json_rows(file, name, key, bad)


def _width(first: tuple[int, list[float]] | None, early: list[DataError], name: str) -> int:
    if first is None:
        raise early[0] if early else DataError(f"{name}: holds no rows of numbers")
    return len(first[1])


def _blocks(rows: Iterable[tuple[int, list[float]]], width: int, size: int, name: str, bad: Bad) -> Iterator[RawBlock]:
    numbers: list[int] = []
    values: list[list[float]] = []
    for row, cells in rows:
        if len(cells) != width:
            bad(DataError(f"{name}: row {row:,} (from 0) has {len(cells):,} numbers, not {width:,}"))
            continue
        numbers.append(row)
        values.append(cells)
        if len(values) == size:
            yield RawBlock(numbers, np.array(values))
            numbers, values = [], []
    if values:
        yield RawBlock(numbers, np.array(values))


def csv_rows(file: IO[bytes], name: str, bad: Bad) -> Rows:
    """Yield (row from 0, numbers) of a CSV file, with or without a heading; a column ``item`` is left out.

    Args:
        file: the bytes; closed at the end.
        name: of the file, for messages.
        bad: is told of each row that is not numbers; if it returns, the row is left out.

    Raises:
        DataError: it is not text.
    """
    skip: int | None = None
    row = 0
    try:
        with _text(file) as text:
            reader = csv.reader(text)
            for place, cells in enumerate(cells for cells in reader if cells):
                if place == 0 and not any(map(_is_number, cells)):  # a heading
                    skip = cells.index(NAME_COLUMN) if NAME_COLUMN in cells else None
                    continue
                try:
                    yield row, [float(cell) for column, cell in enumerate(cells) if column != skip]
                except ValueError as error:
                    bad(DataError(f"{name}: line {reader.line_num}: {str(error)[:100]}"))
                row += 1
    except (UnicodeDecodeError, csv.Error) as error:
        raise DataError(f"{name}: not CSV text ({error})") from None


def json_rows(file: IO[bytes], name: str, key: str, bad: Bad) -> Rows:
    """Yield (row from 0, numbers) of JSON Lines: each line a list of numbers, or an object that has one under ``key``.

    Args:
        file: the bytes; closed at the end.
        name: of the file, for messages.
        key: where the numbers are in an object.
        bad: is told of each line that is something else; if it returns, the row is left out.

    Raises:
        DataError: it is not text.
    """
    row = 0
    try:
        with _text(file) as text:
            for number, line in enumerate(text, start=1):
                if not line.strip():
                    continue
                numbers = _numbers(line, key)
                if numbers is None:
                    bad(DataError(f"{name}: line {number}: expected a list of numbers, or an object with one under {key!r}"))
                else:
                    yield row, numbers
                row += 1
    except UnicodeDecodeError as error:
        raise DataError(f"{name}: not JSON Lines text ({error})") from None


def _numbers(line: str, key: str) -> list[float] | None:
    try:
        value = json.loads(line)
    except (ValueError, RecursionError):
        return None
    if isinstance(value, dict):
        value = value.get(key)
    if not isinstance(value, list) or not all(isinstance(item, (int, float)) for item in value):
        return None
    try:
        return [float(item) for item in value]
    except OverflowError:
        return None


def _text(file: IO[bytes]) -> io.TextIOWrapper:
    return io.TextIOWrapper(file, encoding="utf-8-sig", newline="")


def _is_number(cell: str) -> bool:
    try:
        float(cell)
    except ValueError:
        return False
    return True
