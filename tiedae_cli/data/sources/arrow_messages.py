"""How large a message of an Arrow IPC file is once it is unpacked, which pyarrow does not say before it has unpacked it.

A message has a flatbuffer with its layout, and a body. A compressed buffer of the body begins with its unpacked length.
https://arrow.apache.org/docs/format/Columnar.html#encapsulated-message-format
"""

import struct
from typing import Any

HEADER_TYPE, HEADER = 1, 2  # fields of Message
BATCH_OF_DICTIONARY = 1  # field of DictionaryBatch
BUFFERS, COMPRESSION = 2, 3  # fields of RecordBatch
DICTIONARY, RECORDS = 2, 3  # types of header
LENGTH = struct.Struct("<q")


def unpacked_bytes(message: Any) -> int:
    """Return the bytes that the compressed buffers of a pyarrow message take unpacked; 0 if they are not compressed."""
    layout, body = memoryview(message.metadata), memoryview(message.body) if message.body is not None else memoryview(b"")
    (root,) = struct.unpack_from("<I", layout)
    kind, header = _field(layout, root, HEADER_TYPE), _field(layout, root, HEADER)
    if kind is None or header is None or layout[kind] not in (DICTIONARY, RECORDS):
        return 0
    batch = _target(layout, header)
    if layout[kind] == DICTIONARY:
        data = _field(layout, batch, BATCH_OF_DICTIONARY)
        if data is None:
            return 0
        batch = _target(layout, data)
    buffers = _field(layout, batch, BUFFERS)
    if buffers is None or _field(layout, batch, COMPRESSION) is None:
        return 0
    first = _target(layout, buffers)
    (count,) = struct.unpack_from("<I", layout, first)
    places = (struct.unpack_from("<qq", layout, first + 4 + 16 * index) for index in range(count))
    return sum(max(0, LENGTH.unpack_from(body, offset)[0]) for offset, length in places if length >= LENGTH.size)


def _field(layout: memoryview, table: int, number: int) -> int | None:
    """Return the position of a field of a table; None if it has the default value."""
    slots = table - int(struct.unpack_from("<i", layout, table)[0])
    slot = 4 + 2 * number
    offset = struct.unpack_from("<H", layout, slots + slot)[0] if slot < struct.unpack_from("<H", layout, slots)[0] else 0
    return table + int(offset) if offset else None


def _target(layout: memoryview, position: int) -> int:
    """Return the position that an offset leads to."""
    return position + int(struct.unpack_from("<I", layout, position)[0])
