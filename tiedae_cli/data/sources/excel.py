"""Spreadsheets, read by python-calamine; each row of a sheet is an item. They need the extra ``excel``.

Shapes: B rows per block.
"""

import csv
import io
import logging
import re
import sys
import zipfile
from functools import reduce
from pathlib import Path
from typing import Any

from tiedae_cli.config import DataConfig
from tiedae_cli.data.data_errors import data_errors
from tiedae_cli.data.sources.number_format import looks_numeric
from tiedae_cli.data.sources.part import Part
from tiedae_cli.data.sources.source import TABLE, ReadOptions, Source
from tiedae_cli.data.sources.table import Table, TableOptions
from tiedae_cli.data.sources.table_kinds import FIELDS, chosen_part, table_options
from tiedae_cli.data.sources.tables import table_in_memory
from tiedae_cli.errors import ConfigError, DataError
from tiedae_cli.system.memory_limits import require_memory
from tiedae_cli.system.optional_packages import optional_package

log = logging.getLogger(__name__)

UNPACKED, PER_CELL = (
    3,
    64,
)  # bytes in memory per byte of unpacked XML, and per cell of the rectangle that holds all cells: about
BLOCK_BYTES, LONGEST_PLACE = 1 << 20, 32
PLACE = re.compile(rb'\sr="([A-Z]{1,7})(\d{1,9})"')  # of a cell: its column and row


def open_sheet(path: Path, config: DataConfig, options: TableOptions) -> Table:
    """Return a sheet as a table: ``data.arrays``, or the only one with numbers.

    Args:
        path: the file.
        config: ``arrays`` names the sheet.
        options: the user's choices for a table.

    Raises:
        InputError: python-calamine is not installed.
        ConfigError: no sheet has that name.
        DataError: it cannot be read, or several sheets hold numbers.
    """
    calamine = optional_package("python_calamine", "excel", f"{path}: reading it")
    require_memory(str(path), _memory_of(path))
    with data_errors(path, "a spreadsheet"):
        try:
            book = calamine.CalamineWorkbook.from_path(str(path))
        except calamine.CalamineError as error:
            raise DataError(f"{path}: not a spreadsheet, or damaged: {error}") from None
        sheets = {name: book.get_sheet_by_name(name).to_python() for name in book.sheet_names}
    name = _chosen(path, sheets, config.arrays.get("train"))
    shown = str(path) if len(sheets) == 1 else f"{path}: {name}"
    return table_in_memory(_csv(sheets[name]), shown, options)


def _memory_of(path: Path) -> int:
    """Return about how many bytes the sheets take in memory: the library reads them whole, with the empty cells between others."""
    needed = 0
    with data_errors(path, "a spreadsheet"), zipfile.ZipFile(path) as archive:
        for member in archive.infolist():
            member.file_size = sys.maxsize  # the size that an archive claims may be wrong: it is read to the end
            rows = columns = 0
            with archive.open(member) as file:
                tail = b""
                while block := file.read(BLOCK_BYTES):
                    needed += UNPACKED * len(block)
                    for column, row in PLACE.findall(tail + block):
                        rows, columns = max(rows, int(row)), max(columns, _column(column))
                    tail = block[-LONGEST_PLACE:]
            needed += PER_CELL * rows * columns
    return needed


def _column(letters: bytes) -> int:
    """Return the number of a column, from 1: 28 of AB."""
    return reduce(lambda number, letter: 26 * number + letter - ord("A") + 1, letters, 0)


def _chosen(path: Path, sheets: dict[str, list[list[Any]]], asked: str | None) -> str:
    """Return the name of the sheet to read."""
    if asked is not None and asked not in sheets:
        raise ConfigError(f"data.arrays: {path} has no sheet {asked} (it has {', '.join(sheets)})")
    numeric = [name for name, rows in sheets.items() if any(looks_numeric(_cell(value)) for row in rows for value in row)]
    if asked is None and not numeric:
        raise DataError(f"{path}: no sheet holds numbers (it has {', '.join(sheets)})")
    if asked is None and len(numeric) > 1:
        raise DataError(f"{path}: several sheets hold numbers ({', '.join(numeric)}); choose one: --set data.arrays=NAME")
    chosen = asked or numeric[0]
    if len(sheets) > 1:
        log.info(f"{path}: reads the sheet {chosen}; ignored: {', '.join(name for name in sheets if name != chosen)}")
    return chosen


def _csv(rows: list[list[Any]]) -> bytes:
    """Return a sheet as CSV: without empty rows, and with titles above the table as lines of one cell."""
    text, begun = io.StringIO(), False
    writer = csv.writer(text)
    for row in rows:
        cells = [_cell(value) for value in row]
        filled = [cell for cell in cells if cell]
        begun = begun or len(filled) > 1 or len(cells) == 1
        if filled:
            writer.writerow(cells if begun else filled)
    return text.getvalue().encode()


def _cell(value: Any) -> str:
    """Return a cell as text: whole numbers without a decimal point, dates as in ISO 8601."""
    if isinstance(value, bool):
        return str(int(value))
    if isinstance(value, float):
        return str(int(value)) if value.is_integer() and abs(value) < 2**53 else repr(value)
    return value.isoformat(sep=" ") if hasattr(value, "hour") and hasattr(value, "year") else str(value)


def _parts(path: Path, options: ReadOptions) -> dict[str, Part]:
    return chosen_part(open_sheet(path, options.data, table_options(options)), options)


EXCEL = Source("excel", TABLE, _parts, (".xlsx",), fields=(*FIELDS, "arrays"))
