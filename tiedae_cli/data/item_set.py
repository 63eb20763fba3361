"""What every source becomes: images or vectors in one tensor, and how raw values turn into what the model sees.

Shapes: N items of a set, M images of its tensor, C channels, H x W pixels, D = C * H * W values an image, B images a batch.
"""

import logging
from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from tiedae_cli.data.columns import Columns
from tiedae_cli.errors import DataError, InputError

log = logging.getLogger(__name__)

SPLITS = ("train", "validation", "test")
KINDS = ("images", "vectors")
NO_LABEL = "no label"
BLOCK_BYTES = 1 << 25  # what is copied or looked at in one go


@dataclass(frozen=True)
class ValueRange:
    """Which raw values of images are the model's 0 and 1, where they are not 0 and 255, or 0 and 1."""

    low: float
    high: float
    whole: bool
    """Of whole numbers of more than 8 bits; else of floats."""


BIT_DEPTHS = (8, 10, 12, 14, 16)  # of cameras and scanners


def range_of(largest: float) -> ValueRange | None:
    """Return the range of the bit depth that holds whole numbers up to ``largest``; None for 8 bits, or beyond 16."""
    tops = [2**bits - 1 for bits in BIT_DEPTHS if largest <= 2**bits - 1]
    return ValueRange(0.0, float(tops[0]), whole=True) if tops and tops[0] > 255 else None


@dataclass(frozen=True)
class ItemForm:
    """The form of one item and the scaling between its raw values and the model's: model = (raw - offset) * scale."""

    shape: tuple[int, int, int]
    """(C, H, W); a vector of D features is (1, 1, D), a window of W rows of D features (1, W, D)."""
    kind: str = "images"
    """``images`` (the model sees [0, 1]) or ``vectors`` (standardised features)."""
    offset: Tensor | None = None
    """(D,) float64 (float32 where it is made by hand), subtracted from raw values; None is 0."""
    scale: Tensor | float = 1.0
    """(D,) like ``offset``, or a number: 1/255 for uint8 images."""
    fill: Tensor | None = None
    """(D,) float64: what stands for a missing value (NaN) of vectors; None where there is none."""
    range: ValueRange | None = None
    """Of images whose raw values are converted to [0, 1] as they are read."""
    columns: Columns | None = None
    """What the values of a vector are, where its source names them."""

    @property
    def pixels(self) -> int:
        """D, the values of one item."""
        channels, height, width = self.shape
        return channels * height * width

    @property
    def window(self) -> int:
        """Rows of a series that make an item; 1 where each row is one."""
        return self.shape[1] if self.kind == "vectors" else 1

    @property
    def value_name(self) -> str:
        """What one value of an item is called in messages."""
        return "feature" if self.kind == "vectors" else "pixel"

    def describe(self) -> str:
        """Return the form in words, for messages."""
        channels, height, width = self.shape
        if self.kind == "vectors":
            whose = "vectors" if height == 1 else f"windows of {height} rows"
            return f"{whose} of {width} feature{'s' * (width != 1)}"
        return f"{height}x{width} {'gray' if channels == 1 else 'color' if channels == 3 else f'{channels}-channel'} images"

    @property
    def items_name(self) -> str:
        """What its items are called."""
        return "images" if self.kind == "images" else "rows" if self.window == 1 else "windows"

    def normalise(self, raw: Tensor) -> Tensor:
        """Turn raw values, (B, D) of any type, into what the model sees, (B, D) float32."""
        values = raw if raw.dtype == torch.float64 else raw.to(torch.float32)  # float64 loses nothing beside a large offset
        if self.fill is not None:
            values = torch.where(values.isnan(), self.fill.to(values), values)
        if self.offset is not None:
            values = values - self.offset.to(values)
        scale = self.scale.to(values) if isinstance(self.scale, Tensor) else self.scale
        return (values * scale).to(torch.float32)

    def denormalise(self, values: Tensor) -> Tensor:
        """Turn what the model sees, (B, D), back into raw values, (B, D) of the type of the values: the inverse of ``normalise``."""
        raw = self.raw_difference(values)
        return raw if self.offset is None else (raw + self.offset.to(raw.device)).to(values.dtype)

    def raw_difference(self, difference: Tensor) -> Tensor:
        """Turn a difference of two model values, (B, D), into the difference of the raw ones; exact also beside a large offset."""
        return difference / (self.scale.to(difference) if isinstance(self.scale, Tensor) else self.scale)

    @property
    def eight_bit(self) -> bool:
        """Whether the raw values are bytes, which the model sees as 0 to 1."""
        return self.kind == "images" and self.offset is None and not isinstance(self.scale, Tensor) and self.scale == 1 / 255

    def to(self, device: torch.device) -> "ItemForm":
        """Return the form with its statistics on a device."""
        return replace(
            self,
            offset=None if self.offset is None else self.offset.to(device),
            fill=None if self.fill is None else self.fill.to(device),
            scale=self.scale.to(device) if isinstance(self.scale, Tensor) else self.scale,
        )


@dataclass(frozen=True)
class Block:
    """Some items as a model sees them."""

    items: Sequence[str | int]
    """What tells each apart: an image file's path; the row, from 0, in a split or an only array; else ``path[row]``."""
    values: Tensor
    """(B, D) float32 on the CPU"""
    series: int = 0
    """Of rows that windows are made of: which uninterrupted run of rows they belong to."""
    labels: Sequence[str] | None = None
    """What each item is called, where the source says it."""

    def joined(self, other: "Block") -> "Block":
        """Return the items of two blocks of one stream as one."""
        if not len(self.items) or not len(other.items):
            return self if len(self.items) else other
        labels = None if self.labels is None or other.labels is None else [*self.labels, *other.labels]
        return Block([*self.items, *other.items], torch.cat([self.values, other.values]), self.series, labels)

    def slice(self, start: int, stop: int | None = None) -> "Block":
        """Return items start to stop, or to the last one."""
        kept = slice(start, stop)
        return Block(self.items[kept], self.values[kept], self.series, None if self.labels is None else self.labels[kept])


@dataclass(frozen=True)
class ItemSet:
    """Items of one form: all of a tensor in memory, memory-mapped or on a device, or those that ``indices`` choose of it.

    Several sets may look into one tensor, so that splitting a memory-mapped array copies nothing. Item i is row
    ``positions(i)`` of ``rows``; on a device a set always has a tensor of its own, without ``indices``.
    """

    images: Tensor
    """(M, C, H, W), each item contiguous (windows overlap): uint8, float32 or (vectors) float64; M = N without ``indices``. Never
    written to, for it may be shared."""
    labels: Tensor | None
    """(N,) int64, or None where the source has none."""
    form: ItemForm
    indices: Tensor | None = None
    """(N,) int64: which of the M images are items, in this order; None: all of them."""
    label_names: tuple[str, ...] | None = None
    """What the labels stand for, where they are words."""
    row_labels: Tensor | None = None
    """Of windows: the label of each row in memory, (M + W - 1,) int64; -1 of one that is no item."""

    def __len__(self) -> int:
        return len(self.images) if self.indices is None else len(self.indices)

    @property
    def rows(self) -> Tensor:
        """The raw values of all M images as rows, (M, D), without a copy."""
        return self.images.view(len(self.images), self.form.pixels)

    def positions(self, items: Tensor) -> Tensor:
        """Return in which of ``rows`` the items are, (B,) int64 -> (B,) int64."""
        return items if self.indices is None else self.indices[items]

    def label_texts(self, start: int, stop: int) -> list[str] | None:
        """Return what items start to stop are called; None where the source has no labels."""
        return self._texts(self.labels, start, stop)

    def row_label_texts(self, start: int, stop: int) -> list[str] | None:
        """Return what rows start to stop in memory, which windows hold, are called; None where the source has no labels."""
        return self._texts(self.row_labels, start, stop)

    def _texts(self, labels: Tensor | None, start: int, stop: int) -> list[str] | None:
        return None if labels is None else [self.label_text(label) for label in labels[start:stop].tolist()]

    def label_text(self, label: int) -> str:
        """Return what a label stands for."""
        return str(label) if self.label_names is None else self.label_names[label]

    @property
    def readable_names(self) -> tuple[str, ...] | None:
        """What the labels stand for, for people to read: of items without one that they have none."""
        return None if self.label_names is None else tuple(name or NO_LABEL for name in self.label_names)

    def raw(self, start: int, stop: int) -> Tensor:
        """Return the raw values of items start to stop, (B, D); a copy only where the set has ``indices``."""
        return self.rows[start:stop] if self.indices is None else self.rows.index_select(0, self.indices[start:stop])

    def batch(self, start: int, stop: int, device: torch.device) -> Tensor:
        """Return items start to stop as the model sees them, (B, D) float32 on the device."""
        return self.form.normalise(self.raw(start, stop).to(device))

    def select(self, items: Tensor) -> "ItemSet":
        """Return the items at the positions of this set, (B,) int64, as a set with a tensor of its own."""
        labels = None if self.labels is None else self.labels[items]
        return replace(self, images=self.images[self.positions(items)], labels=labels, indices=None)

    def subset(self, items: Tensor) -> "ItemSet":
        """Return the items at the positions of this set, (B,) int64, as a set that looks into the same tensor."""
        labels = None if self.labels is None else self.labels[items]
        return replace(self, labels=labels, indices=self.positions(items))

    def slice(self, start: int, stop: int) -> "ItemSet":
        """Return items start to stop, without a copy."""
        labels = None if self.labels is None else self.labels[start:stop]
        if self.indices is not None:
            return replace(self, labels=labels, indices=self.indices[start:stop])
        return replace(self, images=self.images[start:stop], labels=labels)

    def to(self, device: torch.device) -> "ItemSet":
        """Return the set on a device; on the CPU the same tensor, elsewhere the items alone, copied in blocks."""
        if device == self.images.device:
            return self
        images = torch.empty(len(self), *self.form.shape, dtype=self.images.dtype, device=device)
        size = max(1, BLOCK_BYTES // (self.form.pixels * self.images.element_size()))
        for start in range(0, len(self), size):
            images[start : start + size].view(-1, self.form.pixels).copy_(self.raw(start, start + size))
        labels = None if self.labels is None else self.labels.to(device)
        return replace(self, images=images, labels=labels, form=self.form.to(device), indices=None)


@dataclass(frozen=True)
class Splits:
    """The three splits of a data set."""

    train: ItemSet
    validation: ItemSet
    test: ItemSet
    source: str
    """What the data is, for messages: a name or a path."""

    def get(self, name: str) -> ItemSet:
        """Return a split by its name."""
        split: ItemSet = getattr(self, name)
        return split

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
            DataError: the data's form is not the model's any more.
        """
        if (form.shape, form.kind) != (self.form.shape, self.form.kind):
            raise DataError(f"{model}: made for {form.describe()}, but {self.source} now has {self.form.describe()}")
        return self.with_form(form) if form.kind == "vectors" else self  # images: the scale belongs to the array's type

    def filled(self, name: str) -> ItemSet:
        """Return a split by its name.

        Raises:
            DataError: it is empty.
        """
        images = self.get(name)
        if not len(images):
            raise DataError(f"{self.source}: its {name} split is empty")
        return images


def check_split(name: str) -> None:
    """Raise ``InputError`` unless a split has that name."""
    if name not in SPLITS:
        raise InputError(f"--split {name}: no such split (known: {', '.join(SPLITS)})")


def choose(images: ItemSet, count: int, seed: int | None) -> ItemSet:
    """Return the first ``count`` items, or with a seed a random choice of them; fewer, and said so, where there are fewer."""
    if count > len(images):
        log.info(f"only {len(images):,} images in this split, {count:,} were asked for")
        count = len(images)
    if seed is None:
        return images.slice(0, count)
    return images.select(torch.randperm(len(images), generator=torch.Generator().manual_seed(seed))[:count])


def gray_or_colour(images: Tensor, labels: Tensor | None) -> ItemSet:
    """Make a set of uint8 images, (N, H, W) or (N, C, H, W)."""
    if images.dim() == 3:
        images = images.unsqueeze(1)  # (N, H, W) -> (N, 1, H, W)
    _, channels, height, width = images.shape
    form = ItemForm((channels, height, width), scale=1 / 255)
    return ItemSet(images.contiguous(), labels, form)
