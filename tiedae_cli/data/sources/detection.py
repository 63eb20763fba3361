"""Which kind of source a file or a stream is: by its suffix, else by its first bytes."""

import codecs
import io
import os
import sys
from pathlib import Path
from typing import IO, Any

from tiedae_cli.data.image_files import is_image_file
from tiedae_cli.data.sources.arrays import MAGIC, open_npy, open_npz, stream_npy
from tiedae_cli.data.sources.part import Part
from tiedae_cli.data.sources.tables import open_table, stream_table
from tiedae_cli.errors import DataError

SUFFIXES = {".npy": "npy", ".npz": "npz", ".csv": "csv", ".jsonl": "jsonl"}
HEAD_BYTES = 16  # enough to tell what a file is


def is_data_file(name: str) -> bool:
    """Return whether a file's name says that it holds many items."""
    return Path(name).suffix.lower() in SUFFIXES


def is_input(name: str) -> bool:
    """Return whether a command line argument can only be data, never a model."""
    return name == "-" or is_image_file(name) or is_data_file(name)


def kind_of(path: Path) -> str:
    """Return what a file is: npy, npz, csv, jsonl or image.

    Raises:
        DataError: it cannot be read.
    """
    kind = SUFFIXES.get(path.suffix.lower())
    if kind is not None:
        return kind
    try:
        with path.open("rb") as file:
            return sniff(file.read(HEAD_BYTES))
    except OSError as error:
        raise DataError(f"{path}: cannot be read: {error.strerror or error}") from None


def open_file(path: Path, kind: str, key: str = "values") -> dict[str, Part]:
    """Return the parts of a file that holds many items, by the name of their split.

    Args:
        path: the file.
        kind: what ``kind_of`` says, but not ``image``.
        key: where JSON Lines have an item's numbers.

    Raises:
        DataError: it cannot be read, is damaged, or holds nothing of use.
    """
    if kind == "npy":
        return open_npy(path)
    if kind == "npz":
        return open_npz(path)
    return open_table(path, kind, key)


def open_stream(name: str) -> tuple[str, IO[bytes]]:
    """Return what stdin (``-``) or a named pipe holds, by its first bytes, and all of its bytes.

    Raises:
        DataError: it is empty, or nothing that can be read front to back.
    """
    raw = sys.stdin.buffer if name == "-" else open(name, "rb")
    head = raw.read(HEAD_BYTES)
    if not head:
        raise DataError(f"{name}: empty; expected a .npy array, an image or rows of numbers")
    kind = sniff(head)
    if kind == "npz":
        raise DataError(f"{name}: a .npz cannot be read as a stream; name the file, or save a .npy")
    return kind, io.BufferedReader(_Joined(head, raw, closes=name != "-"))


def stream_parts(name: str, kind: str, file: IO[bytes], key: str = "values") -> dict[str, Part]:
    """Return what a stream holds as a source of one part; arguments as in ``open_file``."""
    return stream_npy(file, name) if kind == "npy" else stream_table(file, name, kind, key)


def is_stream(name: str) -> bool:
    """Return whether a name is stdin or a pipe, which is read once and front to back."""
    return name == "-" or not os.path.isfile(name)


def sniff(head: bytes) -> str:
    """Return what a file is by its first bytes: npy, npz, csv, jsonl or image."""
    if head.startswith(MAGIC):
        return "npy"
    if head.startswith(b"PK\3\4"):
        return "npz"
    text = head.removeprefix(codecs.BOM_UTF8).lstrip()
    netpbm = text[:1] == b"P" and text[1:2] in b"1234567" and text[2:3].isspace()  # an image format that begins as text
    if netpbm or not text.isascii() or any(byte < 32 and byte not in b"\t\r\n" for byte in text):
        return "image"
    return "jsonl" if text[:1] in (b"[", b"{") else "csv"


class _Joined(io.RawIOBase):
    """A stream whose first bytes were already read; stdin stays open when this is closed."""

    def __init__(self, head: bytes, rest: IO[bytes], closes: bool) -> None:
        self.head = head
        self.rest = rest
        self.closes = closes

    def readable(self) -> bool:
        return True

    def close(self) -> None:
        if self.closes:
            self.rest.close()
        super().close()

    def readinto(self, buffer: Any, /) -> int:
        part = self.head[: len(buffer)] or self.rest.read(len(buffer))
        self.head = self.head[len(part) :]
        buffer[: len(part)] = part
        return len(part)
