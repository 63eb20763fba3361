"""The estimators: scikit-learn's own checks, the bits of ``train``, and that they compose and leave nothing behind."""

import doctest
import os
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest

sklearn = pytest.importorskip("sklearn")

from sklearn.base import clone  # noqa: E402
from sklearn.model_selection import GridSearchCV  # noqa: E402
from sklearn.pipeline import make_pipeline  # noqa: E402
from sklearn.preprocessing import StandardScaler  # noqa: E402
from sklearn.utils.estimator_checks import check_estimator  # noqa: E402

import tiedae  # noqa: E402
from tiedae_cli.api import estimators  # noqa: E402

X = np.random.default_rng(0).normal([5.0, -300.0, 1e4, 0.1], [1.0, 20.0, 500.0, 2.0], (200, 4))
SMALL: dict[str, Any] = {"hidden_sizes": (6, 2), "epochs": 3}
QUICK: dict[str, Any] = {"settings": {"steps": 30}, "hidden_sizes": (8, 2)}


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # the checks make and expect warnings of their own
@pytest.mark.parametrize(
    "estimator",
    [tiedae.TiedAutoencoder(), tiedae.TiedOutlierDetector(**QUICK), tiedae.TiedOutlierDetector(0.1, **QUICK)],
    ids=["autoencoder", "detector", "detector with a contamination"],
)
def test_an_estimator_passes_all_checks_of_scikit_learn(estimator: Any) -> None:
    found = check_estimator(estimator, on_skip=None, on_fail=None)
    assert [(one["check_name"], one["exception"]) for one in found if one["status"] == "failed"] == []
    # Array API input is checked only with SCIPY_ARRAY_API set before scipy is imported; the estimators do not offer it.
    assert {one["check_name"] for one in found if one["status"] == "skipped"} <= {"check_array_api_input"}


def test_an_estimator_trains_to_the_bits_of_train(empty_folder: Path) -> None:
    encoder = tiedae.TiedAutoencoder(random_state=3, **SMALL).fit(X)
    run = tiedae.train(X, "vectors", test=0, validation=0.1, seed=3, quiet=True, **SMALL)
    ours, theirs = encoder.model_.checkpoint.weights, run.model.checkpoint.weights
    assert all(np.array_equal(ours[name], theirs[name]) for name in theirs)
    np.testing.assert_allclose(encoder.transform(X), run.model.encode(X), rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(encoder.inverse_transform(encoder.transform(X)), run.model.reconstruct(X), rtol=1e-4, atol=1e-5)
    errors = [[epoch["train_mse_per_value"] for epoch in history] for history in (encoder.history_, run.history)]
    assert encoder.n_iter_ == 3 and errors[0] == errors[1]


def test_the_score_is_the_explained_variance(empty_folder: Path) -> None:
    encoder = tiedae.TiedAutoencoder(**SMALL).fit(X)
    found = encoder.model_.evaluate(X)["model"]["explained_variance"]
    assert encoder.score(X) == pytest.approx(found, rel=1e-5)


@pytest.mark.slow
def test_rows_do_not_depend_on_the_rows_beside_them(empty_folder: Path) -> None:
    encoder, detector = tiedae.TiedAutoencoder(**SMALL).fit(X), tiedae.TiedOutlierDetector(**QUICK).fit(X)
    for function in (encoder.transform, detector.score_samples):
        alone = np.concatenate([function(row[None]) for row in X])
        np.testing.assert_allclose(alone, function(X), rtol=1e-9, atol=1e-12)


@pytest.mark.slow
def test_the_threshold_of_the_detector_is_the_models(empty_folder: Path) -> None:
    detector = tiedae.TiedOutlierDetector(random_state=1, **QUICK).fit(X)
    run = tiedae.train(X, "anomalies", test=0, seed=1, steps=30, hidden_sizes=(8, 2), quiet=True)
    assert detector.threshold_ == pytest.approx(run.model.threshold(0.01).value, rel=2e-5)
    np.testing.assert_allclose(detector.decision_scores_, run.model.score(X), rtol=1e-4, atol=1e-5)
    assert detector.predict(np.full((1, 4), 1e5)) == [-1]
    np.testing.assert_array_equal(detector.labels_, (detector.predict(X) < 0).astype(int))
    np.testing.assert_allclose(detector.decision_function(X), detector.threshold_ - detector.decision_scores_)


@pytest.mark.parametrize("contamination", [0.05, 0.25])
def test_contamination_is_the_flagged_fraction(contamination: float, empty_folder: Path) -> None:
    detector = tiedae.TiedOutlierDetector(contamination, **QUICK).fit(X)
    assert detector.labels_.mean() == pytest.approx(contamination)
    with pytest.raises(ValueError, match=r"contamination: 0.7: expected 'auto', or a fraction in \(0, 0.5\]"):
        tiedae.TiedOutlierDetector(0.7).fit(X)


@pytest.mark.slow
def test_estimators_compose(empty_folder: Path) -> None:
    encoder = tiedae.TiedAutoencoder(**SMALL)
    pipeline = make_pipeline(StandardScaler(), clone(encoder)).fit(X)
    assert pipeline.transform(X).shape == (200, 2)
    search = GridSearchCV(encoder, {"hidden_sizes": [(6, 1), (6, 2)]}, cv=2, n_jobs=1).fit(X)
    assert search.best_params_["hidden_sizes"] in ((6, 1), (6, 2))
    again = pickle.loads(pickle.dumps(pipeline))
    np.testing.assert_array_equal(again.transform(X), pipeline.transform(X))
    assert list(encoder.set_output(transform="default").fit(X).get_feature_names_out()) == [
        "tiedautoencoder0",
        "tiedautoencoder1",
    ]
    assert os.listdir() == []


@pytest.mark.slow
def test_estimators_take_frames_and_sparse_matrices(empty_folder: Path) -> None:
    pandas, scipy = pytest.importorskip("pandas"), pytest.importorskip("scipy.sparse")
    frame = pandas.DataFrame(X, columns=list("abcd"))
    encoder = tiedae.TiedAutoencoder(**SMALL).set_output(transform="pandas").fit(frame)
    assert list(encoder.feature_names_in_) == list("abcd")
    assert encoder.transform(frame).index.equals(frame.index)
    sparse = tiedae.TiedAutoencoder(**SMALL).fit(scipy.csr_array(X))
    np.testing.assert_array_equal(sparse.transform(scipy.csr_array(X)), encoder.transform(frame).to_numpy())


def test_wrong_parameters_are_value_errors(empty_folder: Path) -> None:
    with pytest.raises(ValueError, match="training.epochs"):
        tiedae.TiedAutoencoder(epochs=0).fit(X)
    with pytest.raises(ValueError, match="contamination='auto' needs validation rows"):
        tiedae.TiedOutlierDetector(validation=0, **QUICK).fit(X)
    with pytest.raises(TypeError, match="sample_weight"):
        tiedae.TiedAutoencoder().fit(X, sample_weight=np.ones(len(X)))  # type: ignore[call-arg]


def test_no_files_are_left(empty_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    temporary = tmp_path / "temporary"
    temporary.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(temporary))
    fitted = tiedae.TiedAutoencoder(**SMALL).fit(X)
    assert os.listdir() == [] and os.listdir(temporary) == []
    assert fitted.score(X) <= 1


@pytest.mark.slow
def test_the_examples_of_the_docstrings_run(empty_folder: Path) -> None:
    assert doctest.testmod(estimators).failed == 0
