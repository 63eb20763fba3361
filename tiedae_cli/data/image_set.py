"""What every source becomes: images or vectors in one tensor, and how raw values turn into what the model sees.

Shapes: N images, C channels, H x W pixels, D = C * H * W values an image, B images a batch.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from tiedae_cli.errors import DataError, InputError

SPLITS = ("train", "validation", "test")
KINDS = ("images", "vectors")


@dataclass(frozen=True)
class DataForm:
    """The form of one item and the scaling between its raw values and the model's: model = (raw - offset) * scale."""

    shape: tuple[int, int, int]
    """(C, H, W); a vector of D features is (1, 1, D)."""
    kind: str = "images"
    """``images`` (the model sees [0, 1]) or ``vectors`` (standardised features)."""
    offset: Tensor | None = None
    """(D,) float32, subtracted from raw values; None is 0."""
    scale: Tensor | float = 1.0
    """(D,) float32 or a number: 1/255 for uint8 images."""

    @property
    def pixels(self) -> int:
        """D, the values of one item."""
        channels, height, width = self.shape
        return channels * height * width

    def describe(self) -> str:
        """Return the form in words, for messages."""
        channels, height, width = self.shape
        if self.kind == "vectors":
            return f"vectors of {width} features"
        return f"{width}x{height} {'gray' if channels == 1 else 'colour' if channels == 3 else f'{channels}-channel'} images"

    def normalise(self, raw: Tensor) -> Tensor:
        """Turn raw values, (B, D) of any type, into what the model sees, (B, D) float32."""
        values = raw.to(torch.float32)
        if self.offset is not None:
            values = values - self.offset.to(values.device)
        scale = self.scale.to(values.device) if isinstance(self.scale, Tensor) else self.scale
        return values * scale

    def denormalise(self, values: Tensor) -> Tensor:
        """Turn what the model sees, (B, D), back into raw values, (B, D) float32: 0 to 255 for images that were uint8."""
        raw = values.to(torch.float32)
        if isinstance(self.scale, Tensor) or self.scale != 1:
            raw = raw / (self.scale.to(raw.device) if isinstance(self.scale, Tensor) else self.scale)
        return raw if self.offset is None else raw + self.offset.to(raw.device)

    @property
    def eight_bit(self) -> bool:
        """Whether the raw values are bytes, which the model sees as 0 to 1."""
        return self.kind == "images" and self.offset is None and not isinstance(self.scale, Tensor) and self.scale == 1 / 255

    def to(self, device: torch.device) -> "DataForm":
        """Return the form with its statistics on a device."""
        return replace(
            self,
            offset=None if self.offset is None else self.offset.to(device),
            scale=self.scale.to(device) if isinstance(self.scale, Tensor) else self.scale,
        )


@dataclass(frozen=True)
class ImageSet:
    """Images of one form in one tensor, in memory, memory-mapped or on a device."""

    images: Tensor
    """(N, C, H, W), uint8 or float32, contiguous."""
    labels: Tensor | None
    """(N,) int64, or None where the source has none."""
    form: DataForm

    def __len__(self) -> int:
        return len(self.images)

    @property
    def rows(self) -> Tensor:
        """The raw values as rows, (N, D), without a copy."""
        return self.images.view(len(self.images), self.form.pixels)

    def batch(self, start: int, stop: int, device: torch.device) -> Tensor:
        """Return items start to stop as the model sees them, (B, D) float32 on the device."""
        return self.form.normalise(self.rows[start:stop].to(device))

    def select(self, indices: Tensor) -> "ImageSet":
        """Return the items at the indices, (B,) int64, as a set of their own."""
        labels = None if self.labels is None else self.labels[indices]
        return ImageSet(self.images[indices], labels, self.form)

    def slice(self, start: int, stop: int) -> "ImageSet":
        """Return items start to stop, without a copy."""
        labels = None if self.labels is None else self.labels[start:stop]
        return ImageSet(self.images[start:stop], labels, self.form)

    def to(self, device: torch.device) -> "ImageSet":
        """Return the set on a device."""
        labels = None if self.labels is None else self.labels.to(device)
        return ImageSet(self.images.to(device), labels, self.form.to(device))


@dataclass(frozen=True)
class Splits:
    """The three splits of a data set."""

    train: ImageSet
    validation: ImageSet
    test: ImageSet
    source: str
    """What the data is, for messages: a name or a path."""

    def get(self, name: str) -> ImageSet:
        """Return a split by its name."""
        split: ImageSet = getattr(self, name)
        return split

    @property
    def form(self) -> DataForm:
        """The form that all three share."""
        return self.train.form

    def matching(self, name: str, form: DataForm, model: str) -> ImageSet:
        """Return a split by its name for a trained model.

        Raises:
            DataError: the data's form is not the model's any more, or the split is empty.
        """
        if (form.shape, form.kind) != (self.form.shape, self.form.kind):
            raise DataError(f"{model}: made for {form.describe()}, but {self.source} now has {self.form.describe()}")
        if not len(self.get(name)):
            raise DataError(f"{self.source}: its {name} split is empty")
        return self.get(name)


def check_split(name: str) -> None:
    """Raise ``InputError`` unless a split has that name."""
    if name not in SPLITS:
        raise InputError(f"--split {name}: no such split (known: {', '.join(SPLITS)})")


def choose(images: ImageSet, count: int, seed: int | None, say: Callable[[str], None]) -> ImageSet:
    """Return the first ``count`` items, or with a seed a random choice of them; fewer, and said so, where there are fewer."""
    if count > len(images):
        say(f"only {len(images):,} images in this split, {count:,} were asked for")
        count = len(images)
    if seed is None:
        return images.slice(0, count)
    return images.select(torch.randperm(len(images), generator=torch.Generator().manual_seed(seed))[:count])


def gray_or_colour(images: Tensor, labels: Tensor | None) -> ImageSet:
    """Make a set of uint8 images, (N, H, W) or (N, C, H, W)."""
    if images.dim() == 3:
        images = images.unsqueeze(1)  # (N, H, W) -> (N, 1, H, W)
    _, channels, height, width = images.shape
    form = DataForm((channels, height, width), scale=1 / 255)
    return ImageSet(images.contiguous(), labels, form)
