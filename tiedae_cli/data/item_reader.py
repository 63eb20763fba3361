"""Items from files, folders, arrays and stdin in blocks, as a trained model sees them; memory does not grow with N.

Shapes: N items, B items per block, D values per item.
"""

import logging
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from itertools import chain, groupby, pairwise
from pathlib import Path
from typing import Any

import numpy as np

from tiedae_cli.config import DataConfig
from tiedae_cli.config.shareable import is_url, public_url
from tiedae_cli.data.columns import Columns
from tiedae_cli.data.data_errors import data_errors
from tiedae_cli.data.image_files import Selection, expand_folders, images_part, is_image_file, takes_image_files
from tiedae_cli.data.item_rules import ItemRules, rules_for_model
from tiedae_cli.data.item_set import Block, ItemForm, ItemSet
from tiedae_cli.data.sources.detection import is_input, is_stream, open_stream, source_of, table_files
from tiedae_cli.data.sources.joined_tables import joined, open_tables
from tiedae_cli.data.sources.memory import part_for_model
from tiedae_cli.data.sources.part import Bad, Part, RawBlock, stop
from tiedae_cli.data.sources.remote import local_copy
from tiedae_cli.data.sources.single_image import IMAGE_FILE
from tiedae_cli.data.sources.source import ReadOptions
from tiedae_cli.data.sources.table import Table
from tiedae_cli.data.sources.table_columns import all_columns, match_columns
from tiedae_cli.data.sources.table_files import TableFile, is_glob, matches
from tiedae_cli.data.sources.table_kinds import TABLES, chosen_part, table_options
from tiedae_cli.data.windows import row_blocks, row_form, window_blocks
from tiedae_cli.errors import DataError, InputError
from tiedae_cli.system.files_in_use import note_input

log = logging.getLogger(__name__)

LISTED_CONVERSIONS = 3  # messages about converted image files; further ones are counted


@dataclass(frozen=True)
class Items:
    """A stream of blocks, to be read once."""

    blocks: Iterator[Block]
    count: int | None
    """N, if it is known before the last block; unreadable items count."""
    has_lines: bool = False
    """Whether some items have lines."""
    has_ids: bool = False
    """Whether some items have keys."""


def split_items(items: ItemSet, size: int) -> Items:
    """Return the items of a set in blocks of ``size``."""
    count = len(items)
    blocks = (
        Block(range(i, min(i + size, count)), items.batch(i, i + size), labels=items.label_texts(i, i + size))
        for i in range(0, count, size)
    )
    return Items(blocks, count)


def split_rows(items: ItemSet, size: int, stride: int) -> Items:
    """Return the rows that the windows of a set cover, with a window every ``stride`` rows; its items if they are not windows."""
    if items.form.window == 1:
        return split_items(items, size)
    return Items(row_blocks(items, size, stride), None)


class ItemReader:
    """Reads inputs for one model, by the rules by which training reads them.

    Args:
        form: what the model takes.
        size: items of a block.
        bad: called for each unreadable item or input. If it returns, the item is skipped; it may raise instead.
        expected: what the model takes, for messages. Default: the model's form.
        key: key of an item's numbers in JSON Lines.
        data: the data section of the model's config.
        finds_id: whether items get the user's key, if their source has one.
        id: the column that holds it. Default: detected.
    """

    def __init__(
        self,
        form: ItemForm,
        size: int,
        bad: Bad = stop,
        expected: str | None = None,
        key: str = "values",
        data: DataConfig | None = None,
        finds_id: bool = False,
        id: str | None = None,
    ) -> None:
        self.form = row_form(form)  # of what is read; windows are made of it
        self.window = form.window
        self.size = size
        self.bad = bad
        self.expected = expected or f"this model takes {form.describe()}"
        self._data = data or DataConfig()
        self._series, self._next = 0, 0  # number of the current series, and the row that would continue it
        self._key = key
        self._urls: dict[str, str] = {}  # of the local copies that are open
        self._finds_id, self._id = finds_id, id
        self._keys: dict[str, tuple[tuple[str, str], ...]] = {}  # columns that the folders of a file add

    def open(self, inputs: Sequence[str]) -> Items:
        """Return the items of image files, of whatever ``detection.SOURCES`` lists, and of ``-``.

        Those of a model of windows are windows.

        Raises:
            as ``open_rows``.
        """
        return self.made_of(self.open_rows(inputs))

    def made_of(self, rows: Items) -> Items:
        """Return the items that rows make: windows for a model of windows, else the rows themselves."""
        if self.window == 1:
            return rows
        return replace(rows, blocks=window_blocks(rows.blocks, self.window, self._data.stride, self.bad), count=None)

    def open_rows(self, inputs: Sequence[str]) -> Items:
        """Return the items of inputs; for a model of windows, their rows.

        Raises:
            InputError: an input does not exist, or stdin is named twice.
            DataError: image files are given to a model of something else.
        """
        if list(inputs).count("-") > 1:
            raise InputError("-: stdin can be read only once")
        inputs = [self._fetched(name) if is_url(name) else name for name in inputs]
        for name in inputs:
            if name != "-" and not os.path.exists(name) and not (is_glob(name) and matches(name)):
                raise InputError(f"{name}: no such file or folder")
        paths, tables = self._open_tables([path for name in inputs for path in self._expanded(name)])
        alone = len(paths) == 1
        groups = [(images, list(group)) for images, group in groupby(paths, is_image_file)]
        opened: list[Items] = []
        for images, group in groups:
            opened += [self._image_files(group)] if images else [self._opened(name, alone, tables.get(name)) for name in group]
        counts = [part.count for part in opened]
        has_lines, has_ids = any(part.has_lines for part in opened), any(part.has_ids for part in opened)
        return Items(chain.from_iterable(part.blocks for part in opened), _sum(counts), has_lines, has_ids)

    def _fetched(self, url: str) -> str:
        """Return the path of a local copy of a URL."""
        path = str(local_copy(url))
        self._urls[path] = public_url(url)
        return path

    def _expanded(self, name: str) -> list[str]:
        """Return the files of a folder of images or tables, or of a glob pattern; of what is opened whole, the name itself."""
        if is_glob(name) or os.path.isdir(name):
            files = table_files(name, self._data)
            if files is not None:
                note_input(name)
                self._keys |= {str(file.path): file.keys for file in files}
                return [str(file.path) for file in files]
            if is_glob(name):
                return [path for each in matches(name) for path in self._expanded(each)]
        if os.path.isdir(name) and is_input(name):
            note_input(name)
            return [name]
        return [str(path) for path in expand_folders([name], Selection(self._data.include, self._data.exclude))]

    def _open_tables(self, paths: Sequence[str]) -> tuple[list[str], dict[str, Table]]:
        """Open the tables among the files if there are several: they have one number format, and with ``data.series`` are one table.

        Returns the files without those that cannot be opened or are part of another, and the open table of each.
        """
        files: dict[str, TableFile] = {}
        for path in paths:
            if not is_image_file(path) and not is_stream(path) and os.path.isfile(path):
                with self._reporting_bad(path):
                    if (source := source_of(Path(path))) in TABLES:
                        files[path] = TableFile(Path(path), source.name, self._keys.get(path, ()))
        if len(files) < 2 and not any(file.keys for file in files.values()):
            return list(paths), {}
        opened = open_tables(list(files.values()), table_options(self._options(paths[0])), self.bad)
        tables = {table.name: table for table in opened}
        if self._data.series is not None and len(opened) > 1:
            tables = {opened[0].name: joined(opened, opened[0].name)}
        return [path for path in paths if path not in files or path in tables], tables

    def open_memory(self, data: Any, name: str, windows: bool = True) -> Items:
        """Return the items of an array or a table in memory under the same rules as those of a file.

        Args:
            data: what ``memory.part_for_model`` takes.
            name: for messages.
            windows: whether the items of a model of windows are windows; else the rows that they are made of.

        Raises:
            DataError: it does not have the model's form.
        """
        rows = self._items(name, {"train": part_for_model(data, name, self.form.columns)}, alone=True)
        return self.made_of(rows) if windows else rows

    def _image_files(self, names: Sequence[str]) -> Items:
        if not takes_image_files(self.form):
            raise DataError(f"{names[0]}: an image file; {self.expected}")
        conversions = _Conversions()
        part = images_part([Path(name) for name in names], self.form, conversions.one)
        items = self._items(names[0], {"train": part}, alone=True)
        return replace(items, blocks=conversions.then_summary(items.blocks))

    def _opened(self, name: str, alone: bool, table: Table | None = None) -> Items:
        """Return the items of an array, a table (which may be open) or an unnamed stream; its head is read at once."""
        with self._reporting_bad(name):
            if table is not None:
                return self._items(name, chosen_part(table, self._options(name)), alone)
            if not is_stream(name):
                source = source_of(Path(name))
                if source is IMAGE_FILE:
                    return self._image_files([name])
                return self._items(name, source.parts(Path(name), self._options(name)), alone)
            source, file = open_stream(name)
            if source.stream is not None:
                return self._items(name, source.stream(file, name, self._options(name)), alone)
            if not takes_image_files(self.form):
                raise DataError(f"{name}: an image file; {self.expected}")
            return self._items(name, {"train": images_part([Path(name)], self.form, log.info, file)}, alone=True)
        return Items(iter(()), 0)

    def _items(self, name: str, parts: Mapping[str, Part], alone: bool) -> Items:
        """Return the items of a source, part after part."""
        if self._id is not None and all(part.id is None for part in parts.values()):
            raise InputError(f"--id {self._id}: {name} has no columns with names")
        read = {split: (part, rules_for_model(part, self.form, self.expected)) for split, part in parts.items()}
        counts = [part.count for part in parts.values()]

        def label(split: str, row: str | int) -> str | int:
            locate = parts[split].locate
            if locate is not None and isinstance(row, int):
                file, own = locate(row)
                return f"{file}[{own}]"
            where = row if len(parts) == 1 else f"{split}[{row}]"
            if alone or isinstance(row, str):
                return where
            return f"{name}[{row}]" if len(parts) == 1 else f"{name}:{where}"

        def blocks() -> Iterator[Block]:
            with self._reporting_bad(name):
                for split, (part, rules) in read.items():
                    self._series += 1
                    for raw in part.read(self.size, self.bad):
                        good = rules.convert(raw, self.bad)
                        for raw_block in self._unbroken(good):
                            rows, own = raw_block.rows, raw_block.labels
                            plain = alone and len(parts) == 1 and part.locate is None
                            names = rows if plain else [label(split, row) for row in rows]
                            labels = _labels(part, rows) if own is None else [str(text) for text in own]
                            values = self._seen(rules, raw_block.values)
                            yield Block(names, values, self._series, labels, raw_block.times, raw_block.origin)

        has_lines, has_ids = any(part.has_lines for part in parts.values()), any(part.id is not None for part in parts.values())
        return Items(blocks(), _sum(counts), has_lines, has_ids)

    def _unbroken(self, block: RawBlock) -> Iterator[RawBlock]:
        """Yield the items of a block with their places. Rows of windows are split into two series at a skipped row."""
        if not len(block.rows):
            return
        rows = block.positions
        if rows is None and isinstance(block.rows[0], int):
            rows = block.numbers()
        block = replace(block, origin=replace(block.origin, places=rows))
        if self.window == 1 or rows is None:
            yield block
            return
        breaks = [0, *(np.flatnonzero(np.diff(rows) != 1) + 1).tolist(), len(rows)]
        for start, end in pairwise(breaks):
            if rows[start] != self._next:
                self._series += 1
            self._next = int(rows[end - 1]) + 1
            yield block.slice(start, end)

    def _options(self, name: str) -> ReadOptions:
        """Return how to read a file or stream; the config's names of arrays apply only to the file that the model was trained on."""
        real, url = os.path.realpath(name), self._urls.get(name)
        own = any(real == os.path.realpath(os.path.expanduser(one)) or public_url(one) == url for one in self._data.sources)
        data = self._data if own else self._data.model_copy(update={"arrays": {}})
        return ReadOptions(self._columns, data, self._key, self._id, self._finds_id)

    def _columns(self, table: Table) -> Columns:
        """Return which columns of a table are those of the model."""
        return all_columns(table) if self.form.columns is None else match_columns(table, self.form.columns)

    def _seen(self, rules: ItemRules, values: np.ndarray) -> np.ndarray:
        """Return values as the model sees them, (B, D): vectors by the statistics of its training."""
        return (self.form if self.form.kind == "vectors" else rules.form).normalize(values)

    @contextmanager
    def _reporting_bad(self, name: str) -> Iterator[None]:
        try:
            with data_errors(name):
                yield
        except DataError as problem:
            self.bad(problem)


def check_id(column: str | None, inputs: Sequence[str]) -> None:
    """Raise ``InputError`` if ``--id`` names a column and there are no inputs: the items of a split have numbers alone."""
    if column is not None and not inputs:
        raise InputError(f"--id {column}: name a file that has this column; the items of a split have only numbers")


def _sum(counts: Sequence[int | None]) -> int | None:
    """Return the sum of counts; None if one of them is not known."""
    known = [count for count in counts if count is not None]
    return sum(known) if len(known) == len(counts) else None


def _labels(part: Part, rows: Sequence[int | str]) -> list[str] | None:
    """Return the label texts of the items at these rows; None if the part has no labels."""
    if part.labels is None or isinstance(rows[0], str):
        return None
    names, labels = part.label_names, part.labels[[int(row) for row in rows]].tolist()
    return [str(label) if names is None else names[label] for label in labels]


def raw_array(values: np.ndarray, form: ItemForm, as_float: bool, shape: tuple[int, ...] | None = None) -> np.ndarray:
    """Return the output of a model, (B, D), as an array that the reader would read back.

    Vectors in the data's own units, (B, D) float32. Images uint8 in the layout of the training array; ``as_float`` keeps them
    unrounded float32: 0 to 1 where the data were uint8, else in the data's own units.

    Args:
        values: as the model sees them.
        form: of an item.
        as_float: whether images stay unrounded.
        shape: of one item, in ``form.raw_shapes``; None: that of the training array.
    """
    shape = shape or form.raw_shape
    if form.kind == "images" and not as_float:
        flat: np.ndarray = np.rint(np.nan_to_num(values).clip(0, 1) * np.float32(255)).astype(np.uint8)
    else:
        flat = values if form.eight_bit else form.restored(values)
    if form.kind == "images" and len(shape) == 3 and shape != form.shape:  # (B, C, H, W) -> (B, H, W, C)
        return np.ascontiguousarray(np.moveaxis(flat.reshape(len(flat), *form.shape), 1, -1))
    return flat.reshape(len(flat), *shape)


class _Conversions:
    """Reports the first few conversions of image files and counts the others."""

    def __init__(self) -> None:
        self.count = 0

    def one(self, text: str) -> None:
        self.count += 1
        if self.count <= LISTED_CONVERSIONS:
            log.info(text)

    def then_summary(self, blocks: Iterator[Block]) -> Iterator[Block]:
        yield from blocks
        if self.count > LISTED_CONVERSIONS:
            log.info(f"and {self.count - LISTED_CONVERSIONS:,} more files converted to the model's size and colors")
