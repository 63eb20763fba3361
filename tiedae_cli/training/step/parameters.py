"""All parameters of a model in one flat buffer, so Adam, gradient norms and all-reduce are one operation each."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from tiedae_cli.model.autoencoder import TiedAutoencoder


@dataclass(frozen=True)
class Matrix:
    """Position of a weight in a flat buffer, with its rows (units) and columns as in ``flatten(1)``."""

    start: int
    rows: int
    columns: int

    @property
    def stop(self) -> int:
        """End in the flat buffer."""
        return self.start + self.rows * self.columns

    def of(self, flat: Tensor) -> Tensor:
        """Return its view of a flat buffer, (P,), as (rows, columns)."""
        return flat[self.start : self.stop].view(self.rows, self.columns)

    def wide(self, flat: Tensor) -> Tensor:
        """Return its view of a flat buffer, (P,), as (m, n), m <= n: transposed if it is taller than wide."""
        view = self.of(flat)
        return view.t() if self.rows > self.columns else view


class FlatParameters:
    """A model's parameters moved into one buffer, weights first, then biases; the model holds views of it.

    Args:
        model: its parameters become views of ``master``.
        compute_dtype: dtype of the matrix products; if it differs from the model's, copies are made.
    """

    def __init__(self, model: TiedAutoencoder, compute_dtype: torch.dtype) -> None:
        named = dict(model.named_parameters())
        self.names = sorted(
            named, key=lambda name: named[name].dim() == 1
        )  # stable: weights, then biases, each in the model's order
        parameters = [named[name] for name in self.names]
        self.shapes = [parameter.shape for parameter in parameters]
        self.weight_count = sum(parameter.numel() for parameter in parameters if parameter.dim() > 1)
        self.master = torch.cat([parameter.detach().reshape(-1) for parameter in parameters])  # (P,)
        self.gradient = torch.zeros_like(self.master)
        for parameter, view in zip(parameters, self.views(self.master).values(), strict=True):
            parameter.data = view
        self.mixed = compute_dtype != self.master.dtype
        self.compute = self.master.to(compute_dtype) if self.mixed else self.master
        self.compute_gradient = torch.zeros_like(self.compute) if self.mixed else self.gradient

    def views(self, flat: Tensor) -> dict[str, Tensor]:
        """Return a buffer of this layout, (P,), as the model's parameters by their names."""
        parts = torch.split(flat, [shape.numel() for shape in self.shapes])
        return {name: part.view(shape) for name, part, shape in zip(self.names, parts, self.shapes, strict=True)}

    def matrices(self) -> list[Matrix]:
        """Return the weights with more than one row and more than one column."""
        return [
            Matrix(int(value.storage_offset()), len(value), value[0].numel())
            for value in self.views(self.master).values()
            if value.dim() > 1 and min(len(value), value[0].numel()) > 1
        ]

    def others(self, matrices: Sequence[Matrix]) -> list[tuple[int, int]]:
        """Return the [start, stop) ranges of all other weights, and of the biases together."""
        taken = {matrix.start for matrix in matrices}
        weights = [view for view in self.views(self.master).values() if view.dim() > 1]
        starts = [(int(weight.storage_offset()), weight.numel()) for weight in weights]
        ranges = [(start, start + count) for start, count in starts if start not in taken]
        return [*ranges, (self.weight_count, len(self.master))]

    def refresh_compute(self) -> None:
        """Convert the master parameters to the dtype of the products, before a step."""
        if self.mixed:
            self.compute.copy_(self.master)

    def collect_gradient(self) -> None:
        """Convert the gradient to the master's dtype, after the products."""
        if self.mixed:
            self.gradient.copy_(self.compute_gradient)
