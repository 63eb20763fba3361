"""A checksum of arrays at the speed of memory, for noticing that data has changed.

It notices every change of a single value and, with a probability of 1 - 2^-64, any other accidental change. It is not a signature:
data can be made to have a given checksum.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

import numpy as np

ROW = 512  # 8-byte words that are added up
ROW_BYTES = 8 * ROW
BLOCK = 1 << 20  # bytes that are read at once, because both sums are computed while they lie in the processor's cache


@dataclass(frozen=True)
class Sums:
    """What the checksum of an array needs to know of a piece that begins at a multiple of ``ROW_BYTES``."""

    rows: bytes
    """The sum of each row of words (modulo 2^64), 8 bytes each."""
    columns: np.ndarray
    """(ROW,) uint64, the exclusive or of all rows."""
    rest: bytes
    """The bytes after the last row."""

    @classmethod
    def of(cls, values: np.ndarray) -> Self:
        """Return the sums of an array's bytes in C order."""
        data = np.ascontiguousarray(values).reshape(-1).view(np.uint8)
        whole = len(data) // ROW_BYTES * ROW_BYTES
        rows = data[:whole].view(np.uint64).reshape(-1, ROW)
        sums, columns = np.empty(len(rows), np.uint64), np.zeros(ROW, np.uint64)
        step = BLOCK // ROW_BYTES
        for start in range(0, len(rows), step):
            block = rows[start : start + step]
            columns ^= np.bitwise_xor.reduce(block, axis=0)
            block.sum(1, dtype=np.uint64, out=sums[start : start + step])
        return cls(sums.tobytes(), columns, data[whole:].tobytes())

    def digest(self) -> bytes:
        """Return a digest of the piece."""
        return hashlib.sha256(self.rows + self.columns.tobytes() + self.rest).digest()[:16]


def checksum(values: np.ndarray) -> str:
    """Return the checksum of an array's bytes in C order, as hexadecimal digits.

    The bytes are laid out as rows of 8-byte words. SHA-256 is computed over the sum of each row (modulo 2^64), the exclusive or of all
    rows, and the bytes after the last row.
    """
    return checksum_of([Sums.of(values)])


def checksum_of(pieces: Sequence[Sums]) -> str:
    """Return the checksum of an array from the sums of its pieces in order; only the last one may have a rest."""
    digest, columns = hashlib.sha256(), np.zeros(ROW, np.uint64)
    for piece in pieces:
        digest.update(piece.rows)
        columns ^= piece.columns
    digest.update(columns.data)
    digest.update(b"".join(piece.rest for piece in pieces))
    return digest.hexdigest()
