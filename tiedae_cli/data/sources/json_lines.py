"""JSON Lines: objects of named values, or lists of numbers; each line is an item.

Shapes: N rows, B rows per block.
"""

import contextlib
import io
import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any

import numpy as np

from tiedae_cli.data.data_errors import data_errors
from tiedae_cli.data.sources.arriving import Arriving
from tiedae_cli.data.sources.number_format import NumberFormat
from tiedae_cli.data.sources.part import Bad, item_name
from tiedae_cli.data.sources.table import Table, TableBlock, TableOptions
from tiedae_cli.data.sources.text_rows import PIECE_BYTES
from tiedae_cli.errors import DataError
from tiedae_cli.system.memory_limits import require_columns, require_line

JSON_ROWS = 4096  # that are parsed at once


def json_lines(name: str, options: TableOptions, head: bytes, reopen: Callable[[], Arriving]) -> Table:
    """Return JSON Lines as a table: objects of named values, or lists of numbers (alone, or in an object under a key).

    Args:
        name: of the file, for messages.
        options: the user's choices.
        head: its first lines.
        reopen: returns it from the start.
    """
    require_columns(name, head.partition(b"\n")[0].count(b","))
    early: list[DataError] = []

    def records(names: Sequence[str], bad: Bad) -> Iterator[_Record | None]:
        return _json_records(Arriving(io.BytesIO(head)), name, options.key, names, bad)

    first = next(filter(None, records((), early.append)), None)
    if first is None:
        raise early[0] if early else DataError(f"{name}: no rows of numbers")
    names = tuple(first.cells)
    named = not isinstance(_plain(first.value, options.key), list)
    head_block = next(_record_blocks(records(names, lambda problem: None), names))

    def read(bad: Bad) -> Iterator[TableBlock]:
        return _record_blocks(_json_records(reopen(), name, options.key, names, bad), names)

    return Table(name, names, named, NumberFormat(), head_block, read, "JSON Lines")


@dataclass(frozen=True)
class _Record:
    """A line of JSON Lines."""

    row: int
    """From 0."""
    line: int
    """From 1; blank lines count."""
    cells: dict[str, Any]
    """Values by name."""
    value: Any
    """What the line holds."""


def _plain(value: Any, key: str) -> Any:
    return value[key] if isinstance(value, dict) and isinstance(value.get(key), list) else value


def _arriving_lines(source: Arriving, name: str) -> Iterator[bytes | None]:
    """Yield lines; None after those of a pipe that have arrived."""
    rest, number = b"", 0
    while not source.ended:
        *lines, rest = (rest + source.read(PIECE_BYTES)).split(b"\n")
        yield from lines
        number += len(lines)
        require_line(name, number + 1, len(rest))
        if source.paused:
            yield None
    if rest:
        yield rest


def _json_records(source: Arriving, name: str, key: str, names: Sequence[str], bad: Bad) -> Iterator[_Record | None]:
    """Yield each row; None after those of a pipe that have arrived."""
    row = number = 0
    with contextlib.closing(source), data_errors(name, "a table"):
        for raw in _arriving_lines(source, name):
            if raw is None:
                yield None
                continue
            number += 1
            require_line(name, number, len(raw))
            line = raw.decode("utf-8-sig" if number == 1 else "utf-8")
            if not line.strip():
                continue
            try:
                value = json.loads(line, object_pairs_hook=_once_each)
            except _RepeatedKeyError as error:
                bad(DataError(f"{name}: {item_name(row, number)}: the key {str(error)!r} appears twice"))
                row += 1
                continue
            except (ValueError, RecursionError):
                value = None
            plain = _plain(value, key)
            if isinstance(plain, list):
                numbers = all(cell is None or isinstance(cell, (int, float)) for cell in plain)
                plain = {str(index): cell for index, cell in enumerate(plain)} if numbers else None
            elif isinstance(plain, dict):
                plain = _without_json_lists(plain)
            if not isinstance(plain, dict) or not plain or any(isinstance(cell, (list, dict)) for cell in plain.values()):
                bad(
                    DataError(
                        f"{name}: {item_name(row, number)}: expected a list of numbers, or an object that has one or is one row"
                    )
                )
            elif "\\u" in line and not _is_unicode(plain):
                bad(DataError(f"{name}: {item_name(row, number)}: text that is not Unicode (half of a surrogate pair)"))
            elif isinstance(_plain(value, key), list) and names and len(plain) != len(names):
                bad(DataError(f"{name}: {item_name(row, number)} has {len(plain):,} cells, not {len(names):,}"))
            elif (
                names
                and any(key.endswith("]") and key not in plain for key in names)
                or (names and any(key.endswith("]") and key not in names for key in plain))
            ):
                bad(DataError(f"{name}: {item_name(row, number)}: a list is not as long as in the first line"))
            else:
                yield _Record(row, number, plain, value)
            row += 1


def _without_json_lists(values: dict[str, Any]) -> dict[str, Any]:
    """Return an object with each list of numbers as one value per number: ``emb[0]``, ``emb[1]`` ..."""
    found: dict[str, Any] = {}
    for key, cell in values.items():
        numbers = isinstance(cell, list) and all(part is None or isinstance(part, (int, float)) for part in cell)
        found |= {f"{key}[{index}]": part for index, part in enumerate(cell)} if numbers and cell else {key: cell}
    return found


class _RepeatedKeyError(ValueError):
    """A JSON object has a key twice; one of the values would be lost."""


def _once_each(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    values = dict(pairs)
    if len(values) < len(pairs):
        raise _RepeatedKeyError(next(key for index, (key, _) in enumerate(pairs) if key in dict(pairs[:index])))
    return values


def _is_unicode(cells: dict[str, Any]) -> bool:
    """Return whether names and values can be written as UTF-8."""
    try:
        "".join([*cells, *(cell for cell in cells.values() if isinstance(cell, str))]).encode()
    except UnicodeEncodeError:
        return False
    return True


def _record_blocks(records: Iterable[_Record | None], names: Sequence[str]) -> Iterator[TableBlock]:
    """Yield blocks of up to ``JSON_ROWS`` rows, those of a pipe as they arrive."""
    iterator, ended = iter(records), False
    while not ended:
        block: list[_Record] = []
        for record in islice(iterator, JSON_ROWS):
            if record is None:
                break
            block.append(record)
        else:
            ended = len(block) < JSON_ROWS
        if block:
            rows, lines = (np.array(numbers, np.int64) for numbers in zip(*((one.row, one.line) for one in block), strict=True))
            exact = {name: [one.cells.get(name) for one in block] for name in names}
            yield TableBlock(rows, {name: _json_column(cells) for name, cells in exact.items()}, 0, lines, exact)


def _json_column(cells: list[Any]) -> Any:
    """Return the values of a column as text, with numbers in a form that reads back exactly."""
    import pyarrow

    plain = [_cell_text(cell) for cell in cells]
    return pyarrow.array(plain, pyarrow.string())


def _cell_text(cell: Any) -> str:
    if cell is None or isinstance(cell, str):
        return cell or ""
    return str(int(cell)) if isinstance(cell, bool) else repr(cell)
