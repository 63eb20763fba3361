"""Compressed text: gzip, bzip2, xz and Zstandard, recognized by their first bytes, and a zip archive with one file of text."""

import bz2
import contextlib
import gzip
import io
import lzma
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import IO, Any

from tiedae_cli.errors import DataError


def _open_zstandard(file: Any) -> IO[bytes]:
    """Return a file compressed with Zstandard, given by its path or as a stream, unpacked."""
    import pyarrow

    source = pyarrow.PythonFile(file) if hasattr(file, "read") else pyarrow.OSFile(str(file))
    return io.BufferedReader(pyarrow.CompressedInputStream(source, "zstd"))


MARKS: dict[bytes, Any] = {  # openers by the first bytes; their stubs name several classes of files
    b"\x1f\x8b": gzip.open,
    b"BZh": bz2.open,
    b"\xfd7zXZ\0": lzma.open,
    b"\x28\xb5\x2f\xfd": _open_zstandard,
}
SUFFIXES = (".gz", ".bz2", ".xz", ".zst")  # of compressed text
MARK_BYTES = max(map(len, MARKS))
ZIP = b"PK\3\4"


def opener_of(head: bytes) -> Callable[[Any], IO[bytes]] | None:
    """Return what opens a file, by path or as a stream, that begins with these bytes; None if it is not compressed."""
    return next((opener for mark, opener in MARKS.items() if head.startswith(mark)), None)


def plain_suffix(name: str) -> str:
    """Return the suffix of a file name in lower case; of compressed text that of the text: ``.csv`` of ``x.CSV.gz``."""
    lower = name.lower()
    return Path(next((lower.removesuffix(end) for end in SUFFIXES if lower.endswith(end)), lower)).suffix


def zip_members(path: Path) -> list[str]:
    """Return the files in a zip archive, without those that systems add; none if it is not one."""
    with contextlib.suppress(OSError, zipfile.BadZipFile), zipfile.ZipFile(path) as archive:
        names = [info.filename for info in archive.infolist() if not info.is_dir()]
        return [name for name in names if not name.startswith("__MACOSX/") and not name.rpartition("/")[2].startswith(".")]
    return []


def open_zip(path: Path) -> IO[bytes]:
    """Return the only file in a zip archive, unpacked.

    Raises:
        DataError: it is encrypted.
    """
    archive = zipfile.ZipFile(path)
    (name,) = zip_members(path)
    if archive.getinfo(name).flag_bits & 1:
        raise DataError(f"{path}: {name} is encrypted; unpack it with its password")
    return archive.open(name)
