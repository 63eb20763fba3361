"""Sparsity penalties on the code, and the top-k mask, as in-place gradients.

To add a penalty, add a row to ``PENALTIES`` and its name to ``Sparsity`` in the schema.

B items per batch (of this process), K units of the code, n items of the global batch.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from tiedae_cli.config import Sparsity, TrainingConfig
from tiedae_cli.model.autoencoder import top_k_mask

LEAST_MEAN = 1e-6  # bounds a unit's mean away from 0 and 1, where the divergence is infinite


class CodePenalty:
    """The code's part of the forward and backward pass: a weighted sparsity penalty and the top-k mask.

    Args:
        top_k: number of code units to keep per item; None keeps all.
        training: config with the penalty, its weight and target.
        items: n.
        sum_over_processes: adds a tensor over all processes in place; None for a single process.
    """

    def __init__(
        self,
        top_k: int | None,
        training: TrainingConfig,
        items: int,
        sum_over_processes: Callable[[Tensor], None] | None = None,
    ) -> None:
        self.top_k = top_k
        self.kind = None if training.sparsity == "none" else PENALTIES[training.sparsity]
        self.gradient = None if self.kind is None else self.kind.gradient
        self.weight = training.sparsity_weight
        self.target = training.sparsity_target
        self.items = items
        self.sum_over_processes = sum_over_processes
        self.mask: Tensor | None = None

    def forward(self, code: Tensor) -> None:
        """Mask the code, (B, K), in place."""
        if self.top_k is not None:
            self.mask = top_k_mask(code, self.top_k)
            code.mul_(self.mask)

    def backward(self, code: Tensor, gradient: Tensor) -> None:
        """Add the penalty's gradient to that of the code, (B, K), in place, then apply the mask of the code."""
        if self.gradient is not None:
            gradient.add_(self.gradient(code, self), alpha=self.weight / self.items)
        if self.mask is not None:
            gradient.mul_(self.mask)

    def value(self, code: Tensor) -> Tensor:
        """Return the penalty of a masked code, (B, K) -> (), for autograd."""
        return code.new_zeros(()) if self.kind is None else self.weight * self.kind.function(code, self)

    def mean(self, code: Tensor) -> Tensor:
        """Return each unit's mean over the global batch, (B, K) -> (K,); autograd sees the items of this process."""
        total = code.sum(0)
        if self.sum_over_processes is not None:
            self.sum_over_processes(total.detach())  # in place
        return total / self.items


@dataclass(frozen=True)
class PenaltyKind:
    """One sparsity penalty; both functions take the code, (B, K), and the ``CodePenalty`` with n, target and means."""

    function: Callable[[Tensor, CodePenalty], Tensor]
    """The penalty, (), before it is multiplied by its weight."""
    gradient: Callable[[Tensor, CodePenalty], Tensor] | None = None
    """n times its gradient, (B, K), or (K,) if the same for each item. None: train by autograd."""


def _divergence(code: Tensor, penalty: CodePenalty) -> Tensor:
    """Return sum_j KL(target || mean_j), mean_j the mean of unit j (Ng 2011, "Sparse autoencoder", section 3)."""
    mean, target = penalty.mean(code), penalty.target
    mean = mean + (mean.clamp(LEAST_MEAN, 1 - LEAST_MEAN) - mean).detach()  # a mean of 0 keeps a gradient
    return (target * torch.log(target / mean) + (1 - target) * torch.log((1 - target) / (1 - mean))).sum()


def _divergence_gradient(code: Tensor, penalty: CodePenalty) -> Tensor:
    mean = penalty.mean(code).clamp(LEAST_MEAN, 1 - LEAST_MEAN)
    return (1 - penalty.target) / (1 - mean) - penalty.target / mean


PENALTIES: dict[Sparsity, PenaltyKind] = {
    "l1": PenaltyKind(lambda code, penalty: code.abs().sum() / penalty.items, lambda code, _: code.sign()),
    "kl": PenaltyKind(_divergence, _divergence_gradient),
}
