"""Arrays in HDF5 and MATLAB files, by their names; both need the extra ``hdf5``."""

import logging
import math
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np

from tiedae_cli.data.data_errors import data_errors
from tiedae_cli.data.sources.named_arrays import NUMBERS, TEXT, NamedArray, is_called_label, open_arrays
from tiedae_cli.data.sources.part import Bad, Part, RawBlock, array_part
from tiedae_cli.data.sources.source import ARRAY, VALUE_FIELDS, Source
from tiedae_cli.errors import DataError
from tiedae_cli.system.memory import require_memory
from tiedae_cli.system.optional_packages import optional_package
from tiedae_cli.system.text import shown

log = logging.getLogger(__name__)

MATLAB_5, MATLAB_73 = b"MATLAB 5.0", b"MATLAB 7.3"
MATLAB_BYTES = {"int8": 1, "uint8": 1, "logical": 1, "int16": 2, "uint16": 2, "int32": 4, "uint32": 4, "single": 4}
HDF5_MAGIC = b"\x89HDF\r\n\x1a\n"


def open_hdf5(path: Path, requested: Mapping[str, str]) -> dict[str, Part]:
    """Return the data sets of an HDF5 file, also in groups (``train/data``), as the splits that their names identify.

    MATLAB writes version 7.3 as HDF5 with the dimensions reversed: they are turned back.

    Raises:
        InputError: h5py is not installed.
        DataError: damaged, or no data set, or more than one, could be the items of a split.
    """
    h5py = optional_package("h5py", "hdf5", f"{path}: reading it")
    with path.open("rb") as file:
        reversed_ = file.read(len(MATLAB_73)) == MATLAB_73
    arrays: dict[str, NamedArray] = {}

    def visit(name: str, value: Any) -> None:
        if isinstance(value, h5py.Dataset) and value.shape and "#refs#" not in name:
            kind = np.dtype(str) if h5py.check_string_dtype(value.dtype) else value.dtype
            if kind.kind in NUMBERS + TEXT:
                _refuse_other_files(path, h5py, value)
                require_memory(f"{path}: {name}", math.prod(value.chunks or ()) * value.dtype.itemsize)
                shape = tuple(reversed(value.shape)) if reversed_ else tuple(value.shape)
                arrays[name] = _data_set(path, h5py, name, shape, kind, reversed_)

    with data_errors(path, "an HDF5 file"), h5py.File(path, "r") as file:
        file.visititems(visit)
    return open_arrays(str(path), arrays, requested)


def _refuse_other_files(path: Path, h5py: ModuleType, data: Any) -> None:
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
            inside = os.path.commonpath([folder, real]) == folder and ".." not in Path(source.file_name).parts
            if source.file_name == ".":
                continue
            if not inside or not os.path.isfile(real) or os.path.samefile(real, path):
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


def _data_set(path: Path, h5py: ModuleType, name: str, shape: tuple[int, ...], dtype: np.dtype, reversed_: bool) -> NamedArray:
    def read(size: int, bad: Bad) -> Iterator[RawBlock]:
        with data_errors(path, "an HDF5 file"), h5py.File(path, "r") as file:
            data = file[name]
            for start in range(0, shape[0], size):
                rows = range(start, min(start + size, shape[0]))
                values = data[..., rows.start : rows.stop].T if reversed_ else data[rows.start : rows.stop]
                yield RawBlock(rows, np.ascontiguousarray(values))

    def part() -> Part:
        return Part(f"{path}: {name}", shape[1:], dtype, shape[0], read)

    def whole() -> np.ndarray:
        with data_errors(path, "an HDF5 file"), h5py.File(path, "r") as file:
            values: np.ndarray = file[name].asstr()[...].astype(str) if dtype.kind in TEXT else file[name][...]
        return values.T if reversed_ else values

    return NamedArray(shape, dtype, part, whole)


def open_matlab(path: Path, requested: Mapping[str, str]) -> dict[str, Part]:
    """Return the variables of a MATLAB file (up to version 7) as the splits that their names identify.

    Raises:
        InputError: scipy is not installed.
        DataError: damaged, or no variable, or more than one, could be the items of a split.
    """
    with path.open("rb") as file:
        if file.read(len(MATLAB_73)) == MATLAB_73:
            return open_hdf5(path, requested)
    scipy_io = optional_package("scipy.io", "hdf5", f"{path}: reading it")
    with data_errors(path, "a MATLAB file"):
        sizes = (math.prod(shape) * MATLAB_BYTES.get(kind, 8) for _, shape, kind in scipy_io.whosmat(path))
        require_memory(str(path), sum(sizes))
        variables = scipy_io.loadmat(path)
    numbers = {}
    for name, values in variables.items():
        plain = values.toarray() if hasattr(values, "toarray") else values  # a sparse matrix
        if name.startswith("__") or not isinstance(plain, np.ndarray) or plain.size < 2:
            continue
        if plain.dtype.kind == "O" and all(isinstance(cell, np.ndarray) and cell.dtype.kind == "U" for cell in plain.flat):
            plain = np.array(["".join(cell.flat) for cell in plain.flat])  # a cell array of words
        if plain.dtype.kind in NUMBERS + TEXT:
            numbers[name] = plain
    counts = {values.size for name, values in numbers.items() if is_called_label(name)}
    arrays = {name: _variable(f"{path}: {name}", _items_first(name, values, counts)) for name, values in numbers.items()}
    return open_arrays(str(path), arrays, requested)


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
    lambda path, options: open_hdf5(path, options.data.arrays),
    (".h5", ".hdf5", ".he5"),
    lambda path, head: head.startswith(HDF5_MAGIC),
    fields=(*VALUE_FIELDS, "arrays"),
)
MATLAB = Source(
    "matlab",
    ARRAY,
    lambda path, options: open_matlab(path, options.data.arrays),
    (".mat",),
    lambda path, head: head.startswith(MATLAB_5),
    fields=(*VALUE_FIELDS, "arrays"),
)
