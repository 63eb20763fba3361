"""Metrics of reconstructions, one row each, computed from sums and counts.

Shapes: B items per batch, D values per item.
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import torch
from torch import Tensor

from tiedae_cli.data.item_set import ItemForm
from tiedae_cli.system.devices import in_float64

SSIM_WINDOW, SSIM_LEAST, SSIM_SIGMA = 11, 7, 1.5  # pixels
SSIM_C1, SSIM_C2 = 0.01**2, 0.03**2  # (K_1 L)^2 and (K_2 L)^2 of Wang et al. 2004, for values in a range of L = 1


def squares(values: Tensor) -> Tensor:
    """Return the squares of values in float64, because the square of a float32 may overflow."""
    return in_float64(values).square()


@dataclass(frozen=True)
class ErrorSum:
    """Sums over the reconstructions of some items, from which every metric is computed."""

    squared_error: float
    """Summed over items and values."""
    items: int
    """Number of items."""
    values: int
    """D, values per item."""
    own: Mapping[str, float] = field(default_factory=dict)
    """For each metric with a per-item function, by name: the sum of its values over the items."""

    @property
    def mse_per_value(self) -> float:
        """Mean over all items and values."""
        return self.squared_error / (self.items * self.values)

    @property
    def squared_error_per_item(self) -> float:
        """Summed over an item's values, averaged over items (the unit of Hinton & Salakhutdinov 2006)."""
        return self.squared_error / self.items

    @property
    def psnr_db(self) -> float:
        """Peak signal-to-noise ratio of the whole split in decibels, for values in [0, 1]; infinite if the error is 0."""
        return math.inf if self.squared_error == 0 else -10 * math.log10(self.mse_per_value)

    def explained_variance(self, around_mean: "ErrorSum") -> float | None:
        """Return 1 - error / the error of always answering the training mean; None if that error is 0."""
        return None if around_mean.squared_error == 0 else 1 - self.squared_error / around_mean.squared_error


@dataclass(frozen=True)
class Metric:
    """One metric of reconstructions: a row of ``METRICS``, which tables, report, JSON and docs iterate over."""

    name: str
    """Key in JSON; it includes the unit."""
    heading: str
    """Column heading; ``{value}`` and ``{item}`` are replaced by the words for the data."""
    meaning: str
    """Description for the docs."""
    digits: int
    """Digits after the decimal point."""
    value: Callable[[ErrorSum, ErrorSum], float | None]
    """(sums of the model, sums of always answering the training mean) -> value; None if undefined."""
    unit: str = ""
    """``%`` for a fraction that is shown in percent."""
    images_only: bool = False
    in_raw_units: bool = False
    """Whether it is also reported in the units of the raw features."""
    per_item: Callable[[Tensor, Tensor, ItemForm], Tensor] | None = None
    """Optional per-item function: (items, reconstructions, form), (B, D) each -> (B,) float64, summed over items."""
    measures: Callable[[ItemForm], bool] = lambda form: True
    """Whether ``per_item`` can be computed for items of a form; if not, the metric is absent."""

    def known(self, errors: ErrorSum) -> bool:
        """Return whether the sums it needs were computed."""
        return self.per_item is None or self.name in errors.own

    def text(self, value: float | None) -> str:
        """Format a value as a table cell."""
        return "-" if value is None else f"{value:.{self.digits}{'%' if self.unit == '%' else 'f'}}"

    def title(self, images: bool) -> str:
        """Return the heading, worded for images or for vectors."""
        words = {"value": "pixel", "item": "image"} if images else {"value": "feature", "item": "vector"}
        return self.heading.format(**words)


def ssim_window(form: ItemForm) -> int:
    """Return the side of the SSIM window: the largest odd number of pixels up to 11 that fits in an image."""
    fits = min(SSIM_WINDOW, *form.shape[1:])
    return fits - 1 + fits % 2


def _window_means(length: int, side: int) -> Tensor:
    """Return the matrix that takes the Gaussian means of all windows of a row of pixels, (length - side + 1, length) float64.

    Products with it take a fifth of the time of torch's convolutions, which are slow in float64.
    """
    places = torch.arange(side, dtype=torch.float64) - side // 2
    window = torch.exp(-(places**2) / (2 * SSIM_SIGMA**2))
    windows = length - side + 1
    means = torch.zeros(windows, length, dtype=torch.float64)
    means.as_strided((windows, side), (length + 1, 1)).copy_(window / window.sum())
    return means


def ssim(items: Tensor, reconstructions: Tensor, form: ItemForm) -> Tensor:
    """Return the mean structural similarity of images in [0, 1], averaged over channels, (B, D) -> (B,) float64.

    Wang et al. 2004, equation 13: at each position of a Gaussian window (sigma 1.5), with its weighted means u and population
    (co)variances s, (2 u_x u_y + c_1) (2 s_xy + c_2) / ((u_x^2 + u_y^2 + c_1) (s_x^2 + s_y^2 + c_2)).
    """
    x, y = (in_float64(values).reshape(-1, *form.shape[1:]) for values in (items, reconstructions))  # (B C, H, W)
    down, across = (_window_means(length, ssim_window(form)).to(x.device) for length in form.shape[1:])

    def mean(values: Tensor) -> Tensor:
        return down @ (values @ across.t())  # (B C, H, W) -> (B C, H - side + 1, W - side + 1)

    u_x, u_y = mean(x), mean(y)
    variances = mean(x * x) - u_x**2 + mean(y * y) - u_y**2
    covariance = mean(x * y) - u_x * u_y
    similarity = (2 * u_x * u_y + SSIM_C1) * (2 * covariance + SSIM_C2) / ((u_x**2 + u_y**2 + SSIM_C1) * (variances + SSIM_C2))
    return similarity.reshape(len(items), -1).mean(1)


METRICS = (
    Metric(
        "mse_per_value",
        "MSE per {value}",
        "mean squared error over all items and values",
        6,
        lambda errors, mean: errors.mse_per_value,
        in_raw_units=True,
    ),
    Metric(
        "squared_error_per_item",
        "squared error per {item}",
        "squared error summed over an item's values, averaged over items",
        4,
        lambda errors, mean: errors.squared_error_per_item,
        in_raw_units=True,
    ),
    Metric(
        "psnr_db",
        "PSNR dB",
        "peak signal-to-noise ratio of the whole split, for a peak of 1; null without any error",
        2,
        lambda errors, mean: errors.psnr_db,
        unit="dB",
        images_only=True,
    ),
    Metric(
        "ssim",
        "SSIM",
        "structural similarity (Wang et al. 2004), averaged over images; absent below 7 pixels a side",
        4,
        lambda errors, mean: errors.own["ssim"] / errors.items,
        images_only=True,
        per_item=ssim,
        measures=lambda form: form.kind == "images" and ssim_window(form) >= SSIM_LEAST,
    ),
    Metric(
        "explained_variance",
        "variance explained",
        "1 - squared error / that of always answering the training mean; null where the latter is 0",
        2,
        lambda errors, mean: errors.explained_variance(mean),
        unit="%",
    ),
)


def metrics_of(errors: ErrorSum, images: bool) -> list[Metric]:
    """Return the metrics that are defined for these items: the columns of a table."""
    return [metric for metric in METRICS if metric.known(errors) and (images or not metric.images_only)]


def metric_values(errors: ErrorSum, around_mean: ErrorSum, images: bool) -> dict[str, float | None]:
    """Return every computed metric by name; None if it is not finite or not defined for these items."""
    values: dict[str, float | None] = {}
    for metric in METRICS:
        if metric.known(errors):
            value = metric.value(errors, around_mean) if images or not metric.images_only else None
            values[metric.name] = value if value is not None and math.isfinite(value) else None
    return values


def own_measures(form: ItemForm) -> dict[str, Callable[[Tensor, Tensor, ItemForm], Tensor]]:
    """Return the per-item functions of the metrics for items of a form, by name."""
    return {metric.name: metric.per_item for metric in METRICS if metric.per_item is not None and metric.measures(form)}


def item_sums(items: Tensor, reconstructions: Tensor, form: ItemForm) -> dict[str, float]:
    """Return the squared error of a block, (B, D) each, and the per-item metrics, summed over its items."""
    sums = {name: measure(items, reconstructions, form).sum().item() for name, measure in own_measures(form).items()}
    return {"squared_error": squares(reconstructions - items).sum().item(), **sums}
