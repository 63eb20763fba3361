"""Squared errors item by item: which are outliers, which are the worst, and what could not be scored.

Shapes: N items, B items a block, D values an item.
"""

import logging
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from tiedae_cli.data.item_set import Block, ItemForm
from tiedae_cli.data.records import Records
from tiedae_cli.data.sources.part import item_name
from tiedae_cli.data.windows import Windows, windows_of
from tiedae_cli.errors import DataError, InputError, TiedaeError
from tiedae_cli.model.autoencoder import TiedAutoencoder
from tiedae_cli.model.metrics import squares
from tiedae_cli.model.ranking import Ranking
from tiedae_cli.model.regions import Regions
from tiedae_cli.scoring.labels import Labelled, separation
from tiedae_cli.scoring.reasons import Evidence, Witnesses, evidence

log = logging.getLogger(__name__)

MOST_NAMED = 10  # bad items that are named one by one


@dataclass(frozen=True)
class Scored:
    """A block with its errors."""

    block: Block
    squared_errors: Tensor
    """(B,) float64, summed over an item's values."""
    ranked: Tensor | None = None
    """(B,) float64, by what the items are ranked, where that is not the squared error."""
    evidence: Evidence | None = None
    """Why, where it is asked for."""

    @property
    def scores(self) -> Tensor:
        """By what the items are ranked and judged, (B,) float64."""
        return self.squared_errors if self.ranked is None else self.ranked

    def only(self, kept: Sequence[int]) -> "Scored":
        """Return the items at some positions."""
        block = self.block
        labels = None if block.labels is None else [block.labels[index] for index in kept]
        rest = Block([block.items[index] for index in kept], block.values[kept], block.series, labels)
        ranked = None if self.ranked is None else self.ranked[kept]
        why = None if self.evidence is None else self.evidence.only(torch.tensor(kept, dtype=torch.int64))
        return Scored(rest, self.squared_errors[kept], ranked, why)


class Failures:
    """Items that could not be scored: each is told of when it is met, and all of them fail the command at its end."""

    def __init__(self) -> None:
        self.problems: list[DataError] = []
        self.count = 0
        self._told = 0

    def add(self, problem: DataError) -> None:
        """Note one; it is told of as soon as another item is scored or a second one fails, for alone it is the command's error."""
        self.count += 1
        if self.count <= MOST_NAMED:
            self.problems.append(problem)
        if self.count > 1:
            self.tell()

    def tell(self) -> None:
        """Tell of those that nobody was told of yet."""
        for problem in self.problems[self._told :]:
            log.warning(f"{problem}; left out")
        self._told = len(self.problems)

    def finish(self, scored: int) -> None:
        """Raise what the command ends with, if anything failed.

        Raises:
            DataError: nothing could be scored; the message is the first problem.
            TiedaeError: something could not be scored; the message names it.
        """
        if not self.count:
            return
        if not scored:
            raise self.problems[0]
        self.tell()
        more = [f"and {self.count - MOST_NAMED:,} more"] if self.count > MOST_NAMED else []
        names = [f"{self.count:,} could not be read, {scored:,} are scored:", *map(str, self.problems), *more]
        raise TiedaeError("\n".join(names))


class Worst:
    """The items with the highest scores of a stream; keeps no more than these.

    Args:
        count: how many.
    """

    def __init__(self, count: int) -> None:
        self.count = count
        self.scored: Scored | None = None  # highest score first

    def add(self, scored: Scored) -> None:
        """Take a block into account; of equal scores the earlier item comes first."""
        before = self.scored
        if before is not None and not len(scored.scores):  # rows of a series that no window holds yet
            return
        together = scored if before is None or not len(before.scores) else _joined(before, scored)
        self.scored = together.only(together.scores.argsort(descending=True, stable=True)[: self.count].tolist())


def _joined(first: Scored, second: Scored) -> Scored:
    """Return the items of two blocks of one stream as one."""
    ranked = None if first.ranked is None or second.ranked is None else torch.cat([first.ranked, second.ranked])
    why = None if first.evidence is None or second.evidence is None else first.evidence.joined(second.evidence)
    return Scored(first.block.joined(second.block), torch.cat([first.squared_errors, second.squared_errors]), ranked, why)


class Tally:
    """What is counted and kept while a stream is scored.

    Args:
        limit: a higher score makes an outlier; None: nothing does.
        worst: how many of the worst items are kept.
        all_scores: whether each item's score is kept (8 bytes an item).
        normal: labels of usual items, where labels are to be judged by.
    """

    def __init__(
        self, limit: float | None, worst: int = 0, all_scores: bool = False, normal: Sequence[str] | None = None
    ) -> None:
        self.limit = limit
        self.worst = Worst(worst)
        self.all_scores = all_scores
        self.labelled = None if normal is None else Labelled(normal)
        self.items = 0
        self.outliers = 0
        self.squared_error = 0.0
        self.kept: list[Tensor] = []

    def watch(self, blocks: Iterable[Scored]) -> Iterator[Scored]:
        """Yield the blocks and take each into account."""
        for scored in blocks:
            scores = scored.scores
            self.items += len(scores)
            self.outliers += 0 if self.limit is None else int((scores > self.limit).sum().item())
            self.squared_error += scored.squared_errors.sum().item()
            if self.worst.count:
                self.worst.add(scored)
            if self.all_scores:
                self.kept.append(scores)
            if self.labelled is not None:
                self.labelled.add(scored.block.labels, scores)
            yield scored

    @property
    def scores(self) -> Tensor:
        """All scores, (N,) float64, where they are kept."""
        return torch.cat([torch.zeros(0, dtype=torch.float64), *self.kept])


@torch.inference_mode()
def score_blocks(
    model: TiedAutoencoder,
    blocks: Iterable[Block],
    device: torch.device,
    bad: Callable[[DataError], None],
    ranking: Ranking | Regions | None = None,
    explain: tuple[ItemForm, int] | None = None,
) -> Iterator[Scored]:
    """Yield each block with its items' scores; an item whose error is not finite is told to ``bad`` and left out.

    Args:
        model: the autoencoder, on the device.
        blocks: the items.
        device: where to compute.
        bad: is told of what cannot be scored.
        ranking: by what items are ranked, on the device; None is the squared error.
        explain: the items' form, and how many of the values that carry an item's error are kept; None: none.
    """
    for block in blocks:
        x = block.values.to(device)
        made = model(x)
        residuals = made - x
        ranked = None if ranking is None else ranking.scores(x, residuals).cpu()
        errors = squares(residuals).sum(1).cpu()
        why = None if explain is None else evidence(block.values, made.cpu(), *explain)
        yield _checked(Scored(block, errors, ranked, why), bad)


def _checked(scored: Scored, bad: Callable[[DataError], None]) -> Scored:
    """Return a block without the items whose error is not finite: somewhere on its way no float32 holds what the model makes of them."""
    wrong = ~(scored.squared_errors.isfinite() & scored.scores.isfinite())
    if not wrong.any():
        return scored
    for index in wrong.nonzero().flatten().tolist():
        bad(DataError(f"{item_name(scored.block.items[index])}: its values are too large for this model"))
    return scored.only((~wrong).nonzero().flatten().tolist())


@torch.inference_mode()
def score_rows(
    model: TiedAutoencoder,
    blocks: Iterable[Block],
    device: torch.device,
    bad: Callable[[DataError], None],
    window: int,
    stride: int,
    explain: tuple[ItemForm, int] | None = None,
) -> Iterator[Scored]:
    """Yield rows of series with their squared errors: of each row the mean, over the windows that hold it, of its own error there.

    Args:
        model: takes windows.
        blocks: rows, (B, D) each.
        device: where to compute.
        bad: is told of what cannot be scored.
        window: rows of a window.
        stride: rows from one window to the next.
        explain: the windows' form, and how many of the values that carry a window's error are kept; None: none.
    """
    waiting = _Waiting(window)
    for windows in windows_of(blocks, window, stride, bad):
        x = windows.values.to(device)  # (B, W * D)
        made = model(x)
        why = None if explain is None or not len(x) else evidence(windows.values, made.cpu(), *explain)
        errors = squares(made - x).view(len(x), window, x.shape[1] // window).sum(2).cpu()  # (B, W)
        yield _checked(waiting.take(windows, errors, why), bad)
        if windows.ends:
            waiting = _Waiting(window)


class _Waiting:
    """Rows that a window to come may still hold, their sums of errors and how many windows held them.

    Args:
        window: W.
    """

    def __init__(self, window: int) -> None:
        self.window = window
        self.items: list[str | int] = []  # also of the rows before, which a window to come may hold
        self.rows = Block([], torch.zeros(0, 0))  # n of them
        self.sums, self.counts = torch.zeros(0, dtype=torch.float64), torch.zeros(0, dtype=torch.float64)  # (n,)
        self.offset = 0  # of the first, in its series
        self.witnesses: Witnesses | None = None

    def take(self, windows: Windows, errors: Tensor, why: Evidence | None) -> Scored:
        """Add the errors of windows, (B, W), and what carries them, and return the rows that are done."""
        rows = windows.rows
        self.items = [*self.items, *rows.items]
        self.rows = self.rows.joined(rows)
        more = torch.zeros(len(rows.items), dtype=torch.float64)
        self.sums, self.counts = torch.cat([self.sums, more]), torch.cat([self.counts, more])
        starts = torch.tensor(windows.starts, dtype=torch.int64)
        if windows.starts:
            places = (starts[:, None] - self.offset + torch.arange(errors.shape[1])).flatten()
            self.sums.index_add_(0, places, errors.flatten())
            self.counts.index_add_(0, places, torch.ones(len(places), dtype=torch.float64))
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
        self.rows, self.offset = self.rows.slice(done), row
        self.sums, self.counts = self.sums[done:], self.counts[done:]
        self.items = self.items[max(0, before + done - self.window) :]
        return Scored(block, found, evidence=why)


def score_values(scored: Scored, form: ItemForm, limit: float | None, labels: bool = False) -> Records:
    """Return what is written of each item, as the JSON interface names it; nothing about outliers without a limit.

    Args:
        scored: the items; of outliers also why, where that is known.
        form: of an item.
        limit: a higher score makes an outlier.
        labels: whether labels are written.
    """
    values: dict[str, Sequence[Any]] = {"item": scored.block.items}
    if labels and scored.block.labels is not None:
        values["label"] = scored.block.labels
    if scored.ranked is not None:
        values["score"] = scored.ranked.tolist()
    values["squared_error"] = scored.squared_errors.tolist()
    values["mse_per_value"] = (scored.squared_errors / form.pixels).tolist()
    outliers = [True] * len(scored.scores)
    if limit is not None:
        values["threshold"] = [limit] * len(outliers)
        outliers = (scored.scores > limit).tolist()
        values["outlier"] = outliers
    why = scored.evidence
    if why is None:
        return Records(values)
    return Records(values, {"because": [why.described(index, form) if yes else None for index, yes in enumerate(outliers)]})


def detection_values(usual: Tally, intruders: Tally, name: str) -> dict[str, Any]:
    """Return how well the score tells intruders from usual items, as the JSON interface names it.

    Args:
        usual: of the items that belong, all scores kept.
        intruders: of those that do not, the same.
        name: of the intruders.

    Raises:
        InputError: there are none of one kind.
    """
    for tally, kind in ((usual, "items to score"), (intruders, f"intruders in {name}")):
        if not tally.items:
            raise InputError(f"no {kind}: nothing to compare")
    measures = separation(usual.scores, intruders.scores, usual.limit)
    return {
        "items": usual.items,
        "against": name,
        "intruders": intruders.items,
        "auroc": measures.pop("auroc"),
        "squared_error_per_item": usual.squared_error / usual.items,
        "intruders_squared_error_per_item": intruders.squared_error / intruders.items,
        **measures,
    }
