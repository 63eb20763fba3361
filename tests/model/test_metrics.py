"""Sums, counts and what is made of them, in closed form."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from tiedae_cli.model.metrics import ErrorSum, average_precision, precision_at_n


def test_units() -> None:
    errors = ErrorSum(squared_error=60.0, images=5, pixels=4)
    assert errors.squared_error_per_item == 12.0
    assert errors.mse_per_value == 3.0
    assert errors.squared_error_per_item == errors.mse_per_value * errors.pixels


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


@given(st.lists(st.integers(0, 6), min_size=1, max_size=12), st.lists(st.integers(0, 6), min_size=1, max_size=12))
def test_average_precision_and_precision_at_n(usual: list[int], strange: list[int]) -> None:
    everything = [(score, 0) for score in usual] + [(score, 1) for score in strange]
    levels = sorted(set(usual + strange), reverse=True)
    area, before = 0.0, 0
    for level in levels:  # the definition: sum over the thresholds of (R_i - R_(i-1)) P_i
        chosen = [kind for score, kind in everything if score >= level]
        area += (sum(chosen) - before) / len(strange) * sum(chosen) / len(chosen)
        before = sum(chosen)
    scores = tuple(torch.tensor(values, dtype=torch.float64) for values in (usual, strange))
    assert average_precision(*scores) == pytest.approx(area, abs=1e-9)
    expected, room = 0.0, len(strange)
    for level in levels:  # of equal scores that do not all fit, each counts in proportion
        tied = [kind for score, kind in everything if score == level]
        taken = min(room, len(tied))
        expected, room = expected + sum(tied) * taken / len(tied), room - taken
    scores = tuple(torch.tensor(values, dtype=torch.float64) for values in (usual, strange))
    assert precision_at_n(*scores) == pytest.approx(expected / len(strange), abs=1e-9)
