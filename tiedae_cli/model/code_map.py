"""Codes of items as points of a plane.

Shapes: N items, K numbers per code.
"""

import logging
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from tiedae_cli.data.item_set import ItemForm, ItemSet, choose
from tiedae_cli.model import pca
from tiedae_cli.model.autoencoder import TiedAutoencoder
from tiedae_cli.model.inference import batch_size
from tiedae_cli.model.item_batches import as_seen

log = logging.getLogger(__name__)

MOST_POINTS = 5_000  # per map; more would only overlap


@dataclass(frozen=True)
class CodeMap:
    """Items as points of a plane."""

    points: Tensor
    """(N, 2) float32"""
    labels: np.ndarray | None
    """(N,) int64"""
    axes: tuple[str, str]
    """Descriptions of the two coordinates."""
    label_names: tuple[str, ...] | None = None
    """Names of the labels if they are words."""


@torch.inference_mode()
def map_codes(model: TiedAutoencoder, items: ItemSet) -> CodeMap:
    """Return the codes of a split as points: the code itself if it has two numbers, else its first two principal components.

    Args:
        model: on the CPU.
        items: the split; beyond ``MOST_POINTS`` items a fixed random sample.
    """
    if len(items) > MOST_POINTS:
        log.info(f"{MOST_POINTS:,} of the {len(items):,} items, chosen at random")
        items = choose(items, MOST_POINTS, 0)
    size, cpu = batch_size(items), torch.device("cpu")
    codes = torch.cat([model.encode(as_seen(items, i, i + size, cpu)) for i in range(0, len(items), size)])  # (N, K)
    return plane_of(codes, items.labels, items.readable_names)


def plane_of(codes: Tensor, labels: np.ndarray | None = None, label_names: tuple[str, ...] | None = None) -> CodeMap:
    """Return codes, (N, K), as points: the code itself if it has two numbers, else its first two principal components."""
    points, axes = codes, ("code, number 1", "code, number 2")
    if codes.shape[1] == 1:
        spread = torch.rand(len(codes), 1, generator=torch.Generator().manual_seed(0))
        points, axes = torch.cat([codes, spread], 1), ("code", "no meaning: random spread")
    if codes.shape[1] > 2:
        points, axes = _two_components(codes)
    return CodeMap(points, labels, axes, label_names)


def _two_components(codes: Tensor) -> tuple[Tensor, tuple[str, str]]:
    """Project codes, (N, K), on their two strongest components, (N, 2), and name the axes with their share of the variance."""
    count, width = codes.shape
    form = ItemForm((1, 1, width), kind="vectors")
    fitted = pca.fit(ItemSet(codes.reshape(count, 1, 1, width).numpy(), None, form), 2)
    points = fitted.codes(codes)
    points = F.pad(points, (0, 2 - points.shape[1]))  # a single item has no second component
    total = codes.double().var(0, correction=0).sum()
    shares = (points.double().var(0, correction=0) / total).nan_to_num().tolist()
    first, second = (f"{100 * share:.0f}% of their variance" for share in shares)
    return points, (f"codes, first principal component: {first}", f"codes, second principal component: {second}")
