"""Errors of a model over a split, as sums and per item, with PCA and the mean item as baselines.

Shapes: N items, B items per batch, D values per item.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from tiedae_cli.data.item_set import ItemForm
from tiedae_cli.errors import DataError
from tiedae_cli.model import pca
from tiedae_cli.model.autoencoder import TiedAutoencoder
from tiedae_cli.model.error_tail import ErrorTail
from tiedae_cli.model.item_batches import ItemBatches, SharedItems, as_seen
from tiedae_cli.model.metrics import ErrorSum, item_sums, own_measures, squares
from tiedae_cli.model.verdict import Errors
from tiedae_cli.system.devices import Ranks, in_float64

BATCH_VALUES = 1 << 21  # values of one evaluation batch: large enough for full speed, small enough for any memory


LEAST_WIDTH = 512  # lower bound on values per item, because hidden layers may be wider than the item


@dataclass(frozen=True)
class Evaluation:
    """A model's error on one split, with its baselines."""

    split: str | None
    """None if the items are of no split of the training data."""
    model: ErrorSum
    pca: ErrorSum
    """Error of PCA, fitted to the training split."""
    components: int
    """Number of principal components."""
    mean_item: ErrorSum
    """Error of always answering the training mean."""
    raw: "Evaluation | None" = None
    """The same errors in the units of the raw features (feature vectors only)."""
    pca_clipped: ErrorSum | None = None
    """Of images: PCA with its answers clipped to [0, 1]."""
    tail: float | None = None
    """Share of the model's squared error that the 1% of the items with the largest errors carry; see ``ErrorTail``."""

    @property
    def baseline(self) -> ErrorSum:
        """The stronger of the two PCAs, with which the verdict compares."""
        return self.pca if self.pca_clipped is None else min(self.pca, self.pca_clipped, key=lambda one: one.squared_error)

    def errors(self, code_size: int, value_name: str, history: Sequence[float] = ()) -> Errors:
        """Return the errors per value, as the verdict compares them.

        Args:
            code_size: K, size of the code.
            value_name: word for one value of an item, such as ``pixel``.
            history: the model's error after each epoch.
        """
        model, pca, mean = (rows.mse_per_value for rows in (self.model, self.baseline, self.mean_item))
        sizes, clipped = (self.components, code_size, self.model.values), self.baseline is self.pca_clipped
        return Errors(model, pca, mean, *sizes, value_name, tuple(history), clipped)


def block_size(form: ItemForm) -> int:
    """Return how many items of a form to evaluate at once, so that the outputs of wide layers fit in memory too."""
    return max(1, BATCH_VALUES // max(form.values_per_item, LEAST_WIDTH))


def batch_size(items: ItemBatches) -> int:
    """Return how many items of a set to evaluate at once."""
    return block_size(items.form)


@torch.inference_mode()
def codes(model: TiedAutoencoder, x: np.ndarray | Tensor, device: torch.device) -> Tensor:
    """Return the codes of a block, (B, D) -> (B, K) float32 on the CPU."""
    return model.encode(torch.as_tensor(x, device=device)).cpu()


@torch.inference_mode()
def decoded(model: TiedAutoencoder, code: np.ndarray | Tensor, device: torch.device) -> Tensor:
    """Decode a block of codes, (B, K) -> (B, D) float32 on the CPU."""
    return model.decode(torch.as_tensor(code, device=device)).cpu()


@torch.inference_mode()
def item_errors(
    reconstruct: Callable[[Tensor], Tensor],
    items: ItemBatches,
    device: torch.device,
    raw: bool = False,
    bounds: tuple[int, int] | None = None,
) -> Tensor:
    """Return each item's squared error, summed over its values, (N,) float64 on the CPU.

    Args:
        reconstruct: (B, D) -> (B, D), for example a model.
        items: the items.
        device: where to compute.
        raw: measure in the units of the raw values instead of the scaled ones.
        bounds: the first item and the one after the last; None: all.
    """
    first, end = bounds or (0, len(items))
    size = batch_size(items)
    errors = in_float64(torch.zeros(end - first, device=device))
    scale = torch.as_tensor(items.form.scale, dtype=torch.float64, device=errors.device)
    for start in range(first, end, size):
        stop = min(start + size, end)
        x = as_seen(items, start, stop, device)  # (B, D)
        difference = reconstruct(x) - x
        if raw:
            difference = in_float64(difference) / scale  # also exact with a large offset
        errors[start - first : stop - first] = squares(difference).sum(1)
    return errors.cpu()


def error_sum(reconstruct: Callable[[Tensor], Tensor], items: ItemBatches, device: torch.device, raw: bool = False) -> ErrorSum:
    """Return the squared error over a set (see ``item_errors``)."""
    total = item_errors(reconstruct, items, device, raw).sum().item()
    return ErrorSum(total, len(items), items.form.values_per_item)


def error_sum_of_all(
    reconstruct: Callable[[Tensor], Tensor], items: SharedItems, device: torch.device, ranks: Ranks
) -> ErrorSum:
    """Return the squared error over a set; processes divide the work, and each item counts once. All call it together."""
    bounds = ranks.share(len(items)) if items.share is None else None
    total = item_errors(reconstruct, items.held(), device, bounds=bounds).sum()
    ranks.add(total)
    return ErrorSum(total.item(), len(items), items.form.values_per_item)


@torch.inference_mode()
def own_sums(reconstruct: Callable[[Tensor], Tensor], items: ItemBatches, device: torch.device) -> dict[str, float]:
    """Return, for each metric with a per-item function, the sum of its values over a set."""
    form, size = items.form, batch_size(items)
    totals = dict.fromkeys(own_measures(form), 0.0)
    for start in range(0, len(items) if totals else 0, size):
        x = as_seen(items, start, start + size, device)  # (B, D)
        sums = item_sums(x, reconstruct(x), form)
        totals = {name: total + sums[name] for name, total in totals.items()}
    return totals


def evaluate(
    model: TiedAutoencoder, components: pca.PrincipalComponents, items: ItemBatches, split: str, device: torch.device
) -> Evaluation:
    """Measure a model, PCA and the mean item on one split; feature vectors also in raw units.

    Raises:
        DataError: An error is not finite because a value is too large for float32; the message names the item.
    """
    errors = item_errors(model, items, device)
    if not errors.isfinite().all():
        row = int((~errors.isfinite()).nonzero()[0].item())
        raise DataError(
            f"row {row + 1:,} of the {split} split: its values are too large for this model: its reconstruction error is not finite"
        )

    def sums(reconstruct: Callable[[Tensor], Tensor], raw: bool) -> ErrorSum:
        found = error_sum(reconstruct, items, device, raw=raw)
        return found if raw else replace(found, own=own_sums(reconstruct, items, device))

    def measure(raw: bool, inner: Evaluation | None) -> Evaluation:
        is_clipped = items.form.kind == "images"
        return Evaluation(
            split,
            model=sums(model, raw),
            pca=sums(components.reconstruct, raw),
            components=components.components.shape[1],
            mean_item=sums(components.truncated(0).reconstruct, raw),
            raw=inner,
            pca_clipped=sums(components.reconstruct_clipped, raw) if is_clipped else None,
            tail=None if raw else ErrorTail().add(errors.numpy()).share,
        )

    return measure(False, measure(True, None) if items.form.kind == "vectors" else None)


@torch.inference_mode()
def reconstruct_items(model: TiedAutoencoder, items: ItemBatches, device: torch.device) -> tuple[Tensor, Tensor, list[float]]:
    """Return items as the model sees them, their reconstructions, (N, D) each on the CPU, and their squared errors."""
    originals = as_seen(items, 0, len(items), device)
    reconstructions = model(originals)
    errors = squares(reconstructions - originals).sum(1)
    return originals.cpu(), reconstructions.cpu(), errors.tolist()
