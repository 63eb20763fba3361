"""Opens tables: text in its dialects, read block by block by pyarrow, and the formats of other modules; each row is an item.

Cells of text files stay text until ``table_columns.py`` decides what each column is; a bad cell can then be named by row and column.

Shapes: N rows, B rows per block.
"""

import codecs
import contextlib
import io
import os
import re
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import IO, Any

import numpy as np

from tiedae_cli.data.data_errors import data_errors
from tiedae_cli.data.sources.columnar import open_columns
from tiedae_cli.data.sources.compression import MARK_BYTES, ZIP, open_zip, opener_of
from tiedae_cli.data.sources.dialect import WHITE_SPACE, Dialect, find_dialect
from tiedae_cli.data.sources.json_lines import json_lines
from tiedae_cli.data.sources.part import Bad
from tiedae_cli.data.sources.table import HEAD_ROWS, LARGE, Table, TableBlock, TableOptions, first_rows
from tiedae_cli.errors import DataError
from tiedae_cli.system.memory_limits import require_line
from tiedae_cli.system.progress import progress

HEAD_BYTES = 1 << 16  # examined to detect the dialect and the columns
WIDE_ENCODINGS = [
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
]
LARGEST_HEAD, HEAD_LINES = 1 << 26, 8  # bytes; lines that are read of a table with long ones
TEXT_BLOCK_BYTES = 1 << 22  # parsed at once
CELL_BYTES, LARGEST_BLOCK = 1 << 11, 1 << 26  # of a wide table: per column, and at most


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
        if kind in ("parquet", "feather"):
            return replace(open_columns(path, kind), identity=identity, size=information.st_size)
        with _opened(path) as file:
            head = _read_head(file)
        return replace(
            _text_table(str(path), kind, options, head, lambda: _opened(path)), identity=identity, size=information.st_size
        )


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


def table_in_memory(raw: bytes, name: str, options: TableOptions) -> Table:
    """Return a CSV in memory as a table."""
    with data_errors(name, "a table"):
        return _text_table(name, "csv", options, _read_head(io.BytesIO(raw)), lambda: io.BytesIO(raw))


def _opened(path: Path) -> IO[bytes]:
    with path.open("rb") as file:
        head = file.read(MARK_BYTES)
    opener = open_zip if head.startswith(ZIP) else opener_of(head)
    if opener is None:
        text = path.open("rb")
        mark = text.read(len(codecs.BOM_UTF32_LE))
        text.seek(0)
        return _as_utf8(text, mark)
    unpacked: IO[bytes] = opener(path)
    mark = _read_fully(unpacked, len(codecs.BOM_UTF32_LE))
    return _as_utf8(io.BufferedReader(Joined(mark, unpacked)), mark)


def _as_utf8(file: IO[bytes], mark: bytes) -> IO[bytes]:
    """Return a text file in UTF-8; UTF-16 and UTF-32 are recognized by its first four bytes."""
    encoding = next((encoding for start, encoding in WIDE_ENCODINGS if mark.startswith(start)), None)
    zeros = [byte == 0 for byte in mark]
    if encoding is None and zeros in ([False, True] * 2, [True, False] * 2):  # ASCII in UTF-16 without the mark
        encoding = "utf-16-be" if zeros[0] else "utf-16-le"
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
        return json_lines(name, options, _whole_lines(head), reopen)
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
        first_rows(blocks),
        lambda bad: _csv_blocks(reopen(), name, dialect, bad),
        dialect.describe(),
        dialect.notes,
        dialect=dialect,
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
    size = min(max(TEXT_BLOCK_BYTES, CELL_BYTES * len(names)), LARGEST_BLOCK)
    counted = _Counted(file, name)
    file = _after_lines(file, dialect.preamble)
    source: IO[bytes] | io.RawIOBase = _Collapsed(file, name) if dialect.delimiter == WHITE_SPACE else file
    with contextlib.closing(file), data_errors(name, "a table"):
        reader = pyarrow.csv.open_csv(
            source,
            pyarrow.csv.ReadOptions(
                column_names=names,
                skip_rows=dialect.header + dialect.units,
                use_threads=False,
                block_size=size,
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
