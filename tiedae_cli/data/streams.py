"""Items from files, folders, arrays and stdin in blocks, in the form that a trained model takes; memory does not grow with N.

Shapes: N items, B items a block, D values an item.
"""

import codecs
import io
import os
import sys
import zipfile
import zlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import chain, groupby
from pathlib import Path
from typing import IO, Any

import numpy as np
import torch
from torch import Tensor

from tiedae_cli.data.array_stream import MAGIC, NUMBERS, ArrayHeader, column_major_blocks, read_header, row_blocks
from tiedae_cli.data.image_files import expand_folders, is_image_file, read_image, takes_image_files
from tiedae_cli.data.image_set import DataForm, ImageSet
from tiedae_cli.data.number_table import csv_rows, json_rows
from tiedae_cli.data.sources.arrays import LABEL_NAMES
from tiedae_cli.errors import DataError, InputError

ARRAY_SUFFIXES = {".npy": "npy", ".npz": "npz", ".csv": "csv", ".jsonl": "jsonl"}
LARGEST_FRACTION = 2.0  # a pixel given as a float is 0 to 1; a little more is a linear output's overshoot, 255 is a mistake
HEAD_BYTES = 16  # enough to tell what a file is
CONVERSIONS_TOLD = 3  # of image files; the others are counted
CPU = torch.device("cpu")


@dataclass(frozen=True)
class Block:
    """Some items as a model sees them."""

    items: Sequence[str | int]
    """What tells each apart: an image file's path; the row, from 0, in a split or an only array; else ``path[row]``."""
    values: Tensor
    """(B, D) float32 on the CPU"""


@dataclass(frozen=True)
class Items:
    """A stream of blocks, to be read once."""

    blocks: Iterator[Block]
    count: int | None
    """N, where it is known before the last block; items that turn out to be bad are counted."""


def is_input(name: str) -> bool:
    """Return whether a command line argument can only be data, never a model."""
    return name == "-" or is_image_file(name) or Path(name).suffix.lower() in ARRAY_SUFFIXES


def split_items(images: ImageSet, size: int) -> Items:
    """Return the items of a set in blocks of ``size``."""
    starts = range(0, len(images), size)
    blocks = (Block(range(i, min(i + size, len(images))), images.batch(i, i + size, CPU)) for i in starts)
    return Items(blocks, len(images))


def stop(problem: DataError) -> None:
    """Answer a bad item by stopping: what a reader does whose rows must match its input's."""
    raise problem


class ItemReader:
    """Reads inputs for one model.

    Args:
        form: what the model takes.
        size: items of a block.
        bad: is told of each item or input that cannot be read; if it returns, that one is left out.
        say: is told of each conversion of an image file.
        wanted: what would be right, for messages; None tells the model's form.
        key: where JSON Lines have an item's numbers.
    """

    def __init__(
        self,
        form: DataForm,
        size: int,
        bad: Callable[[DataError], None] = stop,
        say: Callable[[str], None] = lambda text: None,
        wanted: str | None = None,
        key: str = "values",
    ) -> None:
        self.form = form
        self.size = size
        self.bad = bad
        self.say = say
        self.wanted = wanted or f"this model takes {form.describe()}"
        self.key = key

    def open(self, inputs: Sequence[str]) -> Items:
        """Return the items of image files, folders of them, arrays (``.npy``, ``.npz``), tables (``.csv``, ``.jsonl``) and ``-``.

        Raises:
            InputError: an input does not exist, or stdin is named twice.
            DataError: image files are given to a model of something else.
        """
        if list(inputs).count("-") > 1:
            raise InputError("-: stdin can be read only once")
        for name in inputs:
            if name != "-" and not os.path.exists(name):
                raise InputError(f"{name}: no such file or folder")
        paths = [str(path) for path in expand_folders(inputs)]
        alone = len(paths) == 1
        groups = [(images, list(group)) for images, group in groupby(paths, is_image_file)]
        parts: list[Items] = []
        for images, group in groups:
            parts += [self._image_files(group)] if images else [self._opened(name, alone) for name in group]
        counts = [part.count for part in parts]
        known = sum(count for count in counts if count is not None)
        return Items(chain.from_iterable(part.blocks for part in parts), None if None in counts else known)

    def _image_files(self, names: Sequence[str]) -> Items:
        self._check_takes_images(names[0])
        return Items(self._image_blocks(names), len(names))

    def _check_takes_images(self, name: str) -> None:
        if not takes_image_files(self.form):
            raise DataError(f"{name}: an image file; {self.wanted}")

    def _image_blocks(self, names: Sequence[str]) -> Iterator[Block]:
        told = _Conversions(self.say)
        for start in range(0, len(names), self.size):
            read: dict[str, np.ndarray] = {}
            for name in names[start : start + self.size]:
                with self._bad_is_told(name):
                    read[name] = read_image(Path(name), self.form.shape, told.one)
            if read:
                yield Block(list(read), self._bytes(np.stack(list(read.values()))))
        told.rest()

    def _opened(self, name: str, alone: bool) -> Items:
        """Return the items of an array, a table or an unnamed stream; the head of an array is read at once."""
        with self._bad_is_told(name):
            if name == "-" or not os.path.isfile(name):
                return self._stream(name, alone)
            kind = ARRAY_SUFFIXES.get(Path(name).suffix.lower())
            with open(name, "rb") as file:
                kind = kind or sniff(file.read(HEAD_BYTES))
            if kind == "image":
                return self._image_files([name])
            if kind in ("csv", "jsonl"):
                return Items(self._told(name, self._file_blocks(name, kind, alone)), None)
            return self._array_file(name, kind, alone)
        return Items(iter(()), 0)

    def _stream(self, name: str, alone: bool) -> Items:
        """Return the items of stdin or of a named pipe: what they are is told by the first bytes."""
        raw = sys.stdin.buffer if name == "-" else open(name, "rb")
        head = raw.read(HEAD_BYTES)
        if not head:
            raise DataError(f"{name}: empty; expected a .npy array, an image or rows of numbers")
        file = io.BufferedReader(_Joined(head, raw, closes=name != "-"))
        kind = sniff(head)
        if kind == "image":
            self._check_takes_images(name)
            return Items(self._told(name, self._image_block(name, file)), 1)
        if kind == "npz":
            raise DataError(f"{name}: a .npz cannot be read as a stream; name the file, or save a .npy")
        if kind in ("csv", "jsonl"):
            return Items(self._told(name, self._table_blocks(name, kind, file, alone)), None)
        header = self._checked(read_header(file, name), name)
        rows = row_blocks(file, header, self.size, name)
        return Items(self._told(name, self._array_blocks(name, rows, alone)), header.shape[0])

    def _image_block(self, name: str, file: IO[bytes]) -> Iterator[Block]:
        yield Block([name], self._bytes(read_image(Path(name), self.form.shape, self.say, file)[None]))

    def _array_file(self, name: str, kind: str, alone: bool) -> Items:
        with _array(name, kind) as file:
            header = self._checked(read_header(file, name), name)
        return Items(self._told(name, self._file_blocks(name, kind, alone)), header.shape[0])

    def _file_blocks(self, name: str, kind: str, alone: bool) -> Iterator[Block]:
        if kind in ("csv", "jsonl"):
            with open(name, "rb") as file:
                yield from self._table_blocks(name, kind, file, alone)
            return
        with _array(name, kind) as file:
            header = self._checked(read_header(file, name), name)
            if header.column_major and kind == "npy":
                rows = column_major_blocks(Path(name), header, file.tell(), self.size)
            else:
                rows = row_blocks(file, header, self.size, name)
            yield from self._array_blocks(name, rows, alone)

    def _checked(self, header: ArrayHeader, name: str) -> ArrayHeader:
        """Return the header if its items have the model's form."""
        channels, height, width = self.form.shape
        images = self.form.kind == "images"
        fitting: list[tuple[int, ...]] = [(self.form.pixels,)]
        if images:
            gray = [(height, width)] * (channels == 1)
            fitting = [*gray, (channels, height, width), (height, width, channels), *fitting]
        if header.shape[1:] not in fitting:
            shapes = ", ".join(" x ".join(map(str, ("N", *shape))) for shape in dict.fromkeys(fitting))
            raise DataError(f"{name}: {header.describe()}; {self.wanted}, in one of the shapes {shapes}")
        return header

    def open_array(self, array: np.ndarray, name: str) -> Items:
        """Return the items of an array in memory, (N, ...), under the same rules as those of a file.

        Raises:
            DataError: it is no array of numbers of the model's form.
        """
        if array.dtype.kind not in NUMBERS:
            raise DataError(f"{name}: an array of {array.dtype}; expected numbers")
        header = self._checked(ArrayHeader(array.shape, array.dtype, False), name)
        parts = (array[start : start + self.size] for start in range(0, len(array), self.size))
        return Items(self._array_blocks(name, parts, alone=True), header.shape[0])

    def _array_blocks(self, name: str, arrays: Iterable[np.ndarray], alone: bool) -> Iterator[Block]:
        start = 0
        for array in arrays:
            if self.form.kind == "images" and array.dtype.kind in "iu" and array.dtype != np.uint8:
                array = self._as_bytes(array, name)
            if array.ndim == 4 and array.shape[1:] != self.form.shape:
                array = array.transpose(0, 3, 1, 2)  # (B, H, W, C) -> (B, C, H, W)
            yield from self._finite(name, range(start, start + len(array)), array, alone)
            start += len(array)

    @staticmethod
    def _as_bytes(array: np.ndarray, name: str) -> np.ndarray:
        """Return whole numbers from 0 to 255 as uint8, as training reads them."""
        if len(array) and (array.min() < 0 or array.max() > 255):
            raise DataError(f"{name}: {array.dtype} pixels from {array.min()} to {array.max()}; whole numbers are 0 to 255")
        return array.astype(np.uint8)

    def _table_blocks(self, name: str, kind: str, file: IO[bytes], alone: bool) -> Iterator[Block]:
        rows = csv_rows(file, name, self.bad) if kind == "csv" else json_rows(file, name, self.key, self.bad)
        width = self.form.pixels
        numbers: list[int] = []
        values: list[list[float]] = []
        for row, cells in rows:
            if len(cells) != width:
                self.bad(DataError(f"{name}: row {row} has {len(cells):,} numbers, not {width:,}; {self.wanted}"))
                continue
            numbers.append(row)
            values.append(cells)
            if len(values) == self.size:
                yield from self._finite(name, numbers, np.array(values), alone)
                numbers, values = [], []
        if values:
            yield from self._finite(name, numbers, np.array(values), alone)

    def _finite(self, name: str, rows: Sequence[int], array: np.ndarray, alone: bool) -> Iterator[Block]:
        """Yield the rows without NaN and infinities as a block; the others are bad."""
        if array.dtype == np.uint8 and self.form.kind == "images":
            yield Block(_items(name, rows, alone), self._bytes(array))
            return
        with np.errstate(over="ignore"):
            raw = array.reshape(len(array), -1).astype(np.float32)  # (B, D)
        good = np.isfinite(raw).all(1)
        for index in np.flatnonzero(~good).tolist():
            self.bad(DataError(f"{name}: row {rows[index]} holds NaN or infinity"))
        kept = [rows[index] for index in np.flatnonzero(good).tolist()]
        if not kept:
            return
        values = torch.from_numpy(raw if good.all() else raw[good])
        if self.form.eight_bit:
            _refuse_large_fractions(values, kept, name)
        yield Block(_items(name, kept, alone), values if self.form.eight_bit else self.form.normalise(values))

    def _bytes(self, images: np.ndarray) -> Tensor:
        """Return uint8 images, (B, ...), as the model sees them, (B, D)."""
        raw = torch.from_numpy(np.ascontiguousarray(images).reshape(len(images), -1).copy())
        return DataForm(self.form.shape, scale=1 / 255).normalise(raw)

    def _told(self, name: str, blocks: Iterator[Block]) -> Iterator[Block]:
        """Yield blocks until the input ends or turns out to be bad."""
        with self._bad_is_told(name):
            yield from blocks

    @contextmanager
    def _bad_is_told(self, name: str) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            self.bad(DataError(f"{name}: cannot be read: {error.strerror or error}"))
        except DataError as problem:
            self.bad(problem)


def raw_array(values: Tensor, form: DataForm, as_float: bool) -> np.ndarray:
    """Return what the model answers, (B, D), as an array that the reader would read back.

    Vectors in the data's own units, (B, D) float32. Images uint8, (B, H, W) gray, else (B, C, H, W); ``as_float`` keeps them
    unrounded float32: 0 to 1 where the data were uint8, else in the data's own units.
    """
    if form.kind == "images" and not as_float:
        flat = (values.clamp(0, 1) * 255).round().to(torch.uint8)
    else:
        flat = values if form.eight_bit else form.denormalise(values)
    return flat.reshape(len(flat), *raw_shape(form)).numpy()


def raw_shape(form: DataForm) -> tuple[int, ...]:
    """Return the shape of one item of ``raw_array``."""
    channels, height, width = form.shape
    if form.kind != "images":
        return (form.pixels,)
    return (height, width) if channels == 1 else form.shape


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


class _Conversions:
    """Tells of the first few conversions of image files and counts the others."""

    def __init__(self, say: Callable[[str], None]) -> None:
        self.say = say
        self.count = 0

    def one(self, text: str) -> None:
        self.count += 1
        if self.count <= CONVERSIONS_TOLD:
            self.say(text)

    def rest(self) -> None:
        if self.count > CONVERSIONS_TOLD:
            self.say(f"and {self.count - CONVERSIONS_TOLD:,} more files converted to the model's size and colours")


@contextmanager
def _array(name: str, kind: str) -> Iterator[IO[bytes]]:
    """Open a ``.npy``, or the only array of a ``.npz``."""
    if kind == "npy":
        with open(name, "rb") as file:
            yield file
        return
    try:
        with zipfile.ZipFile(name) as archive:
            labels = {f"{name}.npy" for names in LABEL_NAMES.values() for name in names}  # of training; a code has none
            members = [member for member in archive.namelist() if member.endswith(".npy") and member not in labels]
            if len(members) != 1:
                held = ", ".join(member.removesuffix(".npy") for member in members[:8]) or "none"
                raise DataError(f"{name}: a .npz with one array is expected, this has {len(members)}: {held}")
            with archive.open(members[0]) as file:
                yield file
    except (zipfile.BadZipFile, zlib.error, NotImplementedError, RuntimeError, EOFError) as error:
        raise DataError(f"{name}: not a .npz, or damaged ({str(error)[:100]})") from None


def _items(name: str, rows: Sequence[int], alone: bool) -> Sequence[str | int]:
    return rows if alone else [f"{name}[{row}]" for row in rows]


def _refuse_large_fractions(values: Tensor, rows: Sequence[int], name: str) -> None:
    wrong = (values.abs() > LARGEST_FRACTION).any(1).nonzero()
    if len(wrong):
        row = int(wrong[0].item())
        largest = values[row].abs().max().item()
        raise DataError(
            f"{name}: row {rows[row]} has pixels up to {largest:g}; as floats, pixels are 0 to 1: give uint8, or divide by 255"
        )
