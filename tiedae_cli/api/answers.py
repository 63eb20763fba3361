"""Answers in the kind of the question: a DataFrame's index and columns, else numpy arrays.

Shapes: N items, K numbers per item.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np


def is_pandas(data: Any) -> bool:
    """Return whether data is a pandas DataFrame or Series."""
    return hasattr(data, "iloc") and hasattr(data, "index")


def is_polars(data: Any) -> bool:
    """Return whether data is a polars DataFrame or LazyFrame."""
    return type(data).__module__.partition(".")[0] == "polars" and hasattr(data, "collect_schema")


def as_frame(values: np.ndarray, like: Any, columns: Sequence[str], items: Sequence[Any]) -> Any:
    """Return numbers, (N, K), as a DataFrame like the one that was asked about; for other data the array itself.

    Args:
        values: (N, K).
        like: what was asked about.
        columns: K names.
        items: the row of ``like`` that each item stands for.
    """
    if is_pandas(like):
        import pandas

        return pandas.DataFrame(values, index=_index(like, items), columns=list(columns))
    if is_polars(like):
        import polars

        return polars.DataFrame(values, schema=list(columns))
    return values


def as_series(values: np.ndarray, like: Any, name: str, items: Sequence[Any]) -> Any:
    """Return one number per item, (N,), as a Series with the index of the DataFrame that was asked about, else the array itself."""
    if is_pandas(like):
        import pandas

        return pandas.Series(values, index=_index(like, items), name=name)
    if is_polars(like):
        import polars

        return polars.Series(name, values)
    return values


def _index(like: Any, items: Sequence[Any]) -> Any:
    return like.index if len(items) == len(like.index) else like.index[np.asarray(items, np.int64)]
