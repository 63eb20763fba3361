"""Whole numbers beyond 2**53, such as ids and times in nanoseconds: a base is subtracted before they become float64.

Float64 holds every whole number up to 2**53; beyond, it rounds. The differences from a base near the numbers are small and exact.
"""

import numpy as np

from tiedae_cli.data.item_set import EXACT_INTEGERS

LOW_BITS = 64 - 53  # of a 64-bit number that a base has zero, so that float64 holds it exactly


def base_near(number: int) -> float:
    """Return a whole number near ``number``, not larger in size, that float64 holds exactly; 0 if ``number`` needs none."""
    excess = max(LOW_BITS, abs(number).bit_length() - 53)
    near = float(abs(number) >> excess << excess)
    return 0.0 if abs(number) < EXACT_INTEGERS else near if number > 0 else -near


def base_of(values: np.ndarray) -> float:
    """Return a base for 64-bit whole numbers, (B,): near the first that is at least 2**53 in size; 0 if there is none."""
    with np.errstate(all="ignore"):
        large = (values >= int(EXACT_INTEGERS)) | (values <= -int(EXACT_INTEGERS) if values.dtype.kind == "i" else False)
    return base_near(int(values[large.argmax()])) if large.any() else 0.0


def less_base(values: np.ndarray, base: float) -> np.ndarray:
    """Return numbers minus a base, (B,) -> (B,) float64: of 64-bit whole numbers, the exact difference, rounded once."""
    whole = int(base)
    if values.dtype == np.uint64 and 0 <= whole < 2**64:
        unsigned = np.uint64(whole)
        return np.where(values >= unsigned, (values - unsigned).astype(np.float64), -(unsigned - values).astype(np.float64))
    if values.dtype.kind != "i" or not -(2**63) <= whole < 2**63:
        return np.asarray(values.astype(np.float64) - base)
    own, signed = values.astype(np.int64), np.int64(whole)
    with np.errstate(over="ignore"):
        difference = own - signed
    wrapped = ((own ^ signed) & (own ^ difference)) < 0  # beyond int64: the two have different signs
    return np.where(wrapped, own.astype(np.float64) - base, difference.astype(np.float64))
