"""The plot of a scored series: its values and their reconstructions row by row, and the score below them.

Shapes: n bins of rows, C columns.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from tiedae_cli.data.item_set import time_texts
from tiedae_cli.output.figures.canvas import ACCENT_COLOR, INK, MODEL_COLOR, default_style, figure_png, new_figure
from tiedae_cli.system.text import shown

if TYPE_CHECKING:
    from matplotlib.axes import Axes

MOST_COLUMNS = 8  # columns of values that are drawn
REBUILT_COLOR = "#d98200"  # of reconstructions
LOGARITHMIC = 20  # a highest score of so many thresholds is drawn on a logarithmic axis
TICKS = 7  # of the axis of rows


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
    times: np.ndarray | None = None
    """(n,) float64, the earliest time stamp of each bin in seconds since 1970; NaN without rows."""

    def only(self, columns: Sequence[int]) -> "Envelope":
        """Return the same rows with some of the columns."""
        return replace(self, low=self.low[:, columns], high=self.high[:, columns])

    def time(self, index: int) -> str:
        """Return the time stamp of a bin; empty if there is none."""
        known = self.times is not None and 0 <= index < len(self.times) and np.isfinite(self.times[index])
        return time_texts(np.floor(self.times[index : index + 1]))[0] if known and self.times is not None else ""


@default_style()
def series_plot(
    series: Envelope, rebuilt: Envelope, names: Sequence[str], limit: float | None, title: str, score_name: str
) -> bytes:
    """Draw columns with their reconstructions above the score of each row; rows above the threshold are colored; return the PNG.

    Args:
        series: at least one bin.
        rebuilt: the model's reconstructions in the same bins.
        names: names of the columns; empty draws the scores alone.
        limit: the threshold.
        title: title of the plot.
        score_name: name of the score.
    """
    count = len(names)
    figure = new_figure(12, 1.6 + 1.4 * count + 1.8)
    axes = figure.subplots(count + 1, 1, sharex=True, squeeze=False, height_ratios=[1.4] * count + [1.8])[:, 0]
    spans = _spans(series, limit)
    for index, name in enumerate(names):
        _range(axes[index], series, index, MODEL_COLOR, "original")
        _range(axes[index], rebuilt, index, REBUILT_COLOR, "reconstruction")
        axes[index].set_ylabel(_short(name), parse_math=False, fontsize=10 if len(name) <= 12 else 8)
    if names:
        axes[0].legend(frameon=False, loc="lower right", ncols=2, bbox_to_anchor=(1, 1), borderaxespad=0)
    _draw_scores(axes[count], series, limit, score_name)
    _label_rows(axes[count], series, "row" if count else "item")
    for axis in axes:
        for first, last in spans:
            axis.axvspan(first - 0.5, last + 0.5, color=ACCENT_COLOR, alpha=0.3, linewidth=1)
        axis.grid(True, alpha=0.25)
        axis.spines[["top", "right"]].set_visible(False)
    axes[0].set_title(shown(title), fontsize=10, color=INK, loc="left", parse_math=False)
    figure.tight_layout()
    figure.align_ylabels(axes)
    return figure_png(figure)


def _range(axes: "Axes", series: Envelope, column: int, color: str, label: str) -> None:
    """Draw a column of a series: a line, or the range of each bin of several rows."""
    middle, low, high = _middle(series), series.low[:, column], series.high[:, column]
    if series.width > 1:
        axes.fill_between(middle, low, high, color=color, linewidth=0.6, label=label, alpha=0.8)
    else:
        _line(axes, middle, low, color, label)


def _middle(series: Envelope) -> np.ndarray:
    """Return the row number in the middle of each bin, (n,)."""
    middle: np.ndarray = np.minimum((np.arange(len(series.top)) + 0.5) * series.width - 0.5, series.rows - 1)
    return series.first + middle


def _draw_scores(axes: "Axes", series: Envelope, limit: float | None, score_name: str) -> None:
    """Draw the scores and the threshold; on a logarithmic axis if the threshold would lie at the bottom of a linear one."""
    _line(axes, _middle(series), series.top, INK)
    axes.set_ylabel(score_name)
    known = series.top[np.isfinite(series.top)]
    highest = max(float(known.max(initial=0)), limit or 0)
    axes.set_ylim(0, 1.3 * highest if highest > 0 else 1)  # room for the legend above the highest score
    lowest = float(known.min(initial=0 if limit is None else limit))
    if limit is not None and lowest > 0 and highest > LOGARITHMIC * limit:
        axes.set_yscale("log")
        axes.set_ylim(max(lowest, limit / 1e3) / 1.5, highest * (highest / lowest) ** 0.3)
    if limit is not None:
        label = f"threshold of the {score_name}: {limit:.4g}"
        axes.axhline(limit, color=ACCENT_COLOR, linestyle="--", linewidth=1, label=label)
        axes.legend(frameon=False, loc="upper left")


def _label_rows(axes: "Axes", series: Envelope, item: str) -> None:
    """Label row numbers and, if they are known, time stamps."""
    from matplotlib.ticker import MaxNLocator

    def text(value: float, _: float) -> str:
        when = series.time(int((value - series.first) // series.width)).replace(" ", "\n")
        return f"{value:,.0f}\n{when}" if when else f"{value:,.0f}"

    axes.set_xlabel(f"{item}, from 0{'' if series.times is None else ', and its time stamp'}")
    axes.xaxis.set_major_locator(MaxNLocator(TICKS, integer=True))
    axes.xaxis.set_major_formatter(text)
    axes.set_xlim(series.first - 0.5, series.first + series.rows - 0.5)


def _line(axes: "Axes", rows: np.ndarray, values: np.ndarray, color: str, label: str | None = None) -> None:
    """Draw a line with gaps for skipped rows; a single row between two gaps is a dot."""
    axes.plot(rows, values, color=color, linewidth=0.8, label=label)
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
