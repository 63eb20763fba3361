"""Arrays embedded in a page: one compressed block for all of them, and JSON with the offset and type of each.

Browsers read the block with ``DecompressionStream``: lossless, and a third of the size of decimal text.
"""

import base64
import zlib
from typing import Any

import numpy as np

TYPES = {"uint8": "Uint8Array", "int8": "Int8Array", "int16": "Int16Array", "uint16": "Uint16Array", "float32": "Float32Array"}
ALIGNMENT = 4  # a typed array starts at a multiple of its own item size
MARKUP = {"<": "\\u003c", ">": "\\u003e", "&": "\\u0026", "\u2028": "\\u2028", "\u2029": "\\u2029"}


class Arrays:
    """Collects the arrays of a page."""

    def __init__(self) -> None:
        self.parts: list[bytes] = []
        self.size = 0

    def add(self, values: np.ndarray) -> dict[str, Any]:
        """Add an array with a dtype of ``TYPES`` to the block; return its JSON reference."""
        content = np.ascontiguousarray(values).astype(values.dtype.newbyteorder("<"), copy=False).tobytes()
        place = {"array": TYPES[values.dtype.name], "offset": self.size, "shape": list(values.shape)}
        padding = -len(content) % ALIGNMENT
        self.parts.append(content + b"\0" * padding)
        self.size += len(content) + padding
        return place

    def text(self) -> str:
        """Return the block, compressed with zlib and encoded as base64."""
        return base64.b64encode(zlib.compress(b"".join(self.parts), 9)).decode()


def embeddable(json_text: str) -> str:
    """Escape JSON text for HTML: it stays equal as JSON and cannot open or close a tag."""
    for character, escaped in MARKUP.items():
        json_text = json_text.replace(character, escaped)
    return json_text
