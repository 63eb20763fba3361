"""Figures of a trained model: the weights of its first layer, and a map of its codes."""

import math
from typing import Any

import numpy as np

from tiedae_cli.data.item_set import ItemForm
from tiedae_cli.output.figures.canvas import INK, MODEL_COLOR, Page, default_style, figure_png, new_figure, text_width, tiles
from tiedae_cli.system.text import shown

LONGEST_NAME = 24  # characters of a label in the legend
LARGEST_LEGEND = 20  # classes with distinguishable colors
MOST_FEATURES = 100
MARGIN, HEAD = 12, 76  # pixels around the grid of features, and above it
SCALE_WIDTH = 340  # pixels: width of the color scale with its numbers


def signed_pictures(rows: np.ndarray, form: ItemForm) -> np.ndarray:
    """Return weights, (N, D), as pictures (N, H, W, 3) in [0, 1], each scaled by its largest absolute value.

    Gray data: blue below zero, white at zero, red above. Color data: zero is middle gray in each channel.
    """
    from matplotlib import colormaps

    channels, height, width = form.shape
    largest = np.maximum(np.abs(rows).max(1, keepdims=True), np.finfo(np.float32).tiny)
    images: np.ndarray = (0.5 + 0.5 * rows / largest).reshape(-1, channels, height, width)  # zero is 0.5
    if channels >= 3:
        return images[:, :3].transpose(0, 2, 3, 1)
    return np.asarray(colormaps["RdBu_r"](images[:, 0])[..., :3])


@default_style()
def feature_grid(weight: np.ndarray, form: ItemForm, run: str, most: int = MOST_FEATURES) -> bytes:
    """Draw the rows of the first layer's weight as a grid, largest L2 norm first, with a color scale; return the PNG.

    Args:
        weight: (H, D).
        form: form of the images.
        run: name of the run.
        most: largest number of rows to draw.
    """
    strongest = np.argsort(-np.linalg.norm(weight, axis=1), kind="stable")[:most]
    pictures = signed_pictures(weight[strongest], form)
    columns = max(1, math.ceil(math.sqrt(len(pictures))))
    factor = max(1, 64 // max(pictures.shape[1:3]))
    grid = tiles((pictures,), columns, factor, background=153)  # a gray that differs from zero's white or middle gray
    count = f"all {len(weight):,}" if len(pictures) == len(weight) else f"the strongest {len(pictures):,} of {len(weight):,}"
    title = f"{run}: weights of the first layer, {count}", "strongest first, each scaled by its largest weight:"
    width = max(grid.shape[1], text_width(title[0], bold=True), text_width(title[1], 9), SCALE_WIDTH)
    page = Page(width + 2 * MARGIN, HEAD + grid.shape[0] + MARGIN)
    page.write(MARGIN, 8, title[0], bold=True)
    page.write(MARGIN, 25, title[1], size=9)
    ramp = signed_pictures(
        np.linspace(-1, 1, SCALE_WIDTH // 2, dtype=np.float32)[None], ItemForm((1, 1, SCALE_WIDTH // 2))
    )  # (1, 1, W, 3)
    if form.shape[0] >= 3:
        ramp = np.linspace(0, 1, SCALE_WIDTH // 2)[None, None, :, None].repeat(3, 3)
    page.paste(MARGIN + SCALE_WIDTH // 4, 44, np.rint(ramp[0] * 255).astype(np.uint8).repeat(12, 0))
    left, right = MARGIN + SCALE_WIDTH // 4, MARGIN + SCALE_WIDTH * 3 // 4
    page.write(left - 14, 42, "\N{MINUS SIGN}1", size=9, align="center")
    page.write((left + right) / 2, 57, "0", size=9, align="center")
    page.write(right + 6, 42, "+1", size=9)
    page.paste(MARGIN, HEAD, grid)
    return page.png()


@default_style()
def code_map(
    points: np.ndarray,
    labels: np.ndarray | None,
    axes_names: tuple[str, str],
    title: str,
    label_names: tuple[str, ...] | None = None,
) -> bytes:
    """Draw points, (N, 2), colored by their labels, (N,), if there are any; return the PNG.

    ``label_names`` are the names of the labels if they are words. Up to 20 labels have a color each and a legend; more have a color
    bar.
    """
    from matplotlib import colormaps

    figure = new_figure(9, 7.5)
    axes = figure.add_subplot()
    x, y = points[:, 0], points[:, 1]
    dots: dict[str, Any] = {"s": 14, "alpha": 0.75, "linewidths": 0}
    classes = [] if labels is None else sorted(set(labels.tolist()))
    if labels is None:
        axes.scatter(x, y, color=MODEL_COLOR, **dots)
    elif len(classes) > LARGEST_LEGEND:
        bar = "label" if label_names is None else f"index of the label among {len(label_names):,} names"
        figure.colorbar(axes.scatter(x, y, c=labels, cmap="turbo", **dots), label=bar)
    else:
        # One call for all points, in the order of the data: otherwise the last class would cover the others.
        colors = colormaps["tab10" if len(classes) <= 10 else "tab20"](np.arange(len(classes)))  # (classes, 4)
        axes.scatter(x, y, color=colors[np.searchsorted(classes, labels)], **dots)
        handles = [axes.scatter([], [], color=color, s=40) for color in colors]
        numbers = list(map(str, classes))
        legend = axes.legend(handles, numbers, title="label", frameon=False, loc="center left", bbox_to_anchor=(1.0, 0.5))
        for text, label in zip(legend.get_texts(), classes, strict=True):
            text.set_parse_math(False)  # a name is not a formula, and matplotlib hides names that begin with _
            text.set_text(str(label) if label_names is None else shown(label_names[label])[:LONGEST_NAME])
    axes.set_xlabel(axes_names[0])
    axes.set_ylabel(axes_names[1])
    axes.set_title(shown(title), fontsize=11, color=INK, parse_math=False)
    axes.grid(True, alpha=0.25)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)
    figure.tight_layout()
    return figure_png(figure)
