"""Items with their scores, block by block.

Shapes: B items per block.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from tiedae_cli.data.item_set import Block
from tiedae_cli.data.sources.part import Bad
from tiedae_cli.errors import DataError
from tiedae_cli.scoring.reasons import Evidence
from tiedae_cli.scoring.scored_item import ScoredItem, item_of


@dataclass(frozen=True)
class Scored:
    """A block with its errors."""

    block: Block
    squared_errors: Tensor
    """(B,) float64, summed over an item's values; of a row of windows, its row score."""
    ranked: Tensor | None = None
    """(B,) float64, by what the items are ranked, where that is not the squared error."""
    evidence: Evidence | None = None
    """Its reasons; None unless they were requested."""
    reconstructions: Tensor | None = None
    """(B, D) as the model sees them, of a row of windows the mean over the windows that hold it; None unless they were requested."""

    @property
    def scores(self) -> Tensor:
        """What the items are ranked and judged by, (B,) float64."""
        return self.squared_errors if self.ranked is None else self.ranked

    def item(self, index: int) -> ScoredItem:
        """Return one item."""
        return item_of(self.block, index, self.scores[index].item())

    def only(self, kept: Sequence[int]) -> "Scored":
        """Return the items at some positions."""
        ranked, made = (None if each is None else each[kept] for each in (self.ranked, self.reconstructions))
        why = None if self.evidence is None else self.evidence.only(torch.tensor(kept, dtype=torch.int64))
        return Scored(self.block.only(kept), self.squared_errors[kept], ranked, why, made)


def joined(first: Scored, second: Scored) -> Scored:
    """Return the scored items of two blocks of one stream as one."""
    ranked, made = (
        None if one is None or other is None else torch.cat([one, other])
        for one, other in ((first.ranked, second.ranked), (first.reconstructions, second.reconstructions))
    )
    why = None if first.evidence is None or second.evidence is None else first.evidence.joined(second.evidence)
    return Scored(first.block.joined(second.block), torch.cat([first.squared_errors, second.squared_errors]), ranked, why, made)


def without_infinite(scored: Scored, bad: Bad) -> Scored:
    """Return a block without the items whose error is not finite: float32 cannot hold what the model computes for them."""
    wrong = ~(scored.squared_errors.isfinite() & scored.scores.isfinite())
    if not wrong.any():
        return scored
    for index in wrong.nonzero().flatten().tolist():
        bad(DataError(f"{scored.block.name_of(index)}: its values are too large for this model"))
    return scored.only((~wrong).nonzero().flatten().tolist())
