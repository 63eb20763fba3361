"""Errors of a model over a split, in sums and counts; per-item errors; the mean image and PCA beside it.

Shapes: N items, B items a batch, D values an item.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from tiedae_cli.data.item_set import ItemForm, ItemSet
from tiedae_cli.errors import DataError
from tiedae_cli.model import pca
from tiedae_cli.model.autoencoder import TiedAutoencoder
from tiedae_cli.model.metrics import ErrorSum, squares
from tiedae_cli.model.verdict import Errors
from tiedae_cli.system.devices import Ranks, in_float64

BATCH_VALUES = 1 << 21  # values of one evaluation batch: large enough for full speed, small enough for any memory


LEAST_WIDTH = 512  # values that an item is taken to have at least, for hidden layers may be wider than it


@dataclass(frozen=True)
class Evaluation:
    """A model's error on one split beside what it must beat."""

    split: str
    model: ErrorSum
    pca: ErrorSum
    """Principal components, fitted on the training split."""
    components: int
    """How many."""
    mean_item: ErrorSum
    """Answering the training split's mean for everything."""
    raw: "Evaluation | None" = None
    """Of feature vectors: the same errors in the raw features' units; the others are of standardised features."""

    def errors(self, code_size: int, value_name: str, history: Sequence[float] = ()) -> Errors:
        """Return the errors per value, as the verdict compares them.

        Args:
            code_size: K, numbers of the model's code.
            value_name: what one value of an item is called.
            history: the model's error after each epoch.
        """
        model, pca, mean = (rows.mse_per_value for rows in (self.model, self.pca, self.mean_item))
        return Errors(model, pca, mean, self.components, code_size, self.model.pixels, value_name, tuple(history))


def block_size(form: ItemForm) -> int:
    """Return how many items of a form to evaluate at once; of small items few enough that a wide layer's output fits as well."""
    return max(1, BATCH_VALUES // max(form.pixels, LEAST_WIDTH))


def batch_size(images: ItemSet) -> int:
    """Return how many items of a set to evaluate at once."""
    return block_size(images.form)


@torch.inference_mode()
def codes(model: TiedAutoencoder, x: Tensor, device: torch.device) -> Tensor:
    """Return the codes of a block, (B, D) -> (B, K) float32 on the CPU."""
    return model.encode(x.to(device)).cpu()


@torch.inference_mode()
def decoded(model: TiedAutoencoder, code: Tensor, device: torch.device) -> Tensor:
    """Return what a block of codes stands for, (B, K) -> (B, D) float32 on the CPU."""
    return model.decode(code.to(device)).cpu()


@torch.inference_mode()
def squared_errors(reconstruct: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
    """Return each item's squared error, summed over its values, (B, D) -> (B,) float64."""
    return squares(reconstruct(x) - x).sum(1)


@torch.inference_mode()
def item_errors(reconstruct: Callable[[Tensor], Tensor], images: ItemSet, device: torch.device, raw: bool = False) -> Tensor:
    """Return each item's squared error, summed over its values, (N,) float64 on the CPU.

    Args:
        reconstruct: (B, D) -> (B, D), for example a model.
        images: the items.
        device: where to compute.
        raw: in the units of the raw values instead of those that the model sees.
    """
    size = batch_size(images)
    errors = in_float64(torch.zeros(len(images), device=device))
    for start in range(0, len(images), size):
        x = images.batch(start, start + size, device)  # (B, D)
        difference = reconstruct(x) - x
        if raw:
            difference = images.form.raw_difference(in_float64(difference))
        errors[start : start + size] = squares(difference).sum(1)
    return errors.cpu()


def error_sum(
    reconstruct: Callable[[Tensor], Tensor],
    images: ItemSet,
    device: torch.device,
    ranks: Ranks | None = None,
    raw: bool = False,
) -> ErrorSum:
    """Return the squared error over a set (see ``item_errors``); several processes share the work, each item is counted once."""
    ranks = ranks or Ranks()
    start, stop = (len(images) * bound // ranks.count for bound in (ranks.rank, ranks.rank + 1))
    total = item_errors(reconstruct, images.slice(start, stop), device, raw).sum()
    ranks.add(total)
    return ErrorSum(total.item(), len(images), images.form.pixels)


def evaluate(
    model: TiedAutoencoder, components: pca.PrincipalComponents, images: ItemSet, split: str, device: torch.device
) -> Evaluation:
    """Measure a model, PCA and the mean image on one split; of feature vectors also in the raw features' units.

    Raises:
        DataError: an error is not finite: a value is too large for float32's arithmetic; the message names the item.
    """
    errors = item_errors(model, images, device)
    if not errors.isfinite().all():
        row = int((~errors.isfinite()).nonzero()[0].item())
        raise DataError(
            f"row {row + 1:,} of the {split} split: its values are too large for this model: its error is not finite"
        )

    def measure(raw: bool, inner: Evaluation | None) -> Evaluation:
        return Evaluation(
            split,
            model=error_sum(model, images, device, raw=raw),
            pca=error_sum(components.reconstruct, images, device, raw=raw),
            components=components.components.shape[1],
            mean_item=error_sum(components.truncated(0).reconstruct, images, device, raw=raw),
            raw=inner,
        )

    return measure(False, measure(True, None) if images.form.kind == "vectors" else None)


@torch.inference_mode()
def reconstruct_items(model: TiedAutoencoder, images: ItemSet, device: torch.device) -> tuple[Tensor, Tensor, list[float]]:
    """Return a few items as the model sees them and its reconstructions, (N, D) each on the CPU, and each one's squared error."""
    originals = images.batch(0, len(images), device)
    reconstructions = model(originals)
    errors = squares(reconstructions - originals).sum(1)
    return originals.cpu(), reconstructions.cpu(), errors.tolist()
