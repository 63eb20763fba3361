"""How much of the squared error the items with the largest errors carry, over any number of items, in constant memory."""

import numpy as np

SHARE = 0.01  # of the items, those with the largest errors
MOSTLY = 0.5  # of the squared error; beyond it, a few items decide every comparison
LEAST_ITEMS = 100  # 1% of them is one item
BINS_PER_OCTAVE = 64
LARGEST_EXPONENT = 256  # errors beyond 2^256 or below 2^-256 share a bin


class ErrorTail:
    """Counts and sums of errors in bins that are 1.1% wide. Only the last bin of the share is split, at its mean."""

    def __init__(self) -> None:
        bins = 2 * LARGEST_EXPONENT * BINS_PER_OCTAVE + 1
        self.counts, self.sums = np.zeros(bins), np.zeros(bins)

    def add(self, errors: np.ndarray) -> "ErrorTail":
        """Add the squared errors of some items, (B,), and return self; errors must be finite."""
        exponents = np.log2(np.maximum(errors, 2.0**-LARGEST_EXPONENT)).clip(max=LARGEST_EXPONENT)  # (B,)
        bins = np.floor((exponents + LARGEST_EXPONENT) * BINS_PER_OCTAVE).astype(np.int64)
        self.counts += np.bincount(bins, minlength=len(self.counts))
        self.sums += np.bincount(bins, errors, minlength=len(self.sums))
        return self

    @property
    def share(self) -> float | None:
        """The part of the squared error that the 1% of the items with the largest errors carry.

        None for fewer than 100 items, or if there is no error.
        """
        count, total = self.counts.sum(), self.sums.sum()
        if count < LEAST_ITEMS or total == 0:
            return None
        left = np.floor(SHARE * count)
        counts, sums = self.counts[::-1], self.sums[::-1]  # the largest errors first
        taken = np.clip(left - (counts.cumsum() - counts), 0, counts)  # of each bin
        return float((sums * taken / np.maximum(counts, 1)).sum() / total)


def describe_tail(share: float | None) -> str:
    """Return a sentence if the 1% of the items with the largest errors carry more than half of the squared error, else ""."""
    if share is None or share <= MOSTLY:
        return ""
    return f"the 1% of the items with the largest errors carry {share:.1%} of the squared error: a few items decide this number"
