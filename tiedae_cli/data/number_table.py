"""Rows of numbers from CSV and JSON Lines text, one at a time."""

import csv
import io
import json
from collections.abc import Callable, Iterator
from typing import IO

from tiedae_cli.errors import DataError

NAME_COLUMN = "item"  # what ``encode`` puts before the numbers of each row


def csv_rows(file: IO[bytes], name: str, bad: Callable[[DataError], None]) -> Iterator[tuple[int, list[float]]]:
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


def json_rows(file: IO[bytes], name: str, key: str, bad: Callable[[DataError], None]) -> Iterator[tuple[int, list[float]]]:
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
