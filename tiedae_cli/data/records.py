"""Values of items key by key, a block at a time: what is computed of them in one room and written in another.

Shapes: N items a block, K numbers of an item.
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
    """Those of keys that come last, and that an object lacks where the value is None; only formats of nested values have them."""

    def __len__(self) -> int:
        return len(next(iter(self.columns.values()), ()))

    @classmethod
    def one(cls, values: Mapping[str, Any]) -> "Records":
        """Return a single object."""
        return cls({key: [value] for key, value in values.items()})
