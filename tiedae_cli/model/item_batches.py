"""Items in batches: arrays in host memory, or tensors on a device."""

from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from tiedae_cli.data.item_set import ItemForm
from tiedae_cli.data.shares import Share


class ItemBatches(Protocol):
    """N items of one form, such as an ``ItemSet``."""

    @property
    def form(self) -> ItemForm:
        """Form of an item."""

    def __len__(self) -> int:
        """N."""

    def batch(self, start: int, stop: int) -> np.ndarray | Tensor:
        """Return items start to stop as the model sees them, (B, D) float32."""


class SharedItems(ItemBatches, Protocol):
    """Items that several processes may share."""

    @property
    def share(self) -> Share | None:
        """Which of the items this process holds; None: all."""

    def held(self) -> ItemBatches:
        """Return the items that this process holds."""


def as_seen(items: ItemBatches, start: int, stop: int, device: torch.device) -> Tensor:
    """Return items start to stop as the model sees them, (B, D) float32 on the device."""
    return torch.as_tensor(items.batch(start, stop), device=device)
