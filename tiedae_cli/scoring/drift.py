"""Whether items are unlike the training data: more of them above the threshold, or columns with other values, than chance explains.

The number of n new normal items above the k-th smallest of m calibration scores follows a beta-binomial distribution with parameters
n, m + 1 - k, k, because the rate at which new items exceed it follows a beta distribution (see ``threshold.py``). A plain binomial test at
the expected rate ignores that this rate is uncertain. A column has moved if its mean lies over ``SHIFT`` deviations from that of the
training items, or its distribution function over ``DISTANCE`` from theirs (Kolmogorov-Smirnov), and chance is an unlikely explanation
(``LIKELIHOOD``, divided by the number of tests). Rows of a series depend on each other, so n is then counted in windows.
Shapes: V values of an item, or of a row if the items are windows of rows; S drawn items; Q quantiles.
"""

import functools
import math
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch

from tiedae_cli.data.item_set import Block, ItemForm
from tiedae_cli.runs.reference import Reference
from tiedae_cli.scoring.threshold import Threshold

LIKELIHOOD = 1e-3  # p below which chance is not the explanation
SHIFT, DISTANCE = 0.25, 0.1  # smaller effects do not matter
LEAST_ITEMS = 20  # with fewer items, or windows, columns are not compared
MOST_DRAWN = 10_000
MOST_TERMS = 1_000_000  # of the beta-binomial sum
TERMS = 10_000  # that are computed at once
NEGLIGIBLE = 1e-12  # share of the sum that its last terms may have
LEAST_DEVIATION = 0.05  # of a pixel in [0, 1], because pixels of a margin are nearly constant
NAMED = 3  # columns that a message names


@dataclass(frozen=True)
class MovedColumn:
    """A column with other values than in training."""

    column: str
    mean: float
    """In the data's own units."""
    training_mean: float
    training_deviation: float
    shift: float
    """Of the mean, in training deviations."""
    distance: float | None
    """Kolmogorov-Smirnov distance; None of images."""

    def describe(self) -> str:
        """Return the column with both means, to a hundredth of the training deviation."""
        digits = max(0, 2 - math.floor(math.log10(max(self.training_deviation, 1e-12))))
        means = [f"{value:,.{min(digits, 12)}f}" for value in (self.mean, self.training_mean)]
        return f"{self.column}: mean {means[0]}, in training {means[1]} +- {self.training_deviation:.3g}"


@dataclass(frozen=True)
class Drift:
    """How items differ from the training data; false if they do not."""

    times_expected: float | None
    """How many times the expected number of items is above the threshold; None if chance explains it."""
    columns: list[MovedColumn]
    """Those that moved, the farthest first."""

    def __bool__(self) -> bool:
        """Return whether there is any difference."""
        return self.times_expected is not None or bool(self.columns)

    def __str__(self) -> str:
        return self.describe() if self else "like the training data"

    def describe(self) -> str:
        """Return the differences in words."""
        parts = []
        if self.times_expected is not None:
            parts.append(f"{self.times_expected:.1f} times the expected rate of outliers")
        parts += [one.describe() for one in self.columns[:NAMED]]
        more = len(self.columns) - NAMED
        return "unlike the training data: " + "; ".join([*parts, *([f"and {more:,} more columns"] if more > 0 else [])])

    def values(self) -> dict[str, Any]:
        """Return the differences as the JSON interface names them."""
        return asdict(self)


class DriftWatch:
    """Compares a stream of items with the training items while it passes; keeps at most 20,000 items.

    Args:
        reference: statistics of the training items.
        form: of an item, or of a row if the items are windows of rows.
        window: rows of a window; 1 of other items.
    """

    def __init__(self, reference: Reference, form: ItemForm, window: int) -> None:
        self.reference, self.form, self.window = reference, form, window
        self.items, self.step, self.held = 0, 1, 0
        self.mean = reference.mean.numpy().astype(np.float32)
        self.total = np.zeros(len(reference.mean))
        self.squares = np.zeros(len(reference.mean))  # of differences from the training mean
        self.drawn: list[np.ndarray] = []

    def watch(self, blocks: Iterable[Block]) -> Iterator[Block]:
        """Yield the blocks and take each into account."""
        for block in blocks:
            self._add(block.values)
            yield block

    def _add(self, values: np.ndarray) -> None:
        difference = values - self.mean  # float32 within a block, float64 between them
        self.total += np.ones(len(difference), np.float32) @ difference
        self.squares += np.einsum("bv,bv->v", difference, difference)
        first, self.items = -self.items % self.step, self.items + len(values)
        if self.form.kind == "vectors":
            self.drawn.append(values[first :: self.step].copy())
            self.held += len(self.drawn[-1])
            if self.held > 2 * MOST_DRAWN:  # every second one goes
                self.drawn, self.step = [np.concatenate(self.drawn)[::2]], 2 * self.step
                self.held = len(self.drawn[0])

    def found(self, outliers: int, scored: int, threshold: Threshold | None) -> Drift | None:
        """Return how the stream differs from the training data, None if it does not.

        Args:
            outliers: items above the threshold.
            scored: of how many.
            threshold: from the calibration; None if it was set by hand.
        """
        times = None
        if threshold is not None and scored:
            chance = excess_likelihood(outliers / self.window, scored / self.window, threshold, self.window)
            if chance < LIKELIHOOD:
                times = outliers / scored / threshold.expected
        columns = self._moved()
        return Drift(times, columns) if times is not None or columns else None

    def _moved(self) -> list[MovedColumn]:
        """Return the columns that moved, the farthest first."""
        independent, known = self.items / self.window, max(self.reference.items / self.window, 1)
        if independent < LEAST_ITEMS:
            return []
        means = self.total / self.items
        spread = np.sqrt(np.maximum(self.squares / self.items - means**2, 0))
        floor = LEAST_DEVIATION if self.form.kind == "images" else 1e-6
        deviation = np.maximum(self.reference.deviation.numpy(), floor)
        shift = means / deviation  # (V,)
        error = np.sqrt(np.maximum(spread, deviation) ** 2 / independent + deviation**2 / known)
        distance = self._distances() if self.form.kind == "vectors" else None
        allowed = LIKELIHOOD / (len(shift) * (1 if distance is None else 2))
        likely = np.array([math.erfc(z / math.sqrt(2)) for z in np.abs(means) / error])
        moved = (np.abs(shift) > SHIFT) & (likely < allowed)
        effect = np.abs(shift) / SHIFT
        if distance is not None:
            pairs = independent * known / (independent + known)
            certain = np.maximum(distance - 1 / (len(self.reference.quantiles) - 1), 0)  # a quantile step is not known
            moved |= (distance > DISTANCE) & (2 * np.exp(-2 * pairs * certain**2) < allowed)
            effect = np.maximum(effect, distance / DISTANCE)
        order = sorted(np.flatnonzero(moved).tolist(), key=lambda place: -effect[place])
        return [self._column(place, means, shift, distance) for place in order]

    def _distances(self) -> np.ndarray:
        """Return the Kolmogorov-Smirnov distance of each column of the drawn items from the kept quantiles, (V,)."""
        ordered = np.sort(np.concatenate(self.drawn).T.copy(), axis=1)  # (V, S)
        quantiles = self.reference.quantiles.T.contiguous().numpy()  # (V, Q)
        steps = quantiles.shape[1] - 1
        found = np.zeros(len(ordered))
        for place, (own, points) in enumerate(zip(ordered, quantiles, strict=True)):
            for side in ("left", "right"):  # below and up to each point, because equal values make steps
                at = np.searchsorted(own, points, side=side) / len(own)
                low = np.searchsorted(points, points, side="left") / steps
                high = (np.searchsorted(points, points, side="right") - 1) / steps
                expected = low if side == "left" else high
                found[place] = max(found[place], np.abs(at - expected).max())
        return found

    def _column(self, place: int, means: np.ndarray, shift: np.ndarray, distance: np.ndarray | None) -> MovedColumn:
        training = self.reference.mean.numpy()
        deviation = self.reference.deviation.numpy() / np.broadcast_to(self.form.scale, training.shape)
        rows = [training + means, training]
        raw = self.form.restored(np.stack(rows))[:, place]
        columns = self.form.columns
        name = f"{self.form.value_name} {place}" if columns is None else columns.values[place]
        apart = None if distance is None else float(distance[place])
        return MovedColumn(name, float(raw[0]), float(raw[1]), float(deviation[place]), float(shift[place]), apart)


@functools.lru_cache(maxsize=8)  # the warning and the summary ask for the same
def excess_likelihood(above: float, items: float, threshold: Threshold, window: int = 1) -> float:
    """Return the probability that at least so many of n new normal items exceed a threshold: a beta-binomial tail.

    Args:
        above: new items above the threshold, in windows.
        items: n, in windows.
        threshold: from the calibration.
        window: rows of a window, in which the calibration is counted too.
    """
    count = min(math.ceil(items), MOST_TERMS)
    least = math.floor(above * count / items)
    if least <= 0:
        return 1.0
    a = threshold.expected * (threshold.items + 1) / window
    b = (threshold.items + 1) / window - a
    # Above this k each term is less than the one before.
    falls_from = (count * (a - 1) - b + 1) / (a + b - 2) if a + b > 2 else math.inf
    total = 0.0
    for first in range(least, count + 1, TERMS):
        k = torch.arange(first, min(first + TERMS, count + 1), dtype=torch.float64)
        terms = _beta_binomial(k, count, a, b)
        total += terms.sum().item()
        if k[-1] > falls_from and terms[-1] * (count - k[-1]) <= NEGLIGIBLE * total:
            break
    return min(1.0, total)


def _beta_binomial(k: torch.Tensor, count: int, a: float, b: float) -> torch.Tensor:
    """Return the probability of each k out of ``count``, float64."""
    n = torch.tensor(float(count), dtype=torch.float64)

    def beta(x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        return torch.lgamma(x) + torch.lgamma(y) - torch.lgamma(x + y)

    ways = torch.lgamma(n + 1) - torch.lgamma(k + 1) - torch.lgamma(n - k + 1)
    whole = beta(torch.tensor(a, dtype=torch.float64), torch.tensor(b, dtype=torch.float64))
    return torch.exp(ways + beta(k + a, n - k + b) - whole)
