"""The kinds of table files: CSV in its dialects, JSON Lines, Parquet and Feather."""

import codecs
import logging
from functools import partial
from pathlib import Path
from typing import IO

from tiedae_cli.data.columns import Columns
from tiedae_cli.data.sources.dialect import DialectChoices
from tiedae_cli.data.sources.part import Part
from tiedae_cli.data.sources.series import series_rules
from tiedae_cli.data.sources.source import TABLE, VALUE_FIELDS, ReadOptions, Source
from tiedae_cli.data.sources.table import Table, TableOptions
from tiedae_cli.data.sources.table_values import table_part
from tiedae_cli.data.sources.tables import open_table, stream_table

log = logging.getLogger(__name__)

TABLE_FIELDS = (
    "label",
    "columns",
    "ignore",
    "categories",
    "delimiter",
    "decimal",
    "thousands",
    "header",
    "series",
    "time",
    "gap",
)
FIELDS = (*VALUE_FIELDS, *TABLE_FIELDS)


def _parts(kind: str, path: Path, options: ReadOptions) -> dict[str, Part]:
    return chosen_part(open_table(path, kind, table_options(options)), options)


def _stream(kind: str, file: IO[bytes], name: str, options: ReadOptions) -> dict[str, Part]:
    return chosen_part(stream_table(file, name, kind, table_options(options)), options)


def chosen_part(table: Table, options: ReadOptions) -> dict[str, Part]:
    """Return the columns of an open table that the options choose, as the only part of a source."""
    report_notes(table)
    return {"train": part_of(table, options.choose(table), options)}


def part_of(table: Table, columns: Columns, options: ReadOptions) -> Part:
    """Return columns of an open table as a part."""
    rules = series_rules(table, columns, options.data)
    return table_part(table, columns, rules, in_order=options.data.window > 1, fills=options.data.missing == "forward_fill")


def report_notes(table: Table) -> None:
    """Report how the dialect of a table was read."""
    for note in table.notes:
        log.info(f"{table.name}: {note}")


def table_options(options: ReadOptions) -> TableOptions:
    """Return the choices of a config for the dialect of a table."""
    data = options.data
    return TableOptions(DialectChoices(data.delimiter, data.decimal, data.header, data.thousands), options.key)


def _text(head: bytes) -> bytes:
    """Return the text that a file begins with, without leading white space; empty if it is not text."""
    text = head.removeprefix(codecs.BOM_UTF8).lstrip()
    netpbm = text[:1] == b"P" and text[1:2] in b"1234567" and text[2:3].isspace()  # an image format that begins as text
    plain = text.isascii() and not any(byte < 32 and byte not in b"\t\r\n" for byte in text)
    return text or b"\n" if plain and not netpbm else b""


def _is_json(path: Path, head: bytes) -> bool:
    return _text(head)[:1] in (b"[", b"{")


def _is_csv(path: Path, head: bytes) -> bool:
    wide = head.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE))
    return wide or (bool(_text(head)) and not _is_json(path, head))


CSV = Source(
    "csv",
    TABLE,
    partial(_parts, "csv"),
    (".csv", ".tsv", ".txt", ".tab", ".data", ".dat"),
    _is_csv,
    partial(_stream, "csv"),
    FIELDS,
)
JSON_LINES = Source(
    "jsonl", TABLE, partial(_parts, "jsonl"), (".jsonl", ".ndjson"), _is_json, partial(_stream, "jsonl"), FIELDS
)
PARQUET = Source(
    "parquet",
    TABLE,
    partial(_parts, "parquet"),
    (".parquet", ".pq"),
    lambda path, head: head.startswith(b"PAR1"),
    fields=FIELDS,
)
FEATHER = Source(
    "feather",
    TABLE,
    partial(_parts, "feather"),
    (".feather", ".arrow"),
    lambda path, head: head.startswith(b"ARROW1"),
    fields=FIELDS,
)
TABLES = (CSV, JSON_LINES, PARQUET, FEATHER)
