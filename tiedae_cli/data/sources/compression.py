"""Compressed text: gzip, bzip2 and xz, recognized by their first bytes."""

import bz2
import gzip
import lzma
from collections.abc import Callable
from pathlib import Path
from typing import IO, Any

MARKS: dict[bytes, Any] = {  # openers by the first bytes; their stubs name several classes of files
    b"\x1f\x8b": gzip.open,
    b"BZh": bz2.open,
    b"\xfd7zXZ\0": lzma.open,
}
SUFFIXES = (".gz", ".bz2", ".xz")  # of compressed text
MARK_BYTES = max(map(len, MARKS))


def opener_of(head: bytes) -> Callable[[Any], IO[bytes]] | None:
    """Return what opens a file, by path or as a stream, that begins with these bytes; None if it is not compressed."""
    return next((opener for mark, opener in MARKS.items() if head.startswith(mark)), None)


def plain_suffix(name: str) -> str:
    """Return the suffix of a file name in lower case; of compressed text that of the text: ``.csv`` of ``x.CSV.gz``."""
    lower = name.lower()
    return Path(next((lower.removesuffix(end) for end in SUFFIXES if lower.endswith(end)), lower)).suffix
