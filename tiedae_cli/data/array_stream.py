"""``.npy`` arrays read a block of rows at a time, front to back, so that a pipe does as well as a file; never a pickle.

Shapes: N items, B items a block; the other dimensions are an item's.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO

import numpy as np
from numpy.lib import format as npy

from tiedae_cli.errors import DataError

MAGIC = b"\x93NUMPY"
READERS = {(1, 0): npy.read_array_header_1_0, (2, 0): npy.read_array_header_2_0}  # 3.0 exists for field names only
NUMBERS = "buif"  # bool, signed, unsigned, float


@dataclass(frozen=True)
class ArrayHeader:
    """What the head of a ``.npy`` stream says."""

    shape: tuple[int, ...]
    """(N, ...)"""
    dtype: np.dtype
    column_major: bool
    """Fortran order: an item's values do not lie together, so the array cannot be read front to back."""

    @property
    def item_bytes(self) -> int:
        """Bytes of one item."""
        return math.prod(self.shape[1:]) * self.dtype.itemsize

    def describe(self) -> str:
        """Return shape and type in words, for messages."""
        return f"an array of shape {' x '.join(map(str, self.shape)) or '()'}, {self.dtype}"


def read_header(file: IO[bytes], name: str) -> ArrayHeader:
    """Read the head of a ``.npy`` stream; the values come next.

    Raises:
        DataError: it is no ``.npy``, or an array of objects, of records or without rows.
    """
    try:
        version = npy.read_magic(file)
        if version not in READERS:
            raise DataError(f"{name}: a .npy of version {version[0]}.{version[1]}; arrays of plain numbers are 1.0 or 2.0")
        shape, column_major, dtype = READERS[version](file)
    except ValueError as error:
        raise DataError(f"{name}: not a .npy array, or damaged in its header ({str(error).splitlines()[0][:100]})") from None
    if dtype.hasobject:
        raise DataError(f"{name}: refused: an array of Python objects, which only unpickling could read")
    if dtype.kind not in NUMBERS:
        raise DataError(f"{name}: an array of {dtype}; expected numbers")
    if not shape or min(shape) < 0:
        raise DataError(f"{name}: an array of shape {shape}; expected items along the first dimension")
    return ArrayHeader(tuple(shape), dtype, bool(column_major) and len(shape) > 1)


def row_blocks(file: IO[bytes], header: ArrayHeader, size: int, name: str) -> Iterator[np.ndarray]:
    """Return an iterator over the rows that follow a header, up to ``size`` at a time, (B, ...).

    Raises:
        DataError: the array is in Fortran order; from the iterator, after the rows before the fault: it ends too early or too late.
    """
    if header.column_major:
        raise DataError(f"{name}: in Fortran order, which cannot be read as a stream; save it with np.ascontiguousarray")
    return _row_blocks(file, header, size, name)


def _row_blocks(file: IO[bytes], header: ArrayHeader, size: int, name: str) -> Iterator[np.ndarray]:
    count = header.shape[0]
    for start in range(0, count, size):
        rows = min(size, count - start)
        raw = file.read(rows * header.item_bytes)
        whole = len(raw) // header.item_bytes if header.item_bytes else rows
        if whole:
            yield np.frombuffer(raw, header.dtype, math.prod(header.shape[1:]) * whole).reshape(whole, *header.shape[1:])
        if whole < rows:
            raise DataError(f"{name}: cut off after {start + whole:,} of the {count:,} rows that its header promises")
    if file.read(1):
        raise DataError(f"{name}: goes on after the {count:,} rows that its header promises; one array is expected")


def column_major_blocks(path: Path, header: ArrayHeader, offset: int, size: int) -> Iterator[np.ndarray]:
    """Yield the rows of a file in Fortran order, (B, ...), through a memory map.

    Raises:
        DataError: the file is shorter than its header says.
    """
    if 0 in header.shape:
        return
    try:
        array = np.memmap(path, header.dtype, "r", offset, header.shape, "F")
    except (ValueError, OSError) as error:
        raise DataError(f"{path}: cut off: shorter than {header.describe()} ({error})") from None
    for start in range(0, len(array), size):
        yield np.ascontiguousarray(array[start : start + size])
