"""Pictures of items and their reconstructions: each model is a labelled row, or a column if there are few items."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from tiedae_cli.output.figures.canvas import Page, default_style, resized, text_width
from tiedae_cli.system.text import shown

LARGEST_PAIRS = 8  # up to this many items, each has its own row
LARGEST_LABELLED = 100  # up to this many items, there is room for names and errors
COLUMNS = 10  # items side by side; more begin a new block of rows
MARGIN, GAP, BLOCK_GAP = 12, 4, 14  # pixels: around all, between images, between blocks
LINE, LABEL = 16, 40  # pixels: a line of small text, and two lines of a row's label
HEAD = 46  # pixels: height of the two title lines
SIDE, LARGE_SIDE = 96, 240  # pixels: longest side of an enlarged image, with many items and with few
LARGEST_SIDE = 320  # pixels: larger images are shrunk to this side if there are many


@dataclass(frozen=True)
class Answers:
    """The items themselves, or one model's reconstructions of them."""

    name: str
    """Name of the row."""
    line: str
    """A line about the whole row; may be empty."""
    pictures: np.ndarray
    """(N, H, W) or (N, H, W, 3), in [0, 1]."""
    errors: Sequence[float] | None = None
    """Squared error of each item; None for the originals."""


def items_in_rows(count: int) -> bool:
    """Return whether each item has a row (originals on the left) rather than a column (originals on top)."""
    return count <= LARGEST_PAIRS


def fits_labels(count: int) -> bool:
    """Return whether ``count`` items are drawn with names and errors."""
    return count <= LARGEST_LABELLED


@default_style()
def answers_picture(answers: Sequence[Answers], title: tuple[str, str]) -> bytes:
    """Draw items and their reconstructions, one row per item up to eight, else one column per item; return the PNG.

    Args:
        answers: the originals first; all of one shape.
        title: two lines.
    """
    count = len(answers[0].pictures)
    return _item_rows(answers, title) if items_in_rows(count) else labelled_rows(answers, title)


def _item_rows(answers: Sequence[Answers], title: tuple[str, str]) -> bytes:
    """Draw one row per item: original, PCA, reconstruction from left to right.

    For square images the page is 8 x 3N inches. For others, rows are as high as the images; wide images fill the width, and tall ones
    make the page narrower.
    """
    count, columns = len(answers[0].pictures), len(answers)
    across, down = (800 - 2 * MARGIN) // columns, (300 * count - HEAD - MARGIN) // count  # of a cell
    high, wide = answers[0].pictures.shape[1:3]
    side = min(LARGE_SIDE, across - GAP, down - LINE - GAP)
    longest = min(across - GAP, int(LARGE_SIDE * wide / high)) if wide > high else side
    images = [resized(one.pictures, longest, longest) for one in answers]
    captions = [[_shortened(text) for text in _item_captions(one, count)] for one in answers]
    large = images[0].shape[1:3]
    if high != wide:
        down = LINE + large[0] + 3 * GAP
    if high > wide:
        across = max(large[1], *(text_width(max(texts, key=len), 9) for texts in captions)) + 4 * GAP
    title_width = max(text_width(title[0], bold=True), text_width(title[1], 9))
    width = 800 if wide >= high else min(800, max(columns * across, title_width) + 2 * MARGIN)
    page = Page(width, 300 * count if wide == high else HEAD + count * down + MARGIN)
    _write_title(page, title)
    across = (width - 2 * MARGIN) // columns
    for row in range(count):
        for column, (texts, pictures) in enumerate(zip(captions, images, strict=True)):
            x, y = MARGIN + column * across, HEAD + row * down
            page.write(x + across / 2, y, texts[row], size=9, align="center")
            page.paste(x + (across - pictures.shape[2]) // 2, y + LINE + 2, pictures[row])
    return page.png()


def _item_captions(one: Answers, count: int) -> list[str]:
    """Return the text above each image."""
    return [one.name] * count if one.errors is None else [f"{one.name}: {short_error(error)}" for error in one.errors]


def labelled_rows(answers: Sequence[Answers], title: tuple[str, str]) -> bytes:
    """Draw one labelled row per model and one column per item, ten items per block, errors under images; return the PNG.

    Args:
        answers: the originals first; all of one shape.
        title: two lines.
    """
    images = [resized(one.pictures, SIDE, LARGEST_SIDE) for one in answers]
    count, down, across = images[0].shape[:3]
    columns, blocks = min(count, COLUMNS), -(-count // COLUMNS)
    names, lines = [_shortened(one.name) for one in answers], [_shortened(one.line) for one in answers]
    left = 2 * MARGIN + max(text_width(text, bold=bold) for texts, bold in ((names, True), (lines, False)) for text in texts)
    captions = [_short_captions(one, across) for one in answers]
    heights = [max(down + GAP + (LINE if texts else 0), LABEL) for texts in captions]
    block = sum(heights) + BLOCK_GAP
    widest = max(left + columns * (across + GAP), MARGIN + text_width(title[0], bold=True), MARGIN + text_width(title[1]))
    page = Page(widest + MARGIN, HEAD + blocks * block - BLOCK_GAP + MARGIN)
    _write_title(page, title)
    for start in range(0, count, COLUMNS):
        y = HEAD + start // COLUMNS * block
        for name, line, large, texts, height in zip(names, lines, images, captions, heights, strict=True):
            middle = y + max(down, LABEL) / 2
            page.write(MARGIN, middle - (17 if line else 8), name, bold=True)
            page.write(MARGIN, middle + 1, line)
            for index in range(start, min(start + COLUMNS, count)):
                x = left + (index - start) * (across + GAP)
                page.paste(x, y, large[index])
                if texts:
                    page.write(x + across / 2, y + down + 1, texts[index], size=8, align="center")
            y += height
    return page.png()


def _short_captions(one: Answers, across: int) -> list[str]:
    """Return the errors as text; an empty list if the images are too narrow for them."""
    texts = [short_error(error) for error in one.errors or ()]
    return texts if texts and text_width(max(texts, key=len), size=8) <= across else []


def short_error(error: float) -> str:
    """Format an error with three significant digits."""
    return f"{error:#.3g}".rstrip(".") if 0.001 <= abs(error) < 1000 else f"{error:.3g}"


def _write_title(page: Page, title: tuple[str, str]) -> None:
    page.write(MARGIN, 8, title[0], bold=True)
    page.write(MARGIN, 25, title[1], size=9)


def _shortened(text: str, longest: int = 40) -> str:
    text = shown(text)
    return text if len(text) <= longest else text[: longest - 3] + "..."
