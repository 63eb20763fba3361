"""Source: a kind of file or folder that holds items, how it is recognized, and how it becomes parts."""

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, TYPE_CHECKING

from tiedae_cli.config import DataConfig
from tiedae_cli.data.columns import Columns
from tiedae_cli.data.sources.part import Part

if TYPE_CHECKING:
    from tiedae_cli.data.sources.table import Table

VALUE_FIELDS = (
    "range",
    "scaling",
    "missing",
    "transform",
    "window",
    "stride",
)  # keys of the data section for values of any kind
ARRAY, TABLE = "an array", "a table"


@dataclass(frozen=True)
class ReadOptions:
    """How to read data, by the config and the command."""

    choose: Callable[["Table"], Columns]
    """Chooses the columns of a table to read."""
    data: DataConfig = field(default_factory=DataConfig)
    key: str = "values"
    """Key of an item's numbers in JSON Lines."""


@dataclass(frozen=True)
class Source:
    """A kind of file or folder that holds items; to add one, write it in a file of its own and list it in ``detection.SOURCES``."""

    name: str
    """One word for messages: ``npy``."""
    group: str
    """Name of its group in messages: ``an array``."""
    parts: Callable[[Path, ReadOptions], dict[str, Part]]
    """Open it and return its parts by split; ``train`` alone if it has no splits of its own."""
    suffixes: tuple[str, ...] = ()
    """Suffixes in lower case. A file with one is of this kind; text may also end in ``.gz``."""
    recognizes: Callable[[Path, bytes], bool] = lambda path, head: False
    """Whether a path without a known suffix is of this kind, by its first bytes (unpacked; empty for a folder)."""
    stream: Callable[[IO[bytes], str, ReadOptions], dict[str, Part]] | None = None
    """Do the same for a stream and its name; None if the kind cannot be read sequentially."""
    fields: tuple[str, ...] = VALUE_FIELDS
    """The keys of ``data`` that apply to it, among those that do not apply to every source."""
    is_folder: bool = False
