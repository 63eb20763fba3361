"""Muon: orthogonalized momentum, one matrix at a time, computed with products of small matrices.

A weight has m rows and n columns, m <= n (a taller weight is transposed).
"""

import contextlib
import math
from collections.abc import Iterator
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from tiedae_cli.config import TrainingConfig
from tiedae_cli.model.products import multiply
from tiedae_cli.training.step.optimizer import Optimizer
from tiedae_cli.training.step.optimizers.adam import Adam
from tiedae_cli.training.step.parameters import FlatParameters

MOMENTUM = 0.95
RMS = 0.2  # root mean square of a step's entries relative to the learning rate, about that of Adam
# Polynomials p(x) = a x + b x^3 + c x^5 whose composition comes nearest to 1 over singular values from 0.001 to 1 (Amsel, Persson,
# Musco & Gower 2025, "The Polar Express"): each has the least largest error over the interval onto which the ones before it map.
POLYNOMIALS = (
    (8.470329, -25.108075, 18.629276),
    (4.182834, -3.108701, 0.580607),
    (3.961857, -2.954064, 0.562976),
    (3.286586, -2.464720, 0.507358),
)
DAMPING = 1e-6  # of the Gram matrix, relative to its largest eigenvalue: keeps eigenvalues positive despite rounding
LEAST_TRACE = 1e-30  # of the Gram matrix; below it the step shrinks to 0 with the gradient instead of underflowing


@dataclass(frozen=True)
class MovedMatrix:
    """A weight as a wide matrix, with its gradient, momentum and work buffers."""

    value: Tensor
    """(m, n)"""
    gradient: Tensor
    """(m, n)"""
    momentum: Tensor
    """(m, n)"""
    factor: "PolarFactor"
    scale: float
    """Factor of the learning rate."""


class PolarFactor:
    """The matrix Q that makes Q X nearly orthogonal: its singular values become nearly 1 and its singular vectors stay.

    Newton-Schulz iterations X <- p(X), odd polynomials of the singular values, but in the Gram matrix G = X X^T, so that all products
    but the first and the last are of the smaller side:

        q = a I + b G + c G^2        Q <- q Q        G <- G q^2

    G is first divided by its trace, lest its powers leave float32's range, then by the square root of the Frobenius norm of G^2, which
    is at hand: a bound on its largest eigenvalue.

    Args:
        like: (m, n), a matrix of the same size and dtype.
        polynomials: (a, b, c) per iteration.
    """

    def __init__(self, like: Tensor, polynomials: tuple[tuple[float, float, float], ...] = POLYNOMIALS) -> None:
        self.polynomials = polynomials
        self.gram, self.square, self.step, self.product, self.result, self.spare = (
            like.new_empty(len(like), len(like)) for _ in range(6)
        )
        self.one = torch.ones_like(self.gram[0])

    def of(self, matrix: Tensor) -> Tensor:
        """Return Q, (m, m), for X, (m, n); the next call reuses the memory. A zero matrix gives zeros."""
        gram, square, q = self.gram, self.square, self.step
        multiply(matrix, matrix.t(), gram)
        trace = gram.diagonal().sum().clamp_min(LEAST_TRACE)
        gram.div_(trace)
        multiply(gram, gram, square)
        bound = torch.linalg.vector_norm(square).sqrt().clamp_min(torch.finfo(gram.dtype).eps)  # of the eigenvalues
        gram.div_(bound)
        square.div_(bound).div_(bound)
        gram.diagonal().add_(self.one, alpha=DAMPING)
        result, spare = self.result, self.spare
        for number, (a, b, c) in enumerate(self.polynomials):
            if number:
                multiply(gram, gram, square)
            torch.mul(gram, b, out=q).add_(square, alpha=c).diagonal().add_(self.one, alpha=a)
            if number:
                multiply(result, q, spare)
                result, spare = spare, result
            else:
                result.copy_(q)
            if number + 1 < len(self.polynomials):
                multiply(gram, q, self.product)
                multiply(self.product, q, gram)
        return result.mul_(bound.rsqrt() * trace.rsqrt())


class Muon:
    """Muon (Jordan et al. 2024) with Nesterov's momentum, for weights; Adam for biases.

    For a weight W, (m, n), with gradient G (of a tied weight the sum over both uses), momentum mu and learning rate r:

        M <- mu M + (1 - mu) G
        W <- W - r * 0.2 sqrt(max(m, n)) * polar(mu M + (1 - mu) G)

    polar(X) has the singular vectors of X and singular values near 1. The factor gives each step about the size of one of Adam's, so
    that a learning rate means the same for both and for every width (Liu et al. 2025, "Muon is scalable for LLM training", section 2.2).
    The penalty l2 * 1/2 * sum(W^2) adds l2 * W to G. A weight of more than two dimensions is the matrix ``flatten(1)``. A weight of one
    row or one column is a vector, which Adam updates like a bias.

    Args:
        parameters: the flat parameters, weights first.
        l2: the penalty's factor.
        momentum: mu.
        polynomials: of ``PolarFactor``.
    """

    def __init__(
        self,
        parameters: FlatParameters,
        l2: float,
        momentum: float = MOMENTUM,
        polynomials: tuple[tuple[float, float, float], ...] = POLYNOMIALS,
    ) -> None:
        self.parameters, self.l2, self.mu = parameters, l2, momentum
        found = parameters.matrices()
        self.momentum = parameters.master.new_zeros(sum(matrix.stop - matrix.start for matrix in found))
        self.matrices: list[MovedMatrix] = []
        begin = 0
        for matrix in found:
            value, gradient = matrix.wide(parameters.master), matrix.wide(parameters.gradient)
            past = replace(matrix, start=begin).wide(self.momentum)
            scale = RMS * math.sqrt(value.shape[1])
            self.matrices.append(MovedMatrix(value, gradient, past, PolarFactor(value, polynomials), scale))
            begin += value.numel()
        self.adam = Adam(parameters, l2, ranges=parameters.others(found))

    def prepare(self, step: int) -> None:
        """Do nothing."""

    def step(self, learning_rate: float | Tensor) -> None:
        """Update the parameters from their gradient, which is used up."""
        with _full_precision(self.momentum.device):
            for matrix in self.matrices:
                gradient = matrix.gradient
                if self.l2:
                    gradient.add_(matrix.value, alpha=self.l2)
                matrix.momentum.lerp_(gradient, 1 - self.mu)
                gradient.lerp_(matrix.momentum, self.mu)
                factor = matrix.factor.of(gradient).mul_(learning_rate)
                matrix.value.addmm_(factor, gradient, alpha=-matrix.scale)
        self.adam.step(learning_rate)

    def buffers(self) -> dict[str, Tensor]:
        """Return its state, not copied: the matrices' momentum, and Adam's moments and step count for the rest."""
        return {"momentum": self.momentum, **self.adam.buffers()}


def create(parameters: FlatParameters, training: TrainingConfig) -> Optimizer:
    """Return Muon as configured."""
    return Muon(parameters, training.l2, MOMENTUM if training.momentum is None else training.momentum)


@contextlib.contextmanager
def _full_precision(device: torch.device) -> Iterator[None]:
    """Disable TF32, because a Gram matrix squares its rounding errors."""
    before = torch.get_float32_matmul_precision()
    if device.type == "cpu" or before == "highest":
        yield
        return
    torch.set_float32_matmul_precision("highest")
    try:
        yield
    finally:
        torch.set_float32_matmul_precision(before)
