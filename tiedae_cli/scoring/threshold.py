"""The threshold of a score: an order statistic of held-out normal items, and the false-alarm rate that it promises.

Of n independent held-out items and a normal item to come, all of one distribution without ties, the chance that the new score exceeds
the k-th smallest held-out one follows Beta(n + 1 - k, k) (David & Nagaraja 2003, "Order Statistics", section 2.3), whatever the
distribution of the scores is. Its mean is the expected false-alarm rate, its central quantiles are the interval.
"""

import math
from dataclasses import dataclass

import torch

from tiedae_cli.runs.calibration import Calibration, kept_ranks
from tiedae_cli.runs.checkpoint import Checkpoint
from tiedae_cli.scoring.false_alarms import FALSE_ALARMS

CONFIDENCE = 0.95
BISECTIONS = 60  # halvings of [0, 1], beyond the digits of a double near the answer


@dataclass(frozen=True)
class Threshold:
    """A threshold, and how often normal items will exceed it."""

    value: float
    """A larger score makes an outlier."""
    items: int
    """n, held-out normal items that it was taken from."""
    expected: float
    """Expected false-alarm rate."""
    low: float
    """Lower end of its interval at ``CONFIDENCE``."""
    high: float
    """Upper end."""


def least_items(rate: float) -> int:
    """Return how many held-out items a false-alarm rate needs: the expected rate of the largest of n is 1 / (n + 1)."""
    return math.ceil(min(1 / rate, 1e18) - 1 - 1e-9)  # 1 / 1e-320 is infinite


def threshold_of(calibration: Calibration, rate: float) -> Threshold:
    """Return the smallest kept order statistic whose expected false-alarm rate is at most ``rate``; the largest score if none is.

    Args:
        calibration: the scores of held-out normal items.
        rate: from 0 to 1.
    """
    count = calibration.items
    allowed = min(max(math.floor(rate * (count + 1) + 1e-9), 1), count)  # places above the threshold
    ranks = kept_ranks(count)
    kept = int(torch.searchsorted(ranks, count - allowed))
    above = count - int(ranks[kept])  # n + 1 - k
    low, high = (beta_quantile(above, count + 1 - above, share) for share in ((1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2))
    return Threshold(calibration.scores[kept].item(), count, above / (count + 1), low, high)


def thresholds(trained: Checkpoint, rate: float = FALSE_ALARMS) -> dict[str, Threshold]:
    """Return the threshold of each score that a model has, by the score's name: of windows the row score's and the window score's.

    Empty if the checkpoint keeps no calibration.
    """
    finished, names = trained.finished, score_names(trained)
    kept = () if finished is None else (finished.calibration, finished.window_calibration)
    return {name: threshold_of(one, rate) for name, one in zip(names, kept, strict=False) if one is not None}


def score_names(trained: Checkpoint) -> tuple[str, ...]:
    """Return the names of a model's scores: what ``score`` judges by, then the score of a whole window."""
    if trained.form.window > 1:
        return "row score", "window score"
    return ("squared error" if trained.config.score.rank == "squared_error" else "score",)


def beta_quantile(a: int, b: int, share: float) -> float:
    """Return the quantile of Beta(a, b) for whole a, b >= 1.

    It uses P(Beta(a, b) <= x) = P(Binomial(a + b - 1, x) >= a).
    """
    if a > b:
        return 1 - beta_quantile(b, a, 1 - share)
    trials = a + b - 1
    successes = torch.arange(a, dtype=torch.float64)
    gamma = torch.lgamma(torch.tensor([trials + 1.0], dtype=torch.float64))
    ways = gamma - torch.lgamma(successes + 1) - torch.lgamma(trials - successes + 1)  # (a,) logarithms
    low, high = 0.0, 1.0
    for _ in range(BISECTIONS):
        middle = (low + high) / 2
        fewer = torch.exp(ways + successes * math.log(middle) + (trials - successes) * math.log1p(-middle)).sum().item()
        low, high = (middle, high) if 1 - fewer < share else (low, middle)
    return (low + high) / 2
