"""The plot data of a series of any length, in bounded memory: bins of rows, which double in width when there are too many.

Shapes: B rows per block, C columns, n bins.
"""

import re
from collections.abc import Sequence

import numpy as np

from tiedae_cli.output.figures import Envelope

MOST_BINS = 4096  # about four per pixel of the plot
ROW_OF_SOURCE = re.compile(r"(.*)\[(\d+)\]", re.DOTALL)  # a row of one of several sources: path[row]


class RowNumbers:
    """Numbers the rows of a series by their names; a skipped row keeps its number.

    An integer name is the number itself; ``path[row]`` counts from the end of the sources before; any other name gets the next number.
    """

    def __init__(self) -> None:
        self.source = ""
        self.start, self.next = 0, 0  # number of this source's first row, and of the next row

    def of(self, items: Sequence[str | int]) -> np.ndarray:
        """Return the number of each item, (B,) int64, strictly increasing."""
        return np.array([self._number(item) for item in items], dtype=np.int64)

    def _number(self, item: str | int) -> int:
        numbered = None if isinstance(item, int) else ROW_OF_SOURCE.fullmatch(item)
        if isinstance(item, int):
            source, row = "", item
        else:
            source, row = (numbered[1], int(numbered[2])) if numbered else (self.source, self.next - self.start)
        if source != self.source or self.start + row < self.next:
            self.source, self.start = source, self.next
        number = self.start + row
        self.next = number + 1
        return number


class EnvelopeBuilder:
    """Collects the lowest and highest values and the highest score of each bin; NaN for bins without rows.

    Args:
        columns: C, the number of columns.
    """

    def __init__(self, columns: int) -> None:
        self.first = 0  # number of the first row
        self.rows = 0  # rows from the first to the last one
        self.width = 1
        self.low, self.high = np.empty((0, columns)), np.empty((0, columns))
        self.top, self.times = np.empty(0), np.empty(0)

    def add(self, values: np.ndarray, scores: np.ndarray, rows: np.ndarray, times: np.ndarray | None = None) -> None:
        """Add rows.

        Args:
            values: (B, C), in the data's units.
            scores: (B,)
            rows: (B,) row numbers in increasing order.
            times: (B,) their time stamps in seconds since 1970, if the source has them.
        """
        if not len(rows):
            return
        if not self.rows:
            self.first = int(rows[0])
        self.rows = int(rows[-1]) - self.first + 1
        while self.rows > self.width * MOST_BINS:
            self._halve()
        bins = (rows - self.first) // self.width
        self._extend(int(bins[-1]) + 1)
        starts = np.flatnonzero(np.diff(bins, prepend=-1))
        met = bins[starts]
        self.low[met] = np.fmin(self.low[met], np.fmin.reduceat(values, starts))
        self.high[met] = np.fmax(self.high[met], np.fmax.reduceat(values, starts))
        self.top[met] = np.fmax(self.top[met], np.fmax.reduceat(scores, starts))
        if times is not None:
            self.times[met] = np.fmin(self.times[met], np.fmin.reduceat(times, starts))

    def _extend(self, count: int) -> None:
        """Extend the arrays to ``count`` bins; new bins are NaN."""
        more = count - len(self.top)
        if more > 0:
            empty = np.full((more, self.low.shape[1]), np.nan)
            self.low, self.high = np.concatenate([self.low, empty]), np.concatenate([self.high, empty])
            self.top, self.times = (np.concatenate([kept, np.full(more, np.nan)]) for kept in (self.top, self.times))

    def _halve(self) -> None:
        starts = np.arange(0, len(self.top), 2)
        if len(starts):
            self.low, self.high = np.fmin.reduceat(self.low, starts), np.fmax.reduceat(self.high, starts)
            self.top, self.times = np.fmax.reduceat(self.top, starts), np.fmin.reduceat(self.times, starts)
        self.width *= 2

    def envelope(self) -> Envelope:
        """Return the envelope of all rows added so far."""
        times = self.times if np.isfinite(self.times).any() else None
        return Envelope(self.rows, self.width, self.low, self.high, self.top, self.first, times)
