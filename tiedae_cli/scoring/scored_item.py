"""One item with its score, and what it is called."""

from dataclasses import dataclass
from typing import Any

from tiedae_cli.data.item_set import Block


@dataclass(frozen=True)
class ScoredItem:
    """One item."""

    item: str | int
    line: int | None
    """From 1; None unless the source is text."""
    id: Any
    """The user's key or time stamp; None if the source has none."""
    score: float

    @property
    def name(self) -> Any:
        """What the item is called: its key, else its number."""
        return self.item if self.id is None else self.id

    def values(self) -> dict[str, Any]:
        """Return the item as the JSON interface names it."""
        known = {name: value for name, value in (("line", self.line), ("id", self.id)) if value is not None}
        return {"item": self.item, **known, "score": self.score}


def item_of(block: Block, index: int, score: float) -> ScoredItem:
    """Return one item of a block with its score."""
    origin = block.origin
    return ScoredItem(block.items[index], origin.line(index), None if origin.ids is None else origin.ids[index], score)
