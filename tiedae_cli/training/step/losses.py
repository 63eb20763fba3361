"""The list of losses: a function each, with the factor of its hand-written gradient.

Shapes: B items per batch, D values per item. To add a loss, add a row here and its name to ``Loss`` in the schema.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch.nn.functional as F
from torch import Tensor

from tiedae_cli.config import Loss


@dataclass(frozen=True)
class LossKind:
    """One loss, a mean over the items of a batch."""

    function: Callable[[Tensor, Tensor, Tensor], Tensor]
    """(reconstruction y, its pre-activation, target x), (B, D) each -> (B,): each item's loss, summed over its values."""
    per_value: bool = False
    """Whether the sum over an item's values is divided by D."""
    slope: float | None = None
    """The gradient of y (of its pre-activation if ``at_preactivation``) is this times y - x. None: train by autograd."""
    at_preactivation: bool = False
    """Whether the output activation is a sigmoid whose derivative cancels with that of the loss."""


def _squared_error(y: Tensor, _: Tensor, x: Tensor) -> Tensor:
    return (y - x).square().sum(1)


def cross_entropy(_: Tensor, z: Tensor, x: Tensor) -> Tensor:
    """Return -sum x log y + (1 - x) log (1 - y), y = sigmoid(z), (B, D) each -> (B,)."""
    return F.binary_cross_entropy_with_logits(z, x, reduction="none").sum(1)


LOSSES: dict[Loss, LossKind] = {
    "mse": LossKind(_squared_error, per_value=True, slope=2.0),
    "squared_error": LossKind(_squared_error, slope=2.0),
    "cross_entropy": LossKind(cross_entropy, slope=1.0, at_preactivation=True),
}
