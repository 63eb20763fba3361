"""The columns of a table that are fed to a model, in its order; stored with the model, to match the columns of other tables.

Shapes: D values of an item: one per numeric column, one per category of a text column.
"""

from dataclasses import dataclass


@dataclass(frozen=True)
class Column:
    """One column that is fed."""

    name: str
    categories: tuple[str, ...] | None = None
    """Text columns: the categories, each a value that is 1 if the cell is that category. None: a numeric column."""

    @property
    def values(self) -> tuple[str, ...]:
        """Names of its values."""
        return (self.name,) if self.categories is None else tuple(f"{self.name}={category}" for category in self.categories)


@dataclass(frozen=True)
class Columns:
    """All columns that are fed, in the model's order, and the one that labels the items."""

    fed: tuple[Column, ...]
    label: str | None = None

    @property
    def values(self) -> tuple[str, ...]:
        """Names of the D values of an item."""
        return tuple(value for column in self.fed for value in column.values)
