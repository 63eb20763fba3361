"""A set of items as tensors: on the device, or in host memory if it does not fit there.

Shapes: N items of a set, M rows of its tensor, D values per item, B items per batch.
"""

import warnings

import numpy as np
import torch
from torch import Tensor

from tiedae_cli.data.item_set import BLOCK_BYTES, ItemForm, ItemSet


class TrainingSet:
    """Items as raw values in one tensor, with the constants of their form on the device.

    Args:
        rows: (M, D) raw values, on the device or in host memory; overlapping views if items are windows. Read-only.
        form: form of an item.
        device: device of the batches.
        indices: (N,) int64 in host memory: the rows that are items, in this order; None: all rows.
        shared: the items, if several processes share them: ``rows`` are then those of this process, and ``indices`` count all.
    """

    def __init__(
        self,
        rows: Tensor,
        form: ItemForm,
        device: torch.device,
        indices: Tensor | None = None,
        shared: ItemSet | None = None,
    ) -> None:
        self.rows, self.form, self.device, self.indices = rows, form, device, indices
        self.shared, self.share = shared, None if shared is None else shared.share
        precise = rows.dtype == torch.float64 or form.needs_float64
        self.dtype = torch.float64 if precise else torch.float32  # dtype of the arithmetic, as in ``ItemForm``
        self.offset, self.fill = (None if value is None else self._constant(value) for value in (form.offset, form.fill))
        self.scale = self._constant(form.scale) if isinstance(form.scale, np.ndarray) else form.scale

    def _constant(self, value: np.ndarray) -> Tensor:
        return torch.tensor(value, dtype=self.dtype, device=self.device)

    def __len__(self) -> int:
        if self.shared is not None:
            return len(self.shared)
        return len(self.rows) if self.indices is None else len(self.indices)

    def positions(self, items: Tensor) -> Tensor:
        """Return the rows of items, (B,) int64 -> (B,) int64."""
        return items if self.indices is None else self.indices[items]

    def normalize(self, raw: Tensor) -> Tensor:
        """Scale raw values on the device, (B, D) -> (B, D) float32; bit-identical to ``ItemForm``."""
        values = raw.to(self.dtype)
        if self.fill is not None:
            values = torch.where(values.isnan(), self.fill, values)
        if self.offset is not None:
            values = values - self.offset
        return (values * self.scale).to(torch.float32)

    def batch(self, start: int, stop: int) -> Tensor:
        """Return items start to stop as the model sees them, (B, D) float32 on the device."""
        assert self.share is None, "a process reads the items of others through its ItemSet"
        raw = self.rows[start:stop] if self.indices is None else self.rows.index_select(0, self.indices[start:stop])
        return self.normalize(raw.to(self.device))

    def held(self) -> "TrainingSet":
        """Return the items that this process holds."""
        if self.shared is None:
            return self
        return TrainingSet(self.rows, self.form, self.device, _indices(self.shared.held()))


def training_set(items: ItemSet, device: torch.device) -> TrainingSet:
    """Return a set for a device: on the CPU without a copy; on a GPU copied in blocks if it fits in half of the free memory."""
    if device.type == "cpu" or _is_too_large(items, device):
        return shared_set(_tensor(items.rows), items.form, device, items)
    if items.share is not None:
        return shared_set(_tensor(items.rows).to(device), items.form, device, items)
    first = _tensor(items.rows[:0])
    rows = torch.empty(len(items), items.form.values_per_item, dtype=first.dtype, device=device)
    size = max(1, BLOCK_BYTES // max(1, items.form.values_per_item * items.values.itemsize))
    for start in range(0, len(items), size):
        rows[start : start + size].copy_(_tensor(items.raw(start, start + size)))
    return TrainingSet(rows, items.form, device)


def shared_set(rows: Tensor, form: ItemForm, device: torch.device, items: ItemSet) -> TrainingSet:
    """Return a set with one row of a tensor for each row that a set of items has in memory. Several processes have a share each."""
    return TrainingSet(rows, form, device, _indices(items), None if items.share is None else items)


def _indices(items: ItemSet) -> Tensor | None:
    return None if items.indices is None else torch.from_numpy(items.indices)


def _is_too_large(items: ItemSet, device: torch.device) -> bool:
    if device.type != "cuda":
        return False
    free, _ = torch.cuda.mem_get_info(device)
    count = len(items) if items.share is None else len(items.values)
    return count * items.form.values_per_item * items.values.itemsize > free // 2


def _tensor(rows: np.ndarray) -> Tensor:
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "The given NumPy array is not writable")  # the tensor is read-only
        return torch.from_numpy(rows)
