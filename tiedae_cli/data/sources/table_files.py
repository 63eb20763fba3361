"""Files of tables that are read as one: which files a folder or a glob pattern means, in which order, and the columns that folders add.

The order is natural: ``2.csv`` comes before ``10.csv``. A folder ``year=2024`` adds the column ``year``, as in Hive.
"""

import glob
import os
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import unquote

from tiedae_cli.data.image_files import Selection, files_by_folder, is_image_file
from tiedae_cli.data.sources.compression import plain_suffix

GLOB = re.compile(r"[*?\[]")
PARTITION = re.compile(r"([^=]+)=(.*)")
NO_VALUE = "__HIVE_DEFAULT_PARTITION__"
SIDE_FILE = "_"  # begins the name of a file that describes others: _SUCCESS, _metadata
NOTES = (".txt", ".dat", ".data")  # suffixes of tables, but beside other data rather of notes
ENOUGH = 1000  # files that show what a folder holds


@dataclass(frozen=True)
class TableFile:
    """A file of a table."""

    path: Path
    kind: str
    """Name of its source: csv, jsonl, parquet or feather."""
    keys: tuple[tuple[str, str], ...] = ()
    """Columns with one value each, from the names of its folders."""


@dataclass
class FolderFiles:
    """What a folder holds."""

    tables: list[str] = field(default_factory=list)
    """Paths of tables below the folder, with ``/``, in natural order."""
    images: Counter[str] = field(default_factory=Counter)
    """Number of image files by suffix."""
    others: Counter[str] = field(default_factory=Counter)
    """Number of other files by suffix, or by the key of the config that excludes them."""
    unmatched: tuple[str, ...] = ()
    """``KEY: PATTERN`` for each pattern of the selection that matches no table."""

    @property
    def are_tables(self) -> bool:
        """Whether tables are at least as many as the images and as any other kind of file with numbers."""
        return len(self.tables) >= max(
            1, self.images.total(), sum(self.others[suffix] for suffix in (".npy", ".npz", ".h5", ".mat"))
        )

    def suffixes(self) -> Counter[str]:
        """Return the number of tables by suffix."""
        return Counter(map(plain_suffix, self.tables))


def natural(name: str) -> tuple[object, ...]:
    """Return a key to sort names by: digits count as numbers."""
    return (*(int(part) if part.isdecimal() else part for part in re.split(r"(\d+)", name)), name)


def is_glob(name: str) -> bool:
    """Return whether a name is a glob pattern; the name of a file or folder that exists is none."""
    return bool(GLOB.search(name)) and "://" not in name and not os.path.exists(os.path.expanduser(name))


def matches(pattern: str) -> list[str]:
    """Return the files and folders that a glob pattern matches, in natural order."""
    return sorted(glob.glob(os.path.expanduser(pattern), recursive=True), key=lambda name: natural(Path(name).as_posix()))


def fixed_folder(pattern: str) -> Path:
    """Return the folder of a glob pattern above its first part with a wildcard."""
    parts = Path(os.path.expanduser(pattern)).parts
    first = next((index for index, part in enumerate(parts) if GLOB.search(part)), len(parts) - 1)
    return Path(*parts[:first])


def folder_files(
    folder: Path, suffixes: Sequence[str], selection: Selection | None = None, enough: int | None = None
) -> FolderFiles:
    """List what is in a folder and its subfolders; hidden files and those named ``_...`` are skipped.

    Args:
        folder: to list.
        suffixes: of tables.
        selection: which tables to list; None: all.
        enough: stop after the subfolder in which so many files were seen.

    Raises:
        DataError: a folder cannot be read.
    """
    found, everything, seen = FolderFiles(), list[str](), 0
    selection = selection or Selection()
    for names in files_by_folder(folder):
        for name in names:
            if name.rpartition("/")[2].startswith(SIDE_FILE):
                continue
            suffix = plain_suffix(name)
            if is_image_file(name):
                found.images[suffix] += 1
            elif suffix not in suffixes:
                found.others[suffix or "without a suffix"] += 1
            else:
                everything.append(name)
                reason = selection.reason_to_skip(name)
                if reason:
                    found.others[reason] += 1
                else:
                    found.tables.append(name)
        seen += len(names)
        if enough is not None and seen >= enough:
            break
    named = [name for name in found.tables if plain_suffix(name) not in NOTES]
    if named or found.images:
        found.others.update(plain_suffix(name) for name in found.tables if plain_suffix(name) in NOTES)
        found.tables = named
    found.tables.sort(key=natural)
    found.unmatched = selection.unmatched(everything)
    return found


def partition_keys(folders: Sequence[str]) -> tuple[tuple[str, str], ...]:
    """Return the columns that folders of a path add: ``year=2024`` is 2024 in the column ``year``."""
    pairs = [match.groups() for match in map(PARTITION.fullmatch, folders) if match]
    return tuple((unquote(key), "" if value == NO_VALUE else unquote(value)) for key, value in pairs)
