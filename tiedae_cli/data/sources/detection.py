"""Lists all kinds of sources, and detects the kind of a file, folder or stream by its suffix or first bytes."""

import gzip
import io
import os
from pathlib import Path
from typing import IO

from tiedae_cli.data.data_errors import data_errors
from tiedae_cli.data.image_files import is_image_file
from tiedae_cli.data.sources.arrays import NPY, NPZ
from tiedae_cli.data.sources.cifar import CIFAR
from tiedae_cli.data.sources.folder import IMAGE_FOLDER
from tiedae_cli.data.sources.idx import IDX
from tiedae_cli.data.sources.matrices import HDF5, MATLAB
from tiedae_cli.data.sources.single_image import IMAGE_FILE
from tiedae_cli.data.sources.source import Source
from tiedae_cli.data.sources.table_kinds import CSV, FEATHER, JSON_LINES, PARQUET
from tiedae_cli.data.sources.tables import Joined
from tiedae_cli.errors import DataError
from tiedae_cli.system.standard_streams import stdin

SOURCES = [IMAGE_FOLDER, NPY, NPZ, HDF5, MATLAB, IDX, CIFAR, CSV, JSON_LINES, PARQUET, FEATHER]
PICKLES = (".pkl", ".pickle", ".joblib", ".pt", ".pth")
MODELS = ("", ".safetensors")  # suffixes of models, which are not data
MAGIC_BYTES = 16  # enough to tell what a file is
AS_TABLE = "save its table as .csv or .parquet"
FOREIGN = {  # kinds of files that are never data, by suffix, and what to do instead
    ".ipynb": ("a Jupyter notebook", "save its data with np.save('x.npy', array)"),
    ".py": ("a Python program", "save its data with np.save('x.npy', array)"),
    **dict.fromkeys((".doc", ".docx", ".odt", ".rtf", ".pdf", ".ppt", ".pptx"), ("a document", AS_TABLE)),
    **dict.fromkeys((".xls", ".xlsx", ".ods"), ("a spreadsheet", "save the sheet as .csv")),
    **dict.fromkeys((".sqlite", ".sqlite3", ".db"), ("a database", AS_TABLE)),
    **dict.fromkeys((".safetensors", ".onnx"), ("a model, not data", "name the data that it should be trained on")),
    **dict.fromkeys((".wav", ".mp3", ".flac", ".ogg"), ("a sound file", "save its samples as .npy, one row per item")),
    **dict.fromkeys((".mp4", ".avi", ".mov", ".mkv"), ("a video", "save its frames as image files in a folder")),
    **dict.fromkeys((".zip", ".tar", ".tgz", ".7z", ".rar"), ("an archive", "unpack it and name the folder")),
}


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
    return any(_suffix(name) in source.suffixes for source in SOURCES)


def _suffix(name: str) -> str:
    return Path(name.lower().removesuffix(".gz")).suffix


def is_input(name: str) -> bool:
    """Return whether a command line argument can only be data, never a model; False for folders of images."""
    if os.path.isdir(name):
        return source_of(Path(name)) is not IMAGE_FOLDER
    known = name == "-" or is_image_file(name) or is_data_file(name)
    return known or (os.path.isfile(name) and Path(name).suffix.lower() not in MODELS)


def source_of(path: Path) -> Source:
    """Return what kind of source a file or a folder is.

    Raises:
        DataError: it cannot be read, or is a pickle.
    """
    folder = path.is_dir()
    if path.suffix.lower() in PICKLES and not folder:
        raise DataError(
            f"{path}: a pickle, which can run any program when it is opened, so it never is; save what is in it with "
            "np.save('x.npy', array) or table.to_parquet('x.parquet')"
        )
    if path.suffix.lower() in FOREIGN and not folder:
        what, instead = FOREIGN[path.suffix.lower()]
        raise DataError(f"{path}: {what}; tiedae reads {formats()}; {instead}")
    suffix = _suffix(path.name)
    named = next((source for source in SOURCES if source.is_folder == folder and suffix in source.suffixes), None)
    return named or recognized(path, b"" if folder else _head(path), folder)


def recognized(path: Path, head: bytes, folder: bool = False) -> Source:
    """Return the kind of source with these first bytes; images if no other kind matches."""
    found = (source for source in SOURCES if source.is_folder == folder and source.recognizes(path, head))
    return next(found, IMAGE_FOLDER if folder else IMAGE_FILE)


def _head(path: Path) -> bytes:
    """Return the first bytes of a file, unpacked."""
    with data_errors(path, "gzip"):
        with path.open("rb") as file:
            head = file.read(MAGIC_BYTES)
        if head.startswith(b"\x1f\x8b"):
            with gzip.open(path) as unpacked:
                head = unpacked.read(MAGIC_BYTES)
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
    source = CSV if head.startswith(b"\x1f\x8b") else recognized(Path(name), head)
    if source.stream is None and source is not IMAGE_FILE:
        raise DataError(
            f"{name}: .{source.name} data cannot be read as a stream; name the file, or write {formats(of_streams=True)}"
        )
    return source, io.BufferedReader(Joined(head, raw))


def is_stream(name: str) -> bool:
    """Return whether a name is stdin or a pipe, which is read once, sequentially."""
    return name == "-" or not (os.path.isfile(name) or os.path.isdir(name))
