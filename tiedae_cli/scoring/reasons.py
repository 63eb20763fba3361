"""Why an item is anomalous: the values, or the regions of an image, that carry its squared error.

Shapes: B items per block, D values per item, K reasons an item; an image is C x H x W.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from tiedae_cli.data.item_set import ItemForm
from tiedae_cli.model.metrics import squares
from tiedae_cli.scoring.regions import region_means, region_side

DIGITS = 6  # behind the point, of what the model sees


@dataclass(frozen=True)
class Evidence:
    """What carries the squared errors of some items: values outside the training range, then the largest shares first."""

    places: Tensor
    """(B, K) int64: which value of an item; the upper left corner of a region; of rows of a series the value's place in the series."""
    values: Tensor
    """(B, K) float64, in the data's own units; the mean of a region."""
    expected: Tensor
    """The same of what the model made of the item."""
    shares: Tensor
    """(B, K) of the item's squared error; negative if there are fewer reasons."""
    low: Tensor
    """The smallest training value, in the data's own units, of a value outside the training range; else NaN."""
    high: Tensor
    """The same of the largest one."""
    rows: Sequence[Sequence[str | int]] | None = None
    """(B, K), what tells the rows of a series apart, where the places are of such."""

    def only(self, kept: Tensor | slice) -> "Evidence":
        """Return that of the items at some positions."""
        rows = self.rows
        if rows is not None:
            rows = rows[kept] if isinstance(kept, slice) else [rows[index] for index in kept.tolist()]
        return _made_of([tensor[kept] for tensor in self._tensors()], rows)

    def joined(self, other: "Evidence") -> "Evidence":
        """Return that of the items of two blocks as one."""
        rows = None if self.rows is None or other.rows is None else [*self.rows, *other.rows]
        return _made_of([torch.cat(pair) for pair in zip(self._tensors(), other._tensors(), strict=True)], rows)

    def put(self, items: Tensor, other: "Evidence") -> None:
        """Write that of other items over some, in place."""
        for own, new in zip(self._tensors(), other._tensors(), strict=True):
            own[items] = new

    def _tensors(self) -> tuple[Tensor, ...]:
        return self.places, self.values, self.expected, self.shares, self.low, self.high

    def described(self, index: int, form: ItemForm) -> list[dict[str, Any]]:
        """Return the reasons of one item as the JSON interface names them.

        Args:
            index: which item.
            form: of the items; of rows of a series that of a row.
        """
        found = []
        cells = zip(*(tensor[index].tolist() for tensor in self._tensors()), strict=True)
        for number, (place, value, expected, share, low, high) in enumerate(cells):
            if share < 0:
                break
            where = _region(place, form) if form.kind == "images" else {"column": _column(place % form.values_per_item, form)}
            if self.rows is not None:
                where = {"row": self.rows[index][number], **where}
            outside = {} if math.isnan(low) else {"training_range": [low, high]}
            found.append({**where, "value": value, "expected": expected, "share": share, **outside})
        return found


def _made_of(tensors: Sequence[Tensor], rows: Sequence[Sequence[str | int]] | None = None) -> Evidence:
    """Return the evidence of its tensors, in the order of its fields."""
    places, values, expected, shares, low, high = tensors
    return Evidence(places, values, expected, shares, low, high, rows)


def _column(place: int, form: ItemForm) -> str | int:
    return place if form.columns is None else form.columns.values[place]


def _region(place: int, form: ItemForm) -> dict[str, Any]:
    side, width = region_side(form), form.shape[2]
    return {"left": place % width, "top": place // width, "width": side, "height": side}


@dataclass(frozen=True)
class Explained:
    """How reasons are looked for."""

    form: ItemForm
    """Of the items; gives the numbers their units."""
    count: int
    """How many reasons an item has at most."""
    range: tuple[Tensor, Tensor] | None = None
    """The smallest and the largest training values, (D,) each, as the model sees them; None if they are not known."""


def evidence(values: Tensor, reconstructions: Tensor, explained: Explained) -> Evidence:
    """Return what carries the squared errors of items, in values or, of images, in regions that do not overlap.

    Values outside the training range come first, the farthest one first, measured in widths of the range.

    Args:
        values: as the model sees them, (B, D).
        reconstructions: (B, D).
        explained: how reasons are looked for.
    """
    form, count = explained.form, explained.count
    errors = squares(reconstructions - values)
    shares = errors / errors.sum(1, keepdim=True).clamp_min(1e-30)
    raw, expected = (_raw(x, form) for x in (values, reconstructions))
    if form.kind == "images":
        return _regions(raw, expected, shares, form, count)
    beyond = _beyond(values, explained.range)
    top = torch.where(beyond > 0, beyond + 1, shares).topk(min(count, shares.shape[1]), 1).indices  # no share exceeds 1
    unknown = torch.full_like(raw, torch.nan)
    low, high = (
        (unknown, unknown)
        if explained.range is None
        else (torch.where(beyond > 0, _raw(bound[None], form), unknown) for bound in explained.range)
    )
    return _made_of([top, *(tensor.gather(1, top) for tensor in (raw, expected, shares, low, high))])


def _beyond(values: Tensor, bounds: tuple[Tensor, Tensor] | None) -> Tensor:
    """Return how far values, (B, D), lie outside the training range, in widths of the range; 0 inside it."""
    if bounds is None:
        return torch.zeros_like(values, dtype=torch.float64)
    low, high = (bound.to(torch.float64) for bound in bounds)
    exact = values.to(torch.float64)
    return torch.maximum(low - exact, exact - high).clamp_min(0) / (high - low).clamp_min(1e-6)


def _raw(values: Tensor, form: ItemForm) -> Tensor:
    """Return values as the model sees them in the data's own units, (B, D) float64."""
    exact = values.double()
    return _rounded(torch.from_numpy(form.restored(exact.numpy())), exact, form)


def _rounded(raw: Tensor, values: Tensor, form: ItemForm) -> Tensor:
    """Return values in the data's own units without the digits that the model's float32 does not hold: 30 for 29.9999995.

    A value of more than 10 deviations has a digit less, of more than 100 two.
    """
    lost = (values.abs() / 10).clamp_min(1).log10().ceil()
    digits = torch.as_tensor(form.scale, dtype=torch.float64).log10() + DIGITS - lost  # (B, D)
    if form.transform != "none":
        digits = digits - (raw.clamp_min(0) + 1).log10()  # slope of the logarithm
    unit = 10 ** digits.ceil()
    return (raw * unit).round() / unit


def _regions(raw: Tensor, expected: Tensor, shares: Tensor, form: ItemForm, count: int) -> Evidence:
    """Choose the region with the largest share, then the next one that does not touch it, and so on."""
    _, height, width = form.shape
    side = region_side(form)
    means = [region_means(x, form).flatten(1) for x in (raw, expected)]  # (B, places)
    sums = region_means(shares, form) * side**2 * form.shape[0]  # (B, H - side + 1, W - side + 1)
    down, across = (torch.arange(length - side + 1) for length in (height, width))
    chosen, found = [], []
    for _ in range(min(count, (height // side) * (width // side))):
        best = sums.flatten(1).max(1)
        chosen.append(best.indices)
        found.append(best.values)
        y, x = best.indices // len(across), best.indices % len(across)
        near = ((down - y[:, None]).abs() < side)[:, :, None] & ((across - x[:, None]).abs() < side)[:, None]
        sums = sums.masked_fill(near, -1.0)
    places = torch.stack(chosen, 1)
    value, answer = (mean.gather(1, places) for mean in means)
    corners = places // len(across) * width + places % len(across)
    shares, unknown = torch.stack(found, 1), torch.full_like(value, torch.nan)
    return Evidence(corners, value, answer, shares, unknown, unknown.clone())
