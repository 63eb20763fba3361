"""How much error a code of each size leaves, beside PCA, as numbers and in words; plain numbers, no tensors.

Errors are mean squared errors per value, all of the same items. The variance that is explained is 1 - error / error of the mean.
"""

import math
import statistics
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

PERCENTAGES = (90.0, 95.0, 99.0)


@dataclass(frozen=True)
class Point:
    """The errors of models with one code size."""

    code_size: int
    errors: tuple[float, ...]
    """One per seed."""

    @property
    def mean(self) -> float:
        """Over the seeds."""
        return statistics.fmean(self.errors)

    @property
    def deviation(self) -> float | None:
        """Standard deviation over the seeds; None for a single one."""
        return statistics.stdev(self.errors) if len(self.errors) > 1 else None


@dataclass(frozen=True)
class Curve:
    """The errors of models that differ in code size and seed only."""

    label: str
    """Their other settings; empty if there is only one curve."""
    points: tuple[Point, ...]
    """By ascending code size."""

    def explaining(self, percent: float, mean: float) -> Point | None:
        """Return the smallest code that explains a percentage of the variance, by the mean over its seeds; None if none does."""
        return next((point for point in self.points if explained(point.mean, mean) >= percent), None)

    @property
    def seeds_differ_beyond(self) -> int | None:
        """The code size beyond which seeds differ by more than a code of twice the size gains; None if there is none."""
        beyond = None
        for point, larger in zip(self.points, self.points[1:], strict=False):
            spreads = [one.deviation for one in (point, larger)]
            gain = (point.mean - larger.mean) / math.log2(larger.code_size / point.code_size)
            differ = None not in spreads and max(spread or 0.0 for spread in spreads) > gain
            beyond = (beyond or point.code_size) if differ else None
        return beyond


@dataclass(frozen=True)
class RateDistortion:
    """Models of several code sizes beside PCA, measured on the same items."""

    curves: tuple[Curve, ...]
    pca: tuple[float, ...]
    """Of 0, 1, 2 ... components; the first is the error of the mean."""
    split: str
    value_name: str = "pixel"

    @property
    def mean(self) -> float:
        """Error of always answering the training mean."""
        return self.pca[0]

    @property
    def sizes(self) -> list[int]:
        """The code sizes of all curves, ascending."""
        return sorted({point.code_size for curve in self.curves for point in curve.points})

    def pca_explaining(self, percent: float) -> int | None:
        """Return how many principal components explain a percentage of the variance; None if those that were fitted do not."""
        return next((count for count, error in enumerate(self.pca) if explained(error, self.mean) >= percent), None)

    def pca_error(self, size: int) -> float:
        """Return the error of as many components as a code has numbers, or of all that were fitted."""
        return self.pca[min(size, len(self.pca) - 1)]


def explained(error: float, mean: float) -> float:
    """Return the percentage of the variance that is explained; 100 if there is no variance."""
    return 100.0 if mean <= 0 else 100.0 * (1 - error / mean)


def statements(found: RateDistortion, percentages: Sequence[float] = PERCENTAGES) -> Iterator[str]:
    """Yield what the numbers mean, a sentence per curve: how many numbers explain 90%, 95% and 99% of the variance.

    Args:
        found: the numbers.
        percentages: of the variance.
    """
    for curve in found.curves:
        parts = []
        for number, percent in enumerate(percentages):
            pca, model = _count(found.pca_explaining(percent), len(found.pca) - 1), _model_count(curve, percent, found.mean)
            if number:
                parts.append(f"{percent:g}%: {pca}, {model}")
            else:
                numbers = "number" if pca == "1" else "numbers"
                parts.append(f"{percent:g}% of the variance: PCA {pca} {numbers}, the autoencoder {model}")
        beyond = curve.seeds_differ_beyond
        if beyond is not None:
            parts.append(f"beyond {beyond:,} numbers seeds differ by more than another doubling gains")
        label = f"{curve.label}: " if curve.label else ""
        yield label + "; ".join(parts)


def sizes_tried(found: RateDistortion) -> str:
    """Return which code sizes the statements choose from, as a sentence."""
    tried = ", ".join(map(str, found.sizes))
    return f"the autoencoder's number is the smallest that was tried ({tried}); sizes in between narrow it down"


def _count(count: int | None, most: int) -> str:
    return f"more than {most:,}" if count is None else f"{count:,}"


def _model_count(curve: Curve, percent: float, mean: float) -> str:
    point = curve.explaining(percent, mean)
    smallest, largest = curve.points[0].code_size, curve.points[-1].code_size
    if point is None:
        return f"more than {largest:,}"
    return f"at most {smallest:,}" if point.code_size == smallest > 1 else f"{point.code_size:,}"
