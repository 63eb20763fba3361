"""What people look at: PNG files, through matplotlib's object API, so that no display and no global state is involved."""

import io
import itertools
import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from tiedae_cli.data.image_set import DataForm
from tiedae_cli.training import EpochReport

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

LARGEST_PAIRS = 8  # images up to which each pair has a row of its own
LARGEST_LEGEND = 20  # classes that can be told apart by colour
MOST_FEATURES = 100
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
    count, height, width = top.shape[:3]
    columns = min(count, 10 if count <= 100 else 20)
    factor = max(1, min(largest_width // (columns * (width + 2)), 96 // width, 96 // height))
    return _pixel_png(_tiles((top, bottom), columns, factor))


def _tiles(stacks: Sequence[np.ndarray], columns: int, factor: int, background: int = 255) -> np.ndarray:
    """Return pictures in [0, 1], (N, H, W[, 3]) each, stacked by index, laid out in rows and enlarged, (height, width, 3) uint8."""
    count, height, width = stacks[0].shape[:3]
    gap = max(2, factor)
    cell_height, cell_width = len(stacks) * height * factor + (2 * len(stacks) - 1) * gap, width * factor + gap
    size = (-(-count // columns) * cell_height + gap, columns * cell_width + gap, 3)
    canvas = np.full(size, background, dtype=np.uint8)
    for index in range(count):
        y, x = gap + index // columns * cell_height, gap + index % columns * cell_width
        for picture in (pictures[index] for pictures in stacks):
            levels = np.rint((picture if picture.ndim == 3 else picture[..., None]) * 255).astype(np.uint8)  # (H, W, 1 or 3)
            large = levels.repeat(factor, 0).repeat(factor, 1)
            canvas[y : y + large.shape[0], x : x + large.shape[1]] = large
            y += height * factor + gap // 2
    return canvas


def _pixel_png(canvas: np.ndarray) -> bytes:
    from PIL import Image

    buffer = io.BytesIO()
    Image.fromarray(canvas).save(buffer, "png", dpi=(DPI, DPI))
    return buffer.getvalue()


def signed_pictures(rows: Tensor, form: DataForm) -> np.ndarray:
    """Return weights, (N, D), as pictures (N, H, W, 3) in [0, 1], each scaled symmetrically around zero by its largest absolute value.

    Gray data: blue below zero, white at zero, red above. Colour data: zero is middle gray in each channel.
    """
    from matplotlib import colormaps

    channels, height, width = form.shape
    largest = rows.abs().amax(1, keepdim=True).clamp_min(torch.finfo(torch.float32).tiny)
    images = (0.5 + 0.5 * rows / largest).reshape(-1, channels, height, width).numpy()  # zero is 0.5
    if channels >= 3:
        return images[:, :3].transpose(0, 2, 3, 1)
    return np.asarray(colormaps["RdBu_r"](images[:, 0])[..., :3])


def feature_grid(weight: Tensor, form: DataForm, most: int = MOST_FEATURES) -> bytes:
    """Draw the rows of the first layer's weight, (H, D), as a compact grid, the largest L2 norm first; return the PNG.

    Args:
        weight: on the CPU.
        form: of the data, images.
        most: at most so many rows are drawn.

    """
    strongest = weight.norm(dim=1).argsort(descending=True, stable=True)[:most]
    pictures = signed_pictures(weight[strongest], form)
    columns = max(1, math.ceil(math.sqrt(len(pictures))))
    factor = max(1, 64 // max(pictures.shape[1:3]))
    return _pixel_png(_tiles((pictures,), columns, factor, background=153))  # zero is white or middle gray: gaps are neither


def code_map(points: Tensor, labels: Tensor | None, axes_names: tuple[str, str], title: str) -> bytes:
    """Draw points, (N, 2), coloured by their labels, (N,), where there are some; return the PNG.

    Up to 20 different labels have a colour each and a legend, more a colour bar.
    """
    from matplotlib import colormaps

    figure = _figure(9, 7.5)
    axes = figure.add_subplot()
    x, y = points[:, 0].numpy(), points[:, 1].numpy()
    dots: dict[str, Any] = {"s": 14, "alpha": 0.75, "linewidths": 0}
    classes = [] if labels is None else sorted(set(labels.tolist()))
    if labels is None:
        axes.scatter(x, y, color=MODEL_COLOUR, **dots)
    elif len(classes) > LARGEST_LEGEND:
        figure.colorbar(axes.scatter(x, y, c=labels.numpy(), cmap="turbo", **dots), label="label")
    else:
        # All points in one call, in the order of the data: no class covers all others.
        colours = colormaps["tab10" if len(classes) <= 10 else "tab20"](np.arange(len(classes)))  # (classes, 4)
        axes.scatter(x, y, color=colours[np.searchsorted(classes, labels.numpy())], **dots)
        for colour, label in zip(colours, classes, strict=True):
            axes.scatter([], [], color=colour, s=40, label=str(label))
        axes.legend(title="label", frameon=False, loc="center left", bbox_to_anchor=(1.0, 0.5))
    axes.set_xlabel(axes_names[0])
    axes.set_ylabel(axes_names[1])
    axes.set_title(title, fontsize=11, color=INK)
    axes.grid(True, alpha=0.25)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)
    figure.tight_layout()
    return _png(figure)


def labelled_rows(rows: Sequence[tuple[str, str, np.ndarray]]) -> bytes:
    """Draw rows of pictures, each row beside its name and a line of text, every pixel a sharp square; return the PNG.

    Args:
        rows: name, line and pictures, (N, H, W) or (N, H, W, 3), of each row; all of one shape.

    """
    columns, height, width = rows[0][2].shape[:3]
    strips = [_tiles((pictures,), columns, max(1, 96 // max(height, width))) for _, _, pictures in rows]
    figure = _figure(1, 1)
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
    return _png(figure)


def _shortened(text: str, longest: int = 40) -> str:
    return text if len(text) <= longest else text[: longest - 3] + "..."


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
