"""Scores of items, or of the rows of a series, as an exported graph gives them.

Shapes: B items per block, W rows per window, D values per item; n rows of a series that wait.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np

from tiedae_cli.data.item_set import Block
from tiedae_cli.data.sources.part import Bad, item_name
from tiedae_cli.data.windows import Windows, windows_of
from tiedae_cli.errors import DataError
from tiedae_cli.exported.exported_file import ExportedModel


@dataclass(frozen=True)
class ExportedScores:
    """A block with its scores."""

    block: Block
    squared_errors: np.ndarray
    """(B,) float64; of a row of windows, its row score."""
    ranked: np.ndarray | None = None
    """(B,) float64, by what the items are ranked, if that is not the squared error."""

    @property
    def scores(self) -> np.ndarray:
        """What the items are judged by, (B,) float64."""
        return self.squared_errors if self.ranked is None else self.ranked


def exported_scores(model: ExportedModel, blocks: Iterable[Block], bad: Bad) -> Iterator[ExportedScores]:
    """Yield the blocks with what ``score`` judges by; for a model of windows the blocks are rows of series.

    Args:
        model: the exported file.
        blocks: raw items.
        bad: called for each item that cannot be scored.
    """
    if model.document.window > 1:
        yield from _row_scores(model, blocks, bad)
        return
    names = ("squared_error",) if model.ranks_by_error else ("squared_error", "score")
    for block in blocks:
        errors, *ranked = model.answers(block.values, *names)
        yield from _finite(block, errors, ranked[0] if ranked else None, bad)


def _finite(block: Block, errors: np.ndarray, ranked: np.ndarray | None, bad: Bad) -> Iterator[ExportedScores]:
    """Yield the items with finite scores, in pieces between the others, which are reported."""
    judged = errors if ranked is None else ranked
    start = 0
    for index in [*np.flatnonzero(~(np.isfinite(errors) & np.isfinite(judged))).tolist(), len(errors)]:
        if index < len(errors):
            bad(DataError(f"{item_name(block.items[index])}: its values are too large for this model"))
        if index > start or not len(errors):
            kept = slice(start, index)
            yield ExportedScores(block.slice(start, index), errors[kept], None if ranked is None else ranked[kept])
        start = index + 1


def _row_scores(model: ExportedModel, blocks: Iterable[Block], bad: Bad) -> Iterator[ExportedScores]:
    """Yield rows with the mean of their own squared errors over the windows that hold them."""
    window, waiting = model.document.window, None
    for windows in windows_of(blocks, window, model.document.stride, bad):
        waiting = waiting or _WaitingRows(windows.rows.slice(0, 0))
        total, shares = model.answers(windows.values.astype(np.float64), "squared_error", "because")
        errors = shares.sum(2, dtype=np.float64) * total[:, None]  # (B, W)
        block, found = waiting.take(windows, errors)
        yield from _finite(block, found, None, bad)
        if windows.ends:
            waiting = None


class _WaitingRows:
    """Rows that a window to come may still hold, their sums of errors and how many windows held them."""

    def __init__(self, none: Block) -> None:
        self.rows, self.offset = none, 0
        self.sums, self.counts = np.zeros(0), np.zeros(0)  # (n,)

    def take(self, windows: Windows, errors: np.ndarray) -> tuple[Block, np.ndarray]:
        """Add the errors of windows, (B, W), and return the rows that are done with their scores."""
        self.rows = self.rows.joined(windows.rows)
        more = np.zeros(len(windows.rows.items))
        self.sums, self.counts = np.concatenate([self.sums, more]), np.concatenate([self.counts, more])
        starts = np.array(windows.starts, np.int64)
        places = (starts[:, None] - self.offset + np.arange(errors.shape[1])).ravel()
        np.add.at(self.sums, places, errors.ravel())
        np.add.at(self.counts, places, 1.0)
        done = windows.done - self.offset
        block, found = self.rows.slice(0, done), self.sums[:done] / self.counts[:done]
        self.rows, self.offset = self.rows.slice(done), windows.done
        self.sums, self.counts = self.sums[done:], self.counts[done:]
        return block, found
