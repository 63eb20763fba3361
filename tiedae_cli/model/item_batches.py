"""Items in batches: arrays in host memory, or tensors on a device."""

from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from tiedae_cli.data.item_set import ItemForm


class ItemBatches(Protocol):
    """N items of one form, such as an ``ItemSet``."""

    @property
    def form(self) -> ItemForm:
        """Form of an item."""

    def __len__(self) -> int:
        """N."""

    def batch(self, start: int, stop: int) -> np.ndarray | Tensor:
        """Return items start to stop as the model sees them, (B, D) float32."""


def as_seen(items: ItemBatches, start: int, stop: int, device: torch.device) -> Tensor:
    """Return items start to stop as the model sees them, (B, D) float32 on the device."""
    return torch.as_tensor(items.batch(start, stop), device=device)
