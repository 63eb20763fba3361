"""Pictures in a terminal: half-block characters, two pixels per character, with the layout and names of the PNG.

Shapes: N items, H x W pixels.
"""

from collections.abc import Iterator, Sequence

import numpy as np
from rich.text import Text

from tiedae_cli.output.figures import Answers, items_in_rows, short_error
from tiedae_cli.output.figures.canvas import SMOOTH_BELOW, resized

SIDE = 24  # pixels to which a small image is enlarged
LEAST_ITEMS = 2  # always drawn; a window that is too low for them scrolls


def preview_lines(answers: Sequence[Answers], title: tuple[str, str], width: int, height: int) -> Iterator[Text]:
    """Draw as many items as fit; nothing if not even one fits.

    Args:
        answers: the originals first; if the window is too narrow for all, PCA's are drawn below.
        title: two lines.
        width: width of the window in characters.
        height: height of the window in lines.
    """
    originals = answers[0].pictures
    enlarges = max(originals.shape[1:3]) < SMOOTH_BELOW
    images = [resized(one.pictures, SIDE, 10**9) if enlarges else _levels(one.pictures) for one in answers]
    count, down, across = images[0].shape[:3]
    if across > width:
        return
    yield from (Text(line, style="bold" if line == title[0] else "") for line in title)
    if not items_in_rows(count):
        fitting = min(count, width // (across + 1) or 1)
        for one, large in zip(answers, images, strict=True):
            yield Text(f"{one.name}{', ' if one.line else ''}{one.line}")
            yield from _half_blocks([large[index] for index in range(fitting)], across)
    else:
        names = [[_caption(one, index) for one in answers] for index in range(count)]
        cell = max(across, *(len(name) for row in names for name in row))
        rows = _rows(len(answers), max(1, width // (cell + 1)))
        fitting = min(count, max(LEAST_ITEMS, (height - 4) // ((down // 2 + 1) * len(rows))))
        for index in range(fitting):
            for row in rows:
                yield Text(" ".join(names[index][one].ljust(cell) for one in row))
                yield from _half_blocks([images[one][index] for one in row], cell)
    if fitting < count:
        yield Text(f"{fitting} of {count:,} shown here")


def _rows(count: int, fitting: int) -> list[list[int]]:
    """Return which of an item's pictures stand side by side; if not all fit, the last one, the model's, is beside the original."""
    order = list(range(count)) if count <= fitting else [0, count - 1, *range(1, count - 1)]
    return [order[start : start + fitting] for start in range(0, count, fitting)]


def _caption(one: Answers, index: int) -> str:
    return one.name if one.errors is None else f"{one.name}: {short_error(one.errors[index])}"


def _levels(pictures: np.ndarray) -> np.ndarray:
    levels = np.rint((pictures if pictures.ndim == 4 else pictures[..., None]) * 255).astype(np.uint8)
    return np.broadcast_to(levels, (*levels.shape[:3], 3))


def _half_blocks(pictures: Sequence[np.ndarray], cell: int) -> Iterator[Text]:
    """Draw images, (H, W, 3) uint8, side by side, each in a cell ``cell`` characters wide."""
    height, width = pictures[0].shape[:2]
    for y in range(0, height, 2):
        text = Text(no_wrap=True)
        for picture in pictures:
            lower = picture[y + 1] if y + 1 < height else np.zeros_like(picture[y])
            for (r, g, b), (s, t, u) in zip(picture[y].tolist(), lower.tolist(), strict=True):
                text.append("▀", style=f"rgb({r},{g},{b}) on rgb({s},{t},{u})")
            text.append(" " * (cell - width + 1))
        yield text
