"""How feature vectors are scaled: an offset and a factor for each feature, from the training split alone.

Shapes: N items, D features, B items a block.
"""

import logging
from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor

from tiedae_cli.data.item_set import BLOCK_BYTES, ItemForm, ItemSet

log = logging.getLogger(__name__)

SMALLEST_SPREAD = 1e-30  # its inverse still fits float32
RESOLUTION = {torch.float64: 1e-15}  # a deviation below this part of the mean is rounding; of other types float32's
NAMED = 12  # constant features that a note names


def scaled(train: ItemSet, scaling: str, fills: bool = False) -> ItemForm:
    """Return the form in which each feature of the training split has the scale that ``data.scaling`` asks for.

    ``standard``: mean 0, standard deviation 1 (the population's, / N). ``robust``: median 0, interquartile range 1. ``minmax``: from 0
    to 1. ``none``: as it is. A constant feature has no spread to divide by: it becomes 0 everywhere in training, and is named.

    Args:
        train: the training split; NaN is a missing value and counts in nothing.
        scaling: of the config.
        fills: missing values are replaced by the feature's mean.
    """
    mean, deviation = _moments(train)
    if scaling == "standard":
        offset, spread = mean, deviation
    elif scaling == "none":
        offset, spread = torch.zeros_like(mean), torch.ones_like(mean)
    else:
        quantiles = (0.25, 0.5, 0.75) if scaling == "robust" else (0.0, 0.0, 1.0)
        low, offset, high = _quantiles(train, quantiles)
        spread = high - low
        if scaling == "robust":  # more than half of the values are alike: the deviation has to do
            spread = torch.where(spread > 0, spread, deviation)
    rounding = mean.abs() * RESOLUTION.get(train.images.dtype, 1e-7)
    constant = (deviation <= rounding.clamp(min=SMALLEST_SPREAD)) & (scaling != "none")
    _name_constants(train, constant)
    scale = torch.where(constant, 1.0, 1 / spread)
    return replace(train.form, offset=torch.where(constant, mean, offset), scale=scale, fill=mean if fills else None)


def _blocks(train: ItemSet) -> Iterator[Tensor]:
    size = max(1, BLOCK_BYTES // (8 * train.form.pixels))
    return (train.raw(start, start + size).to(torch.float64) for start in range(0, len(train), size))


def _moments(train: ItemSet) -> tuple[Tensor, Tensor]:
    """Return mean and standard deviation of each feature, (D,) float64 each.

    One pass, in blocks whose means and squared deviations are merged (Chan, Golub & LeVeque 1979), which stays exact where a mean is
    large beside its deviation.
    """
    mean = torch.zeros(train.form.pixels, dtype=torch.float64)
    squares, count = torch.zeros_like(mean), torch.zeros_like(mean)  # squared deviations from the mean, summed; values seen
    for block in _blocks(train):  # (B, D)
        there = ~block.isnan()
        found = there.sum(0).to(torch.float64)
        block_mean = torch.where(there, block, 0.0).sum(0) / found.clamp(min=1)
        deviations = torch.where(there, block - block_mean, 0.0)
        shift, total = torch.where(found > 0, block_mean - mean, 0.0), (count + found).clamp(min=1)
        squares += deviations.square_().sum(0) + shift.square() * (count * found / total)
        mean += shift * (found / total)
        count += found
    return mean, (squares / count.clamp(min=1)).sqrt()


def _quantiles(train: ItemSet, quantiles: tuple[float, float, float]) -> list[Tensor]:
    """Return three quantiles of each feature, (D,) float64 each; some features at a time are in memory."""
    width = max(1, (1 << 28) // (8 * len(train)))
    found = []
    for start in range(0, train.form.pixels, width):
        size = max(1, BLOCK_BYTES // (8 * train.form.pixels))
        values = np.concatenate(
            [train.raw(i, i + size)[:, start : start + width].to(torch.float64).numpy() for i in range(0, len(train), size)]
        )
        values = np.where(np.isnan(values).all(0), 0.0, values)
        found.append(np.nanquantile(values, quantiles, axis=0))
    return list(torch.from_numpy(np.concatenate(found, 1)))


def _name_constants(train: ItemSet, constant: Tensor) -> None:
    columns = train.form.columns
    places = constant.nonzero().flatten().tolist()
    if not places:
        return
    names = [columns.values[place] if columns is not None else str(place) for place in places[:NAMED]]
    more = f" and {len(places) - NAMED} more" if len(places) > NAMED else ""
    log.info(f"constant features, which tell nothing: {', '.join(names)}{more}")
