"""What the loss adds on the code: sparsity penalties and the top-k mask, as gradients in place.

B items a batch (of this process), K units of the code, n items of the global batch.
"""

from collections.abc import Callable

from torch import Tensor

from tiedae_cli.config import TrainingConfig
from tiedae_cli.model.autoencoder import top_k_mask


class CodePenalty:
    """The code's part of forward and backward.

    ``l1`` adds weight / n * sum |h|. ``kl`` adds weight * sum_j KL(target || mean_j), mean_j the mean of unit j over the global batch
    (Ng 2011, "Sparse autoencoder", section 3).

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
        self.kind = training.sparsity
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
        if self.kind == "l1":
            gradient.add_(code.sign(), alpha=self.weight / self.items)
        elif self.kind == "kl":
            mean = code.sum(0)
            if self.sum_over_processes is not None:
                self.sum_over_processes(mean)
            mean = (mean / self.items).clamp(1e-6, 1 - 1e-6)  # (K,)
            gradient.add_((1 - self.target) / (1 - mean) - self.target / mean, alpha=self.weight / self.items)
        if self.mask is not None:
            gradient.mul_(self.mask)
