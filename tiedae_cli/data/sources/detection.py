"""Lists all kinds of sources, and detects the kind of a file, folder or stream by its suffix or first bytes."""

import io
import os
from dataclasses import replace
from pathlib import Path
from typing import IO

from tiedae_cli.config import DataConfig
from tiedae_cli.data.data_errors import data_errors
from tiedae_cli.data.image_files import is_image_file
from tiedae_cli.data.sources.arrays import NPY, NPZ
from tiedae_cli.data.sources.cifar import CIFAR
from tiedae_cli.data.sources.compression import ZIP, opener_of, plain_suffix, zip_members
from tiedae_cli.data.sources.excel import EXCEL
from tiedae_cli.data.sources.folder import IMAGE_FOLDER
from tiedae_cli.data.sources.foreign import HEAD_BYTES, foreign_file
from tiedae_cli.data.sources.idx import IDX
from tiedae_cli.data.sources.matrices import HDF5, MATLAB
from tiedae_cli.data.sources.named_matrix import ANNDATA, MATRIX_FOLDER, MATRIX_MARKET
from tiedae_cli.data.sources.single_image import IMAGE_FILE
from tiedae_cli.data.sources.source import Source
from tiedae_cli.data.sources.table_files import TableFile, fixed_folder, is_glob, matches, partition_keys
from tiedae_cli.data.sources.table_folder import TABLE_FOLDER, tables_below
from tiedae_cli.data.sources.table_kinds import CSV, TABLES
from tiedae_cli.data.sources.tables import Joined
from tiedae_cli.errors import DataError
from tiedae_cli.system.standard_streams import stdin

SOURCES = [
    IMAGE_FOLDER,
    NPY,
    NPZ,
    HDF5,
    ANNDATA,
    MATRIX_MARKET,
    MATRIX_FOLDER,
    MATLAB,
    IDX,
    CIFAR,
    *TABLES,
    EXCEL,
    TABLE_FOLDER,
]
MODELS = ("", ".safetensors")  # suffixes of models, which are not data
MAGIC_BYTES = 16  # enough to tell what a file is


def formats(of_streams: bool = False) -> str:
    """Return the kinds of data as text, each group with its suffixes: ``an array (.npy, .npz) or a table (.csv)``."""
    groups: dict[str, list[str]] = {}
    for source in SOURCES:
        if source.stream is not None or not of_streams:
            groups.setdefault(source.group, []).extend(source.suffixes)
    *first, last = (f"{group} ({', '.join(suffixes)})" if suffixes else group for group, suffixes in groups.items())
    return f"{', '.join(first)} or {last}" if first else last


def suffixes_with(field: str) -> str:
    """Return the suffixes of the sources that know a key of the data section."""
    return ", ".join(suffix for source in SOURCES if field in source.fields for suffix in source.suffixes)


def is_data_file(name: str) -> bool:
    """Return whether the suffix of a name is that of a source."""
    return any(plain_suffix(name) in source.suffixes for source in SOURCES)


def is_input(name: str) -> bool:
    """Return whether a command line argument can only be data, never a model; False for folders of images."""
    if os.path.isdir(name):
        return source_of(Path(name)) is not IMAGE_FOLDER
    if is_glob(name) and matches(name):
        return True
    known = name == "-" or is_image_file(name) or is_data_file(name)
    return known or (os.path.isfile(name) and Path(name).suffix.lower() not in MODELS)


def source_of(path: Path) -> Source:
    """Return what kind of source a file or a folder is.

    Raises:
        DataError: it cannot be read, or is of a kind that is not read.
    """
    folder = path.is_dir()
    head = _head(path) if path.is_file() else b""
    foreign = None if folder else foreign_file(path, head)
    if foreign is not None:
        raise DataError(f"{path}: {foreign.name}; {foreign.instead}; tiedae reads {formats()}")
    members = zip_members(path) if head.startswith(ZIP) else []
    suffix = plain_suffix(members[0] if len(members) == 1 else path.name)
    named = next((source for source in SOURCES if source.is_folder == folder and suffix in source.suffixes), None)
    return named or recognized(path, head if folder or head else _head(path), folder)


def table_files(name: str, config: DataConfig) -> list[TableFile] | None:
    """Return the files that the name of a table, a folder of tables or a glob pattern of them means, in natural order.

    None: the name means something else. Files of a pattern are tables, or all is something else.

    Raises:
        DataError: a file cannot be read; a folder holds files of several kinds.
    """
    if is_glob(name):
        root, found = fixed_folder(name), list[TableFile]()
        for each in matches(name):
            below = table_files(each, config)
            if below is None:
                return None
            parts = Path(os.path.relpath(each, root)).parts
            folders = partition_keys(parts if os.path.isdir(each) else parts[:-1])
            found += [replace(file, keys=(*folders, *file.keys)) for file in below]
        return found or None
    path = Path(os.path.expanduser(name))
    if not path.is_file() and not path.is_dir():
        return None
    source = source_of(path)
    if source is TABLE_FOLDER:
        return tables_below(path, config)
    return [TableFile(path, source.name)] if source in TABLES else None


def recognized(path: Path, head: bytes, folder: bool = False) -> Source:
    """Return the kind of source with these first bytes; images if no other kind matches."""
    found = (source for source in SOURCES if source.is_folder == folder and source.recognizes(path, head))
    return next(found, IMAGE_FOLDER if folder else IMAGE_FILE)


def _head(path: Path) -> bytes:
    """Return the first bytes of a file, unpacked."""
    with data_errors(path, "compressed text"):
        with path.open("rb") as file:
            head = file.read(HEAD_BYTES)
        opener = opener_of(head)
        if opener is not None:
            with opener(path) as unpacked:
                head = unpacked.read(HEAD_BYTES)
    return head


def open_stream(name: str) -> tuple[Source, IO[bytes]]:
    """Return the kind of source in stdin (``-``) or a named pipe, by its first bytes, and a stream of all its bytes.

    Raises:
        DataError: it is empty, or its kind cannot be read sequentially.
    """
    raw = stdin() if name == "-" else open(name, "rb")
    head = raw.read(MAGIC_BYTES)
    if not head:
        raise DataError(f"{name}: empty; expected {formats(of_streams=True)}, or an image")
    foreign = foreign_file(Path(), head)
    if foreign is not None:
        raise DataError(f"{name}: {foreign.name}; {foreign.instead}; tiedae reads {formats(of_streams=True)} from a stream")
    source = CSV if opener_of(head) else recognized(Path(name), head)
    if source.stream is None and source is not IMAGE_FILE:
        raise DataError(
            f"{name}: .{source.name} data cannot be read as a stream; name the file, or write {formats(of_streams=True)}"
        )
    return source, io.BufferedReader(Joined(head, raw))


def is_stream(name: str) -> bool:
    """Return whether a name is stdin or a pipe, which is read once, sequentially."""
    return name == "-" or not (os.path.isfile(name) or os.path.isdir(name))
