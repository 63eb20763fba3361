"""The verdict on a training, from numbers alone: which comparison is made, which is refused, and what to try."""

from dataclasses import replace

import pytest

from tiedae_cli.model.verdict import Errors, Training, advice, explained, sentence

GOOD = Errors(model=0.01, pca=0.021, mean=0.07, components=8, code_size=8, values=64)
FINE = Training(
    penalty=0.0, reconstruction=0.02, unused_units=0, code_size=8, last_rate=1e-6, peak_rate=0.01, schedule="cosine"
)


@pytest.mark.parametrize(
    ("error", "pca", "words"),
    [
        (1.0, 2.1, "2.1 times less than"),
        (2.1, 1.0, "2.1 times more than"),
        (1.03, 1.0, "3% more than"),
        (0.97, 1.0, "3% less than"),
        (1.049, 1.0, "5% more than"),
        (1.051, 1.0, "1.1 times more than"),
        (1.004, 1.0, "as much as"),
        (1.0, 1.0, "as much as"),
    ],
)
def test_the_ratio_to_pca(error: float, pca: float, words: str) -> None:
    errors = Errors(error, pca, mean=10.0, components=8, code_size=8, values=1000)
    assert sentence(errors) == f"MSE {error:.6f} per pixel, {words} PCA with the same 8 numbers ({pca:.6f})"
    fewer = replace(errors, components=240, code_size=256, value_name="feature")
    assert sentence(fewer) == f"MSE {error:.6f} per feature, {words} PCA with 240 numbers ({pca:.6f})"


@pytest.mark.parametrize("pca", [0.0, 1e-30, 1e-12])
@pytest.mark.parametrize("error", [0.01, 1e-13, 0.0])
def test_an_exact_pca_gives_no_ratio(error: float, pca: float) -> None:
    words = sentence(replace(GOOD, model=error, pca=pca))
    assert "times" not in words and "% " not in words and "exact" in words and f"MSE {error:.6f} per pixel" in words


@pytest.mark.parametrize("code", [64, 150])
def test_a_code_as_large_as_the_data_is_reported_as_no_compression(code: int) -> None:
    words = sentence(replace(GOOD, pca=1e-20, components=64, code_size=code))
    assert "times" not in words
    assert f"the code ({code}) is not smaller than the data (64 pixels): PCA is exact, nothing is compressed" in words


def test_with_fewer_items_than_values_pca_is_not_called_exact() -> None:
    words = sentence(replace(GOOD, components=20, code_size=64))
    assert "nothing is compressed" in words and "exact" not in words and "PCA with 20 numbers" in words


STUCK = (0.2, 0.2, 0.2, 0.2)
FALLING = (0.4, 0.3, 0.2)


@pytest.mark.parametrize(("error", "words"), [(0.2, "worse than"), (0.0701, "no better than"), (0.07, "no better than")])
def test_a_failed_training_is_compared_with_the_mean_not_with_pca(error: float, words: str) -> None:
    errors = replace(GOOD, model=error, history=STUCK)
    assert f", {words} always answering the mean (0.070000)" in sentence(errors)
    assert "PCA" not in sentence(errors) and "learning rate that is too high" in sentence(errors)
    assert advice(errors, FINE, "config.yaml") == "try: tiedae train config.yaml learning_rate=0.001"


@pytest.mark.parametrize("history", [FALLING, (0.2,)])
def test_a_training_that_was_too_short_is_not_called_failed(history: tuple[float, ...]) -> None:
    errors = replace(GOOD, model=0.2, history=history)
    assert "worse than always answering the mean (0.070000): the training was too short" in sentence(errors)
    assert advice(errors, FINE, "x.yaml") == f"try: tiedae train x.yaml epochs={5 * len(history)}"


def test_without_a_history_no_reason_is_given() -> None:
    assert sentence(replace(GOOD, model=0.2)).endswith("worse than always answering the mean (0.070000)")


@pytest.mark.parametrize("model", [0.0, 1e-20])
def test_constant_data_is_not_called_a_failed_training(model: float) -> None:
    errors = Errors(model, pca=0.0, mean=0.0, components=2, code_size=2, values=5)
    assert not errors.is_useless and advice(errors, FINE, "x") == "" and "exact" in sentence(errors)


def test_nan_is_called_a_failed_training() -> None:
    assert replace(GOOD, model=float("nan")).is_useless


@pytest.mark.parametrize(
    ("changes", "cause", "keys"),
    [
        ({"penalty": 0.021}, "the L2 penalty is 0.021 in the loss, beside a reconstruction error of 0.02", "l2=0"),
        ({"unused_units": 3, "penalty": 0.001}, "3 of 8 code units give the same value for every item", "l2=0"),
        ({"unused_units": 3}, "3 of 8 code units give the same value for every item", "learning_rate=0.001"),
        ({"last_rate": 0.01}, "the learning rate is still 0.01 at the end", "schedule=cosine"),
    ],
)
def test_the_likely_cause_of_a_loss_to_pca_and_what_to_try(changes: dict[str, float], cause: str, keys: str) -> None:
    worse = replace(GOOD, model=0.05)
    assert advice(worse, replace(FINE, **changes), "my.yaml") == f"likely cause: {cause}\ntry: tiedae train my.yaml {keys}"  # type: ignore[arg-type]
    assert advice(GOOD, replace(FINE, **changes), "my.yaml") == ""  # type: ignore[arg-type]


def test_several_causes_share_one_line_to_try() -> None:
    training = replace(FINE, penalty=0.021, unused_units=8, last_rate=0.01)
    words = advice(replace(GOOD, model=0.05), training, "my.yaml")
    assert words.startswith("likely causes: ") and words.endswith("\ntry: tiedae train my.yaml l2=0 schedule=cosine")


def test_without_a_known_cause_there_is_no_advice() -> None:
    assert advice(replace(GOOD, model=0.05), FINE, "my.yaml") == ""


@pytest.mark.parametrize(
    ("model", "clipped", "words"),
    [
        (0.01, False, "PCA explains 70.0% of the variance, the model 15.7% more"),
        (0.028, True, "PCA clipped to [0, 1] explains 70.0% of the variance, the model 10.0% less"),
        (0.021, False, "PCA explains 70.0% of the variance, the model 0.0% more"),
    ],
)
def test_the_variance_that_pca_and_the_model_explain(model: float, clipped: bool, words: str) -> None:
    assert explained(replace(GOOD, model=model, clipped=clipped)) == words
    assert explained(replace(GOOD, mean=0.0)) == ""
