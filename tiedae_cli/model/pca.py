"""The baseline: principal component analysis, the best linear autoencoder of each code size.

Shapes: N items, D values per item, K components.
"""

import contextlib
import logging
import time
from collections.abc import Iterator
from contextvars import ContextVar
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


@dataclass(frozen=True)
class _Decomposition:
    """What ``fit`` computes of a set whatever the number of components."""

    items: ItemBatches
    mean: Tensor
    """(D,)"""
    vectors: Tensor
    """Eigenvectors in columns, of the covariance or the Gram matrix; in ascending order of their eigenvalues."""


_kept: ContextVar[list[_Decomposition] | None] = ContextVar("kept", default=None)  # at most one


@contextlib.contextmanager
def decomposed_once() -> Iterator[None]:
    """Let calls of ``fit`` in this block share the decomposition of the set that was decomposed last; results are bit-identical."""
    token = _kept.set([])
    try:
        yield
    finally:
        _kept.reset(token)


def fit(items: ItemBatches, count: int) -> PrincipalComponents:
    """Fit ``count`` components (at most N and D) to a set, in float64 and in blocks.

    The smaller of the covariance, (D, D), and the Gram matrix of the centered items, (N, N), is decomposed exactly up to a side of
    4,096. Its eigenvalues are exact to float64's rounding, so singular values are exact to 1e-7 of the largest. Beyond that size,
    subspace iteration (Halko, Martinsson & Tropp 2011, algorithm 4.4) approximates the components and logs its residual.
    """
    values = items.form.values_per_item
    count = min(count, values, len(items))
    few = len(items) < values
    if min(len(items), values) > LARGEST_EXACT:
        mean = _mean(items)
        return PrincipalComponents(mean, _subspace_iteration(items, mean, count))
    kept = _kept.get()
    found = next((one for one in kept or () if one.items is items), None)
    if found is None:
        mean = _mean(items)
        found = _Decomposition(items, mean, _gram_vectors(items, mean) if few else _covariance_vectors(items, mean))
        if kept is not None:
            kept[:] = [found]
    strongest = found.vectors.flip(1)[:, :count]
    components = _through_items(items, found.mean, strongest) if few else strongest.contiguous()
    return PrincipalComponents(found.mean, components)


def _covariance_vectors(items: ItemBatches, mean: Tensor) -> Tensor:
    """Return the eigenvectors of the covariance, (D, D)."""
    covariance = torch.zeros(len(mean), len(mean), dtype=torch.float64)
    for block in _blocks(items, "covariance"):
        covariance += _self_product(block.sub_(mean))
    vectors: Tensor = torch.linalg.eigh(covariance)[1]
    return vectors


def _gram_vectors(items: ItemBatches, mean: Tensor) -> Tensor:
    """Return the eigenvectors of the Gram matrix of the centered items, (N, N)."""
    size = max(1, GRAM_BLOCK_BYTES // (8 * len(mean)))
    starts = range(0, len(items), size)
    gram = torch.zeros(len(items), len(items), dtype=torch.float64)
    for i in starts:
        rows = _block(items, i, size).sub_(mean)
        for j in starts[: i // size + 1]:
            others = rows if i == j else _block(items, j, size).sub_(mean)
            gram[i : i + size, j : j + size] = rows @ others.t()  # eigh reads the lower triangle only
    vectors: Tensor = torch.linalg.eigh(gram)[1]
    return vectors


def _through_items(items: ItemBatches, mean: Tensor, strongest: Tensor) -> Tensor:
    """Return right singular vectors of the centered items, (D, K), from eigenvectors of their Gram matrix, (N, K).

    The QR decomposition keeps the columns orthonormal even if singular values are only rounding.
    """
    size = max(1, GRAM_BLOCK_BYTES // (8 * len(mean)))
    scaled = torch.zeros(len(mean), strongest.shape[1], dtype=torch.float64)
    for i in range(0, len(items), size):
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


@torch.inference_mode()
def error_curve(items: ItemBatches, components: PrincipalComponents) -> Tensor:
    """Return the mean squared error per value of the strongest 0, 1 ... K components, (K + 1,) float64; the first is the mean's.

    Args:
        items: those that are reconstructed; not necessarily those of the fit.
        components: in float64.
    """
    explained, rest = torch.zeros(components.components.shape[1], dtype=torch.float64), 0.0
    for block in _blocks(items, "errors"):
        centered = block.sub_(components.mean)
        codes = centered @ components.components  # (B, K)
        explained += codes.square().sum(0)
        rest += centered.addmm_(codes, components.components.t(), alpha=-1).square().sum().item()
    squares = torch.cat([explained.flip(0).cumsum(0).flip(0) + rest, torch.tensor([rest], dtype=torch.float64)])
    return squares / (len(items) * items.form.values_per_item)
