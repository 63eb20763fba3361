"""A series of any length in bounded memory, for its picture: bins of rows, which become twice as wide as soon as there are too many.

Shapes: B rows a block, C columns, n bins.
"""

import re
from collections.abc import Sequence

import numpy as np

from tiedae_cli.output.figures import Envelope

MOST_BINS = 4096  # at most about four a pixel
NUMBERED = re.compile(r"(.*)\[(\d+)\]", re.DOTALL)  # what a row of one of several sources is called


class Places:
    """Where the rows of a series stand, by what they are called: a row that was left out keeps its place.

    A number is the place itself; ``path[row]`` counts from where the sources before it end; anything else stands after the one before.
    """

    def __init__(self) -> None:
        self.source = ""
        self.start, self.next = 0, 0  # of this source, and after the last row

    def of(self, items: Sequence[str | int]) -> np.ndarray:
        """Return the place of each item, (B,) int64, each higher than the one before."""
        return np.array([self._place(item) for item in items], dtype=np.int64)

    def _place(self, item: str | int) -> int:
        numbered = None if isinstance(item, int) else NUMBERED.fullmatch(item)
        if isinstance(item, int):
            source, row = "", item
        else:
            source, row = (numbered[1], int(numbered[2])) if numbered else (self.source, self.next - self.start)
        if source != self.source or self.start + row < self.next:
            self.source, self.start = source, self.next
        place = self.start + row
        self.next = place + 1
        return place


class Trace:
    """Gathers the rows of a series as the lowest and highest values, and the highest score, of each bin; NaN where no row was.

    Args:
        columns: C.
    """

    def __init__(self, columns: int) -> None:
        self.first = 0  # place of the first row
        self.rows = 0  # from it to the last one
        self.width = 1
        self.low, self.high = np.empty((0, columns)), np.empty((0, columns))
        self.top = np.empty(0)

    def add(self, values: np.ndarray, scores: np.ndarray, places: np.ndarray) -> None:
        """Take rows into account: (B, C) in their own units, their scores, (B,), and where they stand, (B,), in rising order."""
        if not len(places):
            return
        if not self.rows:
            self.first = int(places[0])
        self.rows = int(places[-1]) - self.first + 1
        while self.rows > self.width * MOST_BINS:
            self._halve()
        bins = (places - self.first) // self.width
        self._extend(int(bins[-1]) + 1)
        starts = np.flatnonzero(np.diff(bins, prepend=-1))
        met = bins[starts]
        self.low[met] = np.fmin(self.low[met], np.fmin.reduceat(values, starts))
        self.high[met] = np.fmax(self.high[met], np.fmax.reduceat(values, starts))
        self.top[met] = np.fmax(self.top[met], np.fmax.reduceat(scores, starts))

    def _extend(self, count: int) -> None:
        """Make so many bins; those that are new hold nothing yet."""
        more = count - len(self.top)
        if more > 0:
            nothing = np.full((more, self.low.shape[1]), np.nan)
            self.low, self.high = np.concatenate([self.low, nothing]), np.concatenate([self.high, nothing])
            self.top = np.concatenate([self.top, np.full(more, np.nan)])

    def _halve(self) -> None:
        starts = np.arange(0, len(self.top), 2)
        if len(starts):
            self.low, self.high = np.fmin.reduceat(self.low, starts), np.fmax.reduceat(self.high, starts)
            self.top = np.fmax.reduceat(self.top, starts)
        self.width *= 2

    def envelope(self) -> Envelope:
        """Return what was gathered."""
        return Envelope(self.rows, self.width, self.low, self.high, self.top, self.first)
