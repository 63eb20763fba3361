"""Which column of a table looks like a label by its values: few whole numbers, first or last, beside columns of many values.

Shapes: B rows of the head.
"""

from collections.abc import Sequence

import numpy as np

from tiedae_cli.data.sources.cells import MISSING, YES_NO, as_text, is_number
from tiedae_cli.data.sources.table import Table

MOST_CLASSES = 20  # distinct values of a label
LEAST_ROWS = 5  # rows per class in the head, on average
SPREAD = 2  # a label's values span at most so many times their number: 0 and 1, -1 and 1, 1 to 5, but not 0 and 100
OTHERS = 0.9  # fraction of the other columns that must not be few whole numbers
MOST_COMPARED = 100  # other columns that are examined


def label_like(table: Table, names: Sequence[str]) -> dict[str, list[int]]:
    """Return the first and the last of some columns if they look like a label, with their distinct values.

    A column looks like one if its first rows hold at most 20 distinct whole numbers that lie close together, each at least five times on
    average, and at least 90% of the other columns hold more values, or fractions. Tables of small whole numbers, such as answers of a
    questionnaire or pixels, have none.

    Args:
        table: its head is examined.
        names: columns of numbers that would be fed, in the table's order.
    """
    if len(names) < 2:
        return {}
    ends = {name: classes(_numbers(table, name)) for name in (names[0], names[-1])}
    found = {name: values for name, values in ends.items() if values}
    return {name: values for name, values in found.items() if _stands_out(table, [other for other in names if other != name])}


def _stands_out(table: Table, others: Sequence[str]) -> bool:
    """Return whether nearly all other columns are unlike a label."""
    drawn = (
        [others[place * len(others) // MOST_COMPARED] for place in range(MOST_COMPARED)]
        if len(others) > MOST_COMPARED
        else others
    )
    alike = sum(bool(classes(_numbers(table, name))) or _is_constant(table, name) for name in drawn)
    return alike <= (1 - OTHERS) * len(drawn)


def classes(values: np.ndarray) -> list[int]:
    """Return the distinct values, ascending, if they look like those of a label; else an empty list.

    Args:
        values: (B,) float64; NaN if a cell is missing or not a number.
    """
    known = np.unique(values)
    few = 2 <= len(known) <= MOST_CLASSES and LEAST_ROWS * len(known) <= len(values)
    if (
        not few
        or not np.isfinite(known).all()
        or (known != np.floor(known)).any()
        or known[-1] - known[0] > SPREAD * len(known)
    ):
        return []
    return [int(value) for value in known]


def _is_constant(table: Table, name: str) -> bool:
    return len(np.unique(_numbers(table, name))) == 1


def _numbers(table: Table, name: str) -> np.ndarray:
    """Return the first values of a column, (B,) float64; NaN if a cell is missing or not a number."""
    cells = (table.numbers.plain(YES_NO.get(cell.strip(), cell.strip())) for cell in as_text(table.head.columns[name]))
    return np.array([float(cell) if cell not in MISSING and is_number(cell) else np.nan for cell in cells])
