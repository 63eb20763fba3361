"""What a cell of a table says: a number, a word, or nothing."""

from collections.abc import Iterable
from typing import Any

MISSING = ("", "NA", "N/A", "NaN", "nan", "null", "NULL", "None", "?")
YES_NO = {"true": "1", "false": "0", "True": "1", "False": "0", "TRUE": "1", "FALSE": "0"}


def is_number(cell: str, decimal: str) -> bool:
    """Return whether a text without white space around it is a number, or one of the words for 1 and 0."""
    if cell in YES_NO:
        return True
    try:
        float(cell.replace(decimal, "."))
    except ValueError:
        return False
    return "_" not in cell and cell.isascii()


def as_text(values: Any) -> Iterable[str]:
    """Yield a pyarrow array's cells as text, "" where there is none."""
    return ("" if cell is None else str(cell) for cell in values.to_pylist())
