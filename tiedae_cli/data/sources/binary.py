"""Arrays in the binary formats of old data sets: IDX (MNIST's) and CIFAR's, plain or in gzip."""

import gzip
import math
from pathlib import Path
from typing import IO

import numpy as np
import torch

from tiedae_cli.data.sources.part import Part, array_part
from tiedae_cli.errors import DataError

IDX_TYPES = {
    8: "u1",
    9: "i1",
    11: ">i2",
    12: ">i4",
    13: ">f4",
    14: ">f8",
}  # http://yann.lecun.com/exdb/mnist, "the IDX file format"
CIFAR_IMAGE = (3, 32, 32)
CIFAR_RECORDS = {1 + math.prod(CIFAR_IMAGE): 1, 2 + math.prod(CIFAR_IMAGE): 2}  # bytes of a record: labels before the pixels


def is_idx(head: bytes) -> bool:
    """Return whether a file begins as an IDX file does: two zeros, a type, a number of dimensions."""
    return len(head) >= 4 and head[:2] == b"\0\0" and head[2] in IDX_TYPES and 1 <= head[3] <= 4


def open_idx(path: Path) -> dict[str, Part]:
    """Return the array of an IDX file; the labels that lie beside MNIST's images come along.

    Raises:
        DataError: it is cut off, too long, or none.
    """
    images = _read_idx(path)
    beside = path.with_name(path.name.replace("images", "labels").replace("idx3", "idx1"))
    labels = None
    if beside != path and beside.is_file():
        numbers = _read_idx(beside)
        if numbers.shape == (len(images),) and numbers.dtype.kind in "ui":
            labels = torch.from_numpy(numbers.astype(np.int64))
    return {"train": array_part(images, str(path), labels)}


def _read_idx(path: Path) -> np.ndarray:
    with _opened(path) as file:
        head = file.read(4)
        if not is_idx(head):
            raise DataError(f"{path}: not an IDX file")
        sizes = file.read(4 * head[3])
        shape = tuple(np.frombuffer(sizes[: len(sizes) // 4 * 4], ">u4").tolist())
        dtype = np.dtype(IDX_TYPES[head[2]])
        needed = math.prod(shape) * dtype.itemsize
        if len(shape) < head[3] or (not _is_gzip(path) and path.stat().st_size != 4 + 4 * head[3] + needed):
            raise DataError(
                f"{path}: its header says {' x '.join(map(str, shape))}, {needed:,} bytes; it has {path.stat().st_size:,}"
            )
        if not _is_gzip(path):
            return np.memmap(path, dtype, "r", file.tell(), shape)
        raw = file.read(needed + 1)
    if len(raw) != needed:
        raise DataError(
            f"{path}: its header says {needed:,} bytes of values; it has {'more' if len(raw) > needed else f'{len(raw):,}'}"
        )
    return np.frombuffer(raw, dtype).reshape(shape)


def _is_gzip(path: Path) -> bool:
    with path.open("rb") as file:
        return file.read(2) == b"\x1f\x8b"


def _opened(path: Path) -> IO[bytes]:
    return gzip.open(path, "rb") if _is_gzip(path) else path.open("rb")  # type: ignore[return-value]


def cifar_labels(size: int) -> int | None:
    """Return how many labels stand before an image in a CIFAR file of this many bytes; None where it is none."""
    return next((labels for record, labels in CIFAR_RECORDS.items() if size and size % record == 0), None)


def open_cifar(path: Path) -> dict[str, Part]:
    """Return the images of a CIFAR-10 or CIFAR-100 binary file, (N, 3, 32, 32), with their (fine) labels.

    Raises:
        DataError: its size is no whole number of records.
    """
    before = cifar_labels(path.stat().st_size)
    if before is None:
        raise DataError(f"{path}: not a CIFAR file: {path.stat().st_size:,} bytes are no whole number of records")
    records = np.fromfile(path, np.uint8).reshape(-1, before + math.prod(CIFAR_IMAGE))
    labels = torch.from_numpy(records[:, before - 1].astype(np.int64))
    return {"train": array_part(np.ascontiguousarray(records[:, before:]).reshape(-1, *CIFAR_IMAGE), str(path), labels)}
