"""The plot of a scored series: its values row by row, and the score below them."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from tiedae_cli.output.figures.canvas import ACCENT_COLOR, INK, MODEL_COLOR, default_style, figure_png, new_figure
from tiedae_cli.system.text import shown

if TYPE_CHECKING:
    from matplotlib.axes import Axes

MOST_COLUMNS = 6  # columns of values that are drawn


@dataclass(frozen=True)
class Envelope:
    """Ranges of values and scores in equal bins of rows."""

    rows: int
    """Number of rows in all bins, with skipped rows; the last bin may hold fewer."""
    width: int
    """Rows per bin."""
    low: np.ndarray
    """(n, C), the lowest value of each column in the data's units; NaN if every row of a bin was skipped."""
    high: np.ndarray
    """(n, C), the highest value of each column."""
    top: np.ndarray
    """(n,), the highest score of each bin."""
    first: int = 0
    """Number of the first row."""


@default_style()
def series_plot(series: Envelope, names: Sequence[str], limit: float | None, title: str, score_name: str) -> bytes:
    """Draw up to six columns above the score of each row; rows above the threshold are colored; return the PNG.

    Args:
        series: at least one bin.
        names: names of the columns to draw, which are the first ones of the series; empty draws the scores alone.
        limit: the threshold.
        title: title of the plot.
        score_name: name of the score.
    """
    count = len(names)
    figure = new_figure(12, 1.6 + 1.4 * count + 1.8)
    axes = figure.subplots(count + 1, 1, sharex=True, squeeze=False, height_ratios=[1.4] * count + [1.8])[:, 0]
    middle = series.first + np.minimum((np.arange(len(series.top)) + 0.5) * series.width - 0.5, series.rows - 1)  # row numbers
    spans = _spans(series, limit)
    for index, name in enumerate(names):
        low, high = series.low[:, index], series.high[:, index]
        if series.width > 1:
            axes[index].fill_between(middle, low, high, color=MODEL_COLOR, linewidth=0.6)
        else:
            _line(axes[index], middle, low, MODEL_COLOR)
        axes[index].set_ylabel(_short(name), parse_math=False)
    _line(axes[count], middle, series.top, INK)
    axes[count].set_ylabel(score_name)
    highest = max(float(np.nanmax(np.where(np.isfinite(series.top), series.top, 0))), limit or 0)
    axes[count].set_ylim(0, 1.3 * highest if highest > 0 else 1)  # room for the legend above the highest score
    axes[count].set_xlabel("row, from 0" if count else "item, from 0")
    axes[count].xaxis.set_major_formatter(lambda value, _: f"{value:,.0f}")
    axes[count].set_xlim(series.first - 0.5, series.first + series.rows - 0.5)
    if limit is not None:
        axes[count].axhline(limit, color=ACCENT_COLOR, linestyle="--", linewidth=1, label=f"threshold {limit:.4g}")
        axes[count].legend(frameon=False, loc="upper left")
    for axis in axes:
        for first, last in spans:
            axis.axvspan(first - 0.5, last + 0.5, color=ACCENT_COLOR, alpha=0.3, linewidth=1)
        axis.grid(True, alpha=0.25)
        axis.spines[["top", "right"]].set_visible(False)
    axes[0].set_title(shown(title), fontsize=10, color=INK, loc="left", parse_math=False)
    figure.tight_layout()
    figure.align_ylabels(axes)
    return figure_png(figure)


def _line(axes: "Axes", rows: np.ndarray, values: np.ndarray, color: str) -> None:
    """Draw a line with gaps for skipped rows; a single row between two gaps is a dot."""
    axes.plot(rows, values, color=color, linewidth=0.8)
    beside = np.concatenate([[False], np.isfinite(values), [False]])
    alone = beside[1:-1] & ~beside[:-2] & ~beside[2:]
    axes.plot(rows[alone], values[alone], color=color, linestyle="", marker=".", markersize=3)


def _spans(series: Envelope, limit: float | None) -> list[tuple[int, int]]:
    """Return the first and last row of each run of bins above the threshold."""
    if limit is None:
        return []
    edges = np.flatnonzero(np.diff(np.concatenate([[0], (series.top > limit).astype(int), [0]])))
    return [
        (series.first + int(start) * series.width, series.first + min(int(stop) * series.width, series.rows) - 1)
        for start, stop in zip(edges[::2], edges[1::2], strict=True)
    ]


def _short(name: str, most: int = 18) -> str:
    text = shown(name)
    return text if len(text) <= most else text[: most - 1] + "\u2026"
