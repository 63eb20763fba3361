"""How well scores separate outliers from normal items: metrics that look only at the order of the scores.

Shapes: N normal items, M outliers.
"""

import torch
from torch import Tensor


def auroc(normal: Tensor, outliers: Tensor) -> float:
    """Return the probability that an outlier's score is larger than a normal item's (ties count half): the area under the ROC curve.

    It is the Mann-Whitney statistic divided by N M (Hanley & McNeil 1982). 0.5 is chance.

    Args:
        normal: scores, (N,), N > 0.
        outliers: scores, (M,), M > 0, of the same type.
    """
    ordered, _ = normal.sort()
    below, not_above = (torch.searchsorted(ordered, outliers, right=right).sum().item() for right in (False, True))
    return (below + not_above) / (2 * len(normal) * len(outliers))


def average_precision(normal: Tensor, outliers: Tensor) -> float:
    """Return the average precision sum_i (R_i - R_(i-1)) P_i, with recall R_i and precision P_i at the i-th highest score.

    Items of equal scores are taken together, as in scikit-learn's ``average_precision_score``. The share of outliers is chance.

    Args:
        normal: scores, (N,), N > 0.
        outliers: scores, (M,), M > 0, of the same type.
    """
    values, counts = torch.unique_consecutive(outliers.sort().values, return_counts=True)
    reached = counts.flip(0).cumsum(0).flip(0)  # outliers that score at least as high
    alarms = len(normal) - torch.searchsorted(normal.sort().values, values)  # normal items that do
    precisions = reached.to(torch.float64) / (reached + alarms)
    return float((counts * precisions).sum()) / len(outliers)


def precision_at_n(normal: Tensor, outliers: Tensor) -> float:
    """Return the share of outliers among the M highest scores; items that tie for the last places count in proportion.

    Args:
        normal: scores, (N,), N > 0.
        outliers: scores, (M,), M > 0, of the same type.
    """
    scores = torch.cat([normal, outliers])
    least = scores.kthvalue(len(normal) + 1).values  # the M-th highest
    surely = int((scores > least).sum())
    found, tied = int((outliers > least).sum()), int((outliers == least).sum())
    equal = int((scores == least).sum())
    return (found + (len(outliers) - surely) * tied / equal) / len(outliers)
