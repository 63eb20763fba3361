"""Values of items by key, one block at a time, for writers of every format.

Shapes: N items per block, K numbers of an item.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from tiedae_cli.data.item_reader import Items
from tiedae_cli.data.item_set import Block


@dataclass(frozen=True)
class Records:
    """N objects of the same keys."""

    columns: Mapping[str, Any]
    """The N values of each key: a sequence, or a numpy array, (N, ...), which gives each object a list of K numbers.

    None if no object of this block has the key; others of the stream have it, and a table leaves its cells empty.
    """
    optional: Mapping[str, Sequence[Any]] = field(default_factory=dict)
    """Values of keys that come last and are omitted if None; only formats with nested values have them."""

    def __len__(self) -> int:
        return len(next(iter(self.columns.values()), ()))

    @classmethod
    def one(cls, values: Mapping[str, Any]) -> "Records":
        """Return a single object."""
        return cls({key: [value] for key, value in values.items()})


def item_columns(block: Block, items: Items) -> dict[str, Any]:
    """Return what identifies each item of a block: ``item``, and ``line`` and ``id`` if the stream has them.

    Args:
        block: of the stream.
        items: the stream.
    """
    lines = block.origin.lines
    columns: dict[str, Any] = {"item": block.items}
    if items.has_lines:
        columns["line"] = None if lines is None else lines.tolist()
    return columns | {"id": block.origin.ids} if items.has_ids else columns
