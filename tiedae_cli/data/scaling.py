"""How feature vectors are scaled: an offset and a factor for each feature, from the training split alone.

Shapes: N items, D features, B items per block.
"""

import logging
from collections.abc import Iterator
from dataclasses import replace

import numpy as np

from tiedae_cli.data.item_set import BLOCK_BYTES, EXACT_INTEGERS, ItemForm, ItemSet
from tiedae_cli.data.option_text import set_option
from tiedae_cli.errors import DataError

log = logging.getLogger(__name__)

SMALLEST_SPREAD = 1e-30  # its inverse still fits float32
RESOLUTION = {"float64": 1e-15}  # a deviation below this part of the mean is rounding; of other types float32's
LISTED_FEATURES = 12  # that a message names
LARGEST_LOSS = 1e-3  # rounding error per deviation


def scaled(train: ItemSet, scaling: str, fills: bool = False, source: str = "data") -> ItemForm:
    """Return the form in which each feature of the training split has the scale that ``data.scaling`` asks for.

    ``standard``: mean 0, standard deviation 1 (the population's, / N). ``robust``: median 0, interquartile range 1. ``minmax``: from 0
    to 1. ``none``: unchanged. A constant feature cannot be divided by its spread: it becomes 0 everywhere in training, and is reported.

    Args:
        train: the training split; NaN is a missing value and is ignored.
        scaling: of the config.
        fills: missing values are replaced by the feature's mean.
        source: what the data is, for messages.

    Raises:
        DataError: whole numbers are so large that float64 rounds away their differences.
    """
    mean, deviation = _moments(train)
    _check_resolution(train, mean, deviation, source)
    rounding = np.abs(mean) * RESOLUTION.get(train.values.dtype.name, 1e-7)
    if scaling == "standard":
        offset, spread = mean, deviation
    elif scaling == "none":
        offset, spread = np.zeros_like(mean) if train.form.base is None else -train.form.base, np.ones_like(mean)
        _name_rounded(train, mean - offset, deviation, source)
    else:
        quantiles = (0.25, 0.5, 0.75) if scaling == "robust" else (0.0, 0.0, 1.0)
        low, offset, high = _quantiles(train, quantiles)
        spread = high - low
        if scaling == "robust":  # at least half of the values are equal up to rounding: use the deviation
            spread = np.where(spread > np.maximum(rounding, SMALLEST_SPREAD), spread, deviation)
    constant = (deviation <= np.maximum(rounding, SMALLEST_SPREAD)) & (scaling != "none")
    _name_constants(train, constant)
    scale = 1 / np.where(constant, 1.0, spread)
    return replace(train.form, offset=np.where(constant, mean, offset), scale=scale, fill=mean if fills else None)


def _blocks(train: ItemSet) -> Iterator[np.ndarray]:
    size = max(1, BLOCK_BYTES // (8 * train.form.values_per_item))
    return (train.raw(start, start + size).astype(np.float64) for start in range(0, len(train), size))


def _moments(train: ItemSet) -> tuple[np.ndarray, np.ndarray]:
    """Return mean and standard deviation of each feature, (D,) float64 each.

    One pass, in blocks whose means and squared deviations are merged (Chan, Golub & LeVeque 1979), which stays exact if a mean is
    large compared to its deviation. Measured from each feature's first value: a constant has no deviation, not even by rounding.
    """
    mean = np.zeros(train.form.values_per_item)
    squares, count = np.zeros_like(mean), np.zeros_like(mean)  # squared deviations from the mean, summed; values seen
    first: np.ndarray | None = None
    for block in _blocks(train):  # (B, D)
        gaps = np.isnan(block)
        if first is None:
            first = np.nan_to_num(block[gaps.argmin(0), np.arange(len(mean))])
        block -= first
        np.copyto(block, 0.0, where=gaps)
        found = len(block) - np.count_nonzero(gaps, 0).astype(np.float64)
        block_mean = block.sum(0) / np.maximum(found, 1)
        block -= block_mean
        np.copyto(block, 0.0, where=gaps)
        shift, total = np.where(found > 0, block_mean - mean, 0.0), np.maximum(count + found, 1)
        squares += np.square(block, out=block).sum(0) + np.square(shift) * (count * found / total)
        mean += shift * (found / total)
        count += found
    return mean if first is None else first + mean, np.sqrt(squares / np.maximum(count, 1))


def _quantiles(train: ItemSet, quantiles: tuple[float, float, float]) -> list[np.ndarray]:
    """Return three quantiles of each feature, (D,) float64 each; some features at a time are in memory."""
    width = max(1, (1 << 28) // (8 * len(train)))
    found = []
    for start in range(0, train.form.values_per_item, width):
        size = max(1, BLOCK_BYTES // (8 * train.form.values_per_item))
        values = np.concatenate(
            [train.raw(i, i + size)[:, start : start + width].astype(np.float64) for i in range(0, len(train), size)]
        )
        values = np.where(np.isnan(values).all(0), 0.0, values)
        found.append(np.nanquantile(values, quantiles, axis=0))
    return list(np.concatenate(found, 1))


def _check_resolution(train: ItemSet, mean: np.ndarray, deviation: np.ndarray, source: str) -> None:
    """Refuse features with differences that float64 rounds away, and warn of those that it rounds noticeably."""
    if train.values.dtype != np.float64:
        return
    error = np.spacing(np.abs(mean)) / 2
    lossy = (deviation > 0) & (error > LARGEST_LOSS * deviation)
    whole = lossy & (np.abs(mean) >= EXACT_INTEGERS)
    if whole.any():
        names = _listed(train, whole)
        columns = train.form.columns
        ignore = [columns.values[index] for index in np.flatnonzero(whole).tolist()] if columns is not None else []
        advice = f", or ignore it: {set_option('data.ignore', ignore)}" if ignore else ""
        raise DataError(
            f"{source}: feature {names}: its values differ by less than float64 resolves at {mean[whole][0]:.4g} "
            f"(2**53 is the largest whole number with exact neighbors); subtract a constant first{advice}"
        )
    noisy = lossy & (deviation > np.abs(mean) * RESOLUTION["float64"])
    if noisy.any():
        log.warning(f"{source}: feature {_listed(train, noisy)}: float64 rounds its values by over 0.1% of their deviation")


def _name_rounded(train: ItemSet, mean: np.ndarray, deviation: np.ndarray, source: str) -> None:
    """Warn of features with differences that float32, in which a model computes, rounds noticeably if they are not centered."""
    with np.errstate(over="ignore"):
        lossy = np.spacing(np.abs(mean).astype(np.float32)) / 2 > LARGEST_LOSS * deviation
    if (lossy & (deviation > 0)).any():
        names = _listed(train, lossy & (deviation > 0))
        rounds = "float32 rounds its values by over 0.1% of their deviation"
        log.warning(f"{source}: feature {names}: {rounds}; data.scaling=standard centers them first")


def _listed(train: ItemSet, chosen: np.ndarray) -> str:
    columns, indices = train.form.columns, np.flatnonzero(chosen).tolist()
    names = [columns.values[index] if columns is not None else str(index) for index in indices[:LISTED_FEATURES]]
    return ", ".join(names) + (f" and {len(indices) - LISTED_FEATURES} more" if len(indices) > LISTED_FEATURES else "")


def _name_constants(train: ItemSet, constant: np.ndarray) -> None:
    if constant.any():
        log.info(f"constant features (no information): {_listed(train, constant)}")
