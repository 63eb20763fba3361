"""The building blocks of all figures: arrays of pixels, matplotlib figures without a display, and PNG files."""

import contextlib
import io
import math
import warnings
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

import numpy as np

from tiedae_cli.system.text import shown

if TYPE_CHECKING:
    from matplotlib.figure import Figure

DPI = 100
INK, MODEL_COLOR, ACCENT_COLOR = "#222222", "#1f5fa8", "#c8501e"
SMOOTH_BELOW = 20  # pixels a side: an 8 x 8 digit drawn in sharp squares is hard to recognize, a 28 x 28 one is not


def tiles(stacks: Sequence[np.ndarray], columns: int, factor: int, background: int = 255) -> np.ndarray:
    """Lay out stacks of pictures in [0, 1], (N, H, W[, 3]), in rows of cells, enlarged; return (height, width, 3) uint8."""
    count, height, width = stacks[0].shape[:3]
    gap = max(2, factor)
    cell_height, cell_width = len(stacks) * height * factor + (2 * len(stacks) - 1) * gap, width * factor + gap
    canvas = np.full((-(-count // columns) * cell_height + gap, columns * cell_width + gap, 3), background, dtype=np.uint8)
    for index in range(count):
        y, x = gap + index // columns * cell_height, gap + index % columns * cell_width
        for picture in (pictures[index] for pictures in stacks):
            paste(canvas, y, x, picture, factor)
            y += height * factor + gap // 2
    return canvas


def resized(pictures: np.ndarray, side: int, largest: int) -> np.ndarray:
    """Resize pictures in [0, 1], (N, H, W) or (N, H, W, 3), to a readable size, (N, h, w, 3) uint8.

    Small ones are enlarged by the largest whole factor that fits ``side``: below 20 pixels a side with bicubic interpolation, else every
    pixel becomes a sharp square. Those larger than ``largest`` are shrunk to it.

    Args:
        pictures: at least one.
        side: target of the longer side in pixels.
        largest: maximum of the longer side in pixels.
    """
    from PIL import Image

    height, width = pictures.shape[1:3]
    longer = max(height, width)
    levels = np.rint((pictures if pictures.ndim == 4 else pictures[..., None]) * 255).astype(np.uint8)
    levels = np.broadcast_to(levels, (*levels.shape[:3], 3))
    factor = max(1, side // longer)
    if SMOOTH_BELOW <= longer <= largest:
        return levels.repeat(factor, 1).repeat(factor, 2)
    scale = factor if longer < SMOOTH_BELOW else largest / longer
    size = max(1, round(width * scale)), max(1, round(height * scale))
    images = (Image.fromarray(np.ascontiguousarray(picture)) for picture in levels)
    return np.stack([np.asarray(image.resize(size, Image.Resampling.BICUBIC)) for image in images])


def paste(canvas: np.ndarray, y: int, x: int, picture: np.ndarray, factor: int) -> None:
    """Paste a picture in [0, 1], (H, W) or (H, W, 3), on a canvas, (height, width, 3) uint8; every pixel becomes a square."""
    levels = np.rint((picture if picture.ndim == 3 else picture[..., None]) * 255).astype(np.uint8)  # (H, W, 1 or 3)
    large = levels.repeat(factor, 0).repeat(factor, 1)
    canvas[y : y + large.shape[0], x : x + large.shape[1]] = large


def pixel_png(canvas: np.ndarray) -> bytes:
    """Return a canvas, (height, width, 3) uint8, as a PNG."""
    from PIL import Image

    buffer = io.BytesIO()
    Image.fromarray(canvas).save(buffer, "png", dpi=(DPI, DPI))
    return buffer.getvalue()


@contextlib.contextmanager
def default_style() -> Iterator[None]:
    """Draw with matplotlib's defaults in this block, so that no setting of the user or of a notebook changes a picture."""
    import matplotlib

    defaults = {key: value for key, value in matplotlib.rcParamsDefault.items() if not key.startswith("backend")}
    with matplotlib.rc_context(), warnings.catch_warnings():
        warnings.simplefilter("ignore", matplotlib.MatplotlibDeprecationWarning)
        matplotlib.rcParams.update(defaults)
        yield


def new_figure(width: float, height: float) -> "Figure":
    """Return an empty figure, its size in inches, without a display."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), dpi=DPI)
    FigureCanvasAgg(figure)
    return figure


def figure_png(figure: "Figure") -> bytes:
    """Return a figure as a PNG."""
    buffer = io.BytesIO()
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Glyph .* missing from font")  # names in other scripts are drawn as boxes
        figure.savefig(buffer, format="png", facecolor="white")
    return buffer.getvalue()


class Page:
    """A white page for images and text; positions are in pixels from the upper left.

    Args:
        width: in pixels.
        height: in pixels.
    """

    def __init__(self, width: int, height: int) -> None:
        self.canvas = np.full((height, width, 3), 255, dtype=np.uint8)
        self.figure = new_figure((width + 1e-3) / DPI, (height + 1e-3) / DPI)  # older matplotlib rounds 505.999 down

    def paste(self, x: int, y: int, levels: np.ndarray) -> None:
        """Paste an image, (H, W, 3) uint8, with its upper left corner at (x, y)."""
        self.canvas[y : y + levels.shape[0], x : x + levels.shape[1]] = levels

    def write(self, x: float, y: float, text: str, size: float = 10, bold: bool = False, align: str = "left") -> None:
        """Write a line of text with its upper edge at ``y`` and its left edge or middle at ``x``."""
        height, width = self.canvas.shape[:2]
        weight = "bold" if bold else "normal"
        place = x / width, 1 - y / height
        self.figure.text(*place, shown(text), fontsize=size, weight=weight, color=INK, va="top", ha=align, parse_math=False)

    def png(self) -> bytes:
        """Return the page as a PNG."""
        self.figure.figimage(self.canvas, origin="upper")
        return figure_png(self.figure)


def text_width(text: str, size: float = 10, bold: bool = False) -> int:
    """Return the width of a line of text in pixels."""
    figure = new_figure(1, 1)
    words = figure.text(0, 0, shown(text), fontsize=size, weight="bold" if bold else "normal", parse_math=False)
    return math.ceil(words.get_window_extent().width)
