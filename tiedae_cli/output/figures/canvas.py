"""What all pictures are made of: arrays of pixels, matplotlib figures without a display, and their PNG."""

import io
import warnings
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from torch import Tensor

from tiedae_cli.data.image_set import DataForm

if TYPE_CHECKING:
    from matplotlib.figure import Figure

DPI = 100
INK, MODEL_COLOUR, YARDSTICK_COLOUR = "#222222", "#1f5fa8", "#c8501e"


def as_pictures(rows: Tensor, form: DataForm) -> np.ndarray:
    """Return model values, (N, D), as pictures in [0, 1], (N, H, W) gray or (N, H, W, 3) colour."""
    channels, height, width = form.shape
    images = rows.detach().cpu().reshape(-1, channels, height, width).clamp(0, 1)
    if channels >= 3:
        return images[:, :3].permute(0, 2, 3, 1).numpy()
    return images[:, 0].numpy()


def tiles(stacks: Sequence[np.ndarray], columns: int, factor: int, background: int = 255) -> np.ndarray:
    """Return pictures in [0, 1], (N, H, W[, 3]) each, stacked by index, laid out in rows and enlarged, (height, width, 3) uint8."""
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


def paste(canvas: np.ndarray, y: int, x: int, picture: np.ndarray, factor: int) -> None:
    """Put a picture in [0, 1], (H, W) or (H, W, 3), on a canvas, (height, width, 3) uint8, every pixel a sharp square."""
    levels = np.rint((picture if picture.ndim == 3 else picture[..., None]) * 255).astype(np.uint8)  # (H, W, 1 or 3)
    large = levels.repeat(factor, 0).repeat(factor, 1)
    canvas[y : y + large.shape[0], x : x + large.shape[1]] = large


def pixel_png(canvas: np.ndarray) -> bytes:
    """Return a canvas, (height, width, 3) uint8, as a PNG."""
    from PIL import Image

    buffer = io.BytesIO()
    Image.fromarray(canvas).save(buffer, "png", dpi=(DPI, DPI))
    return buffer.getvalue()


def new_figure(width: float, height: float) -> "Figure":
    """Return an empty figure of so many inches, with no display behind it."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), dpi=DPI)
    FigureCanvasAgg(figure)
    return figure


def figure_png(figure: "Figure") -> bytes:
    """Return a figure as a PNG."""
    buffer = io.BytesIO()
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Glyph .* missing from font")  # a name in another script is drawn as boxes
        figure.savefig(buffer, format="png", facecolor="white")
    return buffer.getvalue()
