"""A series of any length in bounded memory, for its picture: bins of rows, which become twice as wide as soon as there are too many.

Shapes: B rows a block, C columns, n bins.
"""

import numpy as np

from tiedae_cli.output.figures import Envelope

MOST_BINS = 4096  # at most about four a pixel


class Trace:
    """Gathers the rows of a series as the lowest and highest values, and the highest score, of each bin.

    Args:
        columns: C.
    """

    def __init__(self, columns: int) -> None:
        self.rows = 0
        self.width = 1
        self.low, self.high = np.empty((0, columns)), np.empty((0, columns))
        self.top = np.empty(0)

    def add(self, values: np.ndarray, scores: np.ndarray) -> None:
        """Take rows into account, (B, C) in their own units, and their scores, (B,)."""
        missing = -self.rows % self.width  # rows that the last bin still takes
        if missing:
            self._merge_last(values[:missing], scores[:missing])
        for start in range(missing, len(values), self.width * MOST_BINS):
            self._append(values[start : start + self.width * MOST_BINS], scores[start : start + self.width * MOST_BINS])
        self.rows += len(values)
        while len(self.top) > MOST_BINS:
            self._halve()

    def _merge_last(self, values: np.ndarray, scores: np.ndarray) -> None:
        if len(values):
            self.low[-1] = np.fmin(self.low[-1], values.min(0))
            self.high[-1] = np.fmax(self.high[-1], values.max(0))
            self.top[-1] = max(self.top[-1], scores.max())

    def _append(self, values: np.ndarray, scores: np.ndarray) -> None:
        starts = np.arange(0, len(values), self.width)
        self.low = np.concatenate([self.low, np.minimum.reduceat(values, starts)])
        self.high = np.concatenate([self.high, np.maximum.reduceat(values, starts)])
        self.top = np.concatenate([self.top, np.maximum.reduceat(scores, starts)])

    def _halve(self) -> None:
        starts = np.arange(0, len(self.top), 2)
        self.low, self.high = np.minimum.reduceat(self.low, starts), np.maximum.reduceat(self.high, starts)
        self.top = np.maximum.reduceat(self.top, starts)
        self.width *= 2

    def envelope(self) -> Envelope:
        """Return what was gathered."""
        return Envelope(self.rows, self.width, self.low, self.high, self.top)
