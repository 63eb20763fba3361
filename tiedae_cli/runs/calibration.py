"""The validation scores that a checkpoint keeps, from which a threshold for any false-alarm rate is taken.

Shapes: N validation items, M kept scores.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

MOST_KEPT = 100_000  # up to here every score is kept; beyond, the largest 10% and 1,001 quantiles
TAIL_SHARE = 10  # one score in so many belongs to the tail
INTERVALS = 1000  # between neighboring quantiles


@dataclass(frozen=True)
class Calibration:
    """Order statistics of the scores of normal items that the model was not trained on."""

    scores: Tensor
    """(M,) float64, ascending: those at ``kept_ranks(items)``."""
    items: int
    """N"""


def calibrate(scores: Tensor) -> Calibration:
    """Return what is kept of validation scores, (N,) float64, N > 0, in any order."""
    ordered = scores.sort().values
    return Calibration(ordered[kept_ranks(len(ordered))], len(ordered))


def kept_ranks(items: int) -> Tensor:
    """Return which of N ascending scores are kept, (M,) int64, ascending, counted from 0."""
    if items <= MOST_KEPT:
        return torch.arange(items)
    quantiles = torch.arange(INTERVALS + 1) * (items - 1) // INTERVALS
    tail = torch.arange(items - -(-items // TAIL_SHARE), items)
    return torch.cat([quantiles[quantiles < tail[0]], tail])
