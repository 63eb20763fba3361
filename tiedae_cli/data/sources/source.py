"""What a source is: a kind of file or folder that holds items, how it is recognized, and how it becomes parts."""

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, TYPE_CHECKING

from tiedae_cli.config import DataConfig
from tiedae_cli.data.columns import Columns
from tiedae_cli.data.sources.part import Part

if TYPE_CHECKING:
    from tiedae_cli.data.sources.tables import Table

VALUE_FIELDS = ("range", "scaling", "missing", "window", "stride")  # keys of the data section for values of any kind
ARRAY, TABLE = "an array", "a table"


@dataclass(frozen=True)
class ReadOptions:
    """How a config and a command want data to be read."""

    choose: Callable[["Table"], Columns]
    """Which columns of a table are read."""
    data: DataConfig = field(default_factory=DataConfig)
    key: str = "values"
    """Where JSON Lines have an item's numbers."""


@dataclass(frozen=True)
class Source:
    """A kind of file or folder that holds items; to add one, write it in a file of its own and list it in ``detection.SOURCES``."""

    name: str
    """In a word, for messages: ``npy``."""
    group: str
    """What people call it and others like it: ``an array``."""
    parts: Callable[[Path, ReadOptions], dict[str, Part]]
    """Opens it: its parts by the name of their split; ``train`` alone where it has no splits of its own."""
    suffixes: tuple[str, ...] = ()
    """Of names, in lower case. Whatever has one is of this kind, and text may also end in ``.gz``."""
    recognizes: Callable[[Path, bytes], bool] = lambda path, head: False
    """Whether a path without a known suffix is of this kind, by its first bytes (unpacked; of a folder there are none)."""
    stream: Callable[[IO[bytes], str, ReadOptions], dict[str, Part]] | None = None
    """Does what ``parts`` does for a stream and its name; None if the kind cannot be read front to back."""
    fields: tuple[str, ...] = VALUE_FIELDS
    """Keys of the data section that it knows, of those that not every source knows."""
    is_folder: bool = False
