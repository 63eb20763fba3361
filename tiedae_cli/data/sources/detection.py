"""Which kind of source a file or a stream is: by its suffix, else by its first bytes."""

import codecs
import gzip
import io
import os
import zlib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import IO

from tiedae_cli.data.columns import Columns
from tiedae_cli.data.image_files import is_image_file
from tiedae_cli.data.sources.arrays import MAGIC, open_npy, open_npz, stream_npy
from tiedae_cli.data.sources.binary import cifar_labels, is_idx, open_cifar, open_idx
from tiedae_cli.data.sources.matrices import HDF5, MATLAB, open_hdf5, open_matlab
from tiedae_cli.data.sources.part import Part
from tiedae_cli.data.sources.table_values import table_part
from tiedae_cli.data.sources.tables import Joined, Table, TableOptions, open_table, stream_table
from tiedae_cli.errors import DataError
from tiedae_cli.system.standard_streams import stdin

SUFFIXES = {
    ".npy": "npy",
    ".npz": "npz",
    **dict.fromkeys((".csv", ".tsv", ".txt", ".tab", ".data", ".dat"), "csv"),
    **dict.fromkeys((".jsonl", ".ndjson"), "jsonl"),
    **dict.fromkeys((".parquet", ".pq"), "parquet"),
    **dict.fromkeys((".feather", ".arrow"), "feather"),
    **dict.fromkeys((".h5", ".hdf5", ".he5"), "hdf5"),
    ".mat": "matlab",
}
SINGLE = {"npy": open_npy, "idx": open_idx, "cifar": open_cifar}  # files of one array
NAMED = {"npz": open_npz, "hdf5": open_hdf5, "matlab": open_matlab}  # files of arrays with names
PICKLES = (".pkl", ".pickle", ".joblib", ".pt", ".pth")
TABLES = ("csv", "jsonl", "parquet", "feather")
MODELS = ("", ".safetensors", ".pt")  # suffixes of what is no data
CSV = "save its table as .csv or .parquet"
FOREIGN = {  # what a file is that nobody reads as data, by its suffix, and what to do with it
    ".ipynb": ("a Jupyter notebook", "save its data with np.save('x.npy', array)"),
    ".py": ("a Python program", "save its data with np.save('x.npy', array)"),
    **dict.fromkeys((".doc", ".docx", ".odt", ".rtf", ".pdf", ".ppt", ".pptx"), ("a document", CSV)),
    **dict.fromkeys((".xls", ".xlsx", ".ods"), ("a spreadsheet", "save the sheet as .csv")),
    **dict.fromkeys((".sqlite", ".sqlite3", ".db"), ("a database", CSV)),
    **dict.fromkeys((".safetensors", ".onnx"), ("a model, not data", "name the data that it should be trained on")),
    **dict.fromkeys((".wav", ".mp3", ".flac", ".ogg"), ("a sound file", "save its samples as .npy, one row per item")),
    **dict.fromkeys((".mp4", ".avi", ".mov", ".mkv"), ("a video", "save its frames as image files in a folder")),
    **dict.fromkeys((".zip", ".tar", ".tgz", ".7z", ".rar"), ("an archive", "unpack it and name the folder")),
}
READABLE = "a folder of images, an array (.npy, .npz, .h5, .mat) or a table (.csv, .jsonl, .parquet, .feather)"
Choose = Callable[[Table], Columns]  # which columns of a table are read
MAGICS = {
    b"PAR1": "parquet",
    b"ARROW1": "feather",
    HDF5: "hdf5",
    MATLAB[:10]: "matlab",
    b"\x1f\x8b": "csv",
}  # of a stream: gzip
HEAD_BYTES = 16  # enough to tell what a file is


def is_data_file(name: str) -> bool:
    """Return whether a file's name says that it holds many items."""
    return _suffix(name) in SUFFIXES


def _suffix(name: str) -> str:
    return Path(name.lower().removesuffix(".gz")).suffix


def is_input(name: str) -> bool:
    """Return whether a command line argument can only be data, never a model."""
    known = name == "-" or is_image_file(name) or is_data_file(name)
    return known or (os.path.isfile(name) and Path(name).suffix.lower() not in MODELS)


def kind_of(path: Path) -> str:
    """Return what a file is: npy, npz, csv, jsonl, parquet, feather, hdf5, matlab, idx, cifar or image.

    Raises:
        DataError: it cannot be read.
    """
    if path.suffix.lower() in PICKLES:
        raise DataError(
            f"{path}: a pickle, which can run any program when it is opened, so it never is; save what is in it with "
            "np.save('x.npy', array) or table.to_parquet('x.parquet')"
        )
    if path.suffix.lower() in FOREIGN:
        what, instead = FOREIGN[path.suffix.lower()]
        raise DataError(f"{path}: {what}; tiedae reads {READABLE}; {instead}")
    kind = SUFFIXES.get(_suffix(path.name))
    if kind is not None:
        return kind
    try:
        if path.suffix.lower() == ".bin" and cifar_labels(path.stat().st_size):
            return "cifar"
        with path.open("rb") as file:
            head = file.read(HEAD_BYTES)
        if head.startswith(b"\x1f\x8b"):
            with gzip.open(path) as file:
                return sniff(file.read(HEAD_BYTES))
        return sniff(head)
    except (OSError, EOFError, zlib.error) as error:
        raise DataError(f"{path}: cannot be read: {getattr(error, 'strerror', None) or error}") from None


def open_file(
    path: Path, kind: str, options: TableOptions, choose: Choose, arrays: Mapping[str, str] | None = None
) -> dict[str, Part]:
    """Return the parts of a file that holds many items, by the name of their split.

    Args:
        path: the file.
        kind: what ``kind_of`` says, but not ``image``.
        options: how a table is written.
        choose: which of its columns are read.
        arrays: ``data.arrays``, of a file that holds several.

    Raises:
        DataError: it cannot be read, is damaged, or holds nothing of use.
        InputError: a package is missing that reads it.
    """
    if kind in NAMED:
        return NAMED[kind](path, arrays or {})
    if kind in SINGLE:
        return SINGLE[kind](path)
    table = open_table(path, kind, options)
    return {"train": table_part(table, choose(table))}


def open_stream(name: str) -> tuple[str, IO[bytes]]:
    """Return what stdin (``-``) or a named pipe holds, by its first bytes, and all of its bytes.

    Raises:
        DataError: it is empty, or nothing that can be read front to back.
    """
    raw = stdin() if name == "-" else open(name, "rb")
    head = raw.read(HEAD_BYTES)
    if not head:
        raise DataError(f"{name}: empty; expected a .npy array, an image or rows of numbers")
    kind = sniff(head)
    if kind not in ("npy", "csv", "jsonl", "image"):
        raise DataError(f"{name}: a .{kind} cannot be read as a stream; name the file, or write a .npy or .csv")
    return kind, io.BufferedReader(Joined(head, raw))


def stream_parts(name: str, kind: str, file: IO[bytes], options: TableOptions, choose: Choose) -> dict[str, Part]:
    """Return what a stream holds as a source of one part; arguments as in ``open_file``."""
    if kind == "npy":
        return stream_npy(file, name)
    table = stream_table(file, name, kind, options)
    return {"train": table_part(table, choose(table))}


def is_stream(name: str) -> bool:
    """Return whether a name is stdin or a pipe, which is read once and front to back."""
    return name == "-" or not os.path.isfile(name)


def sniff(head: bytes) -> str:
    """Return what a file is by its first bytes: npy, npz, csv, jsonl or image."""
    if head.startswith(MAGIC):
        return "npy"
    if head.startswith(b"PK\3\4"):
        return "npz"
    for magic, kind in MAGICS.items():
        if head.startswith(magic):
            return kind
    if is_idx(head):
        return "idx"
    text = head.removeprefix(codecs.BOM_UTF8).lstrip()
    netpbm = text[:1] == b"P" and text[1:2] in b"1234567" and text[2:3].isspace()  # an image format that begins as text
    if netpbm or not text.isascii() or any(byte < 32 and byte not in b"\t\r\n" for byte in text):
        return "image"
    return "jsonl" if text[:1] in (b"[", b"{") else "csv"
