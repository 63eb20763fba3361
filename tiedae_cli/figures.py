"""What people look at: PNG files, through matplotlib's object API, so that no display and no global state is involved."""

import io
import math
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

import numpy as np
from torch import Tensor

from tiedae_cli.data.image_set import DataForm
from tiedae_cli.errors import InputError
from tiedae_cli.training import EpochReport

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

LARGEST_PAIRS = 8  # images up to which each pair has a row of its own
DPI = 100
MOST_PICTURES, LARGEST_GRID = 10_000, 1 << 25  # of one grid: pictures, and pixels (a square of about 5,800)
SHEET_TITLE, SHEET_WIDTH = 50, 360  # of a contact sheet, in pixels: the title's height, the least width
SHEET_GAP, SHEET_TEXT, SHEET_CAPTION = 14, 36, 150  # between pairs, under them, across a caption
INK, MODEL_COLOUR, YARDSTICK_COLOUR = "#222222", "#1f5fa8", "#c8501e"


def as_pictures(rows: Tensor, form: DataForm) -> np.ndarray:
    """Return model values, (N, D), as pictures in [0, 1], (N, H, W) gray or (N, H, W, 3) colour."""
    channels, height, width = form.shape
    images = rows.detach().cpu().reshape(-1, channels, height, width).clamp(0, 1)
    if channels >= 3:
        return images[:, :3].permute(0, 2, 3, 1).numpy()
    return images[:, 0].numpy()


def reconstruction_pairs(originals: Tensor, reconstructions: Tensor, errors: Sequence[float], form: DataForm) -> bytes:
    """Draw originals beside their reconstructions, (N, D) each, and return the PNG.

    Up to 8: the reference's figure, 8 x 3N inches, a row a pair, each with its error. More: a compact grid, originals over
    reconstructions, every pixel a sharp square.
    """
    left, right = as_pictures(originals, form), as_pictures(reconstructions, form)
    if len(left) > LARGEST_PAIRS:
        return pixel_grid(left, right)
    figure = _figure(8, 3 * len(left))
    for row, error in enumerate(errors):
        for column, (pictures, title) in enumerate(((left, "original"), (right, f"reconstruction, squared error {error:.2f}"))):
            axes = figure.add_subplot(len(left), 2, 2 * row + column + 1)
            _show(axes, pictures[row])
            axes.set_title(title, fontsize=11, color=INK)
    figure.tight_layout()
    return _png(figure)


def pixel_grid(top: np.ndarray, bottom: np.ndarray, largest_width: int = 1600) -> bytes:
    """Draw pictures, (N, H, W) or (N, H, W, 3), over their partners; whole pixels enlarged by a whole factor; return the PNG."""
    from matplotlib.image import imsave

    count, height, width = top.shape[:3]
    columns = min(count, 10 if count <= 100 else 20)
    rows = -(-count // columns)
    factor = max(1, min(largest_width // (columns * (width + 2)), 96 // width, 96 // height))
    gap = max(2, factor)
    cell_height, cell_width = 2 * height * factor + 3 * gap, width * factor + gap
    canvas = np.ones((rows * cell_height + gap, columns * cell_width + gap, 3), dtype=np.float32)
    for index in range(count):
        y, x = gap + index // columns * cell_height, gap + index % columns * cell_width
        for picture in (top[index], bottom[index]):
            _paste(canvas, y, x, picture, factor)
            y += height * factor + gap // 2
    buffer = io.BytesIO()
    imsave(buffer, canvas, format="png", dpi=DPI)
    return buffer.getvalue()


def most_pictures(form: DataForm) -> int:
    """Return how many pictures of a form one grid holds."""
    _, height, width = form.shape
    return min(MOST_PICTURES, max(1, LARGEST_GRID // ((height + 2) * (width + 2))))


def all_pictures(blocks: Iterable[Tensor], count: int | None, form: DataForm) -> np.ndarray:
    """Collect blocks of model values, (B, D), as the pictures of one grid.

    Args:
        blocks: read once.
        count: how many there will be, where it is known.
        form: of an item.

    Raises:
        InputError: no pictures, more than a grid holds, or vectors.

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
        raise InputError("no codes: nothing to draw")
    return np.concatenate(kept)


def picture_grid(pictures: np.ndarray, largest_width: int = 1600) -> bytes:
    """Draw pictures, (N, H, W) or (N, H, W, 3), in rows, whole pixels enlarged by a whole factor; return the PNG."""
    from matplotlib.image import imsave

    count, height, width = pictures.shape[:3]
    columns = math.ceil(math.sqrt(count * height / width)) if count > 10 else count
    factor = max(1, min(largest_width // (columns * (width + 2)), 96 // width, 96 // height))
    gap = max(2, factor)
    down, across = height * factor + gap, width * factor + gap
    canvas = np.ones((-(-count // columns) * down + gap, columns * across + gap, 3), dtype=np.float32)
    for index, picture in enumerate(pictures):
        _paste(canvas, gap + index // columns * down, gap + index % columns * across, picture, factor)
    buffer = io.BytesIO()
    imsave(buffer, canvas, format="png", dpi=DPI)
    return buffer.getvalue()


def contact_sheet(
    originals: Tensor, reconstructions: Tensor, captions: Sequence[str], marked: Sequence[bool], title: str, form: DataForm
) -> bytes:
    """Draw originals beside their reconstructions, (N, D) each, with two lines over all and under each pair; return the PNG.

    Args:
        originals: as the model sees them.
        reconstructions: what it answers.
        captions: each pair's two lines.
        marked: which captions are printed in the warning colour.
        title: two lines.
        form: of an item.

    """
    left, right = as_pictures(originals, form), as_pictures(reconstructions, form)
    count, height, width = left.shape[:3]
    factor = max(1, min(96 // width, 96 // height))
    across = max(2 * width * factor + 2 + SHEET_GAP, SHEET_CAPTION)
    down = height * factor + SHEET_TEXT + SHEET_GAP
    columns = min(count, max(4, min(8, 1400 // across)))
    size = -(-count // columns) * down + SHEET_TITLE, max(columns * across + SHEET_GAP, SHEET_WIDTH)
    canvas = np.ones((*size, 3), dtype=np.float32)
    figure = _figure(canvas.shape[1] / DPI, canvas.shape[0] / DPI)
    figure.text(SHEET_GAP / canvas.shape[1], 1 - 10 / canvas.shape[0], title, fontsize=9, color=INK, va="top")
    for index in range(count):
        y, x = SHEET_TITLE + index // columns * down, SHEET_GAP + index % columns * across
        _paste(canvas, y, x, left[index], factor)
        _paste(canvas, y, x + width * factor + 2, right[index], factor)
        place = x / canvas.shape[1], 1 - (y + height * factor + 4) / canvas.shape[0]
        colour = YARDSTICK_COLOUR if marked[index] else INK
        figure.text(*place, captions[index], fontsize=7, color=colour, va="top", parse_math=False)
    figure.figimage(canvas, origin="upper")
    return _png(figure)


def _paste(canvas: np.ndarray, y: int, x: int, picture: np.ndarray, factor: int) -> None:
    """Put a picture, (H, W) or (H, W, 3), on a canvas, every pixel a sharp square."""
    colour = picture if picture.ndim == 3 else picture[..., None].repeat(3, 2)
    large = np.kron(colour, np.ones((factor, factor, 1)))
    canvas[y : y + large.shape[0], x : x + large.shape[1]] = large


def loss_curve(history: Sequence[EpochReport], yardstick: float | None, components: int) -> bytes:
    """Draw training and validation error by epoch, PCA's validation error at the same code size as a line; return the PNG."""
    from matplotlib.ticker import MaxNLocator

    figure = _figure(8, 4.5)
    axes = figure.add_subplot()
    epochs = [report.epoch for report in history]
    marker = "o" if len(epochs) <= 30 else ""
    series = [("training", [report.train_mse_per_pixel for report in history], "#8fb3d9")]
    if all(report.validation_mse_per_pixel is not None for report in history):
        series.append(("validation", [report.validation_mse_per_pixel or 0.0 for report in history], MODEL_COLOUR))
    for name, values, colour in series:
        axes.plot(epochs, values, marker=marker, markersize=4, color=colour, label=name)
    if yardstick is not None:
        axes.axhline(yardstick, color=YARDSTICK_COLOUR, linestyle="--", label=f"PCA, {components} components")
    axes.set_yscale("log")
    axes.set_xlabel("epoch")
    axes.set_ylabel("mean squared error per pixel")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.grid(True, which="both", alpha=0.25)
    axes.legend(frameon=False)
    axes.spines[["top", "right"]].set_visible(False)
    figure.tight_layout()
    return _png(figure)


def _figure(width: float, height: float) -> "Figure":
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), dpi=DPI)
    FigureCanvasAgg(figure)
    return figure


def _show(axes: "Axes", picture: np.ndarray) -> None:
    axes.imshow(picture, cmap="gray" if picture.ndim == 2 else None, vmin=0, vmax=1, interpolation="nearest")
    axes.set_axis_off()


def _png(figure: "Figure") -> bytes:
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", facecolor="white")
    return buffer.getvalue()
