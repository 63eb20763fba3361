"""Sparse matrices: the nonzero values are in memory, and rows become dense one block at a time.

Shapes: N items, D values per item.
"""

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from tiedae_cli.data.sources.named_arrays import NamedArray
from tiedae_cli.data.sources.part import Bad, Part, RawBlock
from tiedae_cli.errors import DataError


def sparse_array(name: str, shape: tuple[int, ...], dtype: np.dtype, load: Callable[[], Any]) -> NamedArray:
    """Return a sparse matrix, (N, D), as an array that is not read yet.

    Args:
        name: for messages.
        shape: (N, D).
        dtype: of its values.
        load: returns it as a scipy.sparse matrix of any format.

    Raises:
        DataError: the shape is not that of a matrix.
    """
    if len(shape) != 2 or min(shape) < 0:
        raise DataError(f"{name}: damaged: a matrix of shape {' x '.join(map(str, shape))}")

    def read(size: int, bad: Bad) -> Iterator[RawBlock]:
        rows = load().tocsr()
        for start in range(0, shape[0], size):
            stop = min(start + size, shape[0])
            yield RawBlock(range(start, stop), rows[start:stop].toarray())

    return NamedArray(shape, dtype, lambda: Part(name, shape[1:], dtype, shape[0], read), lambda: np.asarray(load().toarray()))
