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
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import islice
from pathlib import Path
from typing import IO, Any

import numpy as np

from tiedae_cli.data.data_errors import data_errors
from tiedae_cli.data.sources.arriving import LONG_PAUSE, Arriving, Joined, read_fully, read_some
from tiedae_cli.data.sources.cells import exact_values
from tiedae_cli.data.sources.compression import MARK_BYTES, opener_of
from tiedae_cli.data.sources.dialect import WHITE_SPACE, Dialect, DialectChoices, distinct, find_dialect
from tiedae_cli.data.sources.number_format import NumberFormat
from tiedae_cli.data.sources.part import Bad, item_name
from tiedae_cli.data.sources.text_rows import PIECE_BYTES, RowText
from tiedae_cli.errors import DataError
from tiedae_cli.system.memory_limits import require_line, require_memory
from tiedae_cli.system.progress import progress

NAME_COLUMN, ID_COLUMN = "item", "id"  # what ``encode`` puts before the numbers of each row; the second only if there are keys
HEAD_BYTES, HEAD_ROWS = 1 << 16, 1000  # examined to detect the dialect and the columns
WIDE_ENCODINGS = [
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
]
LARGEST_HEAD, HEAD_LINES = 1 << 26, 8  # bytes; lines that are read of a table with long ones
LARGE = 1 << 26  # bytes; larger files are cached as values
JSON_ROWS = 4096  # of JSON Lines that are parsed at once


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
    lines: np.ndarray | None = None
    """(B,) int64: the line at which each row begins, from 1; None unless the table is text."""
    exact: Mapping[str, list[Any]] = field(default_factory=dict)
    """(B,) values per column name, where a column does not hold them as they are in the file."""

    def slice(self, start: int, count: int) -> "TableBlock":
        """Return ``count`` rows from a row of the block on, or fewer at its end."""
        columns = {name: values.slice(start, count) for name, values in self.columns.items()}
        lines = None if self.lines is None else self.lines[start : start + count]
        exact = {name: values[start : start + count] for name, values in self.exact.items()}
        return TableBlock(self.rows[start : start + count], columns, lines, exact)

    def ids(self, column: str) -> list[Any]:
        """Return the values of a column as they are in the file, (B,): text, numbers, or None."""
        return self.exact[column] if column in self.exact else exact_values(self.columns[column])

    def name_of(self, index: int) -> str:
        """Return what a row of the block is called in messages."""
        return item_name(int(self.rows[index]), None if self.lines is None else int(self.lines[index]))


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
    is_early: bool = False
    """Whether the first rows are those of a pipe that paused: fewer than are known of other tables."""
    key: str | None = None
    """For large files: path, size, time and options, which identify its cached values."""

    @property
    def has_lines(self) -> bool:
        """Whether the table is text, with a line for each row."""
        return self.head.lines is not None


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
            head = _read_head(Arriving(file), kind)
        return replace(_text_table(str(path), kind, options, head, lambda: Arriving(_opened(path))), key=key)


def stream_table(file: IO[bytes], name: str, kind: str, options: TableOptions) -> Table:
    """Open a stream of text, which can be read once, as a table; its head is read at once, or what a pipe has of it when it pauses."""
    with data_errors(name, "a table"):
        start = read_fully(file, MARK_BYTES)
        opener = opener_of(start)
        joined: Any = Joined(start, file)
        whole: IO[bytes] = io.BufferedReader(joined) if opener is None else opener(joined)
        mark = read_fully(whole, len(codecs.BOM_UTF32_LE))
        joined = Joined(mark, whole)
        whole = _as_utf8(io.BufferedReader(joined), mark)
        head = _read_head(Arriving(whole), kind)
        joined = Joined(head.text, whole)
        return _text_table(name, kind, options, head, lambda: Arriving(io.BufferedReader(joined)))


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

    def fileno(self) -> int:
        """Return the descriptor of the file."""
        return self.file.fileno()

    def close(self) -> None:
        """Close the file too."""
        self.file.close()
        super().close()

    def readinto(self, buffer: Any, /) -> int:
        """Put the next bytes into the buffer; return how many."""
        while not self.rest:
            raw = read_some(self.file, HEAD_BYTES)
            self.rest = self.decoder.decode(raw, final=not raw).encode("utf-8", "replace")
            if not raw and not self.rest:
                return 0
        part = self.rest[: len(buffer)]
        self.rest = self.rest[len(part) :]
        buffer[: len(part)] = part
        return len(part)


@dataclass(frozen=True)
class _Head:
    """The first bytes of a text."""

    text: bytes
    ended: bool
    """Whether these are all."""
    paused: bool = False
    """Whether a pipe had no more."""

    @property
    def whole_lines(self) -> bytes:
        """The text without an incomplete last line."""
        return self.text if self.ended or b"\n" not in self.text else self.text[: self.text.rindex(b"\n") + 1]


def _read_head(source: Arriving, kind: str) -> _Head:
    """Return the first ``HEAD_BYTES``, or more until they hold two whole lines of a wide table.

    A pipe that pauses after its first row is not waited for.
    """
    head = b""
    while len(head) < HEAD_BYTES or (len(head) < LARGEST_HEAD and head.count(b"\n") < HEAD_LINES):
        more = source.read(HEAD_BYTES, LONG_PAUSE)
        if not more:
            return _Head(head, True)
        head += more
        if source.paused and _has_row(head, kind):
            return _Head(head, False, paused=True)
    return _Head(head, False)


def _has_row(head: bytes, kind: str) -> bool:
    """Return whether the first lines of a text hold a row: a line of numbers, or one after the names of the columns."""
    lines = [line for line in head[: head.rfind(b"\n") + 1].splitlines() if line.strip() and not line.startswith(b"#")]
    cells = re.split(rb"[,;|\s]+", lines[0]) if lines else []
    return len(lines) > 1 or (bool(lines) and (kind == "jsonl" or any(re.fullmatch(rb"[-+]?[\d.]+", cell) for cell in cells)))


def _text_table(name: str, kind: str, options: TableOptions, head: _Head, reopen: Callable[[], Arriving]) -> Table:
    if kind == "jsonl":
        return _json_lines(name, options, head, reopen)
    lines = _decoded(name, head.whole_lines).splitlines()[:HEAD_ROWS]
    if not any(line.strip() for line in lines):
        raise DataError(f"{name}: no rows of numbers")
    dialect = find_dialect(lines, options.dialect, name)
    blocks = list(_csv_blocks(Arriving(io.BytesIO(head.whole_lines)), name, dialect, lambda problem: None))
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
        head.paused,
    )


def _decoded(name: str, head: bytes) -> str:
    """Return the text of a head, which may end within a character."""
    try:
        return codecs.getincrementaldecoder("utf-8-sig")().decode(head)
    except UnicodeDecodeError as error:
        raise DataError(f"{name}: line {head.count(bytes([10]), 0, error.start) + 1}: not UTF-8 text") from None


def _first_rows(blocks: Sequence[TableBlock]) -> TableBlock:
    return blocks[0].slice(0, HEAD_ROWS)


def _csv_blocks(source: Arriving, name: str, dialect: Dialect, bad: Bad) -> Iterator[TableBlock]:
    """Yield the rows of a CSV as text; a row with another number of cells is reported and skipped."""
    counted = _Counted(source.file, name)
    for _ in range(dialect.preamble):
        source.file.readline()
    text_source = _Collapsed(source, name) if dialect.delimiter == WHITE_SPACE else source
    text = RowText(text_source, name, dialect.delimiter, dialect.preamble + 1)
    done = 0
    with contextlib.closing(source), data_errors(name, "a table"):
        for piece in text.pieces(skip=dialect.header + dialect.units):
            counted.tell()
            wrong, columns = _parsed(piece.text, dialect)
            for place, cells in wrong.items():
                where = item_name(done + place, int(piece.lines[place]))
                bad(DataError(f"{name}: {where} has {cells:,} cells, not {len(dialect.names):,}"))
            places = np.arange(len(piece.lines))
            if wrong:
                places = np.delete(places, list(wrong))
            yield TableBlock(places + done, columns, piece.lines[places])
            done += len(piece.lines)


def _parsed(text: bytes, dialect: Dialect) -> tuple[dict[int, int], dict[str, Any]]:
    """Return the number of cells of each row that has another one than the others, by the row's place, and the columns of the rest."""
    import pyarrow
    import pyarrow.csv

    wrong: dict[int, int] = {}

    def note(row: Any) -> str:
        wrong[row.number - 1] = row.actual_columns
        return "skip"

    names, kind = list(dialect.names), pyarrow.string()
    found = pyarrow.csv.read_csv(
        pyarrow.BufferReader(text),
        pyarrow.csv.ReadOptions(column_names=names, use_threads=False, block_size=len(text) + 1),
        pyarrow.csv.ParseOptions(delimiter=dialect.delimiter, newlines_in_values=True, invalid_row_handler=note),
        pyarrow.csv.ConvertOptions(column_types=dict.fromkeys(names, kind), strings_can_be_null=False),
    )
    return wrong, {name: _one_array(column) for name, column in zip(names, found.columns, strict=True)}


def _one_array(column: Any) -> Any:
    """Return a chunked array of pyarrow as one array."""
    return column.chunk(0) if column.num_chunks == 1 else column.combine_chunks()


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


class _Collapsed:
    """Text with runs of white space reduced to single blanks, and stripped lines.

    Args:
        source: the text.
        name: of the file, for messages.
    """

    def __init__(self, source: Arriving, name: str) -> None:
        self.source, self.name = source, name
        self.rest = b""
        self.lines = 0

    @property
    def ended(self) -> bool:
        """Whether what was read last is the end."""
        return self.source.ended

    def read(self, size: int) -> bytes:
        """Return the next whole lines."""
        parts, length = [self.rest], len(self.rest)
        while True:
            parts.append(self.source.read(size))
            length += len(parts[-1])
            if b"\n" in parts[-1] or self.ended:
                break
            require_line(self.name, self.lines + 1, length)
        text = b"".join(parts)
        end = length if self.ended else text.rfind(b"\n") + 1
        self.rest = text[end:]
        self.lines += text.count(b"\n")
        return _collapse(text[:end])


def _collapse(text: bytes) -> bytes:
    text = re.sub(rb"[ \t]+", b" ", text.replace(b"\r\n", b"\n"))
    return text.replace(b"\n ", b"\n").replace(b" \n", b"\n").removeprefix(b" ")


def _json_lines(name: str, options: TableOptions, head: _Head, reopen: Callable[[], Arriving]) -> Table:
    """Open JSON Lines: objects of named values, or lists of numbers (alone, or in an object under a key)."""
    early: list[DataError] = []

    def records(names: Sequence[str], bad: Bad) -> Iterator[_Record | None]:
        return _json_records(Arriving(io.BytesIO(head.whole_lines)), name, options.key, names, bad)

    first = next(filter(None, records((), early.append)), None)
    if first is None:
        raise early[0] if early else DataError(f"{name}: no rows of numbers")
    names = tuple(first.cells)
    named = not isinstance(_plain(first.value, options.key), list)
    head_block = next(_record_blocks(records(names, lambda problem: None), names))

    def read(bad: Bad) -> Iterator[TableBlock]:
        return _record_blocks(_json_records(reopen(), name, options.key, names, bad), names)

    return Table(name, names, named, NumberFormat(), head_block, read, "JSON Lines", is_early=head.paused)


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
            yield TableBlock(rows, {name: _json_column(cells) for name, cells in exact.items()}, lines, exact)


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
