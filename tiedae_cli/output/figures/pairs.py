"""Pictures of many items: grids, and the contact sheet of ``score``."""

import math
from collections.abc import Iterable, Sequence

import numpy as np

from tiedae_cli.data.item_set import ItemForm
from tiedae_cli.errors import InputError
from tiedae_cli.model.pictures import as_pictures
from tiedae_cli.output.figures.canvas import (
    ACCENT_COLOR,
    DPI,
    INK,
    default_style,
    figure_png,
    new_figure,
    paste,
    pixel_png,
    tiles,
)

COMPACT, COMPACT_COLUMNS = 100, 10  # up to 100 pairs have ten columns; a larger grid is about square
MOST_PICTURES, LARGEST_GRID = 10_000, 1 << 25  # limits of one grid: pictures, and pixels (a square of about 5,800)
SHEET_TITLE, SHEET_WIDTH = 50, 360  # contact sheet, in pixels: height of the title, smallest width
SHEET_GAP, SHEET_TEXT, SHEET_CAPTION = 14, 36, 150  # contact sheet, in pixels: between items, under them, width of a caption
HEAT_AT = (0.0, 0.35, 0.7, 1.0)  # shares of the largest error, and their colors: pale, yellow, the accent color, dark
HEAT = ((0.94, 0.94, 0.92), (0.98, 0.8, 0.36), (0.78, 0.31, 0.12), (0.3, 0.04, 0.02))


def pixel_grid(top: np.ndarray, bottom: np.ndarray, largest_width: int = 1600) -> bytes:
    """Draw a grid of pictures, (N, H, W) or (N, H, W, 3), each above its partner, enlarged by a whole factor; return the PNG."""
    count, height, width = top.shape[:3]
    columns = min(count, COMPACT_COLUMNS) if count <= COMPACT else _square_columns(count, 2 * height, width)
    factor = max(1, min(largest_width // (columns * (width + 2)), 96 // width, 96 // height))
    return pixel_png(tiles((top, bottom), columns, factor))


def picture_grid(pictures: np.ndarray, largest_width: int = 1600) -> bytes:
    """Draw a grid of pictures, (N, H, W) or (N, H, W, 3), enlarged by a whole factor; return the PNG."""
    count, height, width = pictures.shape[:3]
    columns = _square_columns(count, height, width) if count > COMPACT_COLUMNS else count
    factor = max(1, min(largest_width // (columns * (width + 2)), 96 // width, 96 // height))
    return pixel_png(tiles((pictures,), columns, factor))


def _square_columns(count: int, height: int, width: int) -> int:
    """Return the number of columns for which cells of this size make a picture about as wide as high."""
    return min(count, math.ceil(math.sqrt(count * height / width)))


def check_pairs(count: int, form: ItemForm) -> None:
    """Raise ``InputError`` if one grid cannot hold ``count`` pairs of this form."""
    _, height, width = form.shape
    most = max(COMPACT, min(MOST_PICTURES, LARGEST_GRID // ((2 * height + 6) * (width + 2))))
    if count > most:
        raise InputError(f"{count:,} pairs of {form.describe()} are too many; one picture holds {most:,} of them")


def most_pictures(form: ItemForm) -> int:
    """Return the largest number of pictures of this form in one grid."""
    _, height, width = form.shape
    return min(MOST_PICTURES, max(1, LARGEST_GRID // ((height + 2) * (width + 2))))


def all_pictures(blocks: Iterable[np.ndarray], count: int | None, form: ItemForm) -> np.ndarray:
    """Collect blocks of model values, (B, D), as the pictures of one grid.

    Args:
        blocks: blocks, read once.
        count: number of items, if known.
        form: form of an item.

    Raises:
        InputError: there are no pictures, more than a grid holds, or the items are vectors.
    """
    if form.kind != "images":
        raise InputError(f"this model's items are {form.describe()}: write them to .npy, .csv or .jsonl, not to a picture")
    most = most_pictures(form)
    many = f"more than the {most:,} {form.describe()} that one picture holds; write them to a .npy"
    if count is not None and count > most:
        raise InputError(f"{count:,} codes are {many}")
    kept: list[np.ndarray] = []
    for block in blocks:
        kept.append(as_pictures(block, form))
        if sum(map(len, kept)) > most:
            raise InputError(many)
    if not kept:
        raise InputError("there are no codes to draw")
    return np.concatenate(kept)


@default_style()
def contact_sheet(
    originals: np.ndarray,
    reconstructions: np.ndarray,
    captions: Sequence[str],
    marked: Sequence[bool],
    title: str,
    form: ItemForm,
) -> bytes:
    """Draw originals, reconstructions and error maps, with a title and a caption under each item; return the PNG.

    Args:
        originals: as the model sees them, (N, D).
        reconstructions: the model's, (N, D).
        captions: two lines for each item.
        marked: which captions are printed in the accent color.
        title: two lines.
        form: form of an item.
    """
    left, middle = as_pictures(originals, form), as_pictures(reconstructions, form)
    right = heat(np.abs(reconstructions - originals).reshape(-1, *form.shape).mean(1))
    count, height, width = left.shape[:3]
    factor = max(1, min(96 // width, 96 // height))
    across = max(3 * width * factor + 4 + SHEET_GAP, SHEET_CAPTION)
    down = height * factor + SHEET_TEXT + SHEET_GAP
    columns = min(count, max(2, min(8, 1400 // across)))
    size = -(-count // columns) * down + SHEET_TITLE, max(columns * across + SHEET_GAP, SHEET_WIDTH)
    canvas = np.full((*size, 3), 255, dtype=np.uint8)
    figure = new_figure(canvas.shape[1] / DPI, canvas.shape[0] / DPI)
    figure.text(SHEET_GAP / canvas.shape[1], 1 - 10 / canvas.shape[0], title, fontsize=9, color=INK, va="top")
    for index in range(count):
        y, x = SHEET_TITLE + index // columns * down, SHEET_GAP + index % columns * across
        for number, pictures in enumerate((left, middle, right)):
            paste(canvas, y, x + number * (width * factor + 2), pictures[index], factor)
        place = x / canvas.shape[1], 1 - (y + height * factor + 4) / canvas.shape[0]
        color = ACCENT_COLOR if marked[index] else INK
        figure.text(*place, captions[index], fontsize=7, color=color, va="top", parse_math=False)
    figure.figimage(canvas, origin="upper")
    return figure_png(figure)


def heat(errors: np.ndarray) -> np.ndarray:
    """Return error maps, (N, H, W), as pictures, (N, H, W, 3): pale for no error, dark for the largest of all."""
    shares = errors / max(float(errors.max()), 1e-12)
    return np.stack([np.interp(shares, HEAT_AT, channel) for channel in zip(*HEAT, strict=True)], -1)
