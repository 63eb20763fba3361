"""Values of items by key, one block at a time, for writers of every format.

Shapes: N items per block, K numbers of an item.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Records:
    """N objects of the same keys."""

    columns: Mapping[str, Any]
    """The N values of each key: a sequence, or a numpy array, (N, ...), which gives each object a list of K numbers."""
    optional: Mapping[str, Sequence[Any]] = field(default_factory=dict)
    """Values of keys that come last and are omitted if None; only formats with nested values have them."""

    def __len__(self) -> int:
        return len(next(iter(self.columns.values()), ()))

    @classmethod
    def one(cls, values: Mapping[str, Any]) -> "Records":
        """Return a single object."""
        return cls({key: [value] for key, value in values.items()})
