"""One-sided SOAP: Adam in the eigenbasis of each layer's units, in which their gradients are uncorrelated.

A weight has m rows (the layer's units) and n columns (its inputs).
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from tiedae_cli.config import TrainingConfig
from tiedae_cli.model.products import multiply
from tiedae_cli.training.step.optimizer import Optimizer
from tiedae_cli.training.step.optimizers.adam import Adam
from tiedae_cli.training.step.parameters import FlatParameters

MOMENTUM = 0.9
BETA = 0.95  # decay rate of the covariance and the second moment; Adam's 0.999 takes longer to the same error
TALLEST = 2  # rows over columns; in taller weights most directions hold only rounding, which Adam would amplify
EVERY = 10  # steps between eigendecompositions; each takes as long as ten products of the step


@dataclass(frozen=True)
class Turned:
    """Gradient and Adam's step, weights in their eigenbases, all else unchanged."""

    master: Tensor
    """(P,) the step, zero before it."""
    gradient: Tensor
    """(P,)"""
    weight_count: int


@dataclass(frozen=True)
class TurnedMatrix:
    """A weight and the eigenbasis of its units."""

    value: Tensor
    """(m, n)"""
    gradient: Tensor
    """(m, n)"""
    turned_gradient: Tensor
    """(m, n) Q^T G"""
    turned_step: Tensor
    """(m, n)"""
    first_moment: Tensor
    """(m, n) in the basis"""
    covariance: Tensor
    """(m, m) L, running mean of G G^T"""
    basis: Tensor
    """(m, m) Q, its eigenvectors as columns"""
    square: Tensor
    """(m, m) buffer for G G^T"""


class Soap:
    """SOAP (Vyas et al. 2024, "SOAP: Improving and Stabilizing Shampoo using Adam", algorithm 3), one-sided.

    For a weight W, (m, n), with gradient G (of a tied weight the sum over both uses), learning rate r:

        L <- beta L + (1 - beta) G G^T         Q the eigenvectors of L, updated every 10 steps
        W <- W - r Q Adam(Q^T G)               Adam's moments are kept in the basis Q; the first one turns with it

    If Q is the identity this is Adam, so learning rates are comparable. The basis is always that of the units, even if there are fewer
    inputs: pixels have directions without variance, in which only noise would be amplified (784-1000-500-250-30 stops near PCA's
    error that way). Adam updates biases, weights of one row or one column, and weights with more than twice as many units as inputs.

    The penalty l2 * 1/2 * sum(W^2) adds l2 * W to G.

    Args:
        parameters: the flat parameters, weights first.
        l2: the penalty's factor.
        momentum: beta_1 of Adam.
    """

    def __init__(self, parameters: FlatParameters, l2: float, momentum: float = MOMENTUM) -> None:
        self.parameters, self.l2 = parameters, l2
        self.turned = Turned(torch.zeros_like(parameters.master), torch.zeros_like(parameters.master), parameters.weight_count)
        self.adam = Adam(self.turned, 0.0, momentum, beta2=BETA)
        found = [matrix for matrix in parameters.matrices() if matrix.rows <= TALLEST * matrix.columns]
        like, squares = parameters.master, [matrix.rows**2 for matrix in found]
        self.covariances, self.bases = like.new_zeros(sum(squares)), like.new_zeros(sum(squares))
        self.matrices: list[TurnedMatrix] = []
        parts = zip(found, torch.split(self.covariances, squares), torch.split(self.bases, squares), strict=True)
        for matrix, covariance, basis in parts:
            turned = TurnedMatrix(
                matrix.of(like),
                matrix.of(parameters.gradient),
                matrix.of(self.turned.gradient),
                matrix.of(self.turned.master),
                matrix.of(self.adam.first_moment),
                covariance.view(matrix.rows, matrix.rows),
                basis.view(matrix.rows, matrix.rows),
                like.new_empty(matrix.rows, matrix.rows),
            )
            turned.basis.fill_diagonal_(1.0)
            self.matrices.append(turned)
        self.others = [slice(start, stop) for start, stop in parameters.others(found)]

    def prepare(self, step: int) -> None:
        """Recompute the eigenbasis of each weight every ``EVERY`` steps of the training."""
        if step % EVERY == 1:
            for matrix in self.matrices:
                if matrix.covariance.isfinite().all():  # the loss reports a divergence
                    _turn(matrix)

    def step(self, learning_rate: float | Tensor) -> None:
        """Update the parameters from their gradient, which is used up."""
        values, gradient, turned = self.parameters.master, self.parameters.gradient, self.turned
        weights = self.parameters.weight_count
        if self.l2:
            gradient[:weights].add_(values[:weights], alpha=self.l2)
        for matrix in self.matrices:
            matrix.covariance.lerp_(multiply(matrix.gradient, matrix.gradient.t(), matrix.square), 1 - BETA)
            multiply(matrix.basis.t(), matrix.gradient, matrix.turned_gradient)
        for other in self.others:
            turned.gradient[other].copy_(gradient[other])
        turned.master.zero_()
        self.adam.step(learning_rate)
        for matrix in self.matrices:
            matrix.value.add_(multiply(matrix.basis, matrix.turned_step, matrix.gradient))
        for other in self.others:
            values[other].add_(turned.master[other])

    def buffers(self) -> dict[str, Tensor]:
        """Return its state, not copied: Adam's moments and step count, the covariances and the bases, (sum of m^2,) each."""
        return {**self.adam.buffers(), "covariances": self.covariances, "bases": self.bases}


def create(parameters: FlatParameters, training: TrainingConfig) -> Optimizer:
    """Return SOAP as configured."""
    return Soap(parameters, training.l2, MOMENTUM if training.momentum is None else training.momentum)


def _turn(matrix: TurnedMatrix) -> None:
    """Replace the basis by the eigenvectors of the covariance, and rotate the first moment into it."""
    _, vectors = torch.linalg.eigh(matrix.covariance)
    change = vectors.t() @ matrix.basis  # (m, m)
    matrix.first_moment.copy_(change @ matrix.first_moment)
    matrix.basis.copy_(vectors)
