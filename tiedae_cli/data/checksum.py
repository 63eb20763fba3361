"""A checksum of arrays at the speed of memory, for noticing that data has changed.

It notices every change of a single value and, with a probability of 1 - 2^-64, any other accidental change. It is not a signature:
data can be made to have a given checksum.
"""

import hashlib

import numpy as np

ROW = 512  # 8-byte words that are added up
BLOCK = 1 << 20  # bytes that are read at once, because both sums are computed while they lie in the processor's cache


def checksum(values: np.ndarray) -> str:
    """Return the checksum of an array's bytes in C order, as hexadecimal digits.

    The bytes are laid out as rows of 8-byte words. SHA-256 is computed over the sum of each row (modulo 2^64), the exclusive or of all
    rows, and the bytes after the last row.
    """
    data = np.ascontiguousarray(values).reshape(-1).view(np.uint8)
    whole = len(data) // (8 * ROW) * 8 * ROW
    rows = data[:whole].view(np.uint64).reshape(-1, ROW)
    digest, columns = hashlib.sha256(), np.zeros(ROW, np.uint64)
    step = BLOCK // (8 * ROW)
    for start in range(0, len(rows), step):
        block = rows[start : start + step]
        columns ^= np.bitwise_xor.reduce(block, axis=0)
        digest.update(block.sum(1, dtype=np.uint64).data)
    digest.update(columns.data)
    digest.update(data[whole:].data)
    return digest.hexdigest()
