"""The yardstick: principal component analysis, the best linear autoencoder of each code size."""

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from tiedae_cli.data.item_set import ItemSet

LARGEST_COVARIANCE = 4096  # beyond this many values an item, D x D does not pay
BLOCK_BYTES = 1 << 25  # a block of items in float64


@dataclass(frozen=True)
class PrincipalComponents:
    """A mean and orthonormal components, strongest first.

    reconstruct(x) = mean + C C^T (x - mean), C of shape (D, K): the least squared error of any K linear numbers on the data that
    it was fitted to (Pearson 1901; Eckart & Young 1936).
    """

    mean: Tensor
    """(D,) float64"""
    components: Tensor
    """(D, K) float64, orthonormal columns"""

    def truncated(self, count: int) -> "PrincipalComponents":
        """Return the strongest ``count`` components."""
        return PrincipalComponents(self.mean, self.components[:, :count])

    def codes(self, x: Tensor) -> Tensor:
        """Return the coordinates, (B, D) -> (B, K), in the type of x."""
        return (x - self.mean.to(x)) @ self.components.to(x)

    def reconstruct(self, x: Tensor) -> Tensor:
        """Return the reconstructions, (B, D) -> (B, D), in the type of x."""
        return self.codes(x) @ self.components.to(x).t() + self.mean.to(x)


def fit(images: ItemSet, count: int) -> PrincipalComponents:
    """Fit ``count`` components to a set, in float64, in blocks: memory does not grow with the number of items.

    Up to 4,096 values an item the covariance is decomposed exactly; beyond, or where there are fewer items than values,
    subspace iteration (Halko, Martinsson & Tropp 2011, algorithm 4.4) finds the components to far below the data's noise.
    """
    count = min(count, images.form.pixels, len(images))
    mean = _mean(images)
    if images.form.pixels <= LARGEST_COVARIANCE:
        covariance = torch.zeros(len(mean), len(mean), dtype=torch.float64)
        for block in _blocks(images):
            centred = block - mean
            covariance.addmm_(centred.t(), centred)  # (D, D)
        _, vectors = torch.linalg.eigh(covariance)
        return PrincipalComponents(mean, vectors.flip(1)[:, :count].contiguous())
    return PrincipalComponents(mean, _subspace_iteration(images, mean, count))


def _subspace_iteration(images: ItemSet, mean: Tensor, count: int, rounds: int = 6) -> Tensor:
    width = min(count + 16, images.form.pixels, len(images))
    generator = torch.Generator().manual_seed(0)
    basis = torch.randn(images.form.pixels, width, dtype=torch.float64, generator=generator)
    for _ in range(rounds):
        basis, _ = torch.linalg.qr(basis)
        product = torch.zeros_like(basis)
        for block in _blocks(images):
            centred = block - mean
            product.addmm_(centred.t(), centred @ basis)  # covariance @ basis, (D, width)
        small = basis.t() @ product
        _, rotation = torch.linalg.eigh((small + small.t()) / 2)
        ritz = basis @ rotation.flip(1)
        basis = product
    strongest: Tensor = ritz[:, :count].contiguous()
    return strongest


def _blocks(images: ItemSet) -> Iterator[Tensor]:
    size = max(1, BLOCK_BYTES // (8 * images.form.pixels))
    cpu = torch.device("cpu")
    return (images.batch(i, i + size, cpu).to(torch.float64) for i in range(0, len(images), size))


def _mean(images: ItemSet) -> Tensor:
    total = torch.zeros(images.form.pixels, dtype=torch.float64)
    for block in _blocks(images):
        total += block.sum(0)
    return total / len(images)
