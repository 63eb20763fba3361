"""Arrays in ``.safetensors`` files that are not models of tiedae, by their names."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from tiedae_cli.data.data_errors import data_errors
from tiedae_cli.data.sources.named_arrays import NamedArray, Unreadable, open_arrays
from tiedae_cli.data.sources.part import Bad, Part, RawBlock
from tiedae_cli.data.sources.source import ARRAY, VALUE_FIELDS, ReadOptions, Source
from tiedae_cli.errors import DataError

MODEL_KEY = "tiedae"  # in the metadata of every model that this program writes
LARGEST_HEADER = 1 << 27  # bytes, of any file
TYPES = {
    "BOOL": "?", "U8": "u1", "I8": "i1", "U16": "u2", "I16": "i2", "U32": "u4", "I32": "i4", "U64": "u8", "I64": "i8", "F16": "f2",
    "F32": "f4", "F64": "f8", "BF16": "f4",
}  # fmt: skip


def open_safetensors(path: Path, options: ReadOptions) -> dict[str, Part]:
    """Return the arrays of a file as the splits that their names identify; values are read block by block.

    Raises:
        DataError: damaged, a model of this program, or no array, or more than one, could be the items of a split.
    """
    from safetensors import safe_open

    if MODEL_KEY in (_metadata(path) or {}):
        raise DataError(f"{path}: a model, not data; name the data that it should be trained on")
    arrays: dict[str, NamedArray] = {}
    unreadable: dict[str, Unreadable] = {}
    with data_errors(path, "a safetensors file"), safe_open(path, "np") as file:
        for name in file.keys():  # noqa: SIM118 (not a mapping)
            part = file.get_slice(name)
            shape, kind = tuple(part.get_shape()), str(part.get_dtype())
            if kind not in TYPES:
                unreadable[name] = Unreadable(f"has values of type {kind}, which numpy has not", int(np.prod(shape)))
            elif shape:
                arrays[name] = _array(path, name, shape, kind)
    return open_arrays(str(path), arrays, options.data.arrays, unreadable)


def _array(path: Path, name: str, shape: tuple[int, ...], kind: str) -> NamedArray:
    def rows(start: int, stop: int) -> np.ndarray:
        from safetensors import safe_open

        with data_errors(path, "a safetensors file"), safe_open(path, "pt" if kind == "BF16" else "np") as file:
            values: Any = file.get_slice(name)[start:stop]
        return np.asarray(values.float().numpy() if kind == "BF16" else values)

    def read(size: int, bad: Bad) -> Iterator[RawBlock]:
        for start in range(0, shape[0], size):
            stop = min(start + size, shape[0])
            yield RawBlock(range(start, stop), rows(start, stop))

    dtype = np.dtype(TYPES[kind])
    part = Part(f"{path}: {name}", shape[1:], dtype, shape[0], read)
    return NamedArray(shape, dtype, lambda: part, lambda: rows(0, shape[0]))


def is_model(path: Path) -> bool:
    """Return whether a ``.safetensors`` file is a model of this program, by its metadata; True if that cannot be read."""
    metadata = _metadata(path)
    return metadata is None or MODEL_KEY in metadata


def _metadata(path: Path) -> dict[str, Any] | None:
    """Return the metadata of a ``.safetensors`` file; None if it has no readable header."""
    try:
        with path.open("rb") as file:
            size = int.from_bytes(file.read(8), "little")
            header = json.loads(file.read(size)) if size <= LARGEST_HEADER else None
    except (OSError, ValueError, RecursionError):
        return None
    metadata = header.get("__metadata__", {}) if isinstance(header, dict) else None
    return metadata if isinstance(metadata, dict) else None


def _recognizes(path: Path, head: bytes) -> bool:
    return head[8:10] == b'{"' and int.from_bytes(head[:8], "little") <= LARGEST_HEADER


SAFETENSORS = Source("safetensors", ARRAY, open_safetensors, (".safetensors",), _recognizes, fields=(*VALUE_FIELDS, "arrays"))
