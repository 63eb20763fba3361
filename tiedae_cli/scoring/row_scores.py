"""The rows of a series, scored by a model of windows: a window's score does not tell which of its rows are anomalous.

The row score is the mean, over the windows that hold the row, of the row's own squared error there; the window score is the squared
error of a whole window, summed over its rows.
Shapes: n rows of D values, B windows a block, each of W rows; K reasons an item.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace

import torch
from torch import Tensor

from tiedae_cli.data.item_set import Block
from tiedae_cli.data.sources.part import Bad
from tiedae_cli.data.windows import Windows, windows_of
from tiedae_cli.model.autoencoder import TiedAutoencoder
from tiedae_cli.model.metrics import squares
from tiedae_cli.scoring.reasons import Evidence, Explained, evidence
from tiedae_cli.scoring.scored import Scored, without_infinite


@torch.inference_mode()
def score_rows(
    model: TiedAutoencoder,
    blocks: Iterable[Block],
    device: torch.device,
    bad: Bad,
    window: int,
    stride: int,
    explain: Explained | None = None,
    reconstructs: bool = False,
) -> Iterator[Scored]:
    """Yield rows of series with their row scores.

    Args:
        model: takes windows.
        blocks: rows, (B, D) each.
        device: where to compute.
        bad: called for what cannot be scored.
        window: rows of a window.
        stride: rows from one window to the next.
        explain: how the values that carry a window's error are looked for; None keeps none.
        reconstructs: whether the mean reconstruction of each row is kept.
    """
    waiting: _Waiting | None = None
    for windows in windows_of(blocks, window, stride, bad):
        waiting = waiting or _Waiting(window, windows.rows.slice(0, 0), reconstructs)
        x = torch.as_tensor(windows.values, device=device)  # (B, W * D)
        made = model(x)
        why = None if explain is None or not len(x) else evidence(torch.as_tensor(windows.values), made.cpu(), explain)
        shape = len(x), window, x.shape[1] // window
        errors = squares(made - x).view(shape).sum(2).cpu()  # (B, W)
        yield without_infinite(waiting.take(windows, errors, why, made.view(shape).cpu() if reconstructs else None), bad)
        if windows.ends:
            waiting = None


class _Waiting:
    """Rows that a window to come may still hold, their sums of errors and how many windows held them.

    Args:
        window: W.
        none: no rows of the series.
        reconstructs: whether the reconstructions are summed too.
    """

    def __init__(self, window: int, none: Block, reconstructs: bool) -> None:
        self.window = window
        self.made = torch.zeros(0, none.values.shape[1], dtype=torch.float64) if reconstructs else None  # (n, D)
        self.items: list[str | int] = []  # also of the rows before, which a window to come may hold
        self.rows = none  # n of them
        self.sums, self.counts = torch.zeros(0, dtype=torch.float64), torch.zeros(0, dtype=torch.float64)  # (n,)
        self.offset = 0  # of the first, in its series
        self.witnesses: Witnesses | None = None

    def take(self, windows: Windows, errors: Tensor, why: Evidence | None, made: Tensor | None) -> Scored:
        """Add the errors of windows, (B, W), what carries them, and their rows, (B, W, D); return the rows that are done."""
        rows = windows.rows
        self.items = [*self.items, *rows.items]
        self.rows = self.rows.joined(rows)
        more = torch.zeros(len(rows.items), dtype=torch.float64)
        self.sums, self.counts = torch.cat([self.sums, more]), torch.cat([self.counts, more])
        if self.made is not None:
            self.made = torch.cat([self.made, self.made.new_zeros(len(more), self.made.shape[1])])
        starts = torch.tensor(windows.starts, dtype=torch.int64)
        if windows.starts:
            places = (starts[:, None] - self.offset + torch.arange(errors.shape[1])).flatten()
            self.sums.index_add_(0, places, errors.flatten())
            self.counts.index_add_(0, places, torch.ones(len(places), dtype=torch.float64))
            if self.made is not None and made is not None:
                self.made.index_add_(0, places, made.flatten(0, 1).double())
        if why is not None:
            self.witnesses = self.witnesses or Witnesses(self.rows.values.shape[1], len(self.sums) - len(more))
        if self.witnesses is not None:
            self.witnesses.add(len(more), why, starts, errors, self.offset)
        return self._done(windows.done)

    def _done(self, row: int) -> Scored:
        """Return the rows before this row of the series, and forget them."""
        done, before = row - self.offset, len(self.items) - len(self.sums)
        block, found = self.rows.slice(0, done), self.sums[:done] / self.counts[:done]
        why = None if self.witnesses is None else self.witnesses.take(done, self.items, self.offset - before)
        made = None if self.made is None else self.made[:done] / self.counts[:done, None]
        self.made = None if self.made is None else self.made[done:]
        self.rows, self.offset = self.rows.slice(done), row
        self.sums, self.counts = self.sums[done:], self.counts[done:]
        self.items = self.items[max(0, before + done - self.window) :]
        return Scored(block, found, evidence=why, reconstructions=made)


class Witnesses:
    """Of each row of a series, what carries the error of that window which holds it and in which its own error is largest.

    Args:
        width: values of a row.
        rows: how many rows wait already.
    """

    def __init__(self, width: int, rows: int) -> None:
        self.width = width
        self.kept: Evidence | None = (
            None  # of rows that windows to come may hold, (n, K); places are counted from the series' start
        )
        self.worst = torch.full((rows,), -1.0, dtype=torch.float64)  # (n,) own error there

    def add(self, rows: int, found: Evidence | None, starts: Tensor, errors: Tensor, offset: int) -> None:
        """Take new rows and windows into account.

        Args:
            rows: how many new rows there are.
            found: of the windows, (B, K); None if there are none.
            starts: the row of the series at which each window begins, (B,).
            errors: of each row of each window, (B, W).
            offset: which row of the series is the first one kept.
        """
        self.worst = torch.cat([self.worst, self.worst.new_full((rows,), -1.0)])
        if found is None:
            return
        found = replace(found, places=found.places + starts[:, None] * self.width)
        missing = len(self.worst) - (0 if self.kept is None else len(self.kept.shares))
        empty = found.only(torch.zeros(missing, dtype=torch.int64))
        self.kept = empty if self.kept is None else self.kept.joined(empty)
        places = (starts[:, None] - offset + torch.arange(errors.shape[1])).flatten()
        flat = errors.flatten()
        worst = torch.full_like(self.worst, -1.0).scatter_reduce(0, places, flat, "amax")
        hit = (flat == worst[places]).nonzero().flatten()
        first = torch.full((len(worst),), len(starts)).scatter_reduce(0, places[hit], hit // errors.shape[1], "amin")
        better = (worst > self.worst).nonzero().flatten()
        self.kept.put(better, found.only(first[better]))
        self.worst[better] = worst[better]

    def take(self, done: int, names: Sequence[str | int], first: int) -> Evidence | None:
        """Return that of the first rows kept, and forget it; ``names`` are of the series' rows from ``first`` on."""
        self.worst = self.worst[done:]
        if self.kept is None:
            return None
        found, self.kept = self.kept.only(slice(0, done)), self.kept.only(slice(done, None))
        rows = [[names[place - first] for place in places] for places in (found.places // self.width).tolist()]
        return replace(found, rows=rows)
