"""Arrays in Zarr folders (versions 2 and 3), by their names; they need the extra ``zarr``.

An array is a folder of chunks. Chunks that were never written are the array's fill value, by Zarr's specification.
"""

import json
import math
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from tiedae_cli.data.data_errors import data_errors
from tiedae_cli.data.sources.named_arrays import NUMBERS, TEXT, NamedArray, Unreadable, open_arrays
from tiedae_cli.data.sources.part import Bad, Part, RawBlock
from tiedae_cli.data.sources.source import ARRAY, VALUE_FIELDS, ReadOptions, Source
from tiedae_cli.errors import DataError
from tiedae_cli.system.memory_limits import require_memory
from tiedae_cli.system.optional_packages import optional_package

MARKS = ("zarr.json", ".zarray", ".zgroup")  # of version 3; of an array and a group of version 2
CODECS = frozenset(  # none of them can run code; zarr also knows a codec that unpickles
    {
        "bytes", "endian", "transpose", "sharding_indexed", "blosc", "gzip", "zlib", "zstd", "lz4", "lzma", "bz2", "crc32c", "crc32",
        "adler32", "fletcher32", "jenkins_lookup3", "shuffle", "delta", "bitround", "fixedscaleoffset", "scale_offset", "quantize",
        "packbits", "astype", "cast_value", "vlen-utf8", "vlen-bytes", "base64", "pcodec", "zfpy",
    }
)  # fmt: skip
LARGEST_DOCUMENT = 1 << 26  # bytes of the description of an array
DEEPEST = 8  # levels of groups in groups


def open_zarr(path: Path, options: ReadOptions) -> dict[str, Part]:
    """Return the arrays of a folder, also in groups (``train/data``), as the splits that their names identify.

    Raises:
        InputError: zarr is not installed.
        DataError: damaged, or no array, or more than one, could be the items of a split.
    """
    zarr = optional_package("zarr", "zarr", f"{path}: reading it")
    arrays: dict[str, NamedArray] = {}
    unreadable: dict[str, Unreadable] = {}
    with data_errors(path, "a Zarr folder"):
        for name, folder in _folders(path):
            problem = _problem(folder)
            if problem is not None:
                unreadable[name or "data"] = Unreadable(problem)
                continue
            array = zarr.open_array(str(folder), mode="r")
            if min(array.chunks, default=1) < 1:
                raise DataError(f"{folder}: damaged: chunks of {' x '.join(map(str, array.chunks))} values")
            if np.dtype(array.dtype).kind in NUMBERS + TEXT and array.shape:
                require_memory(f"{folder}", math.prod(array.chunks) * array.dtype.itemsize)
                arrays[name or "data"] = _array(zarr, folder, tuple(array.shape), np.dtype(array.dtype), array.chunks[0])
            else:
                unreadable[name or "data"] = Unreadable(f"has values of type {array.dtype}, not numbers")
    return open_arrays(str(path), arrays, options.data.arrays, unreadable)


def _folders(path: Path, prefix: str = "", depth: int = 0) -> Iterator[tuple[str, Path]]:
    """Yield the names and folders of the arrays in a folder; "" for the folder itself."""
    if _is_array(path):
        yield prefix, path
    elif depth < DEEPEST:
        for child in sorted(path.iterdir(), key=lambda child: child.as_posix()):
            if child.is_dir() and not child.is_symlink() and any((child / mark).is_file() for mark in MARKS):
                yield from _folders(child, f"{prefix}/{child.name}" if prefix else child.name, depth + 1)


def _is_array(folder: Path) -> bool:
    return (folder / ".zarray").is_file() or _document(folder / "zarr.json").get("node_type") == "array"


def _document(path: Path) -> Mapping[str, Any]:
    if not path.is_file() or path.stat().st_size > LARGEST_DOCUMENT:
        return {}
    document = json.loads(path.read_text("utf-8"))
    return document if isinstance(document, dict) else {}


def _problem(folder: Path) -> str | None:
    """Return why an array is not read, as a clause: a codec that is not known to be safe; None if it can be."""
    old = _document(folder / ".zarray")
    codecs = [old.get("compressor"), *(old.get("filters") or ())] if old else _document(folder / "zarr.json").get("codecs", [])
    unknown = [name for name in _names(codecs) if name not in CODECS]
    return f"is stored with the codec {unknown[0]}, which is not read" if unknown else None


def _names(codecs: Any) -> Iterator[str]:
    """Yield the names of codecs, also of those within a codec."""
    for codec in codecs if isinstance(codecs, list) else ():
        if isinstance(codec, dict):
            yield str(codec.get("id") or codec.get("name")).removeprefix("numcodecs.")
            inner = codec.get("configuration")
            for nested in inner.values() if isinstance(inner, dict) else ():
                yield from _names([part for part in nested if isinstance(part, dict)] if isinstance(nested, list) else [])
        elif codec is not None:
            yield str(codec)


def _array(zarr: Any, folder: Path, shape: tuple[int, ...], dtype: np.dtype, rows: int) -> NamedArray:
    def read(size: int, bad: Bad) -> Iterator[RawBlock]:
        step = max(1, size // rows) * rows  # whole chunks: each is unpacked once
        with data_errors(folder, "a Zarr array"):
            array = zarr.open_array(str(folder), mode="r")
            if min(array.chunks, default=1) < 1:
                raise DataError(f"{folder}: damaged: chunks of {' x '.join(map(str, array.chunks))} values")
            for start in range(0, shape[0], step):
                values = np.asarray(array[start : start + step])
                for first in range(0, len(values), size):
                    part = values[first : first + size]
                    yield RawBlock(range(start + first, start + first + len(part)), part)

    def whole() -> np.ndarray:
        with data_errors(folder, "a Zarr array"):
            return np.asarray(zarr.open_array(str(folder), mode="r")[...])

    return NamedArray(shape, dtype, lambda: Part(str(folder), shape[1:], dtype, shape[0], read), whole)


def is_zarr(path: Path, head: bytes) -> bool:
    """Return whether a folder is one of Zarr."""
    return any((path / mark).is_file() for mark in MARKS)


ZARR = Source("zarr", ARRAY, open_zarr, recognizes=is_zarr, fields=(*VALUE_FIELDS, "arrays"), is_folder=True)
