"""Errors of a model over a split, in sums and counts; per-item errors; the mean image and PCA beside it.

Shapes: N items, B items a batch, D values an item.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from tiedae_cli import pca
from tiedae_cli.data.image_set import ImageSet
from tiedae_cli.metrics import ErrorSum
from tiedae_cli.model import TiedAutoencoder

BATCH_VALUES = 1 << 21  # values of one evaluation batch: large enough for full speed, small enough for any memory


@dataclass(frozen=True)
class Evaluation:
    """A model's error on one split beside what it must beat."""

    split: str
    model: ErrorSum
    pca: ErrorSum
    """Principal components, fitted on the training split."""
    components: int
    """How many."""
    mean_image: ErrorSum
    """Answering the training split's mean for everything."""
    raw: "Evaluation | None" = None
    """Of feature vectors: the same errors in the raw features' units; the others are of standardised features."""


def batch_size(images: ImageSet) -> int:
    """Return how many items to evaluate at once."""
    return max(1, BATCH_VALUES // images.form.pixels)


@torch.inference_mode()
def item_errors(reconstruct: Callable[[Tensor], Tensor], images: ImageSet, device: torch.device, raw: bool = False) -> Tensor:
    """Return each item's squared error, summed over its values, (N,) float64 on the CPU.

    Args:
        reconstruct: (B, D) -> (B, D), for example a model.
        images: the items.
        device: where to compute.
        raw: in the units of the raw values instead of those that the model sees.

    """
    size = batch_size(images)
    errors = torch.zeros(len(images), dtype=torch.float64, device=device if device.type != "mps" else "cpu")
    for start in range(0, len(images), size):
        x = images.batch(start, start + size, device)  # (B, D)
        difference = reconstruct(x) - x
        if raw:
            difference = images.form.raw_difference(difference).to(errors)  # raw units can be huge: squares in float64
        errors[start : start + size] = difference.square_().sum(1).to(errors)
    return errors.cpu()


def error_sum(reconstruct: Callable[[Tensor], Tensor], images: ImageSet, device: torch.device, raw: bool = False) -> ErrorSum:
    """Return the squared error over a set; see ``item_errors``."""
    return ErrorSum(item_errors(reconstruct, images, device, raw).sum().item(), len(images), images.form.pixels)


def evaluate(
    model: TiedAutoencoder, components: pca.PrincipalComponents, images: ImageSet, split: str, device: torch.device
) -> Evaluation:
    """Measure a model, PCA and the mean image on one split; of feature vectors also in the raw features' units."""

    def measure(raw: bool, inner: Evaluation | None) -> Evaluation:
        return Evaluation(
            split,
            model=error_sum(model, images, device, raw),
            pca=error_sum(components.reconstruct, images, device, raw),
            components=components.components.shape[1],
            mean_image=error_sum(components.truncated(0).reconstruct, images, device, raw),
            raw=inner,
        )

    return measure(False, measure(True, None) if images.form.kind == "vectors" else None)


@torch.inference_mode()
def reconstruct_items(model: TiedAutoencoder, images: ImageSet, device: torch.device) -> tuple[Tensor, Tensor, list[float]]:
    """Return a few items as the model sees them and its reconstructions, (N, D) each on the CPU, and each one's squared error."""
    originals = images.batch(0, len(images), device)
    reconstructions = model(originals)
    errors = (reconstructions - originals).square().sum(1)
    return originals.cpu(), reconstructions.cpu(), errors.tolist()
