"""Matrices with names: AnnData (``.h5ad``) and MatrixMarket, alone or as the folder that 10x writes; each cell (row) is an item.

A sparse matrix becomes dense block by block. Shapes: N items, D values per item, B items per block.
"""

import gzip
import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from tiedae_cli.config import DataConfig
from tiedae_cli.data.data_errors import data_errors
from tiedae_cli.data.sources.dialect import distinct
from tiedae_cli.data.sources.matrices import check_written, refuse_other_files, sparse_format
from tiedae_cli.data.sources.number_format import NumberFormat
from tiedae_cli.data.sources.part import Bad, Part
from tiedae_cli.data.sources.source import VALUE_FIELDS, ReadOptions, Source
from tiedae_cli.data.sources.table import HEAD_ROWS, Table, TableBlock
from tiedae_cli.data.sources.table_kinds import chosen_part
from tiedae_cli.errors import ConfigError, DataError
from tiedae_cli.system.memory_limits import require_columns, require_memory
from tiedae_cli.system.optional_packages import optional_package

log = logging.getLogger(__name__)

DENSE_BYTES = 1 << 25  # of a block
MATRIX, ITEMS, VALUES = "matrix.mtx", "barcodes.tsv", ("features.tsv", "genes.tsv")  # of a 10x folder; each may end in .gz
FIELDS = (*VALUE_FIELDS, "label", "columns", "ignore", "categories")
Rows = Callable[[int, int], np.ndarray]  # (first, last + 1) -> (B, D)


def _table(
    name: str, shape: tuple[int, int], rows: Rows, names: Sequence[str] | None, kind: str, obs: Mapping[str, Any]
) -> Table:
    """Return a matrix as a table.

    Args:
        name: for messages.
        shape: (N, D).
        rows: returns dense rows.
        names: of the D values; None if they have none.
        kind: its format, for messages.
        obs: further columns, a pyarrow array of N values each, which are not fed unless the config names them.
    """
    import pyarrow

    count, width = shape
    if not count or not width:
        raise DataError(f"{name}: {count:,} x {width:,}: empty")
    require_columns(name, width)
    named = [str(index) for index in range(width)] if names is None else list(names)
    every = distinct([*named, *obs])
    values, others = every[:width], dict(zip(every[width:], obs.values(), strict=True))
    size = max(1, min(1 << 14, DENSE_BYTES // (8 * width)))

    def block(start: int, stop: int) -> TableBlock:
        dense = np.asfortranarray(rows(start, stop))
        columns = {own: pyarrow.array(dense[:, place]) for place, own in enumerate(values)}
        columns |= {own: cells.slice(start, stop - start) for own, cells in others.items()}
        return TableBlock(np.arange(start, stop), columns)

    def read(bad: Bad) -> Iterator[TableBlock]:
        with data_errors(name, kind):
            for start in range(0, count, size):
                yield block(start, min(start + size, count))

    with data_errors(name, kind):
        head = block(0, min(HEAD_ROWS, size, count))
    return Table(name, every, names is not None, NumberFormat(), head, read, kind, keys=tuple(others), keys_from="obs")


# AnnData


def _anndata(path: Path, options: ReadOptions) -> dict[str, Part]:
    return chosen_part(open_anndata(path, options.data), options)


def open_anndata(path: Path, config: DataConfig) -> Table:
    """Return the matrix of an AnnData file as a table: ``var`` names its columns, those of ``obs`` may be labels.

    Args:
        path: the file.
        config: ``arrays`` names another matrix than ``X``, such as ``layers/counts`` or ``obsm/X_pca``.

    Raises:
        InputError: h5py or scipy is not installed.
        ConfigError: there is no matrix of that name.
        DataError: the file is damaged, or holds no matrix.
    """
    h5py = optional_package("h5py", "hdf5", f"{path}: reading it")
    wanted = config.arrays.get("train", "X")
    with data_errors(path, "an AnnData file"), h5py.File(path, "r") as file:
        found = _matrices(h5py, file)
        if wanted not in found:
            listed = ", ".join(f"{name} ({' x '.join(map(str, shape))})" for name, shape in found.items())
            raise ConfigError(f"data.arrays: {path} has no matrix {wanted} (it has {listed or 'none'})")
        if len(found) > 1:
            others = ", ".join(name for name in found if name != wanted)
            log.info(f"{path}: the items are {wanted}; ignored: {others} (--set data.arrays=NAME)")
        shape = found[wanted]
        var = "raw/var" if wanted.startswith("raw/") else "var"
        names = _index(file[var]) if var in file and not wanted.startswith("obsm/") else None
        if names is not None and len(names) != shape[1]:
            raise DataError(f"{path}: {wanted} has {shape[1]:,} columns, but {var} has {len(names):,} names")
        if names is None:
            names = [f"{wanted.rpartition('/')[2]}[{index}]" for index in range(shape[1])]
        obs = _columns(h5py, file["obs"], shape[0]) if "obs" in file else {}
        rows = _sparse_rows(path, file[wanted], wanted, shape) if sparse_format(file[wanted]) else None
        if rows is None:
            refuse_other_files(path, h5py, file[wanted])
            check_written(path, h5py, wanted, file[wanted], config.missing == "fill")
            rows = _dense_rows(path, wanted)
    return _table(str(path), shape, rows, names, "AnnData", obs)


def _matrices(h5py: Any, file: Any) -> dict[str, tuple[int, int]]:
    """Return the shapes of the matrices whose rows are the items, by their names."""
    below = [f"{group}/{name}" for group in ("layers", "obsm") if group in file for name in file[group]]
    found = {}
    for name in ("X", "raw/X", *below):
        if name not in file:
            continue
        value = file[name]
        is_sparse = bool(sparse_format(value)) if isinstance(value, h5py.Group) else False
        stored = value.attrs.get("shape", value.attrs.get("h5sparse_shape", ())) if is_sparse else getattr(value, "shape", ())
        shape = list(stored)
        if len(shape) == 2 and (is_sparse or value.dtype.kind in "biuf"):
            found[name] = (int(shape[0]), int(shape[1]))
    return found


def _dense_rows(path: Path, name: str) -> Rows:
    def rows(start: int, stop: int) -> np.ndarray:
        h5py = optional_package("h5py", "hdf5", f"{path}: reading it")
        with h5py.File(path, "r") as file:
            return np.asarray(file[name][start:stop])

    return rows


def _sparse_rows(path: Path, group: Any, name: str, shape: tuple[int, int]) -> Rows:
    """Return a reader of the rows of a sparse matrix: of one stored by columns the whole is in memory, sparse."""
    sparse = optional_package("scipy.sparse", "hdf5", f"{path}: reading a sparse matrix")
    by_rows, pointers = sparse_format(group) == "csr", group["indptr"][...]
    if not by_rows:
        require_memory(f"{path}: {name}", 2 * sum(group[part].nbytes for part in ("data", "indices")))
        parts = (group["data"][...], group["indices"][...], pointers)
        matrix = sparse.csc_matrix(parts, shape).tocsr()
        return lambda start, stop: np.asarray(matrix[start:stop].toarray())

    def rows(start: int, stop: int) -> np.ndarray:
        h5py = optional_package("h5py", "hdf5", f"{path}: reading it")
        with h5py.File(path, "r") as file:
            first, last = int(pointers[start]), int(pointers[stop])
            cells = (file[name]["data"][first:last], file[name]["indices"][first:last], pointers[start : stop + 1] - first)
        return np.asarray(sparse.csr_matrix(cells, (stop - start, shape[1])).toarray())

    return rows


def _index(frame: Any) -> list[str]:
    """Return the names of the rows of a stored DataFrame."""
    if getattr(frame, "dtype", None) is not None and frame.dtype.names:  # of old versions
        return _texts(frame[frame.dtype.names[0]])
    name = frame.attrs.get("_index", "_index" if "_index" in frame else "index")
    return _texts(frame[name][...])


def _texts(values: np.ndarray) -> list[str]:
    return [value.decode("utf-8", "replace") if isinstance(value, bytes) else str(value) for value in values.tolist()]


def _columns(h5py: Any, frame: Any, count: int) -> dict[str, Any]:
    """Return the columns of a stored DataFrame as pyarrow arrays; those of other types are skipped."""
    import pyarrow

    if not isinstance(frame, h5py.Group):
        return {}
    found = {}
    for name in frame:
        value = frame[name]
        if name == frame.attrs.get("_index", "_index") or name == "__categories":
            continue
        if isinstance(value, h5py.Group) and {"categories", "codes"} <= set(value):
            words = np.array([*_texts(value["categories"][...]), ""], dtype=object)
            found[name] = pyarrow.array(words[value["codes"][...]].tolist(), pyarrow.string())
        elif isinstance(value, h5py.Dataset) and value.shape == (count,):
            old = "__categories" in frame and name in frame["__categories"]
            if old:
                words = np.array([*_texts(frame["__categories"][name][...]), ""], dtype=object)
                found[name] = pyarrow.array(words[value[...]].tolist(), pyarrow.string())
            elif value.dtype.kind in "biuf":
                found[name] = pyarrow.array(value[...])
            else:
                found[name] = pyarrow.array(_texts(value[...]), pyarrow.string())
    return found


# MatrixMarket


def _market(path: Path, options: ReadOptions) -> dict[str, Part]:
    return chosen_part(open_market(path), options)


def open_market(path: Path) -> Table:
    """Return a MatrixMarket file, or a folder that 10x wrote, as a table.

    The folder has genes x cells: it is transposed, and the names of the genes are those of the columns. A file alone is items x values.

    Raises:
        InputError: scipy is not installed.
        DataError: damaged, or the names are not as many as the rows.
    """
    scipy_io = optional_package("scipy.io", "hdf5", f"{path}: reading it")
    folder = path if path.is_dir() else path.parent
    features = next((found for name in VALUES if (found := _beside(folder, name))), None)
    barcodes = _beside(folder, ITEMS)
    file = _beside(folder, MATRIX) if path.is_dir() else path
    assert file is not None
    is_10x = features is not None and barcodes is not None
    with data_errors(file, "a MatrixMarket file"):
        rows, columns, entries, *_ = scipy_io.mminfo(file)
        require_memory(str(file), 3 * 16 * int(entries) + 16 * int(rows + columns))
        matrix = scipy_io.mmread(file)
    if hasattr(matrix, "tocsr"):
        matrix = (matrix.T if is_10x else matrix).tocsr()
    else:
        matrix = matrix.T if is_10x else matrix
    if matrix.dtype.kind not in "biuf":
        raise DataError(f"{file}: holds {matrix.dtype} values, not numbers")
    names = None
    if features is not None and is_10x:
        names = _gene_names(features)
        if len(names) != int(rows) or len(_lines(barcodes)) != int(columns):
            raise DataError(
                f"{file}: {rows:,} x {columns:,}, but {features.name} has {len(names):,} lines "
                f"and {ITEMS} {len(_lines(barcodes)):,}"
            )
        log.info(f"{path}: {columns:,} cells (items) x {rows:,} genes, as 10x stores them; {features.name} names the columns")
    else:
        log.info(f"{path}: {rows:,} items x {columns:,} values (MatrixMarket); if items are its columns, transpose it")

    def dense(start: int, stop: int) -> np.ndarray:
        part = matrix[start:stop]
        return np.asarray(part.toarray() if hasattr(part, "toarray") else part)

    return _table(str(path), (int(matrix.shape[0]), int(matrix.shape[1])), dense, names, "MatrixMarket", {})


def _beside(folder: Path, name: str) -> Path | None:
    return next((path for path in (folder / name, folder / f"{name}.gz") if path.is_file()), None)


def _lines(path: Path | None) -> list[str]:
    if path is None:
        return []
    with data_errors(path, "text"):
        raw = path.read_bytes()
        text = (gzip.decompress(raw) if raw.startswith(b"\x1f\x8b") else raw).decode()
    return [line for line in text.splitlines() if line.strip()]


def _gene_names(path: Path) -> list[str]:
    """Return the names of genes: the second column of the file, or its only one."""
    rows = [line.split("\t") for line in _lines(path)]
    return [row[1] if len(row) > 1 and row[1].strip() else row[0] for row in rows]


def _is_10x(folder: Path, head: bytes) -> bool:
    return _beside(folder, MATRIX) is not None


ANNDATA = Source("anndata", "an array", _anndata, (".h5ad",), fields=(*FIELDS, "arrays"))
MATRIX_MARKET = Source(
    "matrix_market", "an array", _market, (".mtx",), lambda path, head: head.startswith(b"%%MatrixMarket"), fields=FIELDS
)
MATRIX_FOLDER = Source("10x", "an array", _market, recognizes=_is_10x, fields=FIELDS, is_folder=True)
