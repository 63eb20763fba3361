"""Events: outlying items that follow each other directly, in one series, are one event.

Shapes: B items per block.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from tiedae_cli.data.item_set import Block, ItemForm
from tiedae_cli.scoring.scored import Scored
from tiedae_cli.scoring.scored_item import ScoredItem

COLUMNS = 3  # of an event
MOST_REASONS = 48  # of a window, among which its columns are looked for


@dataclass(frozen=True)
class Event:
    """Consecutive outlying items."""

    first: ScoredItem
    last: ScoredItem
    rows: int
    peak: ScoredItem
    """The item with the highest score."""
    columns: list[dict[str, Any]]
    """What carries the error of the peak: of each column the value with the largest share."""

    def values(self, limit: float) -> dict[str, Any]:
        """Return the event as the JSON interface names it; ``limit`` is the threshold."""
        lines = {} if self.first.line is None else {"lines": [self.first.line, self.last.line]}
        return {
            "from": self.first.name,
            "to": self.last.name,
            "items": [self.first.item, self.last.item],
            **lines,
            "rows": self.rows,
            "peak": self.peak.values(),
            "threshold": limit,
            "columns": self.columns,
        }


class EventJoiner:
    """Joins the outlying items of a stream.

    Args:
        limit: a higher score makes an outlier.
        form: of an item, or of a row of windows.
        columns: how many columns of an event are named.
    """

    def __init__(self, limit: float, form: ItemForm, columns: int) -> None:
        self.limit, self.form, self.columns = limit, form, columns
        self.count = 0
        """Events so far, with the one that has not ended."""
        self._ended: list[Event] = []
        self._open: Event | None = None
        self._next: tuple[int, int] | None = None  # series and place of the item that would continue it

    def watch(self, blocks: Iterable[Scored]) -> Iterator[Scored]:
        """Yield the blocks and take each into account."""
        for scored in blocks:
            if len(scored.scores):
                self._add(scored)
            yield scored
        self._end()

    def take(self) -> list[Event]:
        """Return the events that have ended since the last call."""
        ended, self._ended = self._ended, []
        return ended

    def _add(self, scored: Scored) -> None:
        block, outlying = scored.block, scored.scores > self.limit
        places = _places(block)
        for index in outlying.nonzero().flatten().tolist():
            series, place = block.series, int(places[index])
            if (series, place) != self._next:
                self._end()
            self.count += self._open is None
            self._open = self._with(self._open, scored, index)
            self._next = (series, place + 1)
        if not outlying[-1]:
            self._end()

    def _end(self) -> None:
        if self._open is not None:
            self._ended.append(self._open)
        self._open = None

    def _with(self, event: Event | None, scored: Scored, index: int) -> Event:
        """Return an event with one more item; a new one if there is none yet."""
        item, why = scored.item(index), scored.evidence
        if event is not None and item.score <= event.peak.score:
            return replace(event, last=item, rows=event.rows + 1)
        columns = [] if why is None else self._columns(why.described(index, self.form))
        first, rows = (item, 0) if event is None else (event.first, event.rows)
        return Event(first, item, rows + 1, item, columns)

    def _columns(self, reasons: list[dict[str, Any]]) -> list[dict[str, Any]]:
        """Return the first reason of each column; a window has a reason per row."""
        found: dict[Any, dict[str, Any]] = {}
        for reason in reasons:
            found.setdefault(reason["column"], reason)
        return list(found.values())[: self.columns]


def reasons_of_events(columns: int, window: int) -> int:
    """Return how many reasons of an item are needed to name so many columns of an event."""
    return columns if window == 1 else max(columns, min(columns * window, MOST_REASONS))


def _places(block: Block) -> np.ndarray:
    """Return where the items of a block are in their series, (B,) int64."""
    places = block.origin.places
    return np.asarray(block.items, np.int64) if places is None else places
