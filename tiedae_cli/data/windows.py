"""A series, the rows of a table in order, as windows: an item is ``data.window`` consecutive rows, a new one every ``data.stride`` rows.

Shapes: n rows of D values, N windows of W rows, B windows or rows per block.
"""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace

import numpy as np
from numpy.lib.stride_tricks import as_strided

from tiedae_cli.data.item_set import Block, ItemForm, ItemSet
from tiedae_cli.data.origin import Origin
from tiedae_cli.data.sources.part import Bad
from tiedae_cli.errors import DataError


def row_form(form: ItemForm) -> ItemForm:
    """Return the form of one row of a window; if items are not windows, the form itself."""
    if form.window == 1:
        return form
    width = form.shape[2]
    scale = form.scale[:width] if isinstance(form.scale, np.ndarray) else form.scale
    offset, fill, base = (None if value is None else value[:width] for value in (form.offset, form.fill, form.base))
    return replace(form, shape=(1, 1, width), offset=offset, scale=scale, fill=fill, base=base)


def window_form(form: ItemForm, window: int) -> ItemForm:
    """Return the form of windows of rows of a form: every row has the same statistics."""
    scale = np.tile(form.scale, window) if isinstance(form.scale, np.ndarray) else form.scale
    statistics = (form.offset, form.fill, form.base)
    offset, fill, base = (None if value is None else np.tile(value, window) for value in statistics)
    return replace(form, shape=(1, window, form.shape[2]), offset=offset, scale=scale, fill=fill, base=base)


def windowed(rows: ItemSet, window: int, stride: int, name: str) -> ItemSet:
    """Return the windows of a set of rows, without a copy of their values: overlapping views of the same memory.

    A window never spans rows that the set excludes. The last window of each run of rows ends with the last row, even if the stride
    would miss it: every row of a run lies in a window.

    Args:
        rows: the rows, in order.
        window: W.
        stride: rows from one window to the next, at most W.
        name: of the data and the split, for the message.

    Raises:
        DataError: there are rows, but no W of them follow each other.
    """
    form = window_form(rows.form, window)
    width = rows.form.values_per_item
    starts = [start for first, last in _runs(rows) for start in window_starts(first, last, window, stride)]
    if not starts and len(rows):
        raise DataError(f"{name}: {len(rows):,} rows; data.window asks for {window:,} that follow each other")
    found = _overlapping(rows.rows, window) if starts else np.empty((0, window, width), rows.values.dtype)
    indices = np.array(starts, np.int64)
    labels = None if rows.labels is None else _labels_in_memory(rows)
    last = None if labels is None else labels[indices + window - 1]
    share = rows.share
    if share is not None:
        kept = share.processes.keep(found.reshape(len(found), window * width))
        share = replace(share, windows=kept, row_bytes=share.row_bytes * window)
    return replace(rows, values=found[:, None], labels=last, form=form, indices=indices, row_labels=labels, share=share)


def _overlapping(rows: np.ndarray, window: int) -> np.ndarray:
    """Return all windows of consecutive rows, (n, D) contiguous -> (n - W + 1, W, D), as views of the same memory."""
    step, width = rows.strides
    return as_strided(rows, (max(0, len(rows) - window + 1), window, rows.shape[1]), (step, step, width), writeable=False)


def window_starts(first: int, last: int, window: int, stride: int) -> list[int]:
    """Return the first row of each window within the rows ``first`` to ``last - 1``."""
    if last - first < window:
        return []
    starts = list(range(first, last - window + 1, stride))
    return starts if starts[-1] + window == last else [*starts, last - window]


def _runs(rows: ItemSet) -> list[tuple[int, int]]:
    """Return the uninterrupted ranges of rows in memory that a set holds, in order: (first, last + 1)."""
    held = np.arange(rows.count_in_memory) if rows.indices is None else np.sort(rows.indices)
    runs = [part for run in _split_at_gaps(held, 1) for part in _split_at_series(run, rows)]
    return [(int(run[0]), int(run[-1]) + 1) for run in runs]


def _split_at_series(numbers: np.ndarray, rows: ItemSet) -> list[np.ndarray]:
    """Return the parts of ascending rows in memory, (n,), that lie in one series each."""
    if rows.series_starts is None:
        return [numbers]
    series = np.searchsorted(rows.series_starts, numbers, "right")
    return [part for part in np.split(numbers, np.flatnonzero(np.diff(series)) + 1) if len(part)]


def _split_at_gaps(numbers: np.ndarray, step: int) -> list[np.ndarray]:
    """Return the runs of ascending numbers, (n,), in which each is at most ``step`` above the one before."""
    return [run for run in np.split(numbers, np.flatnonzero(np.diff(numbers) > step) + 1) if len(run)]


def _labels_in_memory(rows: ItemSet) -> np.ndarray:
    """Return the label of each row in memory, (M,) int64; -1 for a row that is not an item."""
    labels = np.full(rows.count_in_memory, -1)
    labels[rows.positions(np.arange(len(rows)))] = rows.labels
    return labels


def row_blocks(items: ItemSet, size: int, stride: int) -> Iterator[Block]:
    """Yield the rows that the windows of a set cover, as the model sees them, in blocks of at most ``size``; a run is a series."""
    assert items.indices is not None
    form, window = row_form(items.form), items.form.window
    rows = _rows_of(items)
    runs = [part for run in _split_at_gaps(items.indices, stride) for part in _split_at_series(run, items)]
    for series, run in enumerate(runs):
        first, last = int(run[0]), int(run[-1]) + window
        for start in range(first, last, size):
            stop = min(start + size, last)
            labels = items.row_label_texts(start, stop)
            times = None if items.times is None else items.times[start:stop]
            names = range(start - items.first_row, stop - items.first_row)
            yield Block(names, form.normalize(rows(start, stop)), series, labels, times)


def _rows_of(items: ItemSet) -> Callable[[int, int], np.ndarray]:
    """Return what reads the rows start to stop of windows, (B, D) raw."""
    share, window = items.share, items.form.window
    if share is not None:
        return lambda start, stop: share.rows(np.arange(start, stop))
    shape = len(items.values) + window - 1, items.form.shape[2]
    rows = as_strided(items.values, shape, items.values.strides[2:], writeable=False)
    return lambda start, stop: rows[start:stop]


@dataclass(frozen=True)
class Windows:
    """The windows that a block of rows completes."""

    rows: Block
    """The rows; none at the end of a series."""
    names: list[str | int]
    """Identifies each window: its first row."""
    starts: list[int]
    """First row of each window in the series, from 0."""
    values: np.ndarray
    """(B, W * D)"""
    origin: Origin
    """Of the first row of each window."""
    done: int
    """Rows of the series that are complete: later windows do not contain them."""
    ends: bool = False
    """Whether the series ends here."""


def windows_of(blocks: Iterable[Block], window: int, stride: int, bad: Bad) -> Iterator[Windows]:
    """Yield the windows of rows that arrive in blocks; at most a block and a window of rows are kept.

    Args:
        blocks: rows as the model sees them.
        window: W.
        stride: rows from one window to the next.
        bad: called for a series that is shorter than a window.

    Raises:
        DataError: raised by ``bad``.
    """
    series: _Series | None = None
    for block in blocks:
        if series is None or block.series != series.rows.series:
            if series is not None:
                yield series.end(bad)
            series = _Series(block, window, stride)
        yield series.add(block)
    if series is not None:
        yield series.end(bad)


def window_blocks(blocks: Iterable[Block], window: int, stride: int, bad: Bad) -> Iterator[Block]:
    """Yield windows of rows as items, (B, W * D), each named by its first row; arguments as for ``windows_of``."""
    for windows in windows_of(blocks, window, stride, bad):
        if windows.starts:
            yield Block(windows.names, windows.values, origin=windows.origin)


class _Series:
    """The rows of one series that later windows may contain."""

    def __init__(self, block: Block, window: int, stride: int) -> None:
        self.window, self.stride = window, stride
        self.rows = block.slice(0, 0)  # those kept; the first is row ``offset`` of the series
        self.offset, self.next = 0, 0

    def add(self, block: Block) -> Windows:
        self.rows = self.rows.joined(block)
        seen = self.offset + len(self.rows.items)
        starts = list(range(self.next, seen - self.window + 1, self.stride))
        self.next = starts[-1] + self.stride if starts else self.next
        newest = self.next - self.stride  # start of the newest window
        earliest = seen - self.window + (newest == seen - self.window)  # at which the last window of the series may begin
        done = max(self.offset, min(self.next, earliest))
        windows = self._at(block, starts, done)
        self.rows, self.offset = self.rows.slice(done - self.offset), done
        return windows

    def end(self, bad: Bad) -> Windows:
        seen = self.offset + len(self.rows.items)
        nothing = self.rows.slice(0, 0)
        if seen < self.window:
            needed = f"this model takes windows of {self.window:,}"
            bad(DataError(f"from {self.rows.name_of(0)} on only {seen:,} rows follow each other; {needed}"))
            return replace(self._at(nothing, [], 0), ends=True)
        last = seen - self.window
        return replace(self._at(nothing, [] if self.next - self.stride == last else [last], seen), ends=True)

    def _at(self, block: Block, starts: list[int], done: int) -> Windows:
        values, width = self.rows.values, self.rows.values.shape[1]
        places = [start - self.offset for start in starts]
        found = np.empty((0, self.window * width), np.float32)
        if starts:
            found = _overlapping(values, self.window)[places].reshape(len(places), -1)
        names = [self.rows.items[place] for place in places]
        return Windows(block, names, starts, found, self.rows.origin.only(places), done)
