"""Rules for every command: which values are valid, and how a source's own values become those that training reads.

Images are uint8 (whole numbers from 0 to 255, black and white as 0 and 255) or float32 in [0, 1], channels first. Vectors are float32 or
float64, or uint8 where they are stored so. Shapes: N items, B items per block, C channels, H x W pixels, D values per item.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np

from tiedae_cli.config.schema import Transform
from tiedae_cli.data.columns import Columns
from tiedae_cli.data.item_set import ItemForm, ValueRange
from tiedae_cli.data.sources.part import Bad, Part, RawBlock, item_name
from tiedae_cli.errors import DataError

FORMS = "N x D vectors, N x H x W images or N x C x H x W (or N x H x W x C) images"
CHANNELS = (1, 3, 4)  # of images with channels last


@dataclass(frozen=True)
class ItemRules:
    """How to read the items of one part."""

    name: str
    """Name of the part, for messages."""
    form: ItemForm
    """Form of an item: channels first; images have their scale, vectors no statistics yet."""
    target: np.dtype
    """uint8, float32 or (vectors) float64."""
    channels_last: bool
    low: float
    high: float
    """Values outside these bounds are refused, and so are values that are not finite."""
    allows_nan: bool = False
    """Vectors only: NaN is a missing value."""
    columns: Columns | None = None
    """The named columns of the values, if the source has names."""
    range: ValueRange | None = None
    """Images only: the values that become 0 and 1."""
    locate: Callable[[int], tuple[str, int]] | None = None
    """Returns the file and the row in it of an item, if the part has several files."""

    def convert(self, block: RawBlock, bad: Bad) -> RawBlock:
        """Return the valid items of a block, with values (B, D) of the target type.

        Raises:
            DataError: raised by ``bad`` for an invalid item.
        """
        values = block.values
        if self.channels_last:
            values = np.moveaxis(values, -1, 1)  # (B, H, W, C) -> (B, C, H, W)
        values = values.reshape(len(values), self.form.values_per_item)  # (B, D)
        good = self._good(values, block.rows, bad)
        kept = block.only(good, values)
        values = kept.values
        if self.range is not None:
            values = (values.astype(np.float32) - self.range.low) / (self.range.high - self.range.low)
        converted = self.form.transformed(values).astype(self.target, copy=False)
        if values.dtype.kind == "b" and self.form.kind == "images":
            converted = converted * np.uint8(255)
        return replace(kept, values=np.ascontiguousarray(converted))

    def _good(self, values: np.ndarray, rows: Sequence[int | str], bad: Bad) -> np.ndarray:
        """Return which items hold only valid values, (B,) bool; the others are reported."""
        everything = np.ones(len(values), dtype=bool)
        if values.dtype == np.uint8 or values.dtype.kind == "b" or not values.size:
            return everything
        with np.errstate(all="ignore"):
            low, high = np.float64(self.low), np.float64(self.high)  # otherwise a bound becomes infinity next to float16
            whole = self.target != np.uint8 or values.dtype.kind != "f" or bool((values == np.floor(values)).all())
            if whole and low <= values.min() and values.max() <= high:  # false for NaN, which min and max pass on
                return everything
            wrong = ~((values >= low) & (values <= high))
            if not whole:
                wrong |= values != np.floor(values)
            if self.allows_nan and values.dtype.kind == "f":
                wrong &= ~np.isnan(values)
        for index in np.flatnonzero(wrong.any(1)).tolist():
            value = values[index, int(wrong[index].argmax())]
            item = item_name(rows[index])
            name, row = self.name, rows[index]
            if self.locate is not None and isinstance(row, int):
                name, row = self.locate(row)
                item = item_name(row)
            if self.columns is not None:
                item += f", column {self.columns.values[int(wrong[index].argmax())]}"
            bad(DataError(f"{name}: {item} holds {self._problem(value)}"))
        return np.asarray(~wrong.any(1))

    def _problem(self, value: np.generic) -> str:
        number = float(value)
        if not np.isfinite(number):
            return "NaN" if np.isnan(number) else "infinity"
        if self.form.transform != "none" and number < 0:
            return f"{number:g}; data.transform: {self.form.transform} takes values of 0 and above"
        if self.form.kind == "vectors":
            return f"{number:g}, which float32 cannot hold; rescale that feature"
        if self.range is not None:
            return f"{number:g}, outside of data.range, {self.low:g} to {self.high:g}"
        if self.target == np.uint8:
            advice = "set black and white with --set 'data.range=[LOWEST, HIGHEST]'"
            return f"{number:g}; images of whole numbers must be in 0..255 (or more bits from 0 on): {advice}"
        if 2 <= number <= 255:
            advice = "--set 'data.range=[0, 255]'; or divide by 255, or save as uint8"
        elif -1 <= number < 0:
            advice = "--set 'data.range=[-1, 1]' where they are in [-1, 1], else np.clip(x, 0, 1)"
        else:
            advice = "np.clip(x, 0, 1) if these are rounding errors; otherwise subtract the minimum and divide by the range"
        return f"{number:g}; images of floats must be in [0, 1]: {advice}. Feature vectors, N x D, may have any values"


def rules_for_training(
    part: Part, allows_nan: bool = False, range: ValueRange | None = None, transform: Transform = "none"
) -> ItemRules:
    """Return the rules for a part, by its shape alone.

    Args:
        part: the items.
        allows_nan: whether NaN is a missing value.
        range: of images.
        transform: of vectors.

    Raises:
        DataError: it is empty, or has an unsupported number of dimensions.
    """
    size = " x ".join(map(str, ("N" if part.count is None else part.count, *part.shape)))
    if len(part.shape) not in (1, 2, 3):
        raise DataError(f"{part.name}: {size}: {len(part.shape) + 1} dimensions; expected {FORMS}")
    if 0 in part.shape or part.count == 0:
        raise DataError(f"{part.name}: {size}: empty; expected {FORMS}")
    if len(part.shape) == 1:
        return _rules(part, (1, 1, part.shape[0]), "vectors", allows_nan=allows_nan, transform=transform)
    if len(part.shape) == 2:
        return _rules(part, (1, *part.shape), "images", range=range)
    last = part.shape[2] in CHANNELS and part.shape[0] not in CHANNELS
    return _rules(part, (part.shape[2], *part.shape[:2]) if last else part.shape, "images", last, range=range)


def rules_for_model(part: Part, form: ItemForm, expected: str) -> ItemRules:
    """Return the rules for a part that a model of a form reads; an image model also takes flat rows.

    Args:
        part: the items.
        form: the model's.
        expected: what the model takes, for the message.

    Raises:
        DataError: its items do not have that form.
    """
    channels, height, width = form.shape
    if form.kind == "vectors":
        fitting: list[tuple[int, ...]] = [(form.values_per_item,)]
    else:
        gray = [(height, width)] * (channels == 1)
        fitting = [*gray, form.shape, (height, width, channels), (form.values_per_item,)]
    if part.shape not in fitting:
        shapes = ", ".join(" x ".join(map(str, ("N", *shape))) for shape in dict.fromkeys(fitting))
        raise DataError(f"{part.name}: {part.describe()}; {expected}, in one of the shapes {shapes}")
    last = form.kind == "images" and part.shape == (height, width, channels) != form.shape
    wide = part.dtype.kind in "iu" and part.dtype.itemsize > 1
    fits = form.range is not None and form.range.whole == wide and part.dtype != np.uint8 and part.dtype.kind != "b"
    return _rules(
        part,
        form.shape,
        form.kind,
        last,
        allows_nan=form.fill is not None,
        range=form.range if fits else None,
        transform=form.transform,
    )


def _rules(
    part: Part,
    shape: tuple[int, ...],
    kind: str,
    channels_last: bool = False,
    allows_nan: bool = False,
    range: ValueRange | None = None,
    transform: Transform = "none",
) -> ItemRules:
    channels, height, width = shape
    dtype, images = part.dtype, kind == "images"
    eight_bit = dtype == np.uint8 or (images and dtype.kind in "bui" and range is None)
    wide = not images and (dtype.kind in "iu" or dtype.itemsize > 4)  # integers and float64 keep their precision
    target = np.dtype(np.uint8 if eight_bit else np.float64 if wide else np.float32)
    target = target if transform == "none" else np.dtype(np.float32)  # logarithms are small numbers
    columns = None if images else part.columns
    form = ItemForm(
        (channels, height, width),
        kind,
        scale=1 / 255 if eight_bit and images else 1.0,
        columns=columns,
        range=range,
        transform=transform,
    )
    if images:
        low, high = 0.0, 255.0 if eight_bit else 1.0
        if range is not None:
            low, high = range.low, range.high
    else:
        low, high = float(np.finfo(np.float32).min), float(np.finfo(np.float32).max)
        low = low if transform == "none" else 0.0
    return ItemRules(
        part.name, form, target, channels_last, low, high, allows_nan and not images, part.columns, range, part.locate
    )
