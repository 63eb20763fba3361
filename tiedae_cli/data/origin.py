"""Where items come from, in words that people use: the line of a text file, and the user's own key or time stamp.

Shapes: B items per block.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Any

import numpy as np


@dataclass(frozen=True)
class Origin:
    """Where the items of a block come from."""

    lines: np.ndarray | None = None
    """(B,) int64: the line at which each one begins, from 1; None unless the source is text."""
    ids: Sequence[Any] | None = None
    """(B,): the user's key or time stamp of each one; None if the source has none."""
    places: np.ndarray | None = None
    """(B,) int64: items that follow each other directly differ by 1; None: not known."""

    def line(self, index: int) -> int | None:
        """Return the line of one item; None if it has none."""
        return None if self.lines is None else int(self.lines[index])

    def only(self, kept: Sequence[int]) -> "Origin":
        """Return that of the items at some positions."""
        lines, places = (None if numbers is None else numbers[kept] for numbers in (self.lines, self.places))
        return Origin(lines, None if self.ids is None else [self.ids[index] for index in kept], places)

    def slice(self, start: int, stop: int | None = None) -> "Origin":
        """Return that of items start to stop, or to the last one."""
        kept = slice(start, stop)
        lines, places = (None if numbers is None else numbers[kept] for numbers in (self.lines, self.places))
        return Origin(lines, None if self.ids is None else self.ids[kept], places)

    @classmethod
    def of(cls, blocks: "Sequence[Origin]") -> "Origin":
        """Return that of the items of several blocks as one; what not all of them know is dropped."""
        lines = [one.lines for one in blocks if one.lines is not None]
        ids = [one.ids for one in blocks if one.ids is not None]
        joined_ids = list(chain.from_iterable(ids)) if len(ids) == len(blocks) else None
        return cls(np.concatenate(lines) if lines and len(lines) == len(blocks) else None, joined_ids)

    def joined(self, other: "Origin") -> "Origin":
        """Return that of the items of two blocks as one; what only one of them knows is dropped."""
        lines = None if self.lines is None or other.lines is None else np.concatenate([self.lines, other.lines])
        places = None if self.places is None or other.places is None else np.concatenate([self.places, other.places])
        return Origin(lines, None if self.ids is None or other.ids is None else [*self.ids, *other.ids], places)
