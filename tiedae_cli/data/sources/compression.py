"""Compressed text: gzip, bzip2 and xz, recognized by their first bytes."""

import bz2
import gzip
import lzma
from collections.abc import Callable
from typing import IO, Any

MARKS: dict[bytes, Any] = {  # openers by the first bytes; their stubs name several classes of files
    b"\x1f\x8b": gzip.open,
    b"BZh": bz2.open,
    b"\xfd7zXZ\0": lzma.open,
}
MARK_BYTES = max(map(len, MARKS))


def opener_of(head: bytes) -> Callable[[Any], IO[bytes]] | None:
    """Return what opens a file, by path or as a stream, that begins with these bytes; None if it is not compressed."""
    return next((opener for mark, opener in MARKS.items() if head.startswith(mark)), None)
