"""The list of losses: each is a function, and, by hand, the factor of its gradient.

Shapes: B items a batch, D values an item. A new loss is a row here and a name in the schema's ``Loss``.
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
    """The sum over an item's values is divided by D."""
    slope: float | None = None
    """The gradient is this times y - x, at y or, if ``at_preactivation``, at its pre-activation. None: train by autograd."""
    at_preactivation: bool = False
    """The output activation is a sigmoid, whose derivative cancels against that of the loss."""


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
