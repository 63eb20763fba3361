"""Arrays in IDX files, MNIST's format, plain or in gzip (http://yann.lecun.com/exdb/mnist, "the IDX file format").

Two zero bytes, a type byte, the number of dimensions, each dimension as a big-endian uint32, the values.
"""

import gzip
import math
import os
from dataclasses import dataclass, replace
from pathlib import Path
from typing import IO

import numpy as np

from tiedae_cli.data.data_errors import data_errors
from tiedae_cli.data.sources.array_file import file_part
from tiedae_cli.data.sources.part import Part, array_part, stop
from tiedae_cli.data.sources.source import ARRAY, ReadOptions, Source
from tiedae_cli.errors import DataError
from tiedae_cli.system.regular_files import open_regular

TYPES = {8: "u1", 9: "i1", 11: ">i2", 12: ">i4", 13: ">f4", 14: ">f8"}
MOST_DIMENSIONS = 4


@dataclass(frozen=True)
class IdxHeader:
    """What the head of an IDX file says."""

    type: int
    """A key of ``TYPES``."""
    shape: tuple[int, ...]

    @property
    def dtype(self) -> np.dtype:
        """The type of a value."""
        return np.dtype(TYPES[self.type])

    @property
    def start(self) -> int:
        """The byte where the values begin."""
        return 4 + 4 * len(self.shape)

    @property
    def file_bytes(self) -> int:
        """The size of the whole file, unpacked."""
        return self.start + math.prod(self.shape) * self.dtype.itemsize

    def check_size(self, path: Path, actual: int) -> None:
        """Raise ``DataError`` unless a file has as many bytes as its header says."""
        if actual != self.file_bytes:
            kind = "cut off" if actual < self.file_bytes else "longer than its header says"
            raise DataError(f"{path}: {kind}: {actual:,} bytes, its header says {self.file_bytes:,}")


def is_idx(head: bytes) -> bool:
    """Return whether a file begins as an IDX file does."""
    return len(head) >= 4 and head[:2] == b"\0\0" and head[2] in TYPES and 1 <= head[3] <= MOST_DIMENSIONS


def read_idx_header(file: IO[bytes] | gzip.GzipFile, path: Path) -> IdxHeader:
    """Read the head of an IDX file.

    Raises:
        DataError: it is none, or ends too early.
    """
    head = file.read(4)
    if not is_idx(head):
        raise DataError(f"{path}: not an IDX file (it must begin with 0, 0, a type and a number of dimensions)")
    sizes = file.read(4 * head[3])
    if len(sizes) < 4 * head[3]:
        raise DataError(f"{path}: cut off in its header")
    return IdxHeader(head[2], tuple(np.frombuffer(sizes, ">u4").tolist()))


def idx_parts(path: Path, options: ReadOptions) -> dict[str, Part]:
    """Return the array of an IDX file; the labels that lie beside MNIST's images come along.

    Raises:
        DataError: it is cut off, too long, or no IDX file.
    """
    images = _idx_part(path)
    beside = path.with_name(path.name.replace("images", "labels").replace("idx3", "idx1"))
    labels = None
    if beside != path and beside.is_file():
        part = _idx_part(beside)
        if (part.count, part.shape) == (images.count, ()) and part.dtype.kind in "ui":
            labels = np.concatenate([block.values for block in part.read(images.count or 1, stop)]).astype(np.int64)
    return {"train": replace(images, labels=labels)}


def _idx_part(path: Path) -> Part:
    with data_errors(path, "an IDX file"), open_regular(path) as file:
        if file.read(2) == b"\x1f\x8b":
            with gzip.open(path) as unpacked:
                header = read_idx_header(unpacked, path)
                raw = unpacked.read(header.file_bytes - header.start + 1)
            header.check_size(path, header.start + len(raw))
            return array_part(np.frombuffer(raw, header.dtype).reshape(header.shape), str(path))
        file.seek(0)
        header = read_idx_header(file, path)
        header.check_size(path, os.fstat(file.fileno()).st_size)
        return file_part(path, file, header.shape, header.dtype)


IDX = Source("idx", ARRAY, idx_parts, recognizes=lambda path, head: is_idx(head))
