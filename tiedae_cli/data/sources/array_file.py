"""An array that lies uncompressed in a file: memory-mapped, or read block by block.

A memory-mapped array takes no memory of its own: the kernel caches what was read and drops it when memory is short. Truncating the file
while it is mapped ends the process, so only what cannot be read into memory is used through its map.

Shapes: N items, B items per block; the other dimensions are an item's.
"""

import math
import os
from collections.abc import Iterator
from dataclasses import replace
from io import BufferedReader
from pathlib import Path
from typing import Any

import numpy as np

from tiedae_cli.data.data_errors import data_errors
from tiedae_cli.data.sources.part import Bad, Part, RawBlock, array_part
from tiedae_cli.errors import DataError
from tiedae_cli.system.mapped_files import MappedFile, mapped_file
from tiedae_cli.system.memory_limits import fits_in_memory
from tiedae_cli.system.regular_files import open_regular


def file_part(path: Path, file: BufferedReader, shape: tuple[int, ...], dtype: np.dtype, column_major: bool = False) -> Part:
    """Return an array in a file as a part: ``array`` is a read-only memory map, ``read`` reads the file.

    Mode "r": a copy-on-write map ("c") counts as memory that might be needed, so Linux refuses one that is larger than the memory.

    Args:
        path: of the file.
        file: the open file, at the first value; its size has been checked.
        shape: (N, ...)
        dtype: type of the values.
        column_major: whether the array is in Fortran order.
    """
    if 0 in shape:
        return array_part(np.empty(shape, dtype), str(path))
    start, source = file.tell(), mapped_file(path, os.fstat(file.fileno()))
    order: Any = "F" if column_major else "C"
    mapped = array_part(np.memmap(file, dtype, "r", start, shape, order), str(path))

    def read(size: int, bad: Bad) -> Iterator[RawBlock]:
        nbytes = math.prod(shape) * dtype.itemsize
        if not column_major:
            yield from _row_blocks(source, start, shape, dtype, size)
        elif fits_in_memory(nbytes):
            values = next(iter(_row_blocks(source, start, (1, math.prod(shape)), dtype, 1))).values
            yield from array_part(values.reshape(shape, order="F"), str(path)).read(size, bad)
        else:
            yield from mapped.read(size, bad)

    def read_range(first: int, last: int) -> RawBlock:
        return next(iter(_row_blocks(source, start, (last, *shape[1:]), dtype, last - first, first)))

    return replace(mapped, read=read, mapped=source, read_range=mapped.read_range if column_major else read_range)


def _row_blocks(
    source: MappedFile, start: int, shape: tuple[int, ...], dtype: np.dtype, size: int, begin: int = 0
) -> Iterator[RawBlock]:
    """Yield the rows of a file in C order, from row ``begin`` on.

    Raises:
        DataError: the file has changed since it was opened; after the rows that were read before.
    """
    item = math.prod(shape[1:]) * dtype.itemsize
    with data_errors(source.path), open_regular(source.path) as file:
        file.seek(start + begin * item)  # a file that is replaced from here on stays as it was
        for first in range(begin, shape[0], size):
            rows = min(size, shape[0] - first)
            raw = file.read(rows * item)
            change = source.change(os.fstat(file.fileno()))
            if len(raw) < rows * item or change is not None:
                raise DataError(f"{source.path}: changed while it was read: it {change or 'was cut off'}")
            yield RawBlock(range(first, first + rows), np.frombuffer(raw, dtype).reshape(rows, *shape[1:]))
