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
from dataclasses import dataclass, replace
from pathlib import Path
from typing import IO, Any

import numpy as np

from tiedae_cli.data.data_errors import data_errors
from tiedae_cli.data.sources.arriving import LONG_PAUSE, Arriving, Joined, read_fully, read_some
from tiedae_cli.data.sources.columnar import open_columns
from tiedae_cli.data.sources.compression import MARK_BYTES, ZIP, open_zip, opener_of
from tiedae_cli.data.sources.dialect import DELIMITERS, WHITE_SPACE, Dialect, find_dialect
from tiedae_cli.data.sources.json_lines import json_lines
from tiedae_cli.data.sources.part import Bad, item_name
from tiedae_cli.data.sources.table import HEAD_ROWS, LARGE, Table, TableBlock, TableOptions, first_rows
from tiedae_cli.data.sources.text_rows import LINE_BREAK, RowText, first_lines
from tiedae_cli.errors import DataError
from tiedae_cli.system.memory_limits import require_columns, require_line
from tiedae_cli.system.progress import progress

HEAD_BYTES = 1 << 16  # examined to detect the dialect and the columns
WIDE_ENCODINGS = [
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
]
LARGEST_HEAD, HEAD_LINES = 1 << 26, 8  # bytes; lines that are read of a table with long ones
PIECE_BYTES = 1 << 22  # parsed at once
CELL_BYTES, LARGEST_PIECE = 1 << 11, 1 << 26  # of a wide table: per column, and at most


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
            head = _read_head(Arriving(file), kind)
        table = _text_table(str(path), kind, options, head, lambda: Arriving(_opened(path)))
        return replace(table, identity=identity, size=information.st_size)


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


def table_in_memory(raw: bytes, name: str, options: TableOptions) -> Table:
    """Return a CSV in memory as a table."""
    with data_errors(name, "a table"):
        head = _read_head(Arriving(io.BytesIO(raw)), "csv")
        return _text_table(name, "csv", options, head, lambda: Arriving(io.BytesIO(raw)))


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
    mark = read_fully(unpacked, len(codecs.BOM_UTF32_LE))
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
        more = source.read(max(HEAD_BYTES, len(head)), LONG_PAUSE)
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
        return replace(json_lines(name, options, head.whole_lines, reopen), is_early=head.paused)
    lines = first_lines(_decoded(name, head.whole_lines), HEAD_ROWS)
    if not any(line.strip() for line in lines):
        raise DataError(f"{name}: no rows of numbers")
    require_columns(name, max(map(lines[0].count, [*DELIMITERS, WHITE_SPACE])))
    dialect = find_dialect([line.rstrip("\r\n") for line in lines], options.dialect, name)
    before = "".join(lines[: dialect.preamble]).encode()
    if before and head.text.startswith(codecs.BOM_UTF8):
        before = codecs.BOM_UTF8 + before
    blocks = list(_csv_blocks(Arriving(io.BytesIO(head.whole_lines)), name, dialect, before, lambda problem: None))
    if not blocks or not sum(len(block.rows) for block in blocks):
        raise DataError(f"{name}: no rows of numbers")
    return Table(
        name,
        dialect.names,
        dialect.header,
        dialect.numbers,
        first_rows(blocks),
        lambda bad: _csv_blocks(reopen(), name, dialect, before, bad),
        dialect.describe(),
        dialect.notes,
        dialect=dialect,
        is_early=head.paused,
    )


def _decoded(name: str, head: bytes) -> str:
    """Return the text of a head, which may end within a character."""
    try:
        return codecs.getincrementaldecoder("utf-8-sig")().decode(head)
    except UnicodeDecodeError as error:
        raise DataError(f"{name}: line {head.count(bytes([10]), 0, error.start) + 1}: not UTF-8 text") from None


def _csv_blocks(source: Arriving, name: str, dialect: Dialect, before: bytes, bad: Bad) -> Iterator[TableBlock]:
    """Yield the rows of a CSV as text; a row with another number of cells is reported and skipped."""
    counted = _Counted(source.file, name)
    read_fully(source.file, len(before))
    text_source = _Collapsed(source, name) if dialect.delimiter == WHITE_SPACE else source
    size = min(max(PIECE_BYTES, CELL_BYTES * len(dialect.names)), LARGEST_PIECE)
    text = RowText(text_source, name, dialect.delimiter, len(LINE_BREAK.findall(before)) + 1, size)
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
            yield TableBlock(places + done, columns, lines=piece.lines[places])
            done += len(piece.lines)


def _parsed(text: memoryview, dialect: Dialect) -> tuple[dict[int, int], dict[str, Any]]:
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
