"""Chooses the columns of a table to feed, and matches the columns of a model with another table."""

import fnmatch
import logging
import re
from collections import Counter
from collections.abc import Sequence
from typing import Any

from tiedae_cli.config import DataConfig
from tiedae_cli.config.problems import suggestion
from tiedae_cli.data.columns import Column, Columns
from tiedae_cli.data.option_text import set_option
from tiedae_cli.data.sources.cells import MISSING, NO_NUMBER, WHOLE, as_text, is_number, label_text
from tiedae_cli.data.sources.column_names import composed, is_index_name, is_label_column, is_time_name
from tiedae_cli.data.sources.label_columns import label_like
from tiedae_cli.data.sources.number_format import NumberFormat, sign_of
from tiedae_cli.data.sources.series import DATE, UNITS, named_column, unix_unit
from tiedae_cli.data.sources.table import NAME_COLUMN, Table
from tiedae_cli.errors import ConfigError, DataError

log = logging.getLogger(__name__)

SIGNED = re.compile(r"[-+]?\d[\d.,' ]*\s?(°|[a-zA-Z]{1,3})")  # 3.5 kg
MOST_CATEGORIES = 1000  # of one column
LISTED_COLUMNS = 12  # columns that a message names


def choose_columns(table: Table, config: DataConfig) -> Columns:
    """Return the columns of a table that a config feeds; each ignored column is reported.

    Raises:
        ConfigError: the config names a column that is not there, or nothing is left.
        DataError: there are text columns, and the config does not say how to treat them.
    """
    label = _label(table, config)
    chosen = _matching(table, config.columns, "columns") if config.columns is not None else list(table.names)
    ignored = set(_matching(table, config.ignore, "ignore"))
    roles = (label, named_column(table, config.time, "time"), named_column(table, config.series, "series"))
    names = [name for name in chosen if name not in ignored and name not in roles]
    if config.columns is None:
        beside = [name for name in names if name in table.keys]
        if beside:
            log.info(f"{table.name}: ignored, from {table.keys_from}: {_listed(beside)}; data.columns feeds them")
        names = [name for name in names if not _is_ignored(table, name) and not _is_unix_time(table, name)]
    kinds = {name: _kind(table.head.columns[name], table.numbers) for name in names}
    dates = [name for name in names if kinds[name] == "date"]
    if dates:
        log.info(f"{table.name}: ignored as dates: {_listed(dates)}")
    names = [name for name in names if kinds[name] != "date"]
    table.require((*names, *roles))
    text = [name for name in names if kinds[name] == "text"]
    _report_signs(table, [name for name in names if kinds[name] == "number"])
    categories = _categories(table, text, config) if text else {}
    if config.label is None and config.columns is None:
        _note_labels(table, [name for name in names if name not in categories])
    if not names:
        raise ConfigError(f"data: {table.name}: no column of numbers is left to train on (it has {_listed(table.names)})")
    return Columns(tuple(Column(name, categories.get(name)) for name in names), label)


def _label(table: Table, config: DataConfig) -> str | None:
    if config.label is None:
        if config.normal:
            raise ConfigError(
                f"data.normal: {table.name}: which column holds the labels? {_label_option(table, config.normal)}"
            )
        return None
    same = [name for name in table.names if composed(name) == composed(config.label)]
    if not same:
        raise ConfigError(f"data.label: {table.name} has no column {config.label}{suggestion(config.label, list(table.names))}")
    return same[0]


def _label_option(table: Table, normal: Sequence[str]) -> str:
    """Return the option that names the column of the labels: one that has the normal ones among its first rows, if there is one."""
    wanted, found = set(map(label_text, normal)), []
    for name in table.names:
        texts = set(map(label_text, as_text(table.head.columns[name])))
        if wanted & texts:
            found.append((not is_label_column(name), len(texts), name))
    return set_option("data.label", min(found)[2]) if found else f"--set data.label=COLUMN (it has {_listed(table.names)})"


def _matching(table: Table, patterns: Sequence[str], field: str) -> list[str]:
    """Return the columns that names or globs mean, in the table's order."""
    found = set()
    for pattern in patterns:
        wanted = composed(pattern)
        names = [name for name in table.names if composed(name) == wanted]
        names = names or [name for name in table.names if fnmatch.fnmatch(composed(name), wanted)]
        if not names:
            raise ConfigError(f"data.{field}: {table.name} has no column {pattern}{suggestion(pattern, list(table.names))}")
        found.update(names)
    return [name for name in table.names if name in found]


def _is_ignored(table: Table, name: str) -> bool:
    """Return whether a column that the config does not name is not a feature, and report it."""
    if name in table.keys:
        return True
    if not table.named:
        return False
    if is_label_column(name):
        log.warning(
            f"{table.name}: the column {name} is named like a label and is ignored; "
            f"{set_option('data.label', name)} keeps it as one, data.columns feeds it"
        )
        return True
    if is_index_name(name) and _is_index(table.head.columns[name], text=name == NAME_COLUMN):
        log.info(f"{table.name}: the column {name or '(without a name)'} is a row index and is ignored; data.columns feeds it")
        return True
    return False


def _note_labels(table: Table, names: Sequence[str]) -> None:
    """Report a first or last column whose values look like a label; it is fed."""
    for name, values in label_like(table, names).items():
        where = "first" if name == names[0] else "last"
        known = ", ".join(map(str, values))
        log.warning(
            f"{table.name}: the {where} column, {name}, holds few whole numbers ({known}), like a label, and is fed as a feature; "
            f"to keep it as the label: {set_option('data.label', name)}"
        )


def _is_unix_time(table: Table, name: str) -> bool:
    """Return whether a column is named like a time stamp and holds Unix times, and report it."""
    unit = unix_unit(table.head.columns[name]) if is_time_name(name) else None
    if unit is not None:
        log.info(f"{table.name}: the column {name} holds Unix times ({UNITS[unit]}) and is ignored; data.columns feeds it")
    return unit is not None


def _is_index(values: Any, text: bool) -> bool:
    """Return whether a column's first values are whole numbers, no two alike; with ``text`` also other cells."""
    cells = [str(value).strip() for value in values.to_pylist()]
    return len(set(cells)) == len(cells) and (all(map(WHOLE.fullmatch, cells)) or (text and not any(map(is_number, cells))))


def _kind(values: Any, form: NumberFormat) -> str:
    """Return what a column holds, by its first values: number, text or date."""
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
    cells = [cell.strip() for cell in values.to_pylist() if cell is not None and cell.strip() not in NO_NUMBER]
    if cells and all(map(DATE.match, cells)):
        return "date"
    numbers = sum(is_number(form.plain(cell)) for cell in cells)
    return "number" if not cells or numbers > len(cells) / 2 else "text"


def _report_signs(table: Table, names: Sequence[str]) -> None:
    """Report how numbers with the sign of a currency or percent are read."""
    found: dict[str, tuple[str, list[str]]] = {}
    for name in names if table.dialect is not None or table.format == "JSON Lines" else ():
        cell = next((cell.strip() for cell in as_text(table.head.columns[name]) if sign_of(cell.strip())), None)
        if cell is not None:
            found.setdefault(sign_of(cell), (cell, []))[1].append(name)
    for cell, columns in found.values():
        number = float(table.numbers.plain(cell))
        log.info(f"{table.name}: {cell!r} is read as {number:.10g} (column{'s' * (len(columns) > 1)} {_listed(columns)})")


def _categories(table: Table, text: Sequence[str], config: DataConfig) -> dict[str, tuple[str, ...]]:
    """Return the distinct values of the columns of text, from the whole table."""
    counts: dict[str, Counter[str]] = {name: Counter() for name in text}
    for block in table.read(lambda problem: None):
        for name in text:
            cells = (cell.strip() for cell in as_text(block.columns[name]))
            counts[name].update(cell for cell in cells if cell not in MISSING)
    if config.categories != "one_hot":
        found = ", ".join(f"{name or '(without a name)'} ({len(counts[name]):,} distinct)" for name in text[:LISTED_COLUMNS])
        more = f" and {len(text) - LISTED_COLUMNS} more" if len(text) > LISTED_COLUMNS else ""
        raise DataError(
            f"{table.name}: {table.format}: text columns: {found}{more}\n{_unit_advice(counts)}{_series_advice(text, config)}"
            f"Ignore them with {set_option('data.ignore', text)}, or make one feature per distinct value with --set data.categories=one_hot"
        )
    many = [name for name in text if len(counts[name]) > MOST_CATEGORIES]
    if many:
        raise DataError(
            f"{table.name}: {many[0]} has {len(counts[many[0]]):,} distinct values, too many for a column each: "
            f"{set_option('data.ignore', many[:1])}"
        )
    return {name: tuple(sorted(counts[name])) for name in text}


def _unit_advice(counts: dict[str, Counter[str]]) -> str:
    """Return advice for columns of numbers with a unit, such as ``3.5 kg``."""
    for name, cells in counts.items():
        found = [cell for cell in cells if SIGNED.fullmatch(cell)]
        if found and len(found) > len(cells) / 2:
            return f"The column {name} holds numbers with a unit ({found[0]!r}): remove it from the file to feed them\n"
    return ""


def _series_advice(text: Sequence[str], config: DataConfig) -> str:
    alone = config.window > 1 and config.series is None and len(text) == 1
    return f"If it names the series that the rows belong to: {set_option('data.series', text[0])}\n" if alone else ""


def match_columns(table: Table, columns: Columns) -> Columns:
    """Return the columns of a table that a model was trained on: by name or, if the table has no names, by position.

    Without names a model may also take some columns of a wider table: their names are then positions in it.

    Raises:
        DataError: a column is missing; the message names it.
    """
    known = columns if columns.label in table.names else Columns(columns.fed)
    missing = [column.name for column in columns.fed if column.name not in table.names]
    count = len(columns.fed)
    some = known.label is not None or any(column.name not in table.names[:count] for column in columns.fed)
    if not table.named and (missing or not some or len(table.names) <= count):
        if len(table.names) != count:
            raise DataError(f"{table.name}: has {len(table.names):,} columns without names; this model takes {count:,}")
        places = zip(table.names, columns.fed, strict=True)
        return Columns(tuple(Column(name, column.categories) for name, column in places))
    if missing:
        raise DataError(
            f"{table.name}: lacks the columns {_listed(missing)}, which this model takes (it has {_listed(table.names)})"
        )
    table.require((*(column.name for column in known.fed), known.label))
    return known


def all_columns(table: Table) -> Columns:
    """Return all columns of a table except the item names, for a model that was trained on an array."""
    return Columns(tuple(Column(name) for name in table.names if not _is_item_name(table, name)))


def _is_item_name(table: Table, name: str) -> bool:
    """Return whether a column holds the names of the items, as ``encode`` writes them: the first one, named ``item``."""
    first = name == NAME_COLUMN == table.names[0] and len(table.names) > 1
    return first and _is_index(table.head.columns[name], text=True)


def _listed(names: Sequence[str]) -> str:
    shown = ", ".join(name or "(without a name)" for name in names[:LISTED_COLUMNS])
    return shown if len(names) <= LISTED_COLUMNS else f"{shown} and {len(names) - LISTED_COLUMNS} more"
