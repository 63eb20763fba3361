"""The columns of a table that are fed to a model, in its order; kept with the model, so that other tables are read alike.

Shapes: D values of an item: one of a column of numbers, one a category of a column of text.
"""

from dataclasses import dataclass


@dataclass(frozen=True)
class Column:
    """One column that is fed."""

    name: str
    categories: tuple[str, ...] | None = None
    """Of a column of text, a value each that is 1 where the cell is that one; None for a column of numbers."""

    @property
    def values(self) -> tuple[str, ...]:
        """Names of the values that it gives."""
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
