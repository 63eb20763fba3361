"""The chapter about the code: a map of its items, the activity of each unit, and the correlation of units.

Shapes: P items on the map, codes of K units, D values per item.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from tiedae_cli.data.item_set import ItemSet
from tiedae_cli.model.autoencoder import TiedAutoencoder
from tiedae_cli.model.code_map import plane_of
from tiedae_cli.model.inference import batch_size
from tiedae_cli.report.page.arrays_block import Arrays
from tiedae_cli.report.window_chapter import window_titles

MOST_POINTS = 2_000  # items on the map: more would overlap, and the page holds their values
ITEM_BYTES = 4_000_000  # of all items that the page holds
UNIT_BINS = 24
MOST_UNITS = 150  # units with a histogram
MOST_CORRELATED = 128  # units in the correlation matrix
BLOCK = 1024  # items encoded at once
DEAD = 1e-6  # standard deviation of a dead unit, relative to the largest of all units


@dataclass(frozen=True)
class Chosen:
    """The items on the map."""

    indices: Tensor
    """(P,) int64, their numbers in the split."""
    values: Tensor
    """(P, D) float32, as the model sees them."""


def choose_items(items: ItemSet) -> Chosen:
    """Choose the items on the map: all of a small split, else a random sample with a fixed seed."""
    indices = torch.arange(len(items))
    if len(items) > MOST_POINTS:
        indices = torch.randperm(len(items), generator=torch.Generator().manual_seed(0))[:MOST_POINTS]
    picked = items.select(indices.numpy())
    size = batch_size(items)
    values = torch.cat([torch.from_numpy(picked.batch(i, i + size)) for i in range(0, len(picked), size)])
    return Chosen(indices, values)


def described_items(chosen: Chosen, items: ItemSet, arrays: Arrays) -> dict[str, Any]:
    """Return the numbers and labels of the items on the map, and the values of as many as the page holds."""
    wide = 1 if items.form.kind == "images" else 4
    held = min(len(chosen.indices), max(1, ITEM_BYTES // (wide * items.form.values_per_item)))
    values = chosen.values[:held]
    packed = (values.clamp(0, 1) * 255).round().byte().numpy() if wide == 1 else values.numpy()
    labels = None if items.labels is None else items.labels[chosen.indices.numpy()]
    return {
        "indices": chosen.indices.tolist(),
        "labels": None if labels is None else labels.tolist(),
        "held": held,
        "titles": window_titles(items, chosen.indices.tolist()) if items.form.window > 1 else None,
        "values": arrays.add(packed),
    }


@torch.inference_mode()
def code_chapter(network: TiedAutoencoder, chosen: Chosen, device: torch.device, arrays: Arrays) -> dict[str, Any]:
    """Return the map of the chosen items, each unit's histogram, and the correlation of units."""
    codes = torch.cat([network.encode(block.to(device)).cpu() for block in torch.split(chosen.values, BLOCK)])  # (P, K)
    plane = plane_of(codes)
    spread = codes.double().std(0, correction=0)  # (K,)
    dead = (spread <= DEAD * spread.max().clamp_min(1e-30)) & (len(codes) > 1)  # a single item shows no dead unit
    order = spread.argsort(descending=True, stable=True)
    shown = order[:MOST_UNITS]
    related = order[:MOST_CORRELATED]
    return {
        "points": arrays.add(plane.points.numpy().astype(np.float32)),
        "axes": list(plane.axes),
        "units": shown.tolist(),
        "histograms": arrays.add(_histograms(codes[:, shown])),
        "low": codes[:, shown].min(0).values.tolist(),
        "high": codes[:, shown].max(0).values.tolist(),
        "mean": codes[:, shown].mean(0).tolist(),
        "deviation": spread[shown].tolist(),
        "zero": (codes[:, shown] == 0).double().mean(0).tolist(),
        "dead": dead.nonzero().flatten().tolist(),
        "related": related.tolist(),
        "correlation": arrays.add(_correlation(codes[:, related])),
        "directions_for_90": _directions_for(codes, 0.9),
    }


def _histograms(codes: Tensor) -> np.ndarray:
    """Return a histogram of each unit between its smallest and largest value, (U, bins) uint16."""
    low, high = codes.min(0).values, codes.max(0).values
    places = ((codes - low) / (high - low).clamp_min(1e-30) * UNIT_BINS).long().clamp(0, UNIT_BINS - 1)  # (P, U)
    counts = torch.zeros(codes.shape[1], UNIT_BINS, dtype=torch.int64)
    counts.scatter_add_(1, places.t().contiguous(), torch.ones_like(places.t().contiguous()))
    return counts.clamp_max(65_535).numpy().astype(np.uint16)


def _correlation(codes: Tensor) -> np.ndarray:
    """Return the correlation matrix of units in hundredths, (U, U) int8; 0 for constant units."""
    centered = codes.double() - codes.double().mean(0)
    length = centered.norm(dim=0)
    unit = centered / length.clamp_min(1e-30)
    return np.asarray((100 * (unit.t() @ unit)).round().clamp(-100, 100).to(torch.int8))


def _directions_for(codes: Tensor, share: float) -> int:
    """Return the number of principal directions that hold a share of the code's variance."""
    centered = codes.double() - codes.double().mean(0)
    strengths = torch.linalg.eigvalsh(centered.t() @ centered).clamp_min(0).flip(0)
    total = strengths.sum()
    return 0 if total == 0 else int((strengths.cumsum(0) < share * total).sum()) + 1
