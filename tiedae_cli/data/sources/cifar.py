"""Images in the binary files of CIFAR-10 and CIFAR-100."""

import math
from pathlib import Path

import numpy as np

from tiedae_cli.data.sources.part import Part, array_part
from tiedae_cli.data.sources.source import ARRAY, ReadOptions, Source
from tiedae_cli.errors import DataError

IMAGE = (3, 32, 32)
RECORDS = {1 + math.prod(IMAGE): 1, 2 + math.prod(IMAGE): 2}  # bytes of a record: labels before the pixels


def cifar_parts(path: Path, options: ReadOptions) -> dict[str, Part]:
    """Return the images of a CIFAR-10 or CIFAR-100 file, (N, 3, 32, 32), with their (fine) labels.

    Raises:
        DataError: its size is not a multiple of a record's.
    """
    before = _labels_per_record(path.stat().st_size)
    if before is None:
        raise DataError(f"{path}: not a CIFAR file: {path.stat().st_size:,} bytes is not a multiple of the record size")
    records = np.fromfile(path, np.uint8).reshape(-1, before + math.prod(IMAGE))
    labels = records[:, before - 1].astype(np.int64)
    return {"train": array_part(np.ascontiguousarray(records[:, before:]).reshape(-1, *IMAGE), str(path), labels)}


def _labels_per_record(size: int) -> int | None:
    """Return the number of labels before each image in a file of this many bytes; None if it is not a CIFAR file."""
    return next((labels for record, labels in RECORDS.items() if size and size % record == 0), None)


def _is_cifar(path: Path, head: bytes) -> bool:
    return path.suffix.lower() == ".bin" and path.is_file() and _labels_per_record(path.stat().st_size) is not None


CIFAR = Source("cifar", ARRAY, cifar_parts, recognizes=_is_cifar)
