"""What people look at: PNG files, through matplotlib's object API, so that no display and no global state is involved."""

import io
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from torch import Tensor

from tiedae_cli.data.image_set import DataForm
from tiedae_cli.training import EpochReport

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

LARGEST_PAIRS = 8  # images up to which each pair has a row of its own
DPI = 100
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
            large = np.kron(picture if picture.ndim == 3 else picture[..., None].repeat(3, 2), np.ones((factor, factor, 1)))
            canvas[y : y + large.shape[0], x : x + large.shape[1]] = large
            y += height * factor + gap // 2
    buffer = io.BytesIO()
    imsave(buffer, canvas, format="png", dpi=DPI)
    return buffer.getvalue()


def loss_curve(history: Sequence[EpochReport], yardstick: float | None, components: int, value_name: str = "pixel") -> bytes:
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
    axes.set_ylabel(f"mean squared error per {value_name}")
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
