"""Parses cells of a table: numbers, words and missing values; and normalizes the text of labels."""

import re
from collections.abc import Collection, Iterable
from decimal import Decimal
from functools import lru_cache
from typing import Any

import numpy as np

MISSING = (
    "", "NA", "N/A", "n/a", "#N/A", "#N/A N/A", "#NA", "<NA>", "NaN", "nan", "-NaN", "-nan", "null", "NULL", "None", "NaT", "?",
)  # fmt: skip
NO_NUMBER = (*MISSING, "-", "--", ".", "..", "1.#IND", "-1.#IND", "1.#QNAN", "-1.#QNAN")  # missing numbers
YES_NO = {"true": "1", "false": "0", "True": "1", "False": "0", "TRUE": "1", "FALSE": "0"}
LABEL_NUMBER = re.compile(r"[+-]?((0|[1-9][0-9]*)(\.[0-9]*)?|\.[0-9]+)([eE][+-]?[0-9]{1,9})?", re.ASCII)
WHOLE = re.compile(r"0|-?[1-9][0-9]{0,17}")  # an int64 with exactly this text
MOST_EXPONENT = 300  # largest exponent of a label that is shown as a float
MOST_DIGITS = 18  # digits of a whole number that was written with a point or an exponent


def is_number(cell: str) -> bool:
    """Return whether a text without white space around it is a number with a decimal point, or one of the words for 1 and 0."""
    if cell in YES_NO:
        return True
    try:
        float(cell)
    except ValueError:
        return False
    return "_" not in cell and cell.isascii()


def as_text(values: Any) -> Iterable[str]:
    """Yield the cells of a pyarrow array as text, "" for null."""
    return ("" if cell is None else str(cell) for cell in values.to_pylist())


@lru_cache(1 << 12)
def label_text(cell: str, decimal: str = ".") -> str:
    """Return the normal form of a label: two labels are equal if these texts are.

    ``1.0``, ``+1``, `` 1`` and ``True`` are ``1``, as they are in a column of another type; ``007`` is a text of its own.
    """
    text = YES_NO.get(cell.strip(), cell.strip())
    plain = text.replace(decimal, ".")
    if not LABEL_NUMBER.fullmatch(plain):
        return text
    number = Decimal(plain)
    if not number:
        return "0"
    if plain.lstrip("+-").isdecimal():
        return plain.removeprefix("+")
    if number == number.to_integral_value() and number.adjusted() < MOST_DIGITS:
        return str(int(number))
    return repr(float(plain)) if abs(number.adjusted()) < MOST_EXPONENT else text


def numbered(texts: np.ndarray) -> tuple[np.ndarray, tuple[str, ...] | None]:
    """Return label texts as numbers, (N,) int64, and the text of each number unless all texts are whole numbers."""
    words, places = np.unique(texts.astype(str), return_inverse=True)
    if all(WHOLE.fullmatch(word) for word in words):
        return words.astype(np.int64)[places], None
    return places.astype(np.int64), tuple(words.tolist())


def is_unlabelled(text: str, normal: Collection[str]) -> bool:
    """Return whether the text of a label means a missing one, unless the user names it among the normal labels."""
    return text in MISSING and text not in normal
