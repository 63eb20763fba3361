"""The picture of a training: its errors by epoch beside PCA's."""

from collections.abc import Sequence

from tiedae_cli.output.figures.canvas import MODEL_COLOUR, YARDSTICK_COLOUR, figure_png, new_figure
from tiedae_cli.runs.state import EpochReport


def loss_curve(history: Sequence[EpochReport], yardstick: float | None, components: int, value_name: str = "pixel") -> bytes:
    """Draw training and validation error by epoch, PCA's validation error at the same code size as a line; return the PNG."""
    from matplotlib.ticker import MaxNLocator

    figure = new_figure(8, 4.5)
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
    if any(value > 0 for _, values, _ in series for value in values):  # constant data are answered without an error
        axes.set_yscale("log")
    axes.set_xlabel("epoch")
    axes.set_ylabel(f"mean squared error per {value_name}")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.grid(True, which="both", alpha=0.25)
    axes.legend(frameon=False)
    axes.spines[["top", "right"]].set_visible(False)
    figure.tight_layout()
    return figure_png(figure)
