"""AUROC, average precision and precision at n against their definitions."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from tiedae_cli.scoring.detection_metrics import auroc, average_precision, precision_at_n


@pytest.mark.slow
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


@pytest.mark.slow
@given(
    st.lists(st.integers(0, 6), min_size=1, max_size=20), st.lists(st.integers(0, 6), min_size=1, max_size=20), st.booleans()
)
def test_auroc_is_the_count_of_pairs(usual: list[int], intruders: list[int], infinite: bool) -> None:
    errors = [float("inf") if infinite and value == 6 else value / 7 for value in usual]
    others = [float("inf") if infinite and value == 6 else value / 7 for value in intruders]
    won = sum(1.0 if other > error else 0.5 if other == error else 0.0 for error in errors for other in others)
    found = auroc(torch.tensor(errors, dtype=torch.float64), torch.tensor(others, dtype=torch.float64))
    assert found == pytest.approx(won / (len(usual) * len(intruders)), abs=1e-15)
