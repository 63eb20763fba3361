"""Series in a table: which column is the time, which names the series, and where a series ends.

A series ends at another value of the series column and at a gap in time. At least 95% of the steps within 10% of the median step make a
series regular; then a step of more than twice the median is a gap. Irregular times (business days, events) have no gaps.
Shapes: N rows of a table, B rows per block.
"""

import datetime
import logging
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from tiedae_cli.config import DataConfig
from tiedae_cli.config.problems import suggestion
from tiedae_cli.data.columns import Columns
from tiedae_cli.data.option_text import set_option
from tiedae_cli.data.sources.cells import as_text, is_number
from tiedae_cli.data.sources.column_names import composed, is_time_name
from tiedae_cli.data.sources.part import RawBlock
from tiedae_cli.data.sources.table import Table, TableBlock
from tiedae_cli.errors import ConfigError, DataError

log = logging.getLogger(__name__)

DATE = re.compile(r"\d{4}-\d\d?-\d\d?([T ].*)?$|\d\d?[./]\d\d?[./]\d{2,4}([T ].*)?$")
EARLIEST, LATEST = 631152000.0, 4102444800.0  # 1990 and 2100 as Unix times
UNITS = {1.0: "seconds", 1e-3: "milliseconds", 1e-6: "microseconds", 1e-9: "nanoseconds"}  # by their length in seconds
REGULAR, TOLERANCE, GAP_STEPS = 0.95, 0.1, 2.0  # fraction of steps near the median; how near; steps that make a gap
LEAST_STEPS = 3  # below, nothing is known of the steps


@dataclass(frozen=True)
class SeriesRules:
    """How the rows of a table form series."""

    time: str | None
    series: str | None
    sorts: bool
    """Whether the rows are sorted by series and time; otherwise they must be in order."""
    gap: float | None
    """``data.gap``, in seconds."""


def series_rules(table: Table, columns: Columns, config: DataConfig) -> SeriesRules | None:
    """Return how the rows of a table form series; None if items are single rows, or no column says more than the order.

    Raises:
        ConfigError: the config names a column that does not exist.
    """
    if config.window == 1:
        return None
    time, series = (named_column(table, name, key) for name, key in ((config.time, "time"), (config.series, "series")))
    sorts = time is not None or series is not None
    if time is None:
        fed = {column.name for column in columns.fed}
        time = next((name for name in table.names if name not in fed and is_time(table.head.columns[name], name)), None)
    if config.gap is not None and time is None:
        raise ConfigError(f"data.gap: {table.name} has no column of times; name one: --set data.time=COLUMN")
    table.require((time, series))
    return None if time is None and series is None else SeriesRules(time, series, sorts, config.gap)


def named_column(table: Table, name: str | None, key: str) -> str | None:
    """Return the column of a table that a key of the config names, or None if the key is not set.

    Raises:
        ConfigError: the table has no such column.
    """
    if name is None:
        return None
    found = next((own for own in table.names if composed(own) == composed(name)), None)
    if found is None:
        raise ConfigError(f"data.{key}: {table.name} has no column {name}{suggestion(name, list(table.names))}")
    return found


def is_time(values: Any, name: str) -> bool:
    """Return whether a column holds times, by its first values: dates, or Unix times if it is named like one."""
    return is_date(values) or (is_time_name(name) and unix_unit(values) is not None)


def is_date(values: Any) -> bool:
    """Return whether a column holds dates, by its first values."""
    import pyarrow.types as types

    if types.is_temporal(values.type):
        return True
    if not (types.is_string(values.type) or types.is_large_string(values.type)):
        return False
    cells = [cell.strip() for cell in as_text(values) if cell.strip()]
    return bool(cells) and all(map(DATE.match, cells))


def unix_unit(values: Any) -> float | None:
    """Return the unit, in seconds, of a column of Unix times; None if some value is not one between 1990 and 2100."""
    cells = [cell.strip() for cell in as_text(values) if cell.strip()]
    if not cells or not all(map(is_number, cells)):
        return None
    numbers = np.array(cells, np.float64)
    return next((unit for unit in UNITS if ((numbers * unit >= EARLIEST) & (numbers * unit <= LATEST)).all()), None)


def series_rows(
    table: Table, rules: SeriesRules, blocks: Iterator[tuple[TableBlock, RawBlock]], size: int
) -> Iterator[RawBlock]:
    """Yield the rows of a table in the order of their series, with positions that tell where a series ends.

    Args:
        table: for its name and first rows.
        rules: how its rows form series.
        blocks: blocks of the table, each with its readable rows and their values.
        size: rows per block.

    Raises:
        DataError: the rows are not in the order of their time, or a cell is not a time.
    """
    return _sorted(table, rules, blocks, size) if rules.sorts else _as_they_are(table, rules, blocks)


def _as_they_are(table: Table, rules: SeriesRules, blocks: Iterator[tuple[TableBlock, RawBlock]]) -> Iterator[RawBlock]:
    """Yield rows that must be in the order of their time; the first rows of the table show what a gap is."""
    assert rules.time is not None
    clock, last, gaps, file = _Clock(table, rules.time), None, 0, 0
    limit = _limit(table, rules, np.diff(clock.seconds(table.head)))
    for block, raw in blocks:
        if not len(block.rows):
            continue
        seconds = clock.seconds(block)
        if block.file != file:  # another series, whose times may be any
            file, last = block.file, None
        steps = np.diff(seconds, prepend=seconds[0] if last is None else last)
        if (steps < 0).any():
            raise _out_of_order(table, rules.time, int(block.rows[np.flatnonzero(steps < 0)[0]]))
        positions = block.rows + gaps + np.cumsum(steps > limit)
        last, gaps = seconds[-1], gaps + int((steps > limit).sum())
        if len(raw.rows):
            own = np.searchsorted(block.rows, np.asarray(raw.rows))
            yield replace(raw, positions=positions[own], times=seconds[own])
    _report_gaps(table, rules, gaps, limit)


def _sorted(table: Table, rules: SeriesRules, blocks: Iterator[tuple[TableBlock, RawBlock]], size: int) -> Iterator[RawBlock]:
    """Yield rows sorted by series and time; the whole table is in memory."""
    pairs = list(blocks)
    if not pairs:
        return
    number = np.concatenate([block.rows for block, _ in pairs])
    seconds = np.zeros(len(number))
    if rules.time is not None:
        clock = _Clock(table, rules.time)
        seconds = np.concatenate([clock.seconds(block) for block, _ in pairs])
    if rules.series is None:
        series = np.concatenate([np.full(len(block.rows), block.file) for block, _ in pairs])
    else:
        series = _in_order_of_appearance([name for block, _ in pairs for name in as_text(block.columns[rules.series])])
    order = np.lexsort((seconds, series))  # a stable sort
    ends = np.diff(series[order]) != 0
    if rules.time is not None:
        steps = np.diff(seconds[order])
        limit = _limit(table, rules, steps[~ends])
        gaps = ~ends & (steps > limit)
        _report_gaps(table, rules, int(gaps.sum()), limit)
        ends |= gaps
    position = np.empty(len(number), np.int64)
    position[order] = np.arange(len(number)) + np.concatenate([[0], np.cumsum(ends)])
    times = None if rules.time is None else seconds
    yield from _sorted_blocks([raw for _, raw in pairs], number, position, times, size)


def _in_order_of_appearance(names: Sequence[str]) -> np.ndarray:
    """Return the number of each row's series, (N,) int64, from 0."""
    _, first, codes = np.unique(np.array(names, dtype=str), return_index=True, return_inverse=True)
    return np.asarray(np.argsort(np.argsort(first))[codes])


def _sorted_blocks(
    raws: list[RawBlock], number: np.ndarray, position: np.ndarray, times: np.ndarray | None, size: int
) -> Iterator[RawBlock]:
    """Yield the readable rows in the order of their positions, in blocks."""
    kept = np.concatenate([np.asarray(raw.rows, np.int64) for raw in raws])
    values = np.concatenate([raw.values for raw in raws])
    texts = [raw.labels for raw in raws if raw.labels is not None]
    labels = np.concatenate(texts) if texts else None
    places = np.searchsorted(number, kept)
    own = position[places]
    order = np.argsort(own)
    for start in range(0, len(order), size):
        part = order[start : start + size]
        seconds = None if times is None else times[places[part]]
        yield RawBlock(kept[part].tolist(), values[part], None if labels is None else labels[part], own[part], seconds)


def _out_of_order(table: Table, time: str, row: int) -> DataError:
    series = _series_column(table, time)
    several = f"; if it holds several series: {set_option('data.series', series)}" if series else ""
    name, number = table.where(row)
    return DataError(
        f"{name}: windows need rows in the order of time, but in the column {time} row {number + 1:,} is before row {number:,}; "
        f"sort the rows: {set_option('data.time', time)}{several}"
    )


def _series_column(table: Table, time: str) -> str | None:
    """Return a column that may name the series: within each of its values the first rows are in the order of time."""
    seconds = _Clock(table, time).seconds(table.head)
    for name in table.names:
        cells = np.array(list(as_text(table.head.columns[name])), dtype=str)
        values = np.unique(cells)
        if name == time or not 1 < len(values) <= len(cells) / 2:
            continue
        if all((np.diff(seconds[cells == value]) >= 0).all() for value in values):
            return name
    return None


def _limit(table: Table, rules: SeriesRules, steps: np.ndarray) -> float:
    """Return the step in seconds beyond which a series ends; infinity if its times are irregular, which is reported."""
    if rules.gap is not None:
        return rules.gap
    if len(steps) < LEAST_STEPS:
        return np.inf
    median = float(np.median(steps))
    if median > 0 and np.mean(np.abs(steps - median) <= TOLERANCE * median) >= REGULAR:
        return GAP_STEPS * median
    log.info(
        f"{table.name}: the times in the column {rules.time} are irregular: no gap ends a series; "
        "to set one: --set data.gap=SECONDS"
    )
    return np.inf


def _report_gaps(table: Table, rules: SeriesRules, count: int, limit: float) -> None:
    if count:
        ends = "gap of more than {} s ends" if count == 1 else "gaps of more than {} s end"
        log.info(f"{table.name}: {count:,} {ends.format(f'{limit:g}')} a series (column {rules.time}; data.gap sets it)")


class _Clock:
    """Reads the times of a column as seconds.

    Args:
        table: its first rows decide how dates and units are read.
        name: of the column.
    """

    def __init__(self, table: Table, name: str) -> None:
        self.table, self.name = table, name
        head = table.head.columns[name]
        self.dates = is_date(head)
        self.unit = 1.0 if self.dates else unix_unit(head) or 1.0
        self.day_first = False
        if self.dates:
            first = [re.split(r"[./-]", cell.strip())[:2] for cell in as_text(head) if cell.strip()]
            points = any("." in cell.split(" ")[0] for cell in as_text(head))
            self.day_first = points or any(len(part) > 1 and len(part[0]) <= 2 and int(part[0]) > 12 for part in first)

    def seconds(self, block: TableBlock) -> np.ndarray:
        """Return the times of a block, (B,) float64.

        Raises:
            DataError: a cell is not a time.
        """
        import pyarrow
        import pyarrow.compute as compute
        import pyarrow.types as types

        cells = block.columns[self.name]
        if types.is_timestamp(cells.type) or types.is_date(cells.type):
            plain = compute.cast(compute.cast(cells, pyarrow.timestamp("us"), safe=False), pyarrow.int64())
            return np.asarray(plain.to_numpy(zero_copy_only=False), np.float64) * 1e-6
        found = np.empty(len(block.rows))
        for index, cell in enumerate(as_text(cells)):
            try:
                text = self.table.numbers.plain(cell.strip())
                found[index] = self._date(cell.strip()) if self.dates else float(text) * self.unit
            except ValueError:
                raise DataError(
                    f"{self.table.place(int(block.rows[index]))}, column {self.name}: {cell!r} is not a time"
                ) from None
        return found

    def _date(self, cell: str) -> float:
        day, _, clock = cell.replace("T", " ", 1).partition(" ")
        if "-" not in day[:5]:
            parts = re.split(r"[./]", day)
            first, second = (parts[1], parts[0]) if self.day_first else (parts[0], parts[1])
            year = parts[2] if len(parts[2]) == 4 else f"20{parts[2]}"
            day = f"{year}-{first:0>2}-{second:0>2}"
        else:
            day = "-".join(part.zfill(2) for part in day.split("-"))
        half = re.fullmatch(r"(.*?)\s*([AaPp])\.?[Mm]\.?", clock)
        if half:
            hour, _, rest = half.group(1).partition(":")
            clock = f"{int(hour) % 12 + 12 * (half.group(2) in 'pP'):02}:{rest}"
        elif clock and clock.find(":") == 1:
            clock = f"0{clock}"
        when = datetime.datetime.fromisoformat(f"{day} {clock}".strip())
        return (when if when.tzinfo else when.replace(tzinfo=datetime.UTC)).timestamp()
