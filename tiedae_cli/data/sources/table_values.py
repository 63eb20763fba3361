"""Turns the rows of a table into numbers, block by block.

Shapes: B rows per block, D values of an item.
"""

import logging
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import replace
from fractions import Fraction
from typing import Any

import numpy as np

from tiedae_cli.data.columns import Column, Columns
from tiedae_cli.data.item_set import EXACT_INTEGERS
from tiedae_cli.data.origin import Origin
from tiedae_cli.data.sources.cells import MISSING, NO_NUMBER, YES_NO, as_text, is_number, label_text
from tiedae_cli.data.sources.forward_fill import forward_filled
from tiedae_cli.data.sources.number_format import SIGN_AFTER, SIGN_BEFORE, SIGNS, bare, sign_of
from tiedae_cli.data.sources.part import Bad, Part, RawBlock
from tiedae_cli.data.sources.series import SeriesRules, series_rows
from tiedae_cli.data.sources.table import Table, TableBlock
from tiedae_cli.data.whole_numbers import base_near, base_of, less_base
from tiedae_cli.errors import DataError

EXACT_DIGITS = 15  # a text that is not longer is a number that float64 holds, or one that it rounds as every program does
LARGEST = float(np.finfo(np.float32).max)
LONGEST_EXACT = 1000  # characters of a number; Python refuses to read thousands of digits exactly
log = logging.getLogger(__name__)


def table_part(
    table: Table,
    columns: Columns,
    series: SeriesRules | None = None,
    in_order: bool = False,
    fills: bool = False,
    key: str | None = None,
) -> Part:
    """Return the rows of a table as the items of a part, their values as float64; a missing value is NaN.

    Args:
        table: to read.
        columns: to read.
        series: how rows form series; if they are sorted, the whole table is in memory.
        in_order: whether rows have positions in time also without ``series``.
        fills: whether gaps are filled from earlier rows; the rows have positions in time.
        key: the column that holds the user's key of each row.
    """
    encoder = _Encoder(table, columns, key)

    def pairs(size: int, bad: Bad) -> Iterator[tuple[TableBlock, RawBlock]]:
        for block in table.read(bad):
            for start in range(0, len(block.rows), size):
                part = block.slice(start, size)
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
            yield from (replace(raw, positions=raw.numbers()) if in_order else raw for raw in found)

    whole = all(column.categories is None for column in columns.fed) and encoder.head_is_whole()
    dtype = np.dtype(np.int64 if whole else np.float64)
    cached = None if table.key is None else repr((table.key, columns, series, in_order))
    base, width = encoder.base(), len(columns.values)
    part = Part(table.name, (width,), dtype, None, read, columns=columns, base=base, key=cached, locate=table.locate)
    return replace(part, has_lines=table.has_lines, id=key)


def _numbers_of_rows(rows: np.ndarray) -> Sequence[int]:
    """Return row numbers, (B,), as a range if they follow each other, which takes no memory per row."""
    first, last = (int(rows[0]), int(rows[-1])) if len(rows) else (0, -1)
    return range(first, last + 1) if last - first == len(rows) - 1 else rows.tolist()


def _is_text(kind: Any) -> bool:
    import pyarrow.types as types

    return bool(types.is_string(kind) or types.is_large_string(kind) or types.is_dictionary(kind) or types.is_decimal(kind))


def _whole(cells: Any) -> np.ndarray:
    """Return whole numbers as 64-bit integers, (B,); 0 for null."""
    import pyarrow.compute as compute

    return np.asarray(compute.fill_null(cells, 0).to_numpy(zero_copy_only=False))


def _exact(cell: str) -> Fraction | None:
    """Return the number that a text means, exactly; None if it is not a finite number of ordinary size."""
    text = YES_NO.get(cell, cell)
    if not is_number(text) or not abs(float(text)) <= LARGEST or "e-" in text.lower() or len(text) > LONGEST_EXACT:
        return Fraction(float(text)) if is_number(text) and np.isfinite(float(text)) else None
    return Fraction(text)


def _difference(cell: str, base: float) -> float:
    """Return the number that a text means minus a base, rounded once; NaN if it is not a number."""
    exact = _exact(cell)
    if exact is None:
        return float(cell) if is_number(cell) else np.nan
    return float(exact - int(base))


class _Encoder:
    """Turns blocks of a table into numbers.

    Args:
        table: its name and decimal mark.
        columns: the columns to encode.
        key: the column that holds the user's key of each row.
    """

    def __init__(self, table: Table, columns: Columns, key: str | None) -> None:
        self.table, self.key = table, key
        self.columns = columns
        self.unseen: Counter[str] = Counter()
        self.signs: dict[str, tuple[str, str]] = {}  # first cell of a column and the sign of a currency or percent in it
        numeric = [column.name for column in columns.fed if column.categories is None]
        bases = {name: self._base(table.head.columns[name]) for name in numeric}
        self.bases = {name: base for name, base in bases.items() if base}

    def base(self) -> np.ndarray | None:
        """Return what is subtracted from each value, (D,) float64; None if nothing is."""
        if not self.bases:
            return None
        return np.array([self.bases.get(column.name, 0.0) for column in self.columns.fed for _ in column.values])

    def _base(self, cells: Any) -> float:
        """Return what to subtract from the numbers of a column, by its first cells; 0 for none."""
        import pyarrow.types as types

        if types.is_integer(cells.type):
            return base_of(_whole(cells))
        if not _is_text(cells.type):
            return 0.0
        exact = (_exact(text) for text in self._texts(cells).to_pylist() if text is not None and len(text) > EXACT_DIGITS)
        large = (int(number) for number in exact if number is not None and EXACT_INTEGERS <= abs(number) <= LARGEST)
        return next((base_near(number) for number in large), 0.0)

    def head_is_whole(self) -> bool:
        """Return whether the first rows hold only whole numbers, some above 1, as pixels are."""
        values = self.encode(self.table.head, lambda problem: None).values
        return bool(len(values)) and bool((values == np.floor(values)).all()) and bool(values.max() > 1)

    def encode(self, block: TableBlock, bad: Bad) -> RawBlock:
        """Return a block's values, (B, D) float64, without the rows that have a cell that is not a number; these are reported."""
        good = np.ones(len(block.rows), dtype=bool)
        parts = []
        for column in self.columns.fed:
            if column.categories is None:
                parts.append(self._numbers(column.name, block, good, bad)[:, None])
            else:
                parts.append(self._one_hot(column, column.categories, block.columns[column.name]))
        labels = None
        if self.columns.label is not None:
            texts = [label_text(cell, self.table.numbers.decimal) for cell in as_text(block.columns[self.columns.label])]
            labels = np.array(texts, dtype=object)[good]
        values = np.concatenate(parts, 1)
        values = values if good.all() else values[good]
        return RawBlock(_numbers_of_rows(block.rows[good]), values, labels, origin=self._origin(block, good))

    def _origin(self, block: TableBlock, good: np.ndarray) -> Origin:
        """Return the lines and keys of the good rows of a block, (B,) bool."""
        origin = Origin(block.lines, None if self.key is None else block.ids(self.key))
        return origin if good.all() else origin.only(np.flatnonzero(good).tolist())

    def _numbers(self, name: str, block: TableBlock, good: np.ndarray, bad: Bad) -> np.ndarray:
        import pyarrow
        import pyarrow.compute as compute
        import pyarrow.types as types

        cells = block.columns[name]
        base = self.bases.get(name, 0.0)
        if not _is_text(cells.type):
            if base and types.is_integer(cells.type):
                return np.where(np.asarray(cells.is_null()), np.nan, less_base(_whole(cells), base))
            numbers = compute.cast(cells, pyarrow.float64(), safe=False)
            return np.asarray(numbers.to_numpy(zero_copy_only=False), np.float64) - base
        known_plain = not base and self.signs.get(name, ("", None))[1] == "" and self.table.numbers.is_plain
        numbers = (
            self._cast(cells) if known_plain else None
        )  # most cells are plain numbers, for which this takes half of the time
        if numbers is not None:
            return np.asarray(numbers.to_numpy(zero_copy_only=False), np.float64)
        text = self._texts(cells)
        signed = bool(self.signs.get(name, ("", ""))[1])
        numbers = None if signed or base else self._cast(text)
        if signed or (numbers is None and compute.any(compute.match_substring_regex(text, f"[{SIGNS}]")).as_py()):
            text = self._without_signs(name, text, block)
            numbers = None if base else self._cast(text)
        elif numbers is not None and name not in self.signs and len(numbers) > numbers.null_count:
            self.signs[name] = (next(cell for cell in text.to_pylist() if cell is not None), "")
        if base:
            return self._differences(name, text, base, block, good, bad)
        if numbers is None:
            numbers = self._one_by_one(name, text.to_pylist(), block, good, bad)
        return np.asarray(numbers.to_numpy(zero_copy_only=False), np.float64)

    def _cast(self, text: Any) -> Any:
        """Return a column of text as numbers; None if a cell is not one."""
        import pyarrow
        import pyarrow.compute as compute

        try:
            return compute.cast(self._plain(text), pyarrow.float64())
        except pyarrow.ArrowInvalid:
            return None

    def _texts(self, cells: Any) -> Any:
        """Return cells as text without white space around it; null for a missing value."""
        import pyarrow
        import pyarrow.compute as compute

        text = compute.utf8_trim_whitespace(compute.cast(cells, pyarrow.string()))
        return compute.if_else(compute.is_in(text, pyarrow.array(NO_NUMBER)), pyarrow.scalar(None, pyarrow.string()), text)

    def _differences(self, name: str, text: Any, base: float, block: TableBlock, good: np.ndarray, bad: Bad) -> np.ndarray:
        """Return numbers minus a base, (B,) float64, rounded once; cells that are not numbers are reported."""
        import pyarrow
        import pyarrow.compute as compute

        plain = self._plain(text)
        try:
            whole = compute.cast(plain, pyarrow.int64())
            return np.where(np.asarray(whole.is_null()), np.nan, less_base(_whole(whole), base))
        except pyarrow.ArrowInvalid:
            self._one_by_one(name, text.to_pylist(), block, good, bad)
            return np.array([np.nan if cell is None else _difference(cell, base) for cell in plain.to_pylist()])

    def _without_signs(self, name: str, text: Any, block: TableBlock) -> Any:
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
                where = self.table.place(int(block.rows[index]), block.line(index))
                raise DataError(f"{where}, column {name}: {cell!r} beside {first!r}: the numbers of a column have one unit")
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

    def _one_by_one(self, name: str, cells: list[str | None], block: TableBlock, good: np.ndarray, bad: Bad) -> Any:
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
            where = self.table.place(int(block.rows[index]), block.line(index))
            cell_name = f"{where}, column {name or '(without a name)'}"
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
