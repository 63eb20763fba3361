"""Tensors in the files of ``torch.save``, by their names; without torch, and without running anything that the file names.

A file is a zip archive: ``data.pkl`` describes the objects, and each storage is a member, stored as it is. The description is a
pickle. Here it is read by an unpickler that knows tensors, numbers, texts and containers, and puts a dead object in place of all else.
"""

import io
import pickle
import zipfile
from collections import OrderedDict
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.lib.stride_tricks import as_strided

from tiedae_cli.data.data_errors import data_errors
from tiedae_cli.data.sources.named_arrays import NamedArray, Unreadable, open_arrays
from tiedae_cli.data.sources.part import Part, array_part
from tiedae_cli.data.sources.source import ARRAY, VALUE_FIELDS, ReadOptions, Source
from tiedae_cli.errors import DataError
from tiedae_cli.system.memory_limits import require_memory

LEGACY = b"\x80\x02\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19."  # how torch.save began before version 1.6
DESCRIPTION = "data.pkl"
LARGEST_DESCRIPTION = 1 << 26  # bytes; the tensors are not in it
DEEPEST = 4  # levels of containers in containers
LOCAL_HEADER = 30  # bytes of a zip member's local header before its name
TYPES = {
    "Double": "f8", "Float": "f4", "Half": "f2", "BFloat16": "bfloat16", "Long": "i8", "Int": "i4", "Short": "i2", "Char": "i1",
    "Byte": "u1", "Bool": "?",
}  # fmt: skip


@dataclass(frozen=True)
class _Storage:
    """The values of one or several tensors: a member of the archive."""

    member: str
    type: str
    """Of ``TYPES``; ``bfloat16`` is not one of numpy's."""
    count: int

    @property
    def dtype(self) -> np.dtype:
        """As it is stored."""
        return np.dtype("u2" if self.type == "bfloat16" else self.type)


@dataclass(frozen=True)
class _Tensor:
    """A view of a storage."""

    storage: _Storage
    start: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]
    """In values."""


class _Dead:
    """Stands for an object of a class or the result of a function that is not run; takes and does nothing."""

    name = "an object"

    def __new__(cls, *_: object, **__: object) -> "_Dead":
        return super().__new__(cls)

    def __init__(self, *_: object, **__: object) -> None: ...

    def __setstate__(self, _: object) -> None: ...

    def append(self, _: object) -> None:
        """Do nothing."""

    def extend(self, _: object) -> None:
        """Do nothing."""

    def __setitem__(self, _: object, __: object) -> None: ...


class _Description(pickle.Unpickler):
    """Reads ``data.pkl``."""

    def find_class(self, module: str, name: str, /) -> Any:
        """Return what a name means here; never the object that it names."""
        if module == "torch" and name.endswith("Storage") and name.removesuffix("Storage") in TYPES:
            return TYPES[name.removesuffix("Storage")]
        if (module, name) == ("torch._utils", "_rebuild_tensor_v2"):
            return _tensor
        if (module, name) == ("torch._utils", "_rebuild_parameter"):
            return lambda tensor, *_: tensor
        if (module, name) == ("collections", "OrderedDict"):
            return OrderedDict
        return type("_Unknown", (_Dead,), {"name": f"{module}.{name}"})

    def persistent_load(self, pid: Any) -> Any:
        """Return a storage."""
        kind, dtype, key, _, count = pid
        if kind != "storage" or not isinstance(dtype, str):
            return _Dead()
        return _Storage(str(key), dtype, int(count))


def _tensor(storage: Any, start: Any, shape: Any, strides: Any, *_: object) -> Any:
    if not isinstance(storage, _Storage):
        return _Dead()
    return _Tensor(storage, int(start), tuple(map(int, shape)), tuple(map(int, strides)))


def open_torch(path: Path, options: ReadOptions) -> dict[str, Part]:
    """Return the tensors of a file as the splits that their names identify.

    The names are those of dicts (``train/x``) or positions in a list; of a pair such as (images, labels), ``data`` and ``labels``.

    Raises:
        DataError: damaged, of a version before 1.6, or no tensor, or more than one, could be the items of a split.
    """
    with data_errors(path, "a file of torch.save"):
        with path.open("rb") as file:
            if file.read(len(LEGACY)) == LEGACY:
                raise DataError(
                    f"{path}: written by torch before version 1.6; save it again: torch.save(torch.load(...), file)"
                )
        with zipfile.ZipFile(path) as archive:
            description = next((name for name in archive.namelist() if name.endswith(f"/{DESCRIPTION}")), None)
            if description is None:
                raise DataError(f"{path}: not a file of torch.save: it has no {DESCRIPTION}")
            folder = description.removesuffix(DESCRIPTION)
            if archive.getinfo(description).file_size > LARGEST_DESCRIPTION:
                raise DataError(f"{path}: damaged: its {DESCRIPTION} is larger than {LARGEST_DESCRIPTION >> 20} MB")
            order = archive.read(f"{folder}byteorder") if f"{folder}byteorder" in archive.namelist() else b"little"
            content = _Description(io.BytesIO(archive.read(description))).load()
            places = {info.filename.removeprefix(f"{folder}data/"): info for info in archive.infolist()}
        files = _Files(path, places, ">" if order.strip() == b"big" else "<")
        arrays: dict[str, NamedArray] = {}
        unreadable: dict[str, Unreadable] = {}
        for name, value in _named(content):
            if isinstance(value, _Tensor):
                arrays[name or "data"] = files.array(name, value)
            elif isinstance(value, _Dead):
                unreadable[name or "content"] = Unreadable(f"is an object of the class {value.name}, which is never unpickled")
    return open_arrays(str(path), arrays, options.data.arrays, unreadable)


def _named(value: Any, prefix: str = "", depth: int = 0) -> Iterator[tuple[str, Any]]:
    """Yield the tensors and dead objects of nested containers by name."""
    if isinstance(value, (list, tuple)) and len(value) == 2 and all(isinstance(part, _Tensor) for part in value):
        items, labels = value
        if len(items.shape) > 1 and labels.shape == items.shape[:1]:
            value = {"data": items, "labels": labels}
    if isinstance(value, (_Tensor, _Dead)):
        yield prefix, value
    elif isinstance(value, (dict, list, tuple)) and depth < DEEPEST:
        pairs = value.items() if isinstance(value, dict) else enumerate(value)
        for key, part in pairs:
            yield from _named(part, f"{prefix}/{key}" if prefix else str(key), depth + 1)


@dataclass(frozen=True)
class _Files:
    """The members of an archive that hold the storages."""

    path: Path
    places: dict[str, zipfile.ZipInfo]
    order: Literal["<", ">"]
    """``<`` or ``>``: of the bytes of a value."""

    def array(self, name: str, tensor: _Tensor) -> NamedArray:
        """Return a tensor as an array that is not read yet."""
        shown = f"{self.path}: {name}" if name else str(self.path)
        wide = tensor.storage.type == "bfloat16"
        dtype = np.dtype(np.float32) if wide else tensor.storage.dtype

        def whole() -> np.ndarray:
            with data_errors(self.path, "a file of torch.save"):
                values = self._view(shown, tensor)
            if not wide:
                return values
            require_memory(shown, 8 * values.size)
            return (values.astype(np.uint32) << 16).view(np.float32)  # the upper half of a float32

        return NamedArray(tensor.shape, dtype, lambda: array_part(whole(), shown), whole)

    def _view(self, name: str, tensor: _Tensor) -> np.ndarray:
        """Return a tensor, memory-mapped."""
        storage = tensor.storage
        info, dtype = self.places.get(storage.member), storage.dtype.newbyteorder(self.order)
        last = tensor.start + sum((size - 1) * stride for size, stride in zip(tensor.shape, tensor.strides, strict=True))
        inside = min((*tensor.shape, *tensor.strides, tensor.start, 0)) >= 0 and last < storage.count
        size = storage.count * dtype.itemsize
        if info is None or info.compress_type != zipfile.ZIP_STORED or info.file_size != size or not inside:
            if 0 in tensor.shape:
                return np.empty(tensor.shape, dtype)
            raise DataError(f"{name}: damaged: its values are not where the file says")
        with self.path.open("rb") as file:
            file.seek(info.header_offset)
            header = file.read(LOCAL_HEADER)
        lengths = int.from_bytes(header[26:28], "little") + int.from_bytes(header[28:30], "little")
        values = np.memmap(self.path, dtype, "r", info.header_offset + LOCAL_HEADER + lengths, (storage.count,))
        strides = [stride * dtype.itemsize for stride in tensor.strides]
        return as_strided(values[tensor.start :], tensor.shape, strides, writeable=False)


def is_torch_archive(path: Path, head: bytes) -> bool:
    """Return whether a file is one of ``torch.save``."""
    if head.startswith(LEGACY):
        return True
    if not head.startswith(b"PK\3\4"):
        return False
    try:
        with zipfile.ZipFile(path) as archive:
            return any(name.endswith(f"/{DESCRIPTION}") for name in archive.namelist())
    except (OSError, zipfile.BadZipFile):
        return False


TORCH = Source("torch", ARRAY, open_torch, (".pt", ".pth"), is_torch_archive, fields=(*VALUE_FIELDS, "arrays"))
