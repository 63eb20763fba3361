"""Arrays in HDF5 and MATLAB files, by their names; both need the extra ``hdf5``."""

import contextlib
import importlib
import logging
import math
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np

from tiedae_cli.data.data_errors import data_errors
from tiedae_cli.data.sources.named_arrays import NUMBERS, TEXT, NamedArray, Unreadable, is_called_label, open_arrays
from tiedae_cli.data.sources.part import Bad, Part, RawBlock, array_part
from tiedae_cli.data.sources.source import ARRAY, VALUE_FIELDS, Source
from tiedae_cli.data.sources.sparse import sparse_array
from tiedae_cli.errors import DataError
from tiedae_cli.system.memory_limits import require_memory
from tiedae_cli.system.optional_packages import optional_package
from tiedae_cli.system.text import shown

log = logging.getLogger(__name__)

MATLAB_5, MATLAB_73 = b"MATLAB 5.0", b"MATLAB 7.3"
MATLAB_BYTES = {"int8": 1, "uint8": 1, "logical": 1, "int16": 2, "uint16": 2, "int32": 4, "uint32": 4, "single": 4}
DEEPEST_STRUCT = 3  # levels of structs in structs
LISTED_FIELDS = 6  # of a struct or compound type, in messages
HDF5_MAGIC = b"\x89HDF\r\n\x1a\n"


def open_hdf5(path: Path, requested: Mapping[str, str], fills: bool = False) -> dict[str, Part]:
    """Return the data sets of an HDF5 file, also in groups (``train/data``), as the splits that their names identify.

    MATLAB writes version 7.3 as HDF5 with the dimensions reversed: they are turned back. Sparse matrices of AnnData are read too.

    Args:
        path: the file.
        requested: ``data.arrays``.
        fills: values that were never written are the fill value, instead of an error.

    Raises:
        InputError: h5py is not installed.
        DataError: damaged, or no data set, or more than one, could be the items of a split.
    """
    h5py = optional_package("h5py", "hdf5", f"{path}: reading it")
    with contextlib.suppress(ImportError):
        importlib.import_module("hdf5plugin")  # registers further compression filters
    with path.open("rb") as file:
        reversed_ = file.read(len(MATLAB_73)) == MATLAB_73
    arrays: dict[str, NamedArray] = {}
    unreadable: dict[str, Unreadable] = {}
    with data_errors(path, "an HDF5 file"), h5py.File(path, "r") as file:
        for name, value in _members(h5py, file, "", set()):
            if isinstance(value, Unreadable):
                unreadable[name] = value
            elif isinstance(value, h5py.Group):
                arrays[name] = _sparse_group(path, h5py, name, value)
            elif value.shape and "#refs#" not in name:
                kind = np.dtype(str) if h5py.check_string_dtype(value.dtype) else value.dtype
                if kind.kind in NUMBERS + TEXT:
                    refuse_other_files(path, h5py, value)
                    require_memory(f"{path}: {name}", math.prod(value.chunks or ()) * value.dtype.itemsize)
                    shape = tuple(reversed(value.shape)) if reversed_ else tuple(value.shape)
                    arrays[name] = _data_set(path, h5py, name, shape, kind, reversed_, fills)
                else:
                    unreadable[name] = Unreadable(f"has values of type {_type_name(value.dtype)}, not numbers", value.size)
    return open_arrays(str(path), arrays, requested, unreadable)


def refuse_other_files(path: Path, h5py: ModuleType, data: Any) -> None:
    """Refuse a data set with values in other files, which whoever made the file could choose.

    A virtual data set may read regular files below the folder of its own file, if these in turn read no others.

    Raises:
        DataError: it reads another file.
    """
    folder = os.path.realpath(path.parent)
    others = [name for name, *_ in data.external or ()]
    if data.is_virtual:
        for source in data.virtual_sources():
            real = os.path.realpath(os.path.join(folder, source.file_name))
            if source.file_name == "." or _is_gone(path, source.file_name):
                continue
            if not _is_beside(path, source.file_name) or os.path.samefile(real, path):
                others.append(source.file_name)
                continue
            with h5py.File(real, "r") as file:
                part = file[source.dset_name]
                if part.file.filename != real or part.external or part.is_virtual:
                    others.append(source.file_name)
    if others:
        raise DataError(
            f"{path}: {data.name}: its values are in another file ({shown(os.fsdecode(others[0]))[:80]}), which is not read"
        )


def _members(h5py: ModuleType, group: Any, prefix: str, seen: set[Any]) -> Iterator[tuple[str, Any]]:
    """Yield the data sets and sparse matrices below a group with their paths; ``Unreadable`` for links that lead nowhere."""
    for key in group:
        name, link = f"{prefix}{key}", group.get(key, getlink=True)
        file = Path(group.file.filename)
        outside = isinstance(link, h5py.ExternalLink) and not _is_beside(file, link.filename)
        if outside and not _is_gone(file, link.filename):
            yield name, Unreadable(f"is a link to {link.filename}, which is not a file below the folder of this one")
            continue
        try:
            value = group[key]
        except (KeyError, OSError):
            target = getattr(link, "filename", "") and f"{link.filename}: {link.path}" or getattr(link, "path", "?")
            yield name, Unreadable(f"is a link to {target}, which does not exist")
            continue
        if isinstance(link, h5py.SoftLink):
            continue  # another name of an array of this file
        if isinstance(value, h5py.Dataset) or sparse_format(value):
            yield name, value
        elif isinstance(value, h5py.Group) and (value.file.filename, value.id.__hash__()) not in seen:
            seen.add((value.file.filename, value.id.__hash__()))
            yield from _members(h5py, value, f"{name}/", seen)


def _is_beside(path: Path, other: str) -> bool:
    """Return whether a name in an HDF5 file is that of a regular file in its folder or below."""
    folder = os.path.realpath(path.parent)
    real = os.path.realpath(os.path.join(folder, other))
    return os.path.commonpath([folder, real]) == folder and ".." not in Path(other).parts and os.path.isfile(real)


def _is_gone(path: Path, other: str) -> bool:
    """Return whether HDF5 finds no file of this name, neither in the folder of its file nor in the working directory."""
    return not (path.parent / other).exists() and not Path(other).exists()


def sparse_format(group: Any) -> str:
    """Return ``csr`` or ``csc`` for a group that holds a sparse matrix as AnnData writes it."""
    encoding = str(getattr(group, "attrs", {}).get("encoding-type", group.attrs.get("h5sparse_format", "")))
    known = encoding.removesuffix("_matrix") if {"data", "indices", "indptr"} <= set(getattr(group, "keys", list)()) else ""
    return known if known in ("csr", "csc") else ""


def _sparse_group(path: Path, h5py: ModuleType, name: str, group: Any) -> NamedArray:
    scipy_sparse = optional_package("scipy.sparse", "hdf5", f"{path}: reading a sparse matrix")
    shape = tuple(int(size) for size in group.attrs.get("shape", group.attrs.get("h5sparse_shape", ())))
    make = getattr(scipy_sparse, f"{sparse_format(group)}_matrix")

    def load() -> Any:
        with data_errors(path, "an HDF5 file"), h5py.File(path, "r") as file:
            own = file[name]
            return make((own["data"][...], own["indices"][...], own["indptr"][...]), shape)

    return sparse_array(f"{path}: {name}", shape, group["data"].dtype, load)


def _type_name(dtype: np.dtype) -> str:
    return f"compound ({', '.join(dtype.names[:LISTED_FIELDS])})" if dtype.names else str(dtype)


def check_written(path: Path, h5py: ModuleType, name: str, data: Any, fills: bool) -> None:
    """Raise ``DataError`` if values of a data set cannot be decompressed, or are absent and so would be read as the fill value."""
    plist = data.id.get_create_plist()
    for index in range(plist.get_nfilters()):
        number, _, _, label = plist.get_filter(index)
        if not h5py.h5z.filter_avail(number):
            text = label.decode("utf-8", "replace") or "unknown"
            raise DataError(f"{path}: {name}: compressed with the filter {text} ({number}): pip install hdf5plugin")
    problem = None if fills else _absent(path, data)
    if problem:
        raise DataError(
            f"{path}: {name}: {problem}; they would be read as the fill value {data.fillvalue}. "
            "If that is meant: --set data.missing=fill"
        )


def _absent(path: Path, data: Any) -> str | None:
    """Return which values of a data set are absent, as text; None if all are there."""
    if data.is_virtual:
        files = dict.fromkeys(source.file_name for source in data.virtual_sources() if source.file_name != ".")
        gone = [name for name in files if _is_gone(path, name)]
        return f"values of its source {gone[0]} are missing ({len(gone)} of {len(files)} files)" if gone else None
    if data.chunks is not None:
        expected = math.prod(-(-length // chunk) for length, chunk in zip(data.shape, data.chunks, strict=True))
        found = data.id.get_num_chunks()
        return f"{expected - found:,} of {expected:,} chunks were never written" if found < expected else None
    empty = data.size and data.id.get_storage_size() == 0
    return "its values were never written" if empty else None


def _data_set(
    path: Path, h5py: ModuleType, name: str, shape: tuple[int, ...], dtype: np.dtype, reversed_: bool, fills: bool
) -> NamedArray:
    def read(size: int, bad: Bad) -> Iterator[RawBlock]:
        with data_errors(path, "an HDF5 file"), h5py.File(path, "r") as file:
            data = file[name]
            for start in range(0, shape[0], size):
                rows = range(start, min(start + size, shape[0]))
                values = data[..., rows.start : rows.stop].T if reversed_ else data[rows.start : rows.stop]
                yield RawBlock(rows, np.ascontiguousarray(values))

    def part() -> Part:
        with data_errors(path, "an HDF5 file"), h5py.File(path, "r") as file:
            check_written(path, h5py, name, file[name], fills)
        return Part(f"{path}: {name}", shape[1:], dtype, shape[0], read)

    def whole() -> np.ndarray:
        with data_errors(path, "an HDF5 file"), h5py.File(path, "r") as file:
            values: np.ndarray = file[name].asstr()[...].astype(str) if dtype.kind in TEXT else file[name][...]
        return values.T if reversed_ else values

    return NamedArray(shape, dtype, part, whole)


def open_matlab(path: Path, requested: Mapping[str, str], fills: bool = False) -> dict[str, Part]:
    """Return the variables of a MATLAB file (up to version 7) as the splits that their names identify.

    Raises:
        InputError: scipy is not installed.
        DataError: damaged, or no variable, or more than one, could be the items of a split.
    """
    with path.open("rb") as file:
        if file.read(len(MATLAB_73)) == MATLAB_73:
            return open_hdf5(path, requested, fills)
    scipy_io = optional_package("scipy.io", "hdf5", f"{path}: reading it")
    with data_errors(path, "a MATLAB file"):
        sizes = (math.prod(shape) * MATLAB_BYTES.get(kind, 8) for _, shape, kind in scipy_io.whosmat(path))
        require_memory(str(path), sum(sizes))
        variables = scipy_io.loadmat(path)
    numbers: dict[str, np.ndarray] = {}
    sparse: dict[str, NamedArray] = {}
    unreadable: dict[str, Unreadable] = {}
    for name, value in _variables(variables):
        if hasattr(value, "tocsr"):
            sparse[name] = sparse_array(f"{path}: {name}", value.shape, value.dtype, lambda value=value: value)  # type: ignore[misc]
        elif isinstance(value, Unreadable):
            unreadable[name] = value
        else:
            numbers[name] = value
    counts = {values.size for name, values in numbers.items() if is_called_label(name)}
    arrays = {name: _variable(f"{path}: {name}", _items_first(name, values, counts)) for name, values in numbers.items()}
    return open_arrays(str(path), {**arrays, **sparse}, requested, unreadable)


def _variables(variables: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Yield the arrays of a MATLAB file and of its structs (``data/X``) by name; ``Unreadable`` for the others."""
    for name, value in variables.items():
        if name.startswith("__") or getattr(value, "size", 0) == 0:
            continue
        if hasattr(value, "tocsr"):
            yield prefix + name, value
        elif not isinstance(value, np.ndarray):
            yield prefix + name, Unreadable(f"is a MATLAB {type(value).__name__}")
        elif value.dtype.names and value.size == 1 and prefix.count("/") < DEEPEST_STRUCT:
            yield from _variables({field: value.flat[0][field] for field in value.dtype.names}, f"{prefix}{name}/")
        elif value.dtype.names:
            yield (
                prefix + name,
                Unreadable(f"is an array of structs ({', '.join(value.dtype.names[:LISTED_FIELDS])})", value.size),
            )
        elif value.dtype.kind == "O" and all(isinstance(cell, np.ndarray) and cell.dtype.kind == "U" for cell in value.flat):
            yield prefix + name, np.array(["".join(cell.flat) for cell in value.flat])  # a cell array of words
        elif value.dtype.kind == "O":
            yield prefix + name, Unreadable("is a cell array; save a matrix: X = cell2mat(X)", value.size)
        elif value.dtype.kind not in NUMBERS + TEXT:
            yield prefix + name, Unreadable(f"has values of type {value.dtype}, not numbers", value.size)
        elif value.size >= 2:
            yield prefix + name, value


def _variable(name: str, values: np.ndarray) -> NamedArray:
    return NamedArray(values.shape, values.dtype, lambda: array_part(values, name), lambda: values)


def _items_first(name: str, values: np.ndarray, counts: set[int]) -> np.ndarray:
    """Return an array with its items along the first dimension: MATLAB often has them last, by the number of labels."""
    if values.ndim < 3 or values.shape[0] in counts or values.shape[-1] not in counts:
        return values
    log.info(f"{name}: its items are along the last dimension, by the number of labels")
    return np.moveaxis(values, -1, 0)


HDF5 = Source(
    "hdf5",
    ARRAY,
    lambda path, options: open_hdf5(path, options.data.arrays, options.data.missing == "fill"),
    (".h5", ".hdf5", ".he5"),
    lambda path, head: head.startswith(HDF5_MAGIC),
    fields=(*VALUE_FIELDS, "arrays"),
)
MATLAB = Source(
    "matlab",
    ARRAY,
    lambda path, options: open_matlab(path, options.data.arrays, options.data.missing == "fill"),
    (".mat",),
    lambda path, head: head.startswith(MATLAB_5),
    fields=(*VALUE_FIELDS, "arrays"),
)
