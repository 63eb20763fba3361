"""The rate-distortion picture: error by code size, models beside PCA and the mean."""

from typing import TYPE_CHECKING

from tiedae_cli.model.rate_distortion import PERCENTAGES, RateDistortion
from tiedae_cli.output.figures.canvas import ACCENT_COLOR, INK, MODEL_COLOR, default_style, figure_png, new_figure
from tiedae_cli.system.text import shown

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

COLORS = (MODEL_COLOR, "#2a8f5c", "#8e44ad", "#b8860b", "#d0487a", "#4a4a4a")
WIDER = 1.25  # factor by which the axis extends beyond the code sizes
LEAST = 1e-12  # errors below are rounding


@default_style()
def rate_curve(title: str, found: RateDistortion) -> bytes:
    """Return ``rate_figure`` as a PNG."""
    return figure_png(rate_figure(title, found))


@default_style()
def rate_figure(title: str, found: RateDistortion) -> "Figure":
    """Draw the error of each code size on logarithmic axes: models with the spread over their seeds, PCA and the mean.

    Args:
        title: of the picture.
        found: at least one curve.
    """
    figure = new_figure(8, 5)
    axes = figure.add_subplot()
    for number, curve in enumerate(found.curves):
        color = COLORS[number % len(COLORS)]
        sizes, means = [point.code_size for point in curve.points], [point.mean for point in curve.points]
        low, high = ([of(point.errors) for point in curve.points] for of in (min, max))
        axes.fill_between(sizes, low, high, color=color, alpha=0.2, linewidth=0)
        name = f"autoencoder{', ' if curve.label else ''}{curve.label}"
        seeds = max(len(point.errors) for point in curve.points)
        spread = f" (mean of {seeds} seeds, band: lowest to highest)" if seeds > 1 else ""
        axes.plot(sizes, means, marker="o", markersize=4, color=color, label=shown(name + spread))
    first, last = found.sizes[0] / WIDER, found.sizes[-1] * WIDER
    counts = [count for count in range(1, len(found.pca)) if first <= count <= last and found.pca[count] > LEAST * found.mean]
    axes.plot(counts, [found.pca[count] for count in counts], color=ACCENT_COLOR, linestyle="--", label="PCA")
    axes.axhline(found.mean, color=INK, linewidth=1, label="always answering the mean")
    axes.plot([], [], color=INK, linewidth=0.6, linestyle=":", label="percentage of the variance explained")
    axes.set_xlim(first, last)
    _scale(axes, found)
    axes.set_title(shown(title), fontsize=11, color=INK, parse_math=False)
    axes.set_xlabel("numbers in the code")
    axes.set_ylabel(f"mean squared error per {found.value_name}, {found.split} split")
    axes.grid(True, which="major", alpha=0.25)
    axes.legend(frameon=False, loc="lower left")
    axes.spines[["top", "right"]].set_visible(False)
    figure.tight_layout()
    return figure


def _scale(axes: "Axes", found: RateDistortion) -> None:
    """Make both axes logarithmic with plain numbers, and mark which errors leave 90%, 95% and 99% of the variance explained."""
    from matplotlib.ticker import FixedLocator, FuncFormatter, LogLocator, NullFormatter, NullLocator

    axes.set_xscale("log", base=2)
    axes.xaxis.set_major_locator(FixedLocator(found.sizes))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    if found.mean <= 0:
        return
    axes.set_yscale("log")
    axes.yaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
    axes.yaxis.set_minor_formatter(NullFormatter())
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    lowest = axes.get_ylim()[0]
    for percent in PERCENTAGES:
        error = found.mean * (1 - percent / 100)
        if error > lowest:
            axes.axhline(error, color=INK, linewidth=0.6, linestyle=":")
            place = (axes.get_xlim()[1], error)
            axes.annotate(f"{percent:g}%", place, xytext=(3, 0), textcoords="offset points", va="center", fontsize=8)
