"""The loss curve: a training's errors per epoch beside PCA's."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from tiedae_cli.output.figures.canvas import ACCENT_COLOR, INK, MODEL_COLOR, default_style, figure_png, new_figure
from tiedae_cli.system.text import shown

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from tiedae_cli.runs.training_state import EpochReport


@default_style()
def loss_curve(
    run: str, history: "Sequence[EpochReport]", pca_error: float | None, components: int, value_name: str = "pixel"
) -> bytes:
    """Return ``loss_figure`` as a PNG."""
    return figure_png(loss_figure(run, history, pca_error, components, value_name))


@default_style()
def loss_figure(
    run: str, history: "Sequence[EpochReport]", pca_error: float | None, components: int, value_name: str = "pixel"
) -> "Figure":
    """Draw training and validation error by epoch, the best epoch marked, PCA's error at the same code size as a line.

    Epochs of layer-wise pretraining are not drawn, because a single layer's error is not comparable.

    Args:
        run: name of the run, which becomes the title.
        history: epochs of all phases.
        pca_error: validation error of PCA, for images of PCA clipped to [0, 1]; None draws no line.
        components: number of PCA components.
        value_name: name of one value of an item.
    """
    from tiedae_cli.runs.training_state import JOINT  # which imports torch; other figures are drawn without it

    figure = new_figure(8, 4.5)
    axes = figure.add_subplot()
    reports = [report for report in history if report.phase == JOINT] or list(history)
    epochs = [report.epoch for report in reports]
    marker = "o" if len(epochs) <= 30 else ""
    series = [("training", [report.train_mse_per_value for report in reports], "#8fb3d9")]
    if all(report.validation_mse_per_value is not None for report in reports):
        series.append(("validation", [report.validation_mse_per_value or 0.0 for report in reports], MODEL_COLOR))
    for name, values, color in series:
        axes.plot(epochs, values, marker=marker, markersize=4, color=color, label=name)
    best = next((report for report in reversed(reports) if report.best), None)
    if best is not None:
        text = f"best epoch {best.epoch}: {best.selection_mse:.3g}"
        place = [best.epoch], [best.selection_mse]
        axes.plot(*place, label=text, marker="o", markersize=10, markerfacecolor="none", markeredgecolor=INK, linestyle="")
    if pca_error is not None:
        pca = "PCA clipped to [0, 1]" if value_name == "pixel" else "PCA"  # the stronger one
        axes.axhline(pca_error, color=ACCENT_COLOR, linestyle="--", label=f"{pca}, {components} components: {pca_error:.3g}")
    values = [value for _, numbers, _ in series for value in numbers] + [pca_error or series[0][1][0]]
    _scale(axes, epochs, min(values), max(values))
    axes.set_title(shown(run), fontsize=11, color=INK, parse_math=False)
    axes.set_xlabel("epoch")
    axes.set_ylabel(f"mean squared error per {value_name}")
    axes.grid(True, which="both", alpha=0.25)
    axes.legend(frameon=False)
    axes.spines[["top", "right"]].set_visible(False)
    figure.tight_layout()
    return figure


def _scale(axes: "Axes", epochs: Sequence[int], lowest: float, highest: float) -> None:
    """Label whole epochs from the first to the last, and errors on a logarithmic scale with plain numbers."""
    from matplotlib.ticker import FixedLocator, FuncFormatter, LogLocator, NullFormatter

    first, last = epochs[0], epochs[-1]
    step = next(size for power in range(9) for size in (10**power, 2 * 10**power, 5 * 10**power) if (last - first) / size <= 20)
    axes.xaxis.set_major_locator(FixedLocator(sorted({first, *(epoch for epoch in epochs if epoch % step == 0)})))
    if first == last:
        axes.set_xlim(first - 0.5, last + 0.5)
    if lowest <= 0:
        return
    axes.set_yscale("log")
    subs = (1.0, 2.0, 5.0) if highest / lowest > 5 else tuple(map(float, range(1, 10)))
    if highest / lowest > 1.5:
        axes.yaxis.set_major_locator(LogLocator(subs=subs))
        axes.yaxis.set_minor_formatter(NullFormatter())
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
