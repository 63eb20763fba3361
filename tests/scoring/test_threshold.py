"""The threshold's promise: the stated false-alarm rate and its interval hold, whatever the distribution of the scores is."""

import numpy as np
import pytest
import torch

from tiedae_cli.runs.calibration import calibrate
from tiedae_cli.scoring.threshold import CONFIDENCE, beta_quantile, least_items, threshold_of


@pytest.mark.parametrize("items", [1, 10, 500])
@pytest.mark.parametrize("share", [0.025, 0.5, 0.975])
def test_beta_quantiles_with_a_closed_form(items: int, share: float) -> None:
    assert beta_quantile(1, items, share) == pytest.approx(1 - (1 - share) ** (1 / items), rel=1e-9)
    assert beta_quantile(items, 1, share) == pytest.approx(share ** (1 / items), rel=1e-9)


@pytest.mark.parametrize(("a", "b"), [(2, 199), (50, 60), (300, 20)])
def test_beta_quantiles_of_samples(a: int, b: int) -> None:
    sample = np.random.default_rng(0).beta(a, b, 400_000)
    for share in (0.025, 0.975):
        assert (sample <= beta_quantile(a, b, share)).mean() == pytest.approx(share, abs=0.002)


def test_which_order_statistic() -> None:
    scores = torch.arange(199, dtype=torch.float64)[torch.randperm(199, generator=torch.Generator().manual_seed(0))]
    assert threshold_of(calibrate(scores), 0.01).value == 197  # the second largest: 2 of 200 places are above it
    assert threshold_of(calibrate(scores), 0.01).expected == 0.01
    assert threshold_of(calibrate(scores), 0.001).value == 198  # too few: the largest
    assert threshold_of(calibrate(scores), 0.001).expected == 1 / 200
    assert threshold_of(calibrate(scores), 1).value == 0
    assert [least_items(rate) for rate in (0.5, 0.01, 0.001)] == [1, 99, 999]


@pytest.mark.slow
@pytest.mark.parametrize(("items", "rate"), [(150, 0.01), (300, 0.05), (2000, 0.01)])
def test_the_realised_rate_is_in_the_interval_as_often_as_stated(items: int, rate: float) -> None:
    random = np.random.default_rng(items)
    scores = torch.from_numpy(random.lognormal(size=200_000))  # so many that their share above a threshold is its rate
    inside, realised = 0, []
    for _ in range(200):
        order = torch.from_numpy(random.permutation(len(scores)))
        found = threshold_of(calibrate(scores[order[:items]]), rate)
        realised.append((scores[order[items:]] > found.value).to(torch.float64).mean().item())
        inside += found.low <= realised[-1] <= found.high
    spread = (200 * CONFIDENCE * (1 - CONFIDENCE)) ** 0.5
    assert abs(inside - 200 * CONFIDENCE) < 4 * spread
    assert np.mean(realised) == pytest.approx(found.expected, abs=4 * np.std(realised) / 200**0.5)
