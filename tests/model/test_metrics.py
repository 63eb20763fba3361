"""Sums, counts and what is made of them, in closed form."""

import json
import math
from pathlib import Path

import numpy as np
import pytest
import torch
from typer.testing import CliRunner

from tiedae_cli.cli.app import app
from tiedae_cli.data.item_set import ItemForm, ItemSet
from tiedae_cli.model import inference, metrics
from tiedae_cli.model.metrics import METRICS, ErrorSum, Metric, ssim, ssim_window


def test_units() -> None:
    errors = ErrorSum(squared_error=60.0, items=5, values=4)
    assert errors.squared_error_per_item == 12.0
    assert errors.mse_per_value == 3.0
    assert errors.squared_error_per_item == errors.mse_per_value * errors.values


@pytest.mark.parametrize(("mse", "decibels"), [(1.0, 0.0), (0.1, 10.0), (0.01, 20.0), (0.001, 30.0), (0.5, 3.0103)])
def test_psnr(mse: float, decibels: float) -> None:
    assert ErrorSum(mse * 20, 5, 4).psnr_db == pytest.approx(decibels, abs=1e-4)


def test_psnr_without_error_is_infinite() -> None:
    assert ErrorSum(0.0, 5, 4).psnr_db == math.inf


def test_explained_variance() -> None:
    mean = ErrorSum(80.0, 5, 4)
    assert ErrorSum(20.0, 5, 4).explained_variance(mean) == 0.75
    assert mean.explained_variance(mean) == 0.0
    assert ErrorSum(160.0, 5, 4).explained_variance(mean) == -1.0  # worse than the mean
    assert ErrorSum(1.0, 5, 4).explained_variance(ErrorSum(0.0, 5, 4)) is None


# scikit-image 0.26.0: structural_similarity(x, y, data_range=1, gaussian_weights=True, sigma=1.5, use_sample_covariance=False,
# channel_axis=0 for three dimensions) of the pairs that ``pair`` makes.
SCIKIT_IMAGE = {
    ((11, 11), 0): 0.949983693257558,
    ((11, 11), 1): 0.8381296381068952,
    ((28, 28), 0): 0.9368613251910403,
    ((28, 28), 1): 0.7964256971849848,
    ((3, 32, 20), 0): 0.9446756770260597,
    ((3, 32, 20), 1): 0.8070744981410786,
}


def pair(shape: tuple[int, ...], seed: int) -> tuple[np.ndarray, np.ndarray]:
    generator = np.random.default_rng(seed)
    x = generator.random(shape)
    return x, np.clip(x + generator.normal(0, 0.1 * (seed + 1), shape), 0, 1)


@pytest.mark.parametrize(("shape", "seed"), SCIKIT_IMAGE)
def test_ssim_matches_scikit_image(shape: tuple[int, ...], seed: int) -> None:
    x, y = (torch.from_numpy(values).reshape(1, -1) for values in pair(shape, seed))
    channels, height, width = (1, 1, *shape)[-3:]
    form = ItemForm((channels, height, width))
    assert ssim(x, y, form).item() == pytest.approx(SCIKIT_IMAGE[shape, seed], abs=1e-9)
    assert ssim(x, x, form).item() == pytest.approx(1, abs=1e-12)


def test_ssim_of_small_images_has_the_largest_window_that_fits() -> None:
    """Equation 13 of Wang et al. 2004, one window after another, for images of 9 x 8 pixels and a window of 7."""
    (x, y), side = pair((9, 8), 3), 7
    assert ssim_window(ItemForm((1, 9, 8))) == side
    offsets = np.arange(side) - 3
    weights = np.exp(-(offsets[:, None] ** 2 + offsets**2) / (2 * 1.5**2))
    weights /= weights.sum()
    found = []
    for row in range(9 - side + 1):
        for column in range(8 - side + 1):
            a, b = (values[row : row + side, column : column + side] for values in (x, y))
            mean_a, mean_b = (weights * a).sum(), (weights * b).sum()
            spread = (weights * (a - mean_a) ** 2).sum() + (weights * (b - mean_b) ** 2).sum()
            together = (weights * (a - mean_a) * (b - mean_b)).sum()
            first = (2 * mean_a * mean_b + 0.01**2) / (mean_a**2 + mean_b**2 + 0.01**2)
            found.append(first * (2 * together + 0.03**2) / (spread + 0.03**2))
    values = [torch.from_numpy(one).reshape(1, -1) for one in (x, y)]
    assert ssim(values[0], values[1], ItemForm((1, 9, 8))).item() == pytest.approx(np.mean(found), abs=1e-12)


@pytest.mark.parametrize(("side", "window"), [(7, 7), (8, 7), (10, 9), (11, 11), (12, 11), (64, 11)])
def test_ssim_window(side: int, window: int) -> None:
    assert ssim_window(ItemForm((1, side, 100))) == window


def images_of(side: int, count: int = 10) -> ItemSet:
    generator = np.random.default_rng(0)
    values = generator.integers(0, 256, (count, 1, side, side), dtype=np.uint8)
    return ItemSet(values, None, ItemForm((1, side, side), scale=1 / 255))


def test_ssim_by_blocks_is_the_mean_over_all_images(monkeypatch: pytest.MonkeyPatch) -> None:
    images, cpu = images_of(9), torch.device("cpu")
    whole = inference.own_sums(lambda x: x / 2, images, cpu)["ssim"]
    monkeypatch.setattr(inference, "BATCH_VALUES", 3 * inference.LEAST_WIDTH)
    assert inference.own_sums(lambda x: x / 2, images, cpu)["ssim"] == pytest.approx(whole, rel=1e-12)
    x = torch.from_numpy(images.batch(0, 10))
    assert whole == pytest.approx(ssim(x, x / 2, images.form).sum().item(), rel=1e-12)


def test_ssim_below_seven_pixels_is_absent() -> None:
    assert inference.own_sums(lambda x: x, images_of(6), torch.device("cpu")) == {}
    errors = ErrorSum(1.0, 2, 36)
    assert "ssim" not in metrics.metric_values(errors, errors, images=True)
    assert "ssim" not in [metric.name for metric in metrics.metrics_of(errors, images=True)]


def test_vectors_have_no_ratio_to_a_peak_and_no_ssim() -> None:
    errors = ErrorSum(1.0, 2, 36)
    assert metrics.metric_values(errors, errors, images=False) == {
        "mse_per_value": 1 / 72,
        "squared_error_per_item": 0.5,
        "psnr_db": None,
        "explained_variance": 0.0,
    }


@pytest.mark.slow
def test_a_new_metric_is_one_row(digits_run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A row in the list, and tables, JSON and the report have it."""
    row = Metric(
        "mean_absolute_error",
        "MAE per {value}",
        "mean absolute error",
        3,
        lambda errors, mean: errors.own["mean_absolute_error"] / errors.items,
        per_item=lambda x, y, form: (x - y).abs().mean(1).double(),
    )
    monkeypatch.setattr(metrics, "METRICS", (*METRICS, row))
    found = CliRunner().invoke(app, ["eval", "digits", "--json", "-q"])
    values = json.loads(found.stdout)
    assert 0 < values["mean_absolute_error"] < values["mse_per_value"] ** 0.5
    assert values["pca"]["mean_absolute_error"] > 0
    monkeypatch.setenv("COLUMNS", "300")
    table = CliRunner().invoke(app, ["eval", "digits", "-q"]).stdout
    assert "MAE per pixel" in table and f"{values['mean_absolute_error']:.3f}" in table
    compared = json.loads(CliRunner().invoke(app, ["compare", "digits", "--json", "-q"]).stdout)["runs"][0]
    assert compared["mean_absolute_error"] == values["mean_absolute_error"]
    page = CliRunner().invoke(app, ["report", "digits", "-o", "-", "-q"]).stdout
    assert "MAE per pixel" in page
