"""What the loss adds on the code: the list of sparsity penalties, and the top-k mask, as gradients in place.

A new penalty is a row of ``PENALTIES`` and a name in the schema's ``Sparsity``.

B items a batch (of this process), K units of the code, n items of the global batch.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from tiedae_cli.config import Sparsity, TrainingConfig
from tiedae_cli.model.autoencoder import top_k_mask

LEAST_MEAN = 1e-6  # of a unit whose mean is 0 or 1, where the divergence is infinite


class CodePenalty:
    """The code's part of forward and backward: a sparsity penalty, times its weight, and the top-k mask.

    Args:
        top_k: units of each code that stay; None for all.
        training: the penalty, its weight and target.
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
        """Add the penalty's gradient to that of the code, (B, K), in place, then mask it as the code was masked."""
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
    """One sparsity penalty; both functions take the code, (B, K), and the ``CodePenalty`` that holds n, target and means."""

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
