"""Tables: CSV in its dialects, JSON Lines, Parquet and Feather, read block by block by pyarrow; each row is an item.

Cells of text files stay text until ``table_columns.py`` decides what each column is; a bad cell can then be named by row and column.

Shapes: N rows, B rows per block.
"""

import codecs
import contextlib
import io
import json
import os
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from typing import IO, Any

import numpy as np

from tiedae_cli.data.data_errors import data_errors
from tiedae_cli.data.sources.compression import MARK_BYTES, opener_of
from tiedae_cli.data.sources.dialect import WHITE_SPACE, Dialect, DialectChoices, distinct, find_dialect
from tiedae_cli.data.sources.number_format import NumberFormat
from tiedae_cli.data.sources.part import Bad
from tiedae_cli.errors import DataError
from tiedae_cli.system.memory_limits import LONGEST_LINE, require_line, require_memory
from tiedae_cli.system.progress import progress
from tiedae_cli.system.text import note_names

NAME_COLUMN = "item"  # what ``encode`` puts before the numbers of each row
HEAD_BYTES, HEAD_ROWS = 1 << 16, 1000  # examined to detect the dialect and the columns
WIDE_ENCODINGS = [
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
]
LARGEST_HEAD, HEAD_LINES = 1 << 26, 8  # bytes; lines that are read of a table with long ones
LARGE = 1 << 26  # bytes; larger files are cached as values
TEXT_BLOCK_BYTES = 1 << 22  # parsed at once


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

    def __post_init__(self) -> None:
        note_names(self.names)


def open_table(path: Path, kind: str, options: TableOptions) -> Table:
    """Open a table file; its head is read at once.

    Args:
        path: the file.
        kind: csv, jsonl, parquet or feather.
        options: the user's choices.

    Raises:
        DataError: it cannot be read, or has no rows.
    """
    with data_errors(path, "a table"):
        information = path.stat()
        identity = repr((os.path.realpath(path), information.st_size, information.st_mtime_ns, options))
        key = identity if information.st_size >= LARGE else None
        if kind == "parquet":
            return replace(_columnar(str(path), kind, lambda: _parquet_batches(path)), key=key)
        if kind == "feather":
            return replace(_columnar(str(path), kind, lambda: _feather_batches(path)), key=key)
        with _opened(path) as file:
            head = _read_head(file)
        return replace(_text_table(str(path), kind, options, head, lambda: _opened(path)), key=key)


def stream_table(file: IO[bytes], name: str, kind: str, options: TableOptions) -> Table:
    """Open a stream of text, which can be read once, as a table."""
    with data_errors(name, "a table"):
        start = file.read(MARK_BYTES)
        opener = opener_of(start)
        whole: IO[bytes] = io.BufferedReader(Joined(start, file))
        whole = whole if opener is None else opener(whole)
        mark = _read_fully(whole, len(codecs.BOM_UTF32_LE))
        whole = _as_utf8(io.BufferedReader(Joined(mark, whole)), mark)
        head = _read_head(whole)
        return _text_table(name, kind, options, head, lambda: io.BufferedReader(Joined(head, whole)))


def _opened(path: Path) -> IO[bytes]:
    with path.open("rb") as file:
        opener = opener_of(file.read(MARK_BYTES))
    text = path.open("rb") if opener is None else opener(path)
    mark = text.read(len(codecs.BOM_UTF32_LE))
    text.seek(0)
    return _as_utf8(text, mark)


def _as_utf8(file: IO[bytes], mark: bytes) -> IO[bytes]:
    """Return a text file in UTF-8; UTF-16 and UTF-32 are recognized by the byte order mark that it begins with."""
    encoding = next((encoding for start, encoding in WIDE_ENCODINGS if mark.startswith(start)), None)
    return file if encoding is None else io.BufferedReader(_Recoded(file, encoding))


class _Recoded(io.RawIOBase):
    """A text in UTF-16 or UTF-32, read as UTF-8."""

    def __init__(self, file: IO[bytes], encoding: str) -> None:
        self.file, self.decoder, self.rest = file, codecs.getincrementaldecoder(encoding)(), b""

    def readable(self) -> bool:
        """Return True."""
        return True

    def close(self) -> None:
        """Close the file too."""
        self.file.close()
        super().close()

    def readinto(self, buffer: Any, /) -> int:
        """Put the next bytes into the buffer; return how many."""
        while not self.rest:
            raw = self.file.read(HEAD_BYTES)
            self.rest = self.decoder.decode(raw, final=not raw).encode("utf-8", "replace")
            if not raw and not self.rest:
                return 0
        part = self.rest[: len(buffer)]
        self.rest = self.rest[len(part) :]
        buffer[: len(part)] = part
        return len(part)


def _read_head(file: IO[bytes]) -> bytes:
    """Return the first bytes of a file: ``HEAD_BYTES``, or more until they hold two whole lines of a wide table."""
    head = _read_fully(file, HEAD_BYTES)
    while len(head) < LARGEST_HEAD and head.count(b"\n") < HEAD_LINES:
        more = _read_fully(file, HEAD_BYTES)
        if not more:
            break
        head += more
    return head


def _read_fully(file: IO[bytes], size: int) -> bytes:
    parts = []
    while size > 0 and (part := file.read(size)):
        parts.append(part)
        size -= len(part)
    return b"".join(parts)


def _text_table(name: str, kind: str, options: TableOptions, head: bytes, reopen: Callable[[], IO[bytes]]) -> Table:
    if kind == "jsonl":
        return _json_lines(name, options, head, reopen)
    text = _decoded(name, head)
    lines = text.splitlines()[: None if len(head) < HEAD_BYTES else -1][:HEAD_ROWS]
    if not any(line.strip() for line in lines):
        raise DataError(f"{name}: no rows of numbers")
    dialect = find_dialect(lines, options.dialect, name)
    blocks = list(_csv_blocks(io.BytesIO(_whole_lines(head)), name, dialect, lambda problem: None))
    if not blocks or not sum(len(block.rows) for block in blocks):
        raise DataError(f"{name}: no rows of numbers")
    return Table(
        name,
        dialect.names,
        dialect.header,
        dialect.numbers,
        _first_rows(blocks),
        lambda bad: _csv_blocks(reopen(), name, dialect, bad),
        dialect.describe(),
        dialect.notes,
    )


def _decoded(name: str, head: bytes) -> str:
    """Return the text of a head, which may end within a character."""
    try:
        return codecs.getincrementaldecoder("utf-8-sig")().decode(head)
    except UnicodeDecodeError as error:
        raise DataError(f"{name}: line {head.count(bytes([10]), 0, error.start) + 1}: not UTF-8 text") from None


def _whole_lines(head: bytes) -> bytes:
    """Return the head without an incomplete last line."""
    return head if len(head) < HEAD_BYTES or b"\n" not in head else head[: head.rindex(b"\n") + 1]


def _first_rows(blocks: Sequence[TableBlock]) -> TableBlock:
    block = blocks[0]
    count = min(HEAD_ROWS, len(block.rows))
    return TableBlock(block.rows[:count], {name: values.slice(0, count) for name, values in block.columns.items()})


def _csv_blocks(file: IO[bytes], name: str, dialect: Dialect, bad: Bad) -> Iterator[TableBlock]:
    """Yield the rows of a CSV as text; a row with another number of cells is reported and skipped."""
    import pyarrow
    import pyarrow.csv

    wrong: list[tuple[int, int]] = []
    first = 1 + dialect.header + dialect.units  # the physical row of the first item, from 1

    def note(row: Any) -> str:
        wrong.append((row.number - first, row.actual_columns))
        return "skip"

    names, text = list(dialect.names), pyarrow.string()
    counted = _Counted(file, name)
    file = _after_lines(file, dialect.preamble)
    source: IO[bytes] | io.RawIOBase = _Collapsed(file, name) if dialect.delimiter == WHITE_SPACE else file
    with contextlib.closing(file), data_errors(name, "a table"):
        reader = pyarrow.csv.open_csv(
            source,
            pyarrow.csv.ReadOptions(
                column_names=names, skip_rows=dialect.header + dialect.units, use_threads=False, block_size=TEXT_BLOCK_BYTES
            ),
            pyarrow.csv.ParseOptions(delimiter=dialect.delimiter, newlines_in_values=True, invalid_row_handler=note),
            pyarrow.csv.ConvertOptions(column_types=dict.fromkeys(names, text), strings_can_be_null=False),
        )
        position, reported = 0, 0
        for batch in reader:
            counted.tell()
            rows: list[int] = []
            skipped = {number for number, _ in wrong}
            while len(rows) < batch.num_rows:
                if position not in skipped:
                    rows.append(position)
                position += 1
            for number, cells in wrong[reported:]:
                bad(DataError(f"{name}: row {number + 1:,} has {cells:,} cells, not {len(names):,}"))
            reported = len(wrong)
            yield TableBlock(np.array(rows, np.int64), dict(zip(names, batch.columns, strict=True)))
        for number, cells in wrong[reported:]:
            bad(DataError(f"{name}: row {number + 1:,} has {cells:,} cells, not {len(names):,}"))


def _after_lines(file: IO[bytes], count: int) -> IO[bytes]:
    """Return a file without its first lines."""
    for _ in range(count):
        file.readline()
    return file


class _Counted:
    """Draws a progress bar while a large file is read."""

    def __init__(self, file: IO[bytes], name: str) -> None:
        self.file, self.name = file, name
        raw = getattr(file, "fileobj", file)  # of gzip: the compressed file
        try:
            self.raw, self.size = raw, os.fstat(raw.fileno()).st_size
        except (OSError, AttributeError, io.UnsupportedOperation):
            self.raw, self.size = None, 0

    def tell(self) -> None:
        if self.raw is not None and self.size >= LARGE:
            progress(f"reading {self.name}, MB", min(self.raw.tell(), self.size) >> 20, self.size >> 20)


class _Collapsed(io.RawIOBase):
    """Text with runs of white space reduced to single blanks, and stripped lines."""

    def __init__(self, file: IO[bytes], name: str) -> None:
        self.file, self.name = file, name
        self.rest = b""
        self.lines = 0

    def readable(self) -> bool:
        """Return True."""
        return True

    def read(self, size: int = -1, /) -> bytes:
        """Return the next whole lines."""
        parts, length = [self.rest], len(self.rest)
        while part := self.file.read(TEXT_BLOCK_BYTES if size is None or size < 0 else size):
            parts.append(part)
            length += len(part)
            if b"\n" in part:
                break
            require_line(self.name, self.lines + 1, length)
        text = b"".join(parts)
        end = text.rfind(b"\n") + 1 if part else length
        self.rest = text[end:]
        self.lines += text.count(b"\n")
        return _collapse(text[:end])


def _collapse(text: bytes) -> bytes:
    text = re.sub(rb"[ \t]+", b" ", text.replace(b"\r\n", b"\n"))
    return text.replace(b"\n ", b"\n").replace(b" \n", b"\n").removeprefix(b" ")


def _json_lines(name: str, options: TableOptions, head: bytes, reopen: Callable[[], IO[bytes]]) -> Table:
    """Open JSON Lines: objects of named values, or lists of numbers (alone, or in an object under a key)."""
    early: list[DataError] = []
    whole = _whole_lines(head)
    first = next(_json_records(io.BytesIO(whole), name, options.key, (), early.append), None)
    if first is None:
        raise early[0] if early else DataError(f"{name}: no rows of numbers")
    names = tuple(first[1])
    named = not isinstance(_plain(first[2], options.key), list)
    head_block = next(_record_blocks(_json_records(io.BytesIO(whole), name, options.key, names, lambda problem: None), names))

    def read(bad: Bad) -> Iterator[TableBlock]:
        return _record_blocks(_json_records(reopen(), name, options.key, names, bad), names)

    return Table(name, names, named, NumberFormat(), head_block, read, "JSON Lines")


def _plain(value: Any, key: str) -> Any:
    return value[key] if isinstance(value, dict) and isinstance(value.get(key), list) else value


def _json_records(
    file: IO[bytes], name: str, key: str, names: Sequence[str], bad: Bad
) -> Iterator[tuple[int, dict[str, Any], Any]]:
    """Yield (row from 0, values by name, the line's own value) of each line."""
    row = 0
    with contextlib.closing(file), data_errors(name, "a table"):
        for number, raw in enumerate(iter(lambda: file.readline(LONGEST_LINE + 1), b""), start=1):
            require_line(name, number, len(raw))
            line = raw.decode("utf-8-sig" if number == 1 else "utf-8")
            if not line.strip():
                continue
            try:
                value = json.loads(line, object_pairs_hook=_once_each)
            except _RepeatedKeyError as error:
                bad(DataError(f"{name}: line {number:,}: the key {str(error)!r} appears twice"))
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
                bad(DataError(f"{name}: line {number:,}: expected a list of numbers, or an object that has one or is one row"))
            elif "\\u" in line and not _is_unicode(plain):
                bad(DataError(f"{name}: line {number:,}: text that is not Unicode (half of a surrogate pair)"))
            elif isinstance(_plain(value, key), list) and names and len(plain) != len(names):
                bad(DataError(f"{name}: row {row + 1:,} has {len(plain):,} cells, not {len(names):,}"))
            elif (
                names
                and any(key.endswith("]") and key not in plain for key in names)
                or (names and any(key.endswith("]") and key not in names for key in plain))
            ):
                bad(DataError(f"{name}: line {number:,}: a list is not as long as in the first line"))
            else:
                yield row, plain, value
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


def _record_blocks(
    records: Iterable[tuple[int, dict[str, Any], Any]], names: Sequence[str], size: int = 4096
) -> Iterator[TableBlock]:
    iterator = iter(records)
    while block := list(islice(iterator, size)):
        rows = np.array([row for row, _, _ in block], np.int64)
        yield TableBlock(rows, {name: _json_column([values.get(name) for _, values, _ in block]) for name in names})


def _json_column(cells: list[Any]) -> Any:
    """Return the values of a column as text, with numbers in a form that reads back exactly."""
    import pyarrow

    plain = [_cell_text(cell) for cell in cells]
    return pyarrow.array(plain, pyarrow.string())


def _cell_text(cell: Any) -> str:
    if cell is None or isinstance(cell, str):
        return cell or ""
    return str(int(cell)) if isinstance(cell, bool) else repr(cell)


def _columnar(name: str, kind: str, batches: Callable[[], Iterator[Any]]) -> Table:
    """Open a file that stores its columns with their types."""

    def read(bad: Bad) -> Iterator[TableBlock]:
        start = 0
        widths: dict[str, int] = {}
        with data_errors(name, "a table"):
            for batch in batches():
                rows = np.arange(start, start + batch.num_rows)
                start += batch.num_rows
                columns = dict(zip(distinct(batch.schema.names), batch.columns, strict=True))
                yield TableBlock(rows, _without_lists(name, columns, widths))

    blocks = read(lambda problem: None)
    first = next((block for block in blocks if len(block.rows)), None)
    if first is None:
        raise DataError(f"{name}: no rows")
    return Table(name, tuple(first.columns), True, NumberFormat(), _first_rows([first]), read, kind.capitalize())


def _without_lists(name: str, columns: dict[str, Any], widths: dict[str, int]) -> dict[str, Any]:
    """Return columns with each list of numbers as one column per value: ``emb[0]``, ``emb[1]`` ...

    Args:
        name: of the file, for messages.
        columns: pyarrow arrays of B values.
        widths: the length of the lists of each column, which the first block sets.
    """
    import pyarrow
    import pyarrow.compute as compute
    import pyarrow.types as types

    found = {}
    for column, values in columns.items():
        kind = values.type
        is_list = types.is_list(kind) or types.is_large_list(kind) or types.is_fixed_size_list(kind)
        if not is_list or not (types.is_integer(kind.value_type) or types.is_floating(kind.value_type)):
            found[column] = values
            continue
        lengths = compute.fill_null(compute.list_value_length(values), 0)
        width = widths.setdefault(column, lengths[0].as_py() if len(lengths) else 0)
        wrong = compute.index(compute.not_equal(lengths, width), True).as_py()
        if wrong >= 0:
            raise DataError(
                f"{name}: column {column}: lists of {width:,} and of {lengths[wrong].as_py():,} numbers; all must be as long"
            )
        flat = np.asarray(compute.list_flatten(values).to_numpy(zero_copy_only=False)).reshape(len(values), width)
        found |= {f"{column}[{index}]": pyarrow.array(flat[:, index]) for index in range(width)}
    return found


def _parquet_batches(path: Path) -> Iterator[Any]:
    import pyarrow.parquet

    with pyarrow.parquet.ParquetFile(path) as file:
        groups = range(file.metadata.num_row_groups)
        require_memory(str(path), max((file.metadata.row_group(group).total_byte_size for group in groups), default=0))
        yield from file.iter_batches(batch_size=1 << 14)


def _feather_batches(path: Path) -> Iterator[Any]:
    import pyarrow

    with pyarrow.memory_map(str(path)) as source, pyarrow.ipc.open_file(source) as file:
        for index in range(file.num_record_batches):
            yield file.get_batch(index)


class Joined(io.RawIOBase):
    """A stream with its first bytes put back; the stream itself stays open when this is closed."""

    def __init__(self, head: bytes, rest: IO[bytes]) -> None:
        self.head = head
        self.rest = rest

    def readable(self) -> bool:
        """Return True."""
        return True

    def readinto(self, buffer: Any, /) -> int:
        """Put the next bytes into the buffer; return how many."""
        part = self.head[: len(buffer)] or self.rest.read(len(buffer))
        self.head = self.head[len(part) :]
        buffer[: len(part)] = part
        return len(part)
