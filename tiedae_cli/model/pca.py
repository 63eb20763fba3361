"""The yardstick: principal component analysis, the best linear autoencoder of each code size."""

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from tiedae_cli.model.item_batches import ItemBatches, as_seen

LARGEST_COVARIANCE = 4096  # beyond this many values an item, D x D does not pay
BLOCK_BYTES = 1 << 25  # a block of items in float64


@dataclass(frozen=True)
class PrincipalComponents:
    """A mean and orthonormal components, strongest first.

    reconstruct(x) = mean + C C^T (x - mean), C of shape (D, K): the least squared error of any K linear numbers on the data that
    it was fitted to (Pearson 1901; Eckart & Young 1936).
    """

    mean: Tensor
    """(D,) float64 after ``fit``, float32 in a checkpoint."""
    components: Tensor
    """(D, K) of the same type, orthonormal columns."""

    def truncated(self, count: int) -> "PrincipalComponents":
        """Return the strongest ``count`` components."""
        return PrincipalComponents(self.mean, self.components[:, :count])

    def codes(self, x: Tensor) -> Tensor:
        """Return the coordinates, (B, D) -> (B, K), in the type of x."""
        return (x - self.mean.to(x)) @ self.components.to(x)

    def reconstruct(self, x: Tensor) -> Tensor:
        """Return the reconstructions, (B, D) -> (B, D), in the type of x."""
        return self.codes(x) @ self.components.to(x).t() + self.mean.to(x)

    def reconstruct_clipped(self, x: Tensor) -> Tensor:
        """Return the reconstructions of images clipped to the range of pixels, [0, 1]: never farther from the images."""
        return self.reconstruct(x).clamp_(0, 1)

    def in_float32(self) -> "PrincipalComponents":
        """Return the same components as a checkpoint keeps them; those of float32 items stay the same to the bit."""
        return PrincipalComponents(self.mean.to(torch.float32), self.components.to(torch.float32).contiguous())


def fit(items: ItemBatches, count: int) -> PrincipalComponents:
    """Fit ``count`` components to a set, in float64, in blocks: memory does not grow with the number of items.

    Up to 4,096 values an item the covariance is decomposed exactly; beyond, or where there are fewer items than values,
    subspace iteration (Halko, Martinsson & Tropp 2011, algorithm 4.4) finds the components to far below the data's noise.
    """
    count = min(count, items.form.values_per_item, len(items))
    mean = _mean(items)
    if items.form.values_per_item <= LARGEST_COVARIANCE:
        covariance = torch.zeros(len(mean), len(mean), dtype=torch.float64)
        for block in _blocks(items):
            centered = block - mean
            covariance.addmm_(centered.t(), centered)  # (D, D)
        _, vectors = torch.linalg.eigh(covariance)
        return PrincipalComponents(mean, vectors.flip(1)[:, :count].contiguous())
    return PrincipalComponents(mean, _subspace_iteration(items, mean, count))


def _subspace_iteration(items: ItemBatches, mean: Tensor, count: int, rounds: int = 6) -> Tensor:
    width = min(count + 16, items.form.values_per_item, len(items))
    generator = torch.Generator().manual_seed(0)
    basis = torch.randn(items.form.values_per_item, width, dtype=torch.float64, generator=generator)
    for _ in range(rounds):
        basis, _ = torch.linalg.qr(basis)
        product = torch.zeros_like(basis)
        for block in _blocks(items):
            centered = block - mean
            product.addmm_(centered.t(), centered @ basis)  # covariance @ basis, (D, width)
        small = basis.t() @ product
        _, rotation = torch.linalg.eigh((small + small.t()) / 2)
        ritz = basis @ rotation.flip(1)
        basis = product
    strongest: Tensor = ritz[:, :count].contiguous()
    return strongest


def _blocks(items: ItemBatches) -> Iterator[Tensor]:
    size = max(1, BLOCK_BYTES // (8 * items.form.values_per_item))
    cpu = torch.device("cpu")
    return (as_seen(items, i, i + size, cpu).to(torch.float64) for i in range(0, len(items), size))


def _mean(items: ItemBatches) -> Tensor:
    total = torch.zeros(items.form.values_per_item, dtype=torch.float64)
    for block in _blocks(items):
        total += block.sum(0)
    return total / len(items)
