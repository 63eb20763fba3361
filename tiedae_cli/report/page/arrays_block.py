"""How numbers travel in a page: one compressed block for all arrays, and JSON that says what lies where.

A browser reads the block with its own ``DecompressionStream``: exact, and a third of the size of numbers written out.
"""

import base64
import zlib
from typing import Any

import numpy as np

TYPES = {"uint8": "Uint8Array", "int8": "Int8Array", "int16": "Int16Array", "uint16": "Uint16Array", "float32": "Float32Array"}
ALIGNMENT = 4  # a typed array starts at a multiple of its own item size
MARKUP = {"<": "\\u003c", ">": "\\u003e", "&": "\\u0026", "\u2028": "\\u2028", "\u2029": "\\u2029"}


class Arrays:
    """Gathers the arrays of a page."""

    def __init__(self) -> None:
        self.parts: list[bytes] = []
        self.size = 0

    def add(self, values: np.ndarray) -> dict[str, Any]:
        """Put an array of one of ``TYPES`` into the block and return what stands for it in the JSON."""
        content = np.ascontiguousarray(values).astype(values.dtype.newbyteorder("<"), copy=False).tobytes()
        place = {"array": TYPES[values.dtype.name], "offset": self.size, "shape": list(values.shape)}
        padding = -len(content) % ALIGNMENT
        self.parts.append(content + b"\0" * padding)
        self.size += len(content) + padding
        return place

    def text(self) -> str:
        """Return the block: zlib, then base64."""
        return base64.b64encode(zlib.compress(b"".join(self.parts), 9)).decode()


def embeddable(json_text: str) -> str:
    """Return JSON that means the same and holds no character that ends or starts anything in HTML."""
    for character, escaped in MARKUP.items():
        json_text = json_text.replace(character, escaped)
    return json_text
