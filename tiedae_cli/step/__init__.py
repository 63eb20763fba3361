"""One optimisation step, the hot path: everything that makes it fast is in this folder and nowhere else.

``gradient.py`` forward and backward by hand; ``parameters.py`` the flat buffer; ``adam.py`` the update; here they become a step.
"""

from typing import Any

import torch
from torch import Tensor

from tiedae_cli.config import TrainingConfig
from tiedae_cli.data.image_set import ImageSet
from tiedae_cli.model import TiedAutoencoder
from tiedae_cli.step.adam import Adam
from tiedae_cli.step.gradient import Gradient
from tiedae_cli.step.parameters import FlatParameters


class TrainingStep:
    """One step: gather a batch, its gradient, Adam.

    Args:
        model: on the device of the images; its parameters are moved into one flat buffer.
        images: the training split.
        training: batch size, loss, L2.
        compute_dtype: the type of the matrix products.

    """

    def __init__(self, model: TiedAutoencoder, images: ImageSet, training: TrainingConfig, compute_dtype: torch.dtype) -> None:
        self.rows = images.rows  # (N, D) raw
        self.form = images.form
        self.batch_size = min(training.batch_size, len(images))
        self.parameters = FlatParameters(model, compute_dtype)
        self.gradient = Gradient(model, self.parameters, self.batch_size, training.loss, items=self.batch_size)
        self.adam = Adam(self.parameters, training.l2)
        self.raw = self.rows.new_empty(self.batch_size, self.form.pixels)  # (B, D)

    def run(self, indices: Tensor, learning_rate: float) -> Tensor:
        """Take one step on the items at the indices, (B,); return their squared error before it, summed, a scalar."""
        self._gather(indices)
        squared_error = self.gradient.run()
        self.adam.step(learning_rate)
        return squared_error

    def _gather(self, indices: Tensor) -> None:
        torch.index_select(self.rows, 0, indices, out=self.raw)
        batch = self.gradient.input.copy_(self.raw)  # to the type of the products; faster than a product of mixed types
        if self.form.offset is not None:
            batch.sub_(self.form.offset)
        batch.mul_(self.form.scale)

    def state(self) -> dict[str, Any]:
        """Return what the optimizer must remember."""
        return self.adam.state()

    def restore(self, state: dict[str, Any]) -> None:
        """Continue from a ``state()``."""
        self.adam.restore(state)
