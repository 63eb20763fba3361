"""A trained model as a torch module that takes raw values: scaling inside, differentiable.

Shapes: B items per batch, D values per item, K numbers of a code.
"""

import numpy as np
import torch
from torch import Tensor, nn

from tiedae_cli.data.item_reader import raw_shape
from tiedae_cli.data.item_set import PER_10K, ItemForm
from tiedae_cli.model.autoencoder import TiedAutoencoder


class RawModule(nn.Module):
    """An autoencoder of raw values: x -> (transform(x) - offset) * scale -> network -> the inverse.

    Args:
        form: of one item, with its scaling.
        network: takes values as the model sees them; its parameters are those of this module.
    """

    def __init__(self, form: ItemForm, network: TiedAutoencoder) -> None:
        super().__init__()
        self.form, self.network = form, network
        device = next(network.parameters()).device
        offset = np.zeros(1) if form.offset is None else form.offset
        scale: np.ndarray | float = form.scale
        if form.range is not None:
            offset, scale = np.array([form.range.low]), 1 / (form.range.high - form.range.low)
        for name, value in (("offset", offset), ("scale", np.atleast_1d(np.asarray(scale))), ("fill", form.fill)):
            tensor = None if value is None else torch.tensor(value, dtype=torch.float64, device=device)
            self.register_buffer(name, tensor, persistent=False)
        self.offset: Tensor
        self.scale: Tensor
        self.fill: Tensor | None

    def seen(self, x: Tensor) -> Tensor:
        """Return raw values as the network sees them, (B, ...) -> (B, D) float32."""
        flat = x.reshape(len(x), self.form.values_per_item).to(self.offset.dtype)
        flat = self._transformed(flat)
        if self.fill is not None:
            flat = torch.where(flat.isnan(), self.fill, flat)
        return ((flat - self.offset) * self.scale).to(torch.float32)

    def _transformed(self, flat: Tensor) -> Tensor:
        """Return raw values after the transform of the form, (B, D) -> (B, D)."""
        if self.form.transform == "none":
            return flat
        if self.form.transform == "log1p_per_10k":
            rows = flat.reshape(len(flat) * self.form.window, self.form.shape[2])
            total = rows.nansum(1, keepdim=True)
            flat = (rows * (PER_10K / torch.where(total > 0, total, 1.0))).reshape(flat.shape)
        return flat.log1p()

    def encode(self, x: Tensor) -> Tensor:
        """Return the codes of raw values, (B, ...) -> (B, K)."""
        return self.network.encode(self.seen(x))

    def decode(self, code: Tensor) -> Tensor:
        """Return the raw values of codes, (B, K) -> (B, ...) float32."""
        flat = self.network.decode(code).to(self.offset.dtype) / self.scale + self.offset
        flat = flat if self.form.transform == "none" else flat.expm1()
        return flat.to(torch.float32).reshape(len(code), *raw_shape(self.form))

    def forward(self, x: Tensor) -> Tensor:
        """Return the reconstructions, (B, ...) -> (B, ...) float32 in the units of x."""
        return self.decode(self.encode(x))
