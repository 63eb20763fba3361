"""The digits that the package carries: 1,797 handwritten digits of 8 x 8 pixels with a fixed split.

They are the test half of the "Optical Recognition of Handwritten Digits" data set of E. Alpaydin and C. Kaynak
(UCI Machine Learning Repository, 1998, doi:10.24432/C50P49, CC BY 4.0), as scikit-learn's ``load_digits`` gives them, shuffled once.
"""

from pathlib import Path

import numpy as np

from tiedae_cli.data.item_set import SPLITS, ItemSet, Splits, gray_or_color

LARGEST_VALUE = 16  # the source counts dark pixels in 4 x 4 blocks


def load_digits() -> Splits:
    """Return the bundled digits: 1,297 for training, 200 for validation, 300 for the test."""
    with np.load(Path(__file__).parent / "digits.npz", allow_pickle=False) as arrays:
        train, validation, test = (_split(arrays[f"{name}_images"], arrays[f"{name}_labels"]) for name in SPLITS)
    return Splits(train, validation, test, source="digits")


def _split(counts: np.ndarray, labels: np.ndarray) -> ItemSet:
    scaled = np.rint(counts.astype(np.float32) * (255 / LARGEST_VALUE)).astype(np.uint8)  # (N, 8, 8), 0..16 -> 0..255
    return gray_or_color(scaled, labels.astype(np.int64))
