"""Turns the rows of a table into numbers, block by block.

Shapes: B rows per block, D values of an item.
"""

import logging
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np

from tiedae_cli.data.columns import Column, Columns
from tiedae_cli.data.sources.cells import MISSING, NO_NUMBER, YES_NO, as_text, is_number, label_text
from tiedae_cli.data.sources.forward_fill import forward_filled
from tiedae_cli.data.sources.number_format import SIGN_AFTER, SIGN_BEFORE, SIGNS, bare, sign_of
from tiedae_cli.data.sources.part import Bad, Part, RawBlock
from tiedae_cli.data.sources.series import SeriesRules, series_rows
from tiedae_cli.data.sources.table import Table, TableBlock
from tiedae_cli.errors import DataError

log = logging.getLogger(__name__)


def table_part(
    table: Table, columns: Columns, series: SeriesRules | None = None, in_order: bool = False, fills: bool = False
) -> Part:
    """Return the rows of a table as the items of a part, their values as float64; a missing value is NaN.

    Args:
        table: to read.
        columns: to read.
        series: how rows form series; if they are sorted, the whole table is in memory.
        in_order: whether rows have positions in time also without ``series``.
        fills: whether gaps are filled from earlier rows; the rows have positions in time.
    """
    encoder = _Encoder(table, columns)

    def pairs(size: int, bad: Bad) -> Iterator[tuple[TableBlock, RawBlock]]:
        for block in table.read(bad):
            for start in range(0, len(block.rows), size):
                columns = {name: values.slice(start, size) for name, values in block.columns.items()}
                part = TableBlock(block.rows[start : start + size], columns, block.file)
                yield part, encoder.encode(part, bad)

    def read(size: int, bad: Bad) -> Iterator[RawBlock]:
        blocks = in_time(size, bad)
        yield from forward_filled(blocks, table.name) if fills else blocks
        encoder.report_unseen()

    def in_time(size: int, bad: Bad) -> Iterator[RawBlock]:
        if series is not None:
            yield from series_rows(table, series, pairs(size, bad), size)
        else:
            found = (raw for _, raw in pairs(size, bad) if len(raw.rows))
            yield from (replace(raw, positions=np.array(raw.rows, np.int64)) if in_order else raw for raw in found)

    whole = all(column.categories is None for column in columns.fed) and encoder.head_is_whole()
    dtype = np.dtype(np.int64 if whole else np.float64)
    key = None if table.key is None else repr((table.key, columns, series, in_order))
    return Part(table.name, (len(columns.values),), dtype, None, read, columns=columns, key=key, locate=table.locate)


class _Encoder:
    """Turns blocks of a table into numbers.

    Args:
        table: its name and decimal mark.
        columns: the columns to encode.
    """

    def __init__(self, table: Table, columns: Columns) -> None:
        self.table = table
        self.columns = columns
        self.unseen: Counter[str] = Counter()
        self.signs: dict[str, tuple[str, str]] = {}  # first cell of a column and the sign of a currency or percent in it

    def head_is_whole(self) -> bool:
        """Return whether the first rows hold only whole numbers, some above 1, as pixels are."""
        values = self.encode(self.table.head, lambda problem: None).values
        return bool(len(values)) and bool((values == np.floor(values)).all()) and bool(values.max() > 1)

    def encode(self, block: TableBlock, bad: Bad) -> RawBlock:
        """Return a block's values, (B, D) float64, without the rows that have a cell that is not a number; these are reported."""
        good = np.ones(len(block.rows), dtype=bool)
        parts = []
        for column in self.columns.fed:
            cells = block.columns[column.name]
            if column.categories is None:
                parts.append(self._numbers(column.name, cells, block.rows, good, bad)[:, None])
            else:
                parts.append(self._one_hot(column, column.categories, cells))
        labels = None
        if self.columns.label is not None:
            texts = [label_text(cell, self.table.numbers.decimal) for cell in as_text(block.columns[self.columns.label])]
            labels = np.array(texts, dtype=object)[good]
        values = np.concatenate(parts, 1)[good]
        return RawBlock(block.rows[good].tolist(), values, labels)

    def _numbers(self, name: str, cells: Any, rows: np.ndarray, good: np.ndarray, bad: Bad) -> np.ndarray:
        import pyarrow
        import pyarrow.compute as compute
        import pyarrow.types as types

        if not (types.is_string(cells.type) or types.is_large_string(cells.type) or types.is_dictionary(cells.type)):
            return np.asarray(compute.cast(cells, pyarrow.float64(), safe=False).to_numpy(zero_copy_only=False), np.float64)
        if types.is_dictionary(cells.type):
            cells = compute.cast(cells, pyarrow.string())
        text = compute.utf8_trim_whitespace(cells)
        text = compute.if_else(compute.is_in(text, pyarrow.array(NO_NUMBER)), pyarrow.scalar(None, pyarrow.string()), text)
        signed = bool(self.signs.get(name, ("", ""))[1])
        numbers = None if signed else self._cast(text)
        if signed or (numbers is None and compute.any(compute.match_substring_regex(text, f"[{SIGNS}]")).as_py()):
            text = self._without_signs(name, text, rows)
            numbers = self._cast(text)
        elif numbers is not None and name not in self.signs and len(numbers) > numbers.null_count:
            self.signs[name] = (next(cell for cell in text.to_pylist() if cell is not None), "")
        if numbers is None:
            numbers = self._one_by_one(name, text.to_pylist(), rows, good, bad)
        return np.asarray(numbers.to_numpy(zero_copy_only=False), np.float64)

    def _cast(self, text: Any) -> Any:
        """Return a column of text as numbers; None if a cell is not one."""
        import pyarrow
        import pyarrow.compute as compute

        try:
            return compute.cast(self._plain(text), pyarrow.float64())
        except pyarrow.ArrowInvalid:
            return None

    def _without_signs(self, name: str, text: Any, rows: np.ndarray) -> Any:
        """Return the cells of a column without the sign of a currency or percent.

        Raises:
            DataError: two cells have different signs, or only one of them is a percentage.
        """
        import pyarrow.compute as compute

        for index, cell in enumerate(text.to_pylist()):
            if cell is None or bare(cell) == cell and not is_number(self.table.numbers.plain(cell)):
                continue
            sign = sign_of(cell)
            first, known = self.signs.setdefault(name, (cell, sign))
            if sign and not known and "%" not in sign:
                self.signs[name] = (cell, sign)
            elif sign != known and (sign or "%" in known):
                raise DataError(
                    f"{self.table.place(int(rows[index]))}, column {name}: {cell!r} beside {first!r}: the numbers of a column have one unit"
                )
        for pattern, kept in ((SIGN_BEFORE, r"\1\2\3"), (SIGN_AFTER, r"\1")):
            text = compute.replace_substring_regex(text, pattern, kept)
        return text

    def _plain(self, text: Any) -> Any:
        """Return numbers in the format of the table as Python writes them, as ``NumberFormat.plain`` does, for a whole column."""
        import pyarrow.compute as compute

        numbers = self.table.numbers
        if numbers.thousands is not None:
            grouped = compute.match_substring_regex(text, numbers.grouped)
            text = compute.if_else(grouped, compute.replace_substring_regex(text, numbers.separators, ""), text)
        if numbers.decimal == ",":
            text = compute.replace_substring(compute.replace_substring(text, ".", "!"), ",", ".")
        return text

    def _one_by_one(self, name: str, cells: list[str | None], rows: np.ndarray, good: np.ndarray, bad: Bad) -> Any:
        """Parse the cells of a column one by one, and report those that are not numbers."""
        import pyarrow

        found: list[float | None] = []
        for index, cell in enumerate(cells):
            text = None if cell is None else self.table.numbers.plain(YES_NO.get(cell, cell))
            if text is None or is_number(text):
                found.append(None if text is None else float(text))
                continue
            found.append(None)
            good[index] = False
            cell_name = f"{self.table.place(int(rows[index]))}, column {name or '(without a name)'}"
            bad(DataError(f"{cell_name}: {str(cell)[:40]!r} is not a number ({self.table.format})"))
        return pyarrow.array(found, pyarrow.float64())

    def _one_hot(self, column: Column, categories: tuple[str, ...], cells: Any) -> np.ndarray:
        indices = {category: index for index, category in enumerate(categories)}
        values = np.zeros((len(cells), len(categories)))
        for row, cell in enumerate(as_text(cells)):
            index = indices.get(cell.strip())
            if index is not None:
                values[row, index] = 1.0
            elif cell.strip() not in MISSING:
                self.unseen[column.name] += 1
        return values

    def report_unseen(self) -> None:
        """Report how many cells held a category that the model does not know; they became zeros."""
        for name, count in self.unseen.items():
            log.warning(f"{self.table.name}: column {name}: {count:,} cells hold a category that the model does not know")
        self.unseen.clear()
