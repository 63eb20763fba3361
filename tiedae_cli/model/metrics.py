"""Errors as sums and counts, divided once: short batches and several processes then cost no special case."""

import math
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from tiedae_cli.system.devices import in_float64

LARGEST_QUANTILE = 1 << 24  # what torch.quantile takes


def squares(values: Tensor) -> Tensor:
    """Return the squares of values in float64, for that of a float32 may be larger than any float32."""
    return in_float64(values).square()


@dataclass(frozen=True)
class ErrorSum:
    """The squared error of some reconstructions."""

    squared_error: float
    """Summed over items and pixels."""
    images: int
    """Items that were counted."""
    pixels: int
    """D, values of one item."""

    @property
    def mse_per_value(self) -> float:
        """Mean over all items and pixels."""
        return self.squared_error / (self.images * self.pixels)

    @property
    def squared_error_per_item(self) -> float:
        """Summed over an item's pixels, averaged over items (the unit of Hinton & Salakhutdinov 2006)."""
        return self.squared_error / self.images

    @property
    def psnr_db(self) -> float:
        """Peak signal-to-noise ratio of the whole split in decibels, for values in [0, 1]; infinite without error."""
        return math.inf if self.squared_error == 0 else -10 * math.log10(self.mse_per_value)

    def explained_variance(self, around_mean: "ErrorSum") -> float | None:
        """Return 1 - error / the error of always answering the training mean; None where that is zero."""
        return None if around_mean.squared_error == 0 else 1 - self.squared_error / around_mean.squared_error


def auroc(usual: Tensor, intruders: Tensor) -> float:
    """Return the probability that an intruder's error is larger than a usual item's, ties counted half: the area under the ROC curve.

    It is the Mann-Whitney statistic divided by N M (Hanley & McNeil 1982). 0.5 tells nothing apart.

    Args:
        usual: errors, (N,), N > 0.
        intruders: errors, (M,), M > 0, of the same type.
    """
    ordered, _ = usual.sort()
    below, not_above = (torch.searchsorted(ordered, intruders, right=right).sum().item() for right in (False, True))
    return (below + not_above) / (2 * len(usual) * len(intruders))


def average_precision(usual: Tensor, intruders: Tensor) -> float:
    """Return the average, over the intruders, of the share of intruders among all that score as high: sum (R_i - R_(i-1)) P_i.

    Items of equal scores are taken together, as scikit-learn's ``average_precision_score`` does; the share of intruders tells nothing
    apart.

    Args:
        usual: errors, (N,), N > 0.
        intruders: errors, (M,), M > 0, of the same type.
    """
    values, counts = torch.unique_consecutive(intruders.sort().values, return_counts=True)
    reached = counts.flip(0).cumsum(0).flip(0)  # intruders that score as high
    alarms = len(usual) - torch.searchsorted(usual.sort().values, values)  # usual items that do
    precisions = reached.to(torch.float64) / (reached + alarms)
    return float((counts * precisions).sum()) / len(intruders)


def precision_at_n(usual: Tensor, intruders: Tensor) -> float:
    """Return the share of intruders among the M highest scores, where M is their number; of equal scores each counts in proportion.

    Args:
        usual: errors, (N,), N > 0.
        intruders: errors, (M,), M > 0, of the same type.
    """
    scores = torch.cat([usual, intruders])
    least = scores.kthvalue(len(usual) + 1).values  # the M-th highest
    surely = int((scores > least).sum())
    found, tied = int((intruders > least).sum()), int((intruders == least).sum())
    equal = int((scores == least).sum())
    return (found + (len(intruders) - surely) * tied / equal) / len(intruders)


def error_quantile(errors: Tensor, quantile: float) -> float:
    """Return the error, of (N,) float64 on the CPU, that a fraction ``quantile`` does not exceed."""
    return errors.quantile(quantile).item() if len(errors) < LARGEST_QUANTILE else float(np.quantile(errors, quantile))
