"""The baseline: principal component analysis, the best linear autoencoder of each code size.

Shapes: N items, D values per item, K components.
"""

import logging
import time
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from tiedae_cli.model.item_batches import ItemBatches, as_seen
from tiedae_cli.system.progress import progress

log = logging.getLogger(__name__)

LARGEST_EXACT = 4096  # side of the largest matrix that is decomposed exactly
BLOCK_BYTES = 1 << 25  # of items in float64
GRAM_BLOCK_BYTES = 1 << 28  # larger, because blocks are read once per pair of blocks
ROUNDS = 6  # of subspace iteration
QUIET = 1.0  # seconds before progress is reported


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
        """Return the coordinates, (B, D) -> (B, K), in the dtype of x."""
        return (x - self.mean.to(x)) @ self.components.to(x)

    def reconstruct(self, x: Tensor) -> Tensor:
        """Return the reconstructions, (B, D) -> (B, D), in the dtype of x."""
        return self.codes(x) @ self.components.to(x).t() + self.mean.to(x)

    def reconstruct_clipped(self, x: Tensor) -> Tensor:
        """Return the reconstructions of images clipped to the range of pixels, [0, 1]: never farther from the images."""
        return self.reconstruct(x).clamp_(0, 1)

    def in_float32(self) -> "PrincipalComponents":
        """Return the same components as a checkpoint keeps them; those of float32 items are bit-identical."""
        return PrincipalComponents(self.mean.to(torch.float32), self.components.to(torch.float32).contiguous())


def fit(items: ItemBatches, count: int) -> PrincipalComponents:
    """Fit ``count`` components (at most N and D) to a set, in float64 and in blocks.

    The smaller of the covariance, (D, D), and the Gram matrix of the centered items, (N, N), is decomposed exactly up to a side of
    4,096. Its eigenvalues are exact to float64's rounding, so singular values are exact to 1e-7 of the largest. Beyond that size,
    subspace iteration (Halko, Martinsson & Tropp 2011, algorithm 4.4) approximates the components and logs its residual.
    """
    values = items.form.values_per_item
    count = min(count, values, len(items))
    mean = _mean(items)
    if len(items) < values and len(items) <= LARGEST_EXACT:
        return PrincipalComponents(mean, _of_gram_matrix(items, mean, count))
    if values <= LARGEST_EXACT:
        return PrincipalComponents(mean, _of_covariance(items, mean, count))
    return PrincipalComponents(mean, _subspace_iteration(items, mean, count))


def _of_covariance(items: ItemBatches, mean: Tensor, count: int) -> Tensor:
    """Return the strongest eigenvectors of the covariance, (D, K)."""
    covariance = torch.zeros(len(mean), len(mean), dtype=torch.float64)
    for block in _blocks(items, "covariance"):
        covariance += _self_product(block.sub_(mean))
    _, vectors = torch.linalg.eigh(covariance)
    strongest: Tensor = vectors.flip(1)[:, :count].contiguous()
    return strongest


def _of_gram_matrix(items: ItemBatches, mean: Tensor, count: int) -> Tensor:
    """Return the strongest right singular vectors of the centered items, (D, K), from the eigenvectors of their Gram matrix.

    The QR decomposition keeps the columns orthonormal even if singular values are only rounding.
    """
    size = max(1, GRAM_BLOCK_BYTES // (8 * len(mean)))
    starts = range(0, len(items), size)
    gram = torch.zeros(len(items), len(items), dtype=torch.float64)
    for i in starts:
        rows = _block(items, i, size).sub_(mean)
        for j in starts[: i // size + 1]:
            others = rows if i == j else _block(items, j, size).sub_(mean)
            gram[i : i + size, j : j + size] = rows @ others.t()  # eigh reads the lower triangle only
    _, vectors = torch.linalg.eigh(gram)
    strongest = vectors.flip(1)[:, :count]
    scaled = torch.zeros(len(mean), count, dtype=torch.float64)
    for i in starts:
        scaled.addmm_(_block(items, i, size).sub_(mean).t(), strongest[i : i + size])
    orthonormal: Tensor = torch.linalg.qr(scaled)[0]
    return orthonormal


def _subspace_iteration(items: ItemBatches, mean: Tensor, count: int) -> Tensor:
    width = min(count + 16, items.form.values_per_item, len(items))
    generator = torch.Generator().manual_seed(0)
    basis = torch.randn(items.form.values_per_item, width, dtype=torch.float64, generator=generator)
    for number in range(ROUNDS):
        basis, _ = torch.linalg.qr(basis)
        product = torch.zeros_like(basis)
        for block in _blocks(items, f"round {number + 1} of {ROUNDS}"):
            centered = block.sub_(mean)
            product.addmm_(centered.t(), centered @ basis)  # covariance @ basis, (D, width)
        small = basis.t() @ product
        variances, rotation = torch.linalg.eigh((small + small.t()) / 2)
        variances, rotation = variances.flip(0), rotation.flip(1)
        ritz = basis @ rotation
        residual = torch.linalg.vector_norm(product @ rotation - ritz * variances, dim=0)[:count]  # |A v - variance v|
        basis = product
    share = residual.max() / variances[0].clamp_min(1e-300) if count else torch.zeros(())
    log.info(f"PCA: {count:,} components by subspace iteration; largest residual {share:.1e} of the largest variance")
    strongest: Tensor = ritz[:, :count].contiguous()
    return strongest


def _self_product(block: Tensor) -> Tensor:
    """Return X^T X; numpy computes one triangle only, which takes half the time of torch's product."""
    values = block.numpy()
    return torch.from_numpy(values.T @ values)


def _block(items: ItemBatches, start: int, size: int) -> Tensor:
    return as_seen(items, start, start + size, torch.device("cpu")).to(torch.float64)


def _blocks(items: ItemBatches, what: str) -> Iterator[Tensor]:
    """Yield all items, (B, D) float64 each, and report the progress of work that takes longer than a second."""
    size, began = max(1, BLOCK_BYTES // (8 * items.form.values_per_item)), time.monotonic()
    for start in range(0, len(items), size):
        yield _block(items, start, size)
        if time.monotonic() - began > QUIET:
            progress(f"PCA, {what}", min(start + size, len(items)), len(items))


def _mean(items: ItemBatches) -> Tensor:
    total = torch.zeros(items.form.values_per_item, dtype=torch.float64)
    for block in _blocks(items, "mean"):
        total += block.sum(0)
    return total / len(items)
