"""Arrays: ``.npy`` memory-mapped or read from a pipe, ``.npz`` read array by array; nothing in them is ever unpickled.

A memory-mapped array takes no memory of its own: the kernel caches what was read and drops it when memory is short. Overwriting a
file in place while it is mapped ends the process; replace it by renaming.

Shapes: N items, B items per block; the other dimensions are an item's.
"""

import logging
import math
import os
import zipfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.lib import format as npy

from tiedae_cli.data.data_errors import data_errors
from tiedae_cli.data.sources.named_arrays import NUMBERS, TEXT, NamedArray, open_arrays
from tiedae_cli.data.sources.part import Bad, Part, RawBlock, array_part
from tiedae_cli.data.sources.source import ARRAY, VALUE_FIELDS, Source
from tiedae_cli.data.sources.sparse import sparse_array
from tiedae_cli.errors import DataError
from tiedae_cli.system.memory_limits import require_memory
from tiedae_cli.system.optional_packages import optional_package
from tiedae_cli.system.regular_files import open_regular

log = logging.getLogger(__name__)

MAGIC = b"\x93NUMPY"
READERS = {(1, 0): npy.read_array_header_1_0, (2, 0): npy.read_array_header_2_0}  # 3.0 exists for field names only
OBJECTS = "O"
SPARSE_MEMBERS = ("format.npy", "shape.npy", "data.npy")  # of every sparse matrix that scipy writes


@dataclass(frozen=True)
class _Header:
    """The header of a ``.npy`` file."""

    shape: tuple[int, ...]
    """(N, ...)"""
    dtype: np.dtype
    column_major: bool
    """Fortran order: an item's values do not lie together, so the array cannot be read front to back."""

    @property
    def bytes(self) -> int:
        """Of all values."""
        return math.prod(self.shape) * self.dtype.itemsize


def open_npy(path: Path) -> dict[str, Part]:
    """Memory-map a ``.npy`` file, read-only, as a source of one part.

    Mode "r": a copy-on-write map ("c") counts as memory that might be needed, so Linux refuses one that is larger than the memory.

    Raises:
        DataError: it cannot be read, is cut off or too long, or is not an array of numbers.
    """
    with data_errors(path), open_regular(path) as file:
        header = _read_header(file, str(path))
        start, actual = file.tell(), os.fstat(file.fileno()).st_size
    expected = start + header.bytes
    if actual != expected:
        kind = "cut off" if actual < expected else "longer than its header says"
        raise DataError(f"{path}: {kind}: {actual:,} bytes, its header says {expected:,}")
    if not header.bytes:
        return {"train": array_part(np.empty(header.shape, header.dtype), str(path))}
    order: Any = "F" if header.column_major else "C"
    return {"train": array_part(np.memmap(path, header.dtype, "r", start, header.shape, order), str(path))}


def stream_npy(file: IO[bytes], name: str) -> dict[str, Part]:
    """Return the array of a ``.npy`` stream, whose head is read at once, as a source of one part.

    Raises:
        DataError: it is not an array of numbers, or its items cannot be read sequentially.
    """
    header = _read_header(file, name)
    if header.column_major:
        raise DataError(f"{name}: in Fortran order, which cannot be read as a stream; save it with np.ascontiguousarray")

    def read(size: int, bad: Bad) -> Iterator[RawBlock]:
        return _row_blocks(file, header, size, name)

    return {"train": Part(name, header.shape[1:], header.dtype, header.shape[0], read)}


def open_npz(path: Path, requested: Mapping[str, str]) -> dict[str, Part]:
    """Return the arrays of an archive as the splits that their names identify.

    Args:
        path: the archive.
        requested: ``data.arrays``.

    Raises:
        DataError: not an archive, damaged, or no array, or more than one, could be the items of a split.
    """
    arrays: dict[str, NamedArray] = {}
    objects = {}
    kind = "a zip archive" if path.suffix.lower() == ".zip" else "an .npz archive"
    with data_errors(path, kind), zipfile.ZipFile(path) as archive:
        if set(SPARSE_MEMBERS) <= set(archive.namelist()):
            return open_arrays(str(path), {"data": _scipy_sparse(path)}, requested)
        for member in archive.infolist():
            name = member.filename.removesuffix(".npy")
            if member.filename.endswith(".npy"):
                with archive.open(member) as file:
                    header = _read_header(file, f"{path}: {name}", NUMBERS + TEXT + OBJECTS)
                if header.dtype.hasobject:
                    objects[name] = _objects(f"{path}: {name}")
                else:
                    arrays[name] = _named(path, member, header)
    for name, problem in objects.items():
        if not arrays or name in requested.values():
            raise problem
        log.info(f"{problem}; ignored")
    return open_arrays(str(path), arrays, requested)


def _scipy_sparse(path: Path) -> NamedArray:
    """Return the matrix that ``scipy.sparse.save_npz`` wrote."""
    scipy_sparse = optional_package("scipy.sparse", "hdf5", f"{path}: reading a sparse matrix")
    with np.load(path, allow_pickle=False) as archive:
        shape, dtype = tuple(int(size) for size in archive["shape"]), archive["data"].dtype
    return sparse_array(str(path), shape, dtype, lambda: scipy_sparse.load_npz(path))


def _named(path: Path, member: zipfile.ZipInfo, header: _Header) -> NamedArray:
    return NamedArray(header.shape, header.dtype, lambda: _member_part(path, member, header), lambda: _whole(path, member))


def _member_part(path: Path, member: zipfile.ZipInfo, header: _Header) -> Part:
    name = f"{path}: {member.filename.removesuffix('.npy')}"

    def read(size: int, bad: Bad) -> Iterator[RawBlock]:
        with data_errors(path, "an .npz archive"):
            if header.column_major:
                yield from array_part(_whole(path, member), name).read(size, bad)
                return
            with zipfile.ZipFile(path) as archive, archive.open(member) as file:
                yield from _row_blocks(file, _read_header(file, name), size, name)  # to its end, where the checksum is compared

    return Part(name, header.shape[1:], header.dtype, header.shape[0], read)


def _whole(path: Path, member: zipfile.ZipInfo) -> np.ndarray:
    """Return an array of an archive in memory."""
    name = f"{path}: {member.filename.removesuffix('.npy')}"
    with data_errors(path, "an .npz archive"), zipfile.ZipFile(path) as archive, archive.open(member) as file:
        header = _read_header(file, name, NUMBERS + TEXT)
        require_memory(name, header.bytes)
        raw = file.read(header.bytes + 1)  # one byte more shows that the header is wrong
    if len(raw) != header.bytes:
        raise DataError(f"{name}: damaged: {len(raw):,} bytes of values, its header says {header.bytes:,}")
    return np.frombuffer(raw, header.dtype).reshape(header.shape, order="F" if header.column_major else "C")


def _read_header(file: IO[bytes], name: str, kinds: str = NUMBERS) -> _Header:
    """Read the head of a ``.npy``, which is evaluated as literals only; refuse arrays of other kinds."""
    try:
        version = npy.read_magic(file)
        if version not in READERS:
            raise DataError(f"{name}: not a .npy array of plain numbers (version {version[0]}.{version[1]})")
        shape, column_major, dtype = READERS[version](file)
    except (OSError, DataError):
        raise
    except Exception:  # numpy's parser meets garbage with ValueError, TypeError, SyntaxError, struct.error, RecursionError ...
        raise DataError(f"{name}: not a .npy array, or damaged in its header") from None
    if dtype.hasobject and OBJECTS not in kinds:
        raise _objects(name)
    if dtype.kind not in kinds:
        raise DataError(f"{name}: its type is {dtype}, not numbers; expected uint8 or float32")
    size = " x ".join(str(length) for length in shape) or "a single number"
    if not shape:
        raise DataError(f"{name}: {size}: 0 dimensions; expected items along the first dimension")
    if min(shape) < 0 or math.prod(shape) * dtype.itemsize > 2**62:
        raise DataError(f"{name}: {size}: cut off, or an impossible size")
    return _Header(tuple(shape), dtype, bool(column_major) and len(shape) > 1)


def _objects(name: str) -> DataError:
    return DataError(
        f"{name}: holds Python objects, which are never unpickled; save an array of numbers (items of different shapes cannot be "
        "one array): np.save(file, np.stack(items).astype(np.float32)); labels in words with astype(str)"
    )


def _row_blocks(file: IO[bytes], header: _Header, size: int, name: str) -> Iterator[RawBlock]:
    """Yield the rows that follow a header.

    Raises:
        DataError: after the rows before the fault: they end too early or too late.
    """
    count, item = header.shape[0], math.prod(header.shape[1:])
    item_bytes = item * header.dtype.itemsize
    for start in range(0, count, size):
        rows = min(size, count - start)
        raw = file.read(rows * item_bytes)
        whole = len(raw) // item_bytes if item_bytes else rows
        if whole:
            values = np.frombuffer(raw, header.dtype, item * whole).reshape(whole, *header.shape[1:])
            yield RawBlock(range(start, start + whole), values)
        if whole < rows:
            raise DataError(f"{name}: cut off after {start + whole:,} of the {count:,} rows of its header")
    if file.read(1):
        raise DataError(f"{name}: longer than the {count:,} rows of its header; one array is expected")


NPY = Source(
    "npy",
    ARRAY,
    lambda path, options: open_npy(path),
    (".npy",),
    lambda path, head: head.startswith(MAGIC),
    lambda file, name, options: stream_npy(file, name),
)
NPZ = Source(
    "npz",
    ARRAY,
    lambda path, options: open_npz(path, options.data.arrays),
    (".npz",),
    lambda path, head: head.startswith(b"PK\3\4"),
    fields=(*VALUE_FIELDS, "arrays"),
)
