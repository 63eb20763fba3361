"""Which columns of a table are fed to a model, as what, and in which order; kept with the model, so that other tables are read alike.

Shapes: B rows a block, D values of an item: one of a column of numbers, one a category of a column of text.
"""

import fnmatch
import logging
import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from tiedae_cli.config import DataConfig
from tiedae_cli.config.problems import suggestion
from tiedae_cli.data.sources.dialect import MISSING
from tiedae_cli.data.sources.part import Bad, Part, RawBlock
from tiedae_cli.data.sources.tables import NAME_COLUMN, Table, TableBlock
from tiedae_cli.errors import ConfigError, DataError

log = logging.getLogger(__name__)

LABEL_NAMES = ("label", "labels", "class", "target", "y", "outlier")  # in any case: never fed unless the config names them
MOST_CATEGORIES = 1000  # of one column
DATE = re.compile(r"\d{4}-\d\d?-\d\d?([T ].*)?$|\d\d?[./]\d\d?[./]\d{2,4}([T ].*)?$")
YES_NO = {"true": "1", "false": "0", "True": "1", "False": "0", "TRUE": "1", "FALSE": "0"}
NAMED = 12  # columns that a message names


@dataclass(frozen=True)
class Column:
    """One column that is fed."""

    name: str
    categories: tuple[str, ...] | None = None
    """Of a column of text, a value each that is 1 where the cell is that one; None for a column of numbers."""

    @property
    def values(self) -> tuple[str, ...]:
        """Names of the values that it gives."""
        return (self.name,) if self.categories is None else tuple(f"{self.name}={category}" for category in self.categories)


@dataclass(frozen=True)
class Columns:
    """All columns that are fed, in the model's order, and the one that labels the items."""

    fed: tuple[Column, ...]
    label: str | None = None

    @property
    def values(self) -> tuple[str, ...]:
        """Names of the D values of an item."""
        return tuple(value for column in self.fed for value in column.values)


def choose_columns(table: Table, config: DataConfig) -> Columns:
    """Return which columns of a table a config feeds; what is left out is said.

    Raises:
        ConfigError: the config names a column that is not there, or nothing is left.
        DataError: columns of text that no field says what to do with.
    """
    label = _label(table, config)
    chosen = _matching(table, config.columns, "columns") if config.columns is not None else list(table.names)
    ignored = set(_matching(table, config.ignore, "ignore"))
    names = [name for name in chosen if name not in ignored and name != label]
    if config.columns is None:
        names = [name for name in names if not _is_left_out(table, name)]
    kinds = {name: _kind(table.head.columns[name], table.decimal) for name in names}
    dates = [name for name in names if kinds[name] == "date"]
    if dates:
        log.info(f"{table.name}: left out as dates: {_listed(dates)}")
    names = [name for name in names if kinds[name] != "date"]
    text = [name for name in names if kinds[name] == "text"]
    categories = _categories(table, text, config) if text else {}
    if not names:
        raise ConfigError(f"data: {table.name}: no column of numbers is left to train on (it has {_listed(table.names)})")
    return Columns(tuple(Column(name, categories.get(name)) for name in names), label)


def _label(table: Table, config: DataConfig) -> str | None:
    if config.label is None:
        return None
    if config.label not in table.names:
        raise ConfigError(f"data.label: {table.name} has no column {config.label}{suggestion(config.label, list(table.names))}")
    return config.label


def _matching(table: Table, patterns: Sequence[str], field: str) -> list[str]:
    """Return the columns that names or globs mean, in the table's order."""
    found = set()
    for pattern in patterns:
        names = [name for name in table.names if name == pattern] or fnmatch.filter(table.names, pattern)
        if not names:
            raise ConfigError(f"data.{field}: {table.name} has no column {pattern}{suggestion(pattern, list(table.names))}")
        found.update(names)
    return [name for name in table.names if name in found]


def _is_left_out(table: Table, name: str) -> bool:
    """Return whether a column that nobody named is no feature, and say so."""
    if not table.named or name == NAME_COLUMN:
        return name == NAME_COLUMN
    plain = name.strip().lower()
    if plain in LABEL_NAMES:
        log.warning(
            f"{table.name}: the column {name} is called like a label and is left out; "
            f"data.label={name} keeps it as one, data.columns feeds it"
        )
        return True
    if (not plain or plain.startswith("unnamed") or plain in ("id", "index")) and _counts(table.head.columns[name]):
        log.info(
            f"{table.name}: the column {name or '(without a name)'} counts the rows and is left out; data.columns feeds it"
        )
        return True
    return False


def _counts(values: Any) -> bool:
    """Return whether a column's first values are 0, 1, 2 ... or 1, 2, 3 ..."""
    cells = [str(value) for value in values.to_pylist()]
    return any(cells == [str(start + index) for index in range(len(cells))] for start in (0, 1))


def _kind(values: Any, decimal: str) -> str:
    """Return what a column holds by its first values: number, text or date."""
    import pyarrow.types as types

    kind = values.type
    if types.is_temporal(kind):
        return "date"
    if (
        types.is_integer(kind)
        or types.is_floating(kind)
        or types.is_boolean(kind)
        or types.is_decimal(kind)
        or types.is_null(kind)
    ):
        return "number"
    if not (types.is_string(kind) or types.is_large_string(kind) or types.is_dictionary(kind)):
        return "text"
    cells = [cell.strip() for cell in values.to_pylist() if cell is not None and cell.strip() not in MISSING]
    if cells and all(DATE.match(cell) for cell in cells):
        return "date"
    numbers = sum(_is_number(cell, decimal) for cell in cells)
    return "number" if not cells or numbers > len(cells) / 2 else "text"


def _is_number(cell: str, decimal: str) -> bool:
    if cell in YES_NO:
        return True
    try:
        float(cell.replace(decimal, "."))
    except ValueError:
        return False
    return "_" not in cell and cell.isascii()


def _categories(table: Table, text: Sequence[str], config: DataConfig) -> dict[str, tuple[str, ...]]:
    """Return the distinct values of the columns of text, from the whole table."""
    counts: dict[str, Counter[str]] = {name: Counter() for name in text}
    for block in table.read(lambda problem: None):
        for name in text:
            cells = (cell.strip() for cell in _as_text(block.columns[name]))
            counts[name].update(cell for cell in cells if cell not in MISSING)
    if config.categories != "one_hot":
        found = ", ".join(f"{name or '(without a name)'} ({len(counts[name]):,} distinct)" for name in text[:NAMED])
        names = ",".join(text[:NAMED])
        more = f" and {len(text) - NAMED} more" if len(text) > NAMED else ""
        raise DataError(
            f"{table.name}: {table.format}: columns of text: {found}{more}\n"
            f"Leave them out with --set 'data.ignore=[{names}]', or give each value a column with --set data.categories=one_hot"
        )
    many = [name for name in text if len(counts[name]) > MOST_CATEGORIES]
    if many:
        raise DataError(
            f"{table.name}: {many[0]} has {len(counts[many[0]]):,} distinct values, too many for a column each: "
            f"--set 'data.ignore=[{many[0]}]'"
        )
    return {name: tuple(sorted(counts[name])) for name in text}


def _as_text(values: Any) -> Iterable[str]:
    return ("" if cell is None else str(cell) for cell in values.to_pylist())


def match_columns(table: Table, columns: Columns) -> Columns:
    """Return the columns of a table that a model was trained on: by their names, else, where the table has none, by their places.

    Raises:
        DataError: a column is missing; the message names it.
    """
    if not table.named:
        count = len(columns.fed)
        if len(table.names) != count:
            raise DataError(f"{table.name}: has {len(table.names):,} columns without names; this model takes {count:,}")
        places = zip(table.names, columns.fed, strict=True)
        return Columns(tuple(Column(name, column.categories) for name, column in places))
    missing = [column.name for column in columns.fed if column.name not in table.names]
    if missing:
        raise DataError(
            f"{table.name}: lacks the columns {_listed(missing)}, which this model takes (it has {_listed(table.names)})"
        )
    return columns if columns.label in table.names else Columns(columns.fed)


def all_columns(table: Table) -> Columns:
    """Return all columns of a table but the names of its items: for a model that was trained on an array."""
    return Columns(tuple(Column(name) for name in table.names if name != NAME_COLUMN))


def _listed(names: Sequence[str]) -> str:
    shown = ", ".join(name or "(without a name)" for name in names[:NAMED])
    return shown if len(names) <= NAMED else f"{shown} and {len(names) - NAMED} more"


def table_part(table: Table, columns: Columns) -> Part:
    """Return the rows of a table as the items of a part, their values as float64; a missing value is NaN."""
    encoder = _Encoder(table, columns)

    def read(size: int, bad: Bad) -> Iterator[RawBlock]:
        for block in table.read(bad):
            for start in range(0, len(block.rows), size):
                part = TableBlock(
                    block.rows[start : start + size],
                    {name: values.slice(start, size) for name, values in block.columns.items()},
                )
                raw = encoder.encode(part, bad)
                if len(raw.rows):
                    yield raw
        encoder.tell_unseen()

    whole = all(column.categories is None for column in columns.fed) and encoder.head_is_whole()
    dtype = np.dtype(np.int64 if whole else np.float64)
    key = None if table.key is None else repr((table.key, columns))
    return Part(table.name, (len(columns.values),), dtype, None, read, columns=columns, key=key)


class _Encoder:
    """Turns blocks of a table into numbers.

    Args:
        table: for its name and its decimal mark.
        columns: what becomes what.
    """

    def __init__(self, table: Table, columns: Columns) -> None:
        self.table = table
        self.columns = columns
        self.unseen: Counter[str] = Counter()

    def head_is_whole(self) -> bool:
        """Return whether the first rows hold whole numbers above 1 and no others, as pixels are."""
        values = self.encode(self.table.head, lambda problem: None).values
        return bool(len(values)) and bool((values == np.floor(values)).all()) and bool(values.max() > 1)

    def encode(self, block: TableBlock, bad: Bad) -> RawBlock:
        """Return a block's values, (B, D) float64, without the rows that hold a cell that is no number; these are told."""
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
            labels = np.array(list(_as_text(block.columns[self.columns.label])), dtype=object)[good]
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
        if self.table.decimal == ",":
            text = compute.replace_substring(text, ",", ".")
        text = compute.if_else(compute.is_in(text, pyarrow.array(MISSING)), pyarrow.scalar(None, pyarrow.string()), text)
        try:
            numbers = compute.cast(text, pyarrow.float64())
        except pyarrow.ArrowInvalid:
            numbers = self._one_by_one(name, text.to_pylist(), rows, good, bad)
        return np.asarray(numbers.to_numpy(zero_copy_only=False), np.float64)

    def _one_by_one(self, name: str, cells: list[str | None], rows: np.ndarray, good: np.ndarray, bad: Bad) -> Any:
        """Read the cells of a column in which at least one is no number, and tell which."""
        import pyarrow

        found: list[float | None] = []
        for index, cell in enumerate(cells):
            text = None if cell is None else YES_NO.get(cell, cell)
            if text is None or _is_number(text, "."):
                found.append(None if text is None else float(text))
                continue
            found.append(None)
            good[index] = False
            place = f"{self.table.name}: row {rows[index] + 1:,}, column {name or '(without a name)'}"
            bad(DataError(f"{place}: {text[:40]!r} is not a number ({self.table.format})"))
        return pyarrow.array(found, pyarrow.float64())

    def _one_hot(self, column: Column, categories: tuple[str, ...], cells: Any) -> np.ndarray:
        places = {category: index for index, category in enumerate(categories)}
        values = np.zeros((len(cells), len(categories)))
        for row, cell in enumerate(_as_text(cells)):
            place = places.get(cell.strip())
            if place is not None:
                values[row, place] = 1.0
            elif cell.strip() not in MISSING:
                self.unseen[column.name] += 1
        return values

    def tell_unseen(self) -> None:
        """Say how many cells held a category that the model does not know; they became zeros."""
        for name, count in self.unseen.items():
            log.warning(f"{self.table.name}: column {name}: {count:,} cells hold a category that the model does not know")
        self.unseen.clear()


Choose = Callable[[Table], Columns]
