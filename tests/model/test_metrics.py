"""Sums, counts and what is made of them, in closed form."""

import math

import pytest

from tiedae_cli.model.metrics import ErrorSum


def test_units() -> None:
    errors = ErrorSum(squared_error=60.0, images=5, pixels=4)
    assert errors.squared_error_per_image == 12.0
    assert errors.mse_per_pixel == 3.0
    assert errors.squared_error_per_image == errors.mse_per_pixel * errors.pixels


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
