"""What is counted and kept while a stream is scored: the outliers and the highest scores.

Shapes: N items, B items per block.
"""

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import torch
from torch import Tensor

from tiedae_cli.errors import InputError
from tiedae_cli.scoring.labels import Labelled, separation
from tiedae_cli.scoring.scored import Scored, joined
from tiedae_cli.scoring.scored_item import ScoredItem


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
        together = scored if before is None or not len(before.scores) else joined(before, scored)
        self.scored = together.only(together.scores.argsort(descending=True, stable=True)[: self.count].tolist())


class Tally:
    """What is counted and kept while a stream is scored.

    Args:
        limit: a higher score makes an outlier; None: nothing does.
        worst: how many of the worst items are kept.
        all_scores: whether each item's score is kept (8 bytes per item).
        normal: labels of normal items; None does not judge by labels.
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
        self.highest: ScoredItem | None = None
        self.kept: list[Tensor] = []

    def watch(self, blocks: Iterable[Scored]) -> Iterator[Scored]:
        """Yield the blocks and take each into account."""
        for scored in blocks:
            scores = scored.scores
            self.items += len(scores)
            if len(scores) and (self.highest is None or scores.max() > self.highest.score):
                self.highest = scored.item(int(scores.argmax()))
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


def detection_values(usual: Tally, intruders: Tally, name: str) -> dict[str, Any]:
    """Return how well the score separates intruders from normal items, as the JSON interface names it.

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
