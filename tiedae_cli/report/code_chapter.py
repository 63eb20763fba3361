"""The code of a report: where items lie in it, what each of its units does, and which units say the same.

Shapes: P items of the map, K units of the code, D values an item.
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

MOST_POINTS = 2_000  # of the map: more only cover each other, and their items have to travel in the page
ITEM_BYTES = 4_000_000  # of all items that travel
UNIT_BINS = 24
MOST_UNITS = 150  # whose activity is drawn
MOST_CORRELATED = 128  # units a side of the table of correlations
ENCODED = 1024  # items at once
DEAD = 1e-6  # of the largest deviation of any unit


@dataclass(frozen=True)
class Chosen:
    """The items that the map shows."""

    places: Tensor
    """(P,) int64: of the split."""
    values: Tensor
    """(P, D) float32, as the model sees them."""


def choose_items(images: ItemSet) -> Chosen:
    """Return the items of the map: all of a small split, else a random choice, always the same."""
    places = torch.arange(len(images))
    if len(images) > MOST_POINTS:
        places = torch.randperm(len(images), generator=torch.Generator().manual_seed(0))[:MOST_POINTS]
    picked = images.select(places.numpy())
    size = batch_size(images)
    values = torch.cat([torch.from_numpy(picked.batch(i, i + size)) for i in range(0, len(picked), size)])
    return Chosen(places, values)


def described_items(chosen: Chosen, images: ItemSet, arrays: Arrays) -> dict[str, Any]:
    """Return what the page knows of the map's items: which they are, their labels, and the first ones' values."""
    wide = 1 if images.form.kind == "images" else 4
    held = min(len(chosen.places), max(1, ITEM_BYTES // (wide * images.form.values_per_item)))
    values = chosen.values[:held]
    packed = (values.clamp(0, 1) * 255).round().byte().numpy() if wide == 1 else values.numpy()
    labels = None if images.labels is None else images.labels[chosen.places.numpy()]
    return {
        "places": chosen.places.tolist(),
        "labels": None if labels is None else labels.tolist(),
        "held": held,
        "values": arrays.add(packed),
    }


@torch.inference_mode()
def code_chapter(network: TiedAutoencoder, chosen: Chosen, device: torch.device, arrays: Arrays) -> dict[str, Any]:
    """Return the map of the chosen items, each unit's activity, and how units go together."""
    codes = torch.cat([network.encode(block.to(device)).cpu() for block in torch.split(chosen.values, ENCODED)])  # (P, K)
    plane = plane_of(codes)
    spread = codes.double().std(0, correction=0)  # (K,)
    dead = (spread <= DEAD * spread.max().clamp_min(1e-30)) & (len(codes) > 1)  # of a single item nothing is known
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
    """Return how often each unit has which value, between its least and its largest one, (U, bins) uint16."""
    low, high = codes.min(0).values, codes.max(0).values
    places = ((codes - low) / (high - low).clamp_min(1e-30) * UNIT_BINS).long().clamp(0, UNIT_BINS - 1)  # (P, U)
    counts = torch.zeros(codes.shape[1], UNIT_BINS, dtype=torch.int64)
    counts.scatter_add_(1, places.t().contiguous(), torch.ones_like(places.t().contiguous()))
    return counts.clamp_max(65_535).numpy().astype(np.uint16)


def _correlation(codes: Tensor) -> np.ndarray:
    """Return the correlation of each two units, in hundredths, (U, U) int8; 0 where a unit never changes."""
    centered = codes.double() - codes.double().mean(0)
    length = centered.norm(dim=0)
    unit = centered / length.clamp_min(1e-30)
    return np.asarray((100 * (unit.t() @ unit)).round().clamp(-100, 100).to(torch.int8))


def _directions_for(codes: Tensor, share: float) -> int:
    """Return how many principal directions of the code hold a share of its variance."""
    centered = codes.double() - codes.double().mean(0)
    strengths = torch.linalg.eigvalsh(centered.t() @ centered).clamp_min(0).flip(0)
    total = strengths.sum()
    return 0 if total == 0 else int((strengths.cumsum(0) < share * total).sum()) + 1
