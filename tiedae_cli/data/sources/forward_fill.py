"""Gaps in a series, filled from earlier rows: ``data.missing: forward_fill``.

Shapes: B rows per block, D values per row.
"""

import logging
from collections.abc import Iterator
from itertools import pairwise

import numpy as np

from tiedae_cli.data.sources.part import RawBlock

log = logging.getLogger(__name__)


def forward_filled(blocks: Iterator[RawBlock], name: str) -> Iterator[RawBlock]:
    """Yield rows of series with each missing value replaced by the last one of its column in the same series.

    Rows before the first value of a column are skipped, which ends a window there. The numbers of both are reported.

    Args:
        blocks: rows with their positions in time; NaN is a missing value.
        name: of the data, for messages.
    """
    last, following = np.empty(0), 0  # the last row, (D,), and the position that continues its series
    filled = skipped = 0
    for block in blocks:
        assert block.positions is not None
        values = block.values.astype(np.float64)
        missing = np.isnan(values)
        ends = [0, *(np.flatnonzero(np.diff(block.positions) != 1) + 1).tolist(), len(values)]
        for start, end in pairwise(ends):
            if not len(last) or block.positions[start] != following:
                last = np.full(values.shape[1], np.nan)
            values[start:end] = _filled(last, values[start:end])
            last, following = values[end - 1], int(block.positions[end - 1]) + 1
        good = np.asarray(~np.isnan(values).any(1))
        filled += int(missing[good].sum())
        skipped += int((~good).sum())
        if good.any():
            yield block.only(good, values)
    if filled or skipped:
        rows = f"; {skipped:,} rows before a column's first value skipped" if skipped else ""
        log.info(f"{name}: {filled:,} missing values filled from earlier rows (data.missing: forward_fill){rows}")


def _filled(last: np.ndarray, rows: np.ndarray) -> np.ndarray:
    """Return rows, (B, D), with gaps filled from the rows before, the first ones from ``last``, (D,)."""
    every = np.concatenate([last[None], rows])
    places = np.where(np.isnan(every), 0, np.arange(len(every))[:, None])
    return np.take_along_axis(every, np.maximum.accumulate(places, axis=0), axis=0)[1:]
