"""Item sets: images or vectors in one array, and the scaling between raw values and those that the model sees.

Shapes: N items of a set, M items of its array, C channels, H x W pixels, D = C * H * W values per item, B items per batch.
"""

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import TypeVar

import numpy as np

from tiedae_cli.config.schema import Transform
from tiedae_cli.data.columns import Columns
from tiedae_cli.data.origin import Origin
from tiedae_cli.data.shares import Share
from tiedae_cli.data.sources.part import item_name
from tiedae_cli.errors import DataError, InputError
from tiedae_cli.system.mapped_files import MappedFile

T = TypeVar("T")
log = logging.getLogger(__name__)

SPLITS = ("train", "validation", "test")
KINDS = ("images", "vectors")
NO_LABEL = "no label"
LARGEST_FLOAT32_OFFSET = 1e2  # deviations: float32 rounds an offset by up to 6e-8 of it, and exported graphs scale in float64
EXACT_INTEGERS = 2.0**53  # below, float64 holds every whole number
PER_10K = 1e4  # total of a row's counts after ``log1p_per_10k``
BLOCK_BYTES = 1 << 25  # bytes that are copied or checked at once


@dataclass(frozen=True)
class ValueRange:
    """The raw values of images that become 0 and 1, if not 0 and 255, or 0 and 1."""

    low: float
    high: float
    whole: bool
    """Whether the images are integers of more than 8 bits; otherwise floats."""


BIT_DEPTHS = (8, 10, 12, 14, 16)  # of cameras and scanners


def range_of(largest: float) -> ValueRange | None:
    """Return the range of the bit depth that holds whole numbers up to ``largest``; None for 8 bits, or beyond 16."""
    tops = [2**bits - 1 for bits in BIT_DEPTHS if largest <= 2**bits - 1]
    return ValueRange(0.0, float(tops[0]), whole=True) if tops and tops[0] > 255 else None


@dataclass(frozen=True)
class ItemForm:
    """The form of one item and the scaling between its raw values and the model's: model = (raw - offset) * scale.

    Raw values are the source's, less ``base``.
    """

    shape: tuple[int, int, int]
    """(C, H, W); a vector of D features is (1, 1, D), a window of W rows of D features (1, W, D)."""
    kind: str = "images"
    """``images`` (the model sees [0, 1]) or ``vectors`` (standardized features)."""
    offset: np.ndarray | None = None
    """(D,) float64 (float32 in hand-made forms), subtracted from raw values; None is 0."""
    scale: np.ndarray | float = 1.0
    """(D,) like ``offset``, or a number: 1/255 for uint8 images."""
    fill: np.ndarray | None = None
    """(D,) float64: replaces a missing value (NaN) of vectors; None: missing values are refused."""
    range: ValueRange | None = None
    """Images only: the range that is mapped to [0, 1] when they are read."""
    columns: Columns | None = None
    """The named columns of a vector, if its source has names."""
    transform: Transform = "none"
    """Vectors only: what raw values become before they are scaled. Item sets hold transformed values."""
    base: np.ndarray | None = None
    """(D,) float64 whole numbers that are subtracted, exactly, when whole numbers beyond 2**53 are read; None: all 0."""
    source_shape: tuple[int, ...] | None = None
    """Images only: the shape of one item in the training array, (H, W, C) or (1, H, W); None: (H, W) if gray, else (C, H, W)."""

    @property
    def raw_shape(self) -> tuple[int, ...]:
        """The shape of one item in arrays that the program gives: that of the training array."""
        channels, height, width = self.shape
        if self.kind != "images":
            return (width,) if height == 1 else (height, width)
        return self.source_shape or ((height, width) if channels == 1 else self.shape)

    @property
    def raw_shapes(self) -> list[tuple[int, ...]]:
        """The shapes that one item of an array may have: of a vector one, of an image also those of other layouts."""
        channels, height, width = self.shape
        if self.kind != "images":
            return [self.raw_shape]
        gray = [(height, width)] * (channels == 1)
        return list(dict.fromkeys([self.raw_shape, *gray, self.shape, (height, width, channels)]))

    @property
    def zero(self) -> np.ndarray | None:
        """Which value of the source the model sees as 0, (D,) float64: ``base`` + ``offset``; None: 0."""
        return self.offset if self.base is None else self.base + (0.0 if self.offset is None else self.offset)

    @property
    def values_per_item(self) -> int:
        """D."""
        channels, height, width = self.shape
        return channels * height * width

    @property
    def window(self) -> int:
        """Rows of a series that make an item; 1 where each row is one."""
        return self.shape[1] if self.kind == "vectors" else 1

    @property
    def value_name(self) -> str:
        """The word for one value of an item in messages."""
        return "feature" if self.kind == "vectors" else "pixel"

    def describe(self) -> str:
        """Return the form as text, for messages."""
        channels, height, width = self.shape
        if self.kind == "vectors":
            what = "vectors" if height == 1 else f"windows of {height} rows"
            return f"{what} of {width} feature{'s' * (width != 1)}"
        return f"{height}x{width} {'gray' if channels == 1 else 'color' if channels == 3 else f'{channels}-channel'} images"

    @property
    def items_name(self) -> str:
        """The word for its items in messages."""
        return "images" if self.kind == "images" else "rows" if self.window == 1 else "windows"

    @property
    def needs_float64(self) -> bool:
        """Whether an offset is so large, in deviations, that float32 would round it noticeably."""
        return self.offset is not None and bool((np.abs(self.offset * self.scale) > LARGEST_FLOAT32_OFFSET).any())

    def normalize(self, raw: np.ndarray) -> np.ndarray:
        """Return raw values as the model sees them, (B, D) of any type -> (B, D) float32, always a new array."""
        dtype = np.float64 if raw.dtype == np.float64 or self.needs_float64 else np.float32
        values: np.ndarray = raw.astype(dtype, order="C")
        if self.fill is not None:
            np.copyto(values, self.fill.astype(dtype), where=np.isnan(values))
        with np.errstate(all="ignore"):  # infinite values are reported by whoever computes with them
            if self.offset is not None:
                np.subtract(values, self.offset.astype(dtype), out=values)
            np.multiply(values, np.asarray(self.scale, dtype), out=values)
            return values.astype(np.float32, copy=False)

    def denormalize(self, values: np.ndarray) -> np.ndarray:
        """Return the source's values of what the model sees, (B, D) -> (B, D) of the same type."""
        with np.errstate(all="ignore"):
            raw: np.ndarray = values / np.asarray(self.scale, values.dtype)
            if self.base is not None:
                raw = raw.astype(np.float64) + (0.0 if self.offset is None else self.offset) + self.base
                return raw.astype(values.dtype, copy=False)
            return raw if self.offset is None else (raw + self.offset).astype(values.dtype, copy=False)

    def transformed(self, values: np.ndarray) -> np.ndarray:
        """Return the data's own values after the transform, (B, D) -> (B, D) float64; the values themselves without one."""
        if self.transform == "none":
            return values
        own = values.astype(np.float64)
        if self.transform == "log1p_per_10k":
            rows = own.reshape(len(own) * self.window, self.shape[2])
            total = np.nansum(rows, axis=1, keepdims=True)
            own = (rows * (PER_10K / np.where(total > 0, total, 1.0))).reshape(own.shape)
        with np.errstate(divide="ignore", invalid="ignore"):  # values below 0 are refused where they are read
            return np.asarray(np.log1p(own))

    def restored(self, values: np.ndarray) -> np.ndarray:
        """Return what the model sees in the data's own units, (B, D): ``denormalize``, and the logarithm of a transform undone.

        Of ``log1p_per_10k`` these are counts per 10,000, because the model does not know a row's total.
        """
        raw = self.denormalize(values)
        with np.errstate(over="ignore"):
            return raw if self.transform == "none" else np.expm1(raw)

    @property
    def eight_bit(self) -> bool:
        """Whether the raw values are bytes, which the model sees as 0 to 1."""
        return self.kind == "images" and self.offset is None and isinstance(self.scale, float) and self.scale == 1 / 255


@dataclass(frozen=True)
class Block:
    """Items as a model sees them."""

    items: Sequence[str | int]
    """Identifies each item: the path of an image file; the row, from 0, if there is one array or split; otherwise ``path[row]``."""
    values: np.ndarray
    """(B, D) float32"""
    series: int = 0
    """For rows of windows: the number of the uninterrupted series that they belong to."""
    labels: Sequence[str] | None = None
    """Label text of each item, if the source has labels."""
    times: np.ndarray | None = None
    """(B,) float64, time stamps of rows of windows in seconds since 1970, UTC, if the source has them."""
    origin: Origin = Origin()
    """Lines and keys of the items, if the source has them."""

    def name_of(self, index: int) -> str:
        """Return what an item of the block is called in messages."""
        return item_name(self.items[index], self.origin.line(index))

    def joined(self, other: "Block") -> "Block":
        """Return the items of two blocks of one stream as one."""
        if not len(self.items) or not len(other.items):
            return self if len(self.items) else other
        labels = None if self.labels is None or other.labels is None else [*self.labels, *other.labels]
        times = None if self.times is None or other.times is None else np.concatenate([self.times, other.times])
        origin, values = self.origin.joined(other.origin), np.concatenate([self.values, other.values])
        return Block([*self.items, *other.items], values, self.series, labels, times, origin)

    def only(self, kept: Sequence[int]) -> "Block":
        """Return the items at some positions."""
        labels = None if self.labels is None else [self.labels[index] for index in kept]
        times = None if self.times is None else self.times[kept]
        items, origin = [self.items[index] for index in kept], self.origin.only(kept)
        return Block(items, self.values[kept], self.series, labels, times, origin)

    def slice(self, start: int, stop: int | None = None) -> "Block":
        """Return items start to stop, or to the last one."""
        kept = slice(start, stop)
        labels, times = (None if each is None else each[kept] for each in (self.labels, self.times))
        origin = self.origin.slice(start, stop)
        return Block(self.items[kept], self.values[kept], self.series, labels, times, origin)  # type: ignore[arg-type]


@dataclass(frozen=True)
class ItemSet:
    """Items of one form: all of an array in memory or memory-mapped, or those that ``indices`` choose of it.

    Several sets may share an array, so splitting a memory-mapped file copies nothing. Item i is row ``positions(i)`` of ``rows``.
    """

    values: np.ndarray
    """(M, C, H, W), each item contiguous (windows overlap): uint8, float32 or (vectors) float64; M = N without ``indices``. Never
    written to, because it may be shared."""
    labels: np.ndarray | None
    """(N,) int64, or None if the source has none."""
    form: ItemForm
    indices: np.ndarray | None = None
    """(N,) int64: which of the M are items, in this order; None: all of them."""
    label_names: tuple[str, ...] | None = None
    """The text of each label, if labels are words."""
    row_labels: np.ndarray | None = None
    """Of windows: the label of each row in memory, (M + W - 1,) int64; -1 for a row that is not an item."""

    series_starts: np.ndarray | None = None
    """Of rows for windows: (n,) int64, ascending: the rows in memory that begin another series; None: all are one series."""
    times: np.ndarray | None = None
    """Of rows for windows, or of windows: the time stamp of each row in memory in seconds since 1970, UTC; (M,) or (M + W - 1,)
    float64. None if the source has none."""

    first_row: int = 0
    """Of rows for windows, or of windows: the row in memory that is row 0 of a split, if processes hold shares of the whole."""

    checksum: str | None = None
    """Of all M items; None if it was not computed."""
    mapped: MappedFile | None = None
    """The file behind ``values``, if they are memory-mapped and the file is the user's."""
    share: Share | None = None
    """Of several processes: which of the M items ``values`` holds; None: all of them."""

    def __len__(self) -> int:
        return self.count_in_memory if self.indices is None else len(self.indices)

    @property
    def count_in_memory(self) -> int:
        """M, of all processes."""
        return len(self.values) if self.share is None else self.share.total

    @property
    def rows(self) -> np.ndarray:
        """The raw values of the M items as rows, (M, D), without a copy; of several processes, those of this process's share."""
        return self.values.reshape(len(self.values), self.form.values_per_item)

    def held(self) -> "ItemSet":
        """Return the items that this process holds, as a set of its own."""
        if self.share is None:
            return self
        positions = self.positions(np.arange(len(self)))
        mine = np.flatnonzero(self.share.owners(positions) == self.share.processes.rank)
        labels = None if self.labels is None else self.labels[mine]
        return replace(self, labels=labels, indices=self.share.places(positions[mine]), share=None, checksum=None)

    def in_memory(self) -> "ItemSet":
        """Return all rows that this process has in memory as a set, without labels."""
        return replace(self, labels=None, indices=None, share=None, checksum=None)

    def led(self, work: Callable[[], T]) -> T:
        """Return the result of work that reads any items; if processes hold shares, the leading one does it, and all must call this."""
        return work() if self.share is None else self.share.processes.led(work)

    def positions(self, items: np.ndarray) -> np.ndarray:
        """Return in which of ``rows`` the items are, (B,) int64 -> (B,) int64."""
        return items if self.indices is None else self.indices[items]

    def label_texts(self, start: int, stop: int) -> list[str] | None:
        """Return the label texts of items start to stop; None if the source has no labels."""
        return self._texts(self.labels, start, stop)

    def row_label_texts(self, start: int, stop: int) -> list[str] | None:
        """Return the label texts of rows start to stop in memory; None if the source has no labels."""
        return self._texts(self.row_labels, start, stop)

    def _texts(self, labels: np.ndarray | None, start: int, stop: int) -> list[str] | None:
        return None if labels is None else [self.label_text(label) for label in labels[start:stop].tolist()]

    def label_text(self, label: int) -> str:
        """Return the text of a label."""
        return str(label) if self.label_names is None else self.label_names[label]

    @property
    def readable_names(self) -> tuple[str, ...] | None:
        """The label texts for people; unlabelled items are ``no label``."""
        return None if self.label_names is None else tuple(name or NO_LABEL for name in self.label_names)

    def raw(self, start: int, stop: int) -> np.ndarray:
        """Return the raw values of items start to stop, (B, D); a copy only if the set has ``indices``, or a share of the items."""
        if self.share is not None:
            return self.raw_at(np.arange(*slice(start, stop).indices(len(self))))
        return self.rows[start:stop] if self.indices is None else self.rows[self.indices[start:stop]]

    def raw_at(self, items: np.ndarray) -> np.ndarray:
        """Return the raw values of the items at the positions of this set, (B,) -> (B, D); a copy."""
        places = self.positions(items)
        rows = self.rows[places] if self.share is None else self.share.items(places)
        return rows.reshape(len(places), self.form.values_per_item)

    def batch(self, start: int, stop: int) -> np.ndarray:
        """Return items start to stop as the model sees them, (B, D) float32, always a new array."""
        return self.form.normalize(self.raw(start, stop))

    def select(self, items: np.ndarray) -> "ItemSet":
        """Return the items at the positions of this set, (B,) int64, as a set with an array of its own."""
        labels = None if self.labels is None else self.labels[items]
        places = self.positions(items)
        times = None if self.times is None else self.times[places]
        values = self.raw_at(items).reshape(len(items), *self.form.shape)
        new = replace(self, values=values, labels=labels, indices=None, series_starts=None, times=times)
        return replace(new, checksum=None, mapped=None, share=None)

    def subset(self, items: np.ndarray) -> "ItemSet":
        """Return the items at the positions of this set, (B,) int64, as a set that shares its array."""
        labels = None if self.labels is None else self.labels[items]
        return replace(self, labels=labels, indices=self.positions(items))

    def slice(self, start: int, stop: int) -> "ItemSet":
        """Return items start to stop, without a copy."""
        labels = None if self.labels is None else self.labels[start:stop]
        if self.indices is not None:
            return replace(self, labels=labels, indices=self.indices[start:stop])
        if self.share is not None:
            return replace(self, labels=labels, indices=np.arange(*slice(start, stop).indices(len(self))), first_row=start)
        starts = None if self.series_starts is None else self.series_starts[self.series_starts > start] - start
        times = None if self.times is None else self.times[start:]
        return replace(self, values=self.values[start:stop], labels=labels, series_starts=starts, times=times, checksum=None)


@dataclass(frozen=True)
class Splits:
    """The three splits of a data set."""

    train: ItemSet
    validation: ItemSet
    test: ItemSet
    source: str
    """Name or path of the data, for messages."""

    def get(self, name: str) -> ItemSet:
        """Return a split by its name."""
        split: ItemSet = getattr(self, name)
        return split

    @property
    def is_shared(self) -> bool:
        """Whether several processes each hold a share of the items of a split."""
        return any(self.get(name).share is not None for name in SPLITS)

    @property
    def form(self) -> ItemForm:
        """The form that all three share."""
        return self.train.form

    def with_form(self, form: ItemForm) -> "Splits":
        """Return the same items seen through another form of the same shape."""
        train, validation, test = (replace(self.get(name), form=form) for name in SPLITS)
        return Splits(train, validation, test, self.source)

    def for_model(self, form: ItemForm, model: str) -> "Splits":
        """Return the splits as a trained model sees them: feature vectors with the statistics that it was trained with.

        Args:
            form: the model's.
            model: its path, for the message.

        Raises:
            DataError: the form of the data is no longer the model's.
        """
        if (form.shape, form.kind) != (self.form.shape, self.form.kind):
            raise DataError(f"{model}: made for {form.describe()}, but {self.source} now has {self.form.describe()}")
        return self.with_form(form) if form.kind == "vectors" else self  # images: the scale belongs to the array's type

    def filled(self, name: str) -> ItemSet:
        """Return a split by its name.

        Raises:
            DataError: it is empty.
        """
        items = self.get(name)
        if not len(items):
            raise DataError(f"{self.source}: its {name} split is empty")
        return items


def check_split(name: str) -> None:
    """Raise ``InputError`` unless a split has that name."""
    if name not in SPLITS:
        raise InputError(f"--split {name}: no such split (known: {', '.join(SPLITS)})")


def choose(items: ItemSet, count: int, seed: int | None) -> ItemSet:
    """Return the first ``count`` items, or a random choice with a seed; all items, with a note, if there are fewer."""
    if count > len(items):
        log.info(f"only {len(items):,} {items.form.items_name} in this split; {count:,} were asked for")
        count = len(items)
    return items.slice(0, count) if seed is None else items.select(permutation(seed, len(items))[:count])


def time_texts(seconds: np.ndarray) -> list[str]:
    """Return time stamps, (B,) seconds since 1970, as ``2024-03-01 10:14:33``; fractions of a second only if there are any."""
    whole = bool((seconds == np.floor(seconds)).all())
    stamps = np.round(seconds * (1 if whole else 1e3)).astype("datetime64[s]" if whole else "datetime64[ms]")
    return [str(stamp).replace("T", " ") for stamp in stamps]


def permutation(seed: int, count: int) -> np.ndarray:
    """Return a random order of ``count`` items, (count,) int64, that depends on the seed and the count alone."""
    order: np.ndarray = np.random.RandomState(seed).permutation(count)  # numpy guarantees that this stream never changes
    return order


def gray_or_color(images: np.ndarray, labels: np.ndarray | None) -> ItemSet:
    """Make a set of uint8 images, (N, H, W) or (N, C, H, W)."""
    if images.ndim == 3:
        images = images[:, None]  # (N, H, W) -> (N, 1, H, W)
    _, channels, height, width = images.shape
    return ItemSet(np.ascontiguousarray(images), labels, ItemForm((channels, height, width), scale=1 / 255))
