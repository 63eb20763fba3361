"""What the training items look like, value by value: the reference that new items are compared with.

Shapes: V values of an item, or of a row if the items are windows of rows; Q quantiles.
"""

from dataclasses import dataclass

from torch import Tensor

QUANTILES = 101  # from the smallest value to the largest in equal steps


@dataclass(frozen=True)
class Reference:
    """Statistics of each value over the training items, in the units that the model sees."""

    items: int
    """How many items, or rows of windows, were counted."""
    mean: Tensor
    """(V,) float64"""
    deviation: Tensor
    """(V,) float64, standard deviation."""
    low: Tensor
    """(V,) float32, the smallest value."""
    high: Tensor
    """(V,) float32, the largest value."""
    quantiles: Tensor
    """(Q, V) float32, ascending, of at most 10,000 items drawn evenly; (0, V) of images."""
