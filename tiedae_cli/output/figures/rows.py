"""The picture of a comparison: the same items, a labelled row a run."""

import itertools
import math
from collections.abc import Sequence

import numpy as np

from tiedae_cli.output.figures.canvas import DPI, INK, figure_png, new_figure, tiles
from tiedae_cli.system.text import shown


def labelled_rows(rows: Sequence[tuple[str, str, np.ndarray]]) -> bytes:
    """Draw rows of pictures, each row beside its name and a line of text, every pixel a sharp square; return the PNG.

    Args:
        rows: name, line and pictures, (N, H, W) or (N, H, W, 3), of each row; all of one shape.
    """
    columns, height, width = rows[0][2].shape[:3]
    strips = [tiles((pictures,), columns, max(1, 96 // max(height, width))) for _, _, pictures in rows]
    figure = new_figure(1, 1)
    labels = [
        (figure.text(0, 0, _shortened(name), va="bottom", weight="bold"), figure.text(0, 0, _shortened(line), va="top"))
        for name, line, _ in rows
    ]
    for label in itertools.chain(*labels):
        label.set(fontsize=10, color=INK, parse_math=False)
    margin, step = 12, max(strips[0].shape[0], 48)  # pixels; two lines of text need 48
    left = 2 * margin + math.ceil(max(label.get_window_extent().width for label in itertools.chain(*labels)))
    total_width, total_height = left + strips[0].shape[1] + margin, len(rows) * step + 2 * margin
    figure.set_size_inches(total_width / DPI, total_height / DPI)
    for index, (strip, pair) in enumerate(zip(strips, labels, strict=True)):
        middle = total_height - margin - (index + 0.5) * step
        figure.figimage(strip, xo=left, yo=round(middle - strip.shape[0] / 2))
        for label, above in zip(pair, (2, -2), strict=True):
            label.set_position((margin / total_width, (middle + above) / total_height))
    return figure_png(figure)


def _shortened(text: str, longest: int = 40) -> str:
    text = shown(text)
    return text if len(text) <= longest else text[: longest - 3] + "..."
