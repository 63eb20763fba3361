"""Arrays: ``.npy`` memory-mapped or read from a pipe, ``.npz`` read array by array; nothing in them is ever unpickled.

A memory-mapped array takes no memory of its own: the kernel keeps what was read lately and drops it when memory is short. Training
visits it in a full permutation, newly drawn each epoch (blocks are not shuffled), so an array larger than the memory is read at
random, at the speed of the disk. A file that is overwritten in place while it is mapped ends the process; replace it by renaming.

Shapes: N items, B items a block; the other dimensions are an item's.
"""

import contextlib
import math
import os
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import numpy as np
import torch
from numpy.lib import format as npy
from torch import Tensor

from tiedae_cli.data.image_set import SPLITS
from tiedae_cli.data.sources.part import Bad, Part, RawBlock, array_part
from tiedae_cli.errors import DataError

MAGIC = b"\x93NUMPY"
READERS = {(1, 0): npy.read_array_header_1_0, (2, 0): npy.read_array_header_2_0}  # 3.0 exists for field names only
NUMBERS = "buif"  # bool, signed, unsigned, float
WHOLE = ("images", "x", "data")  # names in an .npz of items that are still to be split
SPLIT_NAMES = {name: (name, f"{name}_images", f"x_{name}") for name in SPLITS}
LABEL_NAMES = {"": ("labels", "y"), **{name: (f"{name}_labels", f"y_{name}") for name in SPLITS}}


@dataclass(frozen=True)
class _Header:
    """What the head of a ``.npy`` says."""

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
        DataError: it cannot be read, is cut off or too long, or is no array of numbers.
    """
    try:
        with path.open("rb") as file:
            header = _read_header(file, str(path))
            start, actual = file.tell(), os.fstat(file.fileno()).st_size
    except OSError as error:
        raise DataError(f"{path}: cannot be read: {error.strerror}") from None
    expected = start + header.bytes
    if actual != expected:
        kind = "cut off" if actual < expected else "goes on after its last row"
        raise DataError(f"{path}: {kind}: {actual:,} bytes, its header says {expected:,}")
    if not header.bytes:
        return {"train": array_part(np.empty(header.shape, header.dtype), str(path))}
    order: Any = "F" if header.column_major else "C"
    return {"train": array_part(np.memmap(path, header.dtype, "r", start, header.shape, order), str(path))}


def stream_npy(file: IO[bytes], name: str) -> dict[str, Part]:
    """Return the array of a ``.npy`` stream, whose head is read at once, as a source of one part.

    Raises:
        DataError: it is no array of numbers, or its items cannot be read one after the other.
    """
    header = _read_header(file, name)
    if header.column_major:
        raise DataError(f"{name}: in Fortran order, which cannot be read as a stream; save it with np.ascontiguousarray")

    def read(size: int, bad: Bad) -> Iterator[RawBlock]:
        return _row_blocks(file, header, size, name)

    return {"train": Part(name, header.shape[1:], header.dtype, header.shape[0], read)}


def open_npz(path: Path) -> dict[str, Part]:
    """Return the arrays of an archive as the splits that their names say: ``train`` alone for one array.

    Raises:
        DataError: no archive, damaged, or no array, or more than one, that could be the items of a split.
    """
    with _told_as_data_error(path), zipfile.ZipFile(path) as archive:
        members = {
            member.filename.removesuffix(".npy"): member for member in archive.infolist() if member.filename.endswith(".npy")
        }
        headers = {}
        for name, member in members.items():
            with archive.open(member) as file:
                headers[name] = _read_header(file, f"{path}: {name}")
    chosen = _splits_by_name(path, list(members))
    parts = {}
    for split, name in chosen.items():
        header = headers[name]
        wanted = LABEL_NAMES[split if name in SPLIT_NAMES[split] else ""]
        label = next((label for label in wanted if label in members), None)
        labels = None if label is None else _labels(_whole(path, members[label]), header.shape[0], f"{path}: {label}")
        parts[split] = _member_part(path, members[name], header, labels)
    return parts


def _splits_by_name(path: Path, names: list[str]) -> dict[str, str]:
    """Return which array holds the items of which split."""
    found = {split: [name for name in known if name in names] for split, known in SPLIT_NAMES.items()}
    whole = [name for name in WHOLE if name in names]
    chosen = {split: known[0] for split, known in found.items() if known} or {"train": whole[0] if whole else ""}
    labels = {label for known in LABEL_NAMES.values() for label in known}
    items = [name for name in names if name not in labels]
    if not chosen.get("train") and len(items) == 1 and items[0] not in found["validation"] + found["test"]:
        return {"train": items[0]}  # a single array, whatever its name
    if not chosen.get("train") or len([name for known in found.values() for name in known] + whole) != len(chosen):
        have = ", ".join(names) or "nothing"
        raise DataError(
            f"{path}: holds {have}; expected one array images (or x, data), or arrays train, validation, test "
            "(validation and test may be missing); and labels (or y), or train_labels ..., if there are any"
        )
    return chosen


def _member_part(path: Path, member: zipfile.ZipInfo, header: _Header, labels: Tensor | None) -> Part:
    name = f"{path}: {member.filename.removesuffix('.npy')}"

    def read(size: int, bad: Bad) -> Iterator[RawBlock]:
        with _told_as_data_error(path):
            if header.column_major:
                yield from array_part(_whole(path, member), name).read(size, bad)
                return
            with zipfile.ZipFile(path) as archive, archive.open(member) as file:
                yield from _row_blocks(file, _read_header(file, name), size, name)  # to its end, where the checksum is compared

    return Part(name, header.shape[1:], header.dtype, header.shape[0], read, labels)


def _whole(path: Path, member: zipfile.ZipInfo) -> np.ndarray:
    """Return an array of an archive in memory."""
    name = f"{path}: {member.filename.removesuffix('.npy')}"
    with _told_as_data_error(path), zipfile.ZipFile(path) as archive, archive.open(member) as file:
        header = _read_header(file, name)
        raw = file.read()
    if len(raw) != header.bytes:
        raise DataError(f"{name}: damaged: {len(raw):,} bytes of values, its header says {header.bytes:,}")
    return np.frombuffer(raw, header.dtype).reshape(header.shape, order="F" if header.column_major else "C")


@contextlib.contextmanager
def _told_as_data_error(path: Path) -> Iterator[None]:
    try:
        yield
    except DataError:
        raise
    except OSError as error:
        raise DataError(f"{path}: cannot be read: {error.strerror or error}") from None
    except Exception as error:  # zipfile and zlib meet damage with BadZipFile, zlib.error, EOFError, NotImplementedError ...
        raise DataError(f"{path}: not an .npz archive, or damaged ({str(error)[:80] or type(error).__name__})") from None


def _read_header(file: IO[bytes], name: str) -> _Header:
    """Read the head of a ``.npy``, which is evaluated as literals only, and refuse what is no array of numbers."""
    try:
        version = npy.read_magic(file)
        if version not in READERS:
            raise DataError(f"{name}: not a .npy array of plain numbers (version {version[0]}.{version[1]})")
        shape, column_major, dtype = READERS[version](file)
    except (OSError, DataError):
        raise
    except Exception:  # numpy's parser meets garbage with ValueError, TypeError, SyntaxError, struct.error, RecursionError ...
        raise DataError(f"{name}: not a .npy array, or damaged in its header") from None
    if dtype.hasobject:
        raise DataError(
            f"{name}: holds Python objects, which are never unpickled; save an array of numbers "
            f"(items of different shapes cannot be one array): np.save(file, np.stack(items).astype(np.float32))"
        )
    if dtype.kind not in NUMBERS:
        raise DataError(f"{name}: its type is {dtype}, not numbers; expected uint8 or float32")
    size = " x ".join(str(length) for length in shape) or "a single number"
    if not shape:
        raise DataError(f"{name}: {size}: 0 dimensions; expected items along the first dimension")
    if min(shape) < 0 or math.prod(shape) * dtype.itemsize > 2**62:
        raise DataError(f"{name}: {size}: cut off, or an impossible size")
    return _Header(tuple(shape), dtype, bool(column_major) and len(shape) > 1)


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
            raise DataError(f"{name}: cut off after {start + whole:,} of the {count:,} rows that its header promises")
    if file.read(1):
        raise DataError(f"{name}: goes on after the {count:,} rows that its header promises; one array is expected")


def _labels(array: np.ndarray, count: int, name: str) -> Tensor:
    """Return labels, (N,) int64; whole numbers may be stored as floats."""
    numbers = array.reshape(-1)
    whole = numbers.dtype.kind in "bui" or (numbers.dtype.kind == "f" and bool((numbers == np.floor(numbers)).all()))
    if not whole or array.size != count or len(array) != count:
        size = " x ".join(str(length) for length in array.shape)
        raise DataError(f"{name}: {size} {array.dtype}; expected {count:,} whole numbers, one an item")
    return torch.from_numpy(numbers.astype(np.int64))
