"""The share of the squared error that the largest errors carry, beside a sort by numpy, and the messages that mention it."""

import json
from pathlib import Path

import numpy as np
import pytest
from conftest import Tiedae

import tiedae_cli
from tiedae_cli.model.error_tail import ErrorTail, describe_tail


def by_sorting(errors: np.ndarray) -> float:
    """Return the share by sorting all errors."""
    return float(np.sort(errors)[::-1][: len(errors) // 100].sum() / errors.sum())


@pytest.mark.parametrize("tail", [1.05, 1.5, 3.0, 50.0])
@pytest.mark.parametrize("count", [100, 199, 5000])
def test_the_share_matches_that_of_the_sorted_errors(tail: float, count: int) -> None:
    errors = np.random.default_rng(0).pareto(tail, count) * 1e-12
    found = ErrorTail()
    for block in np.array_split(errors, 7):
        found.add(block)
    assert found.share == pytest.approx(by_sorting(errors), rel=0.02)


def test_equal_errors_and_zeros_have_the_share_of_their_count() -> None:
    assert ErrorTail().add(np.full(400, 3.0)).share == pytest.approx(0.01, rel=1e-12)
    assert ErrorTail().add(np.concatenate([np.zeros(999), [1e30]])).share == pytest.approx(1.0, rel=1e-12)


def test_too_few_items_and_no_error_have_no_share() -> None:
    assert ErrorTail().add(np.ones(99)).share is None
    assert ErrorTail().add(np.zeros(1000)).share is None
    assert ErrorTail().share is None


def test_only_more_than_half_of_the_error_is_mentioned() -> None:
    assert describe_tail(None) == describe_tail(0.5) == ""
    assert "carry 99.6% of the squared error" in describe_tail(0.9959)


def with_outliers() -> np.ndarray:
    """Return 2,000 rows of which 20 are far away in directions of their own."""
    random = np.random.default_rng(1)
    rows = random.normal(size=(2000, 3)) @ random.normal(size=(3, 16)) + 0.1 * random.normal(size=(2000, 16))
    rows[::100] += 30 * random.normal(size=(20, 16))
    return rows.astype(np.float32)


@pytest.mark.slow
def test_a_few_rows_that_decide_the_error_are_reported_after_training_by_eval_and_in_python(
    tiedae: Tiedae, tmp_path: Path
) -> None:
    rows = with_outliers()
    np.save(tmp_path / "rows.npy", rows)
    sentence = "the 1% of the items with the largest errors carry"
    trained = tiedae("train", str(tmp_path / "rows.npy"), "epochs=2", "hidden_sizes=[8,3]", "test=0.3", "--run-dir", "run")
    assert trained.code == 0 and sentence in trained.err
    for data in ((), (str(tmp_path / "rows.npy"),)):
        found = tiedae("eval", "run", *data, "--json")
        share = json.loads(found.out)["error_share_of_worst_1_percent"]
        assert share > 0.5 and sentence in found.err
    errors = tiedae_cli.load("run").score(rows)
    assert share == pytest.approx(by_sorting(np.asarray(errors)), rel=0.02)
    evaluation = tiedae_cli.load("run").evaluate(rows)
    assert evaluation.to_dict()["error_share_of_worst_1_percent"] == pytest.approx(share, rel=1e-6)
    assert sentence in repr(evaluation)
