"""The trained model: frames by column name, evaluation, thresholds, explanations, raw values as a module, files and pictures."""

import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

import tiedae
from tiedae_cli.errors import DataError, InputError

NAMES = ["mass", "charge", "energy", "spin"]
ROWS = np.random.default_rng(0).normal([5.0, -300.0, 1e4, 0.1], [1.0, 20.0, 500.0, 2.0], (120, 4))
SMALL: dict[str, Any] = {"epochs": 2, "hidden_sizes": [6, 2], "batch_size": 20, "quiet": True}


@pytest.fixture(scope="module")
def frame() -> Any:
    pandas = pytest.importorskip("pandas")
    return pandas.DataFrame(ROWS, columns=NAMES, index=pandas.Index(range(1000, 1120), name="id"))


@pytest.fixture(scope="module")
def run(frame: Any) -> Any:
    return tiedae.train(frame, **SMALL)


@pytest.fixture(scope="module")
def digits() -> Any:
    return tiedae.train("digits", **SMALL)


def test_columns_are_matched_by_name_and_the_index_is_kept(run: Any, frame: Any) -> None:
    model, scores = run.model, run.model.score(ROWS)
    mixed = frame[NAMES[::-1]].assign(other=1.0)
    assert model.score(mixed).index.equals(frame.index) and model.score(mixed).name == "score"
    np.testing.assert_array_equal(model.score(mixed), scores)
    codes = model.encode(mixed)
    assert list(codes.columns) == ["code0", "code1"] and codes.index.equals(frame.index)
    assert list(model.reconstruct(mixed).columns) == list(model.decode(codes).columns) == NAMES
    assert model.decode(codes).index.equals(frame.index)
    np.testing.assert_array_equal(model.outliers(mixed, 0.1), scores > model.threshold(0.1).value)
    with pytest.raises(DataError, match="X: lacks the columns spin, which this model takes"):
        model.score(frame.drop(columns="spin"))
    with pytest.raises(DataError, match="X: row 3, column charge holds NaN"):
        model.score(frame.where(frame != frame.iloc[2, 1]))


def test_one_row_is_one_item(run: Any, frame: Any) -> None:
    model = run.model
    for row in (frame.iloc[3], ROWS[3], torch.from_numpy(ROWS[3]), ROWS[3].tolist()):
        assert model.encode(row).shape == (2,) and model.score(row).shape == ()
        assert model.score(row) == pytest.approx(model.score(ROWS)[3], rel=1e-5)
    assert model.score(frame[3:4]).shape == (1,)


def test_answers_to_polars_are_polars(run: Any) -> None:
    polars = pytest.importorskip("polars")
    data = polars.DataFrame(dict(zip(NAMES, ROWS.T, strict=True)))
    assert run.model.encode(data).columns == ["code0", "code1"]
    np.testing.assert_array_equal(run.model.score(data[NAMES[::-1]]).to_numpy(), run.model.score(ROWS))


@pytest.mark.slow
def test_evaluation_is_that_of_the_command(digits: Any, tiedae: Any, empty_folder: Path) -> None:
    digits.save("kept")
    (said,) = tiedae("eval", "kept", "--json").lines
    found = digits.model.evaluate()
    for name, value in found["model"].items():
        assert said[name] == pytest.approx(value)
    assert said["pca"]["mse_per_value"] == pytest.approx(found["pca"]["mse_per_value"])
    assert said["mean_item"]["mse_per_value"] == pytest.approx(found["mean"]["mse_per_value"])
    assert said["pca_clipped"]["mse_per_value"] == pytest.approx(found["pca_clipped"]["mse_per_value"])
    assert said["error_share_of_worst_1_percent"] == pytest.approx(found.error_share_of_worst_1_percent)
    assert "PCA, 2 components" in repr(found) and "<table>" in found._repr_html_()


def test_evaluation_of_data_in_both_units(run: Any, frame: Any) -> None:
    model = run.model
    found = model.evaluate(frame)
    raw = ((model.reconstruct(ROWS) - ROWS) ** 2).mean()
    assert found["raw model"]["mse_per_value"] == pytest.approx(raw, rel=1e-4)
    assert found["model"]["squared_error_per_item"] == pytest.approx(model.score(ROWS).mean(), rel=1e-6)
    assert found["pca"]["mse_per_value"] <= found["mean"]["mse_per_value"]
    mixed = np.concatenate([ROWS, ROWS[:20] * 3])
    labels = np.arange(140) >= 120
    assert model.evaluate(mixed, labels).detection["auroc"] > 0.9
    with pytest.raises(InputError, match="labels: 3 labels for 140 items"):
        model.evaluate(mixed, [0, 1, 0])
    with pytest.raises(InputError, match="all 140 labelled items"):
        model.evaluate(mixed, np.zeros(140))


def test_explanations_name_the_columns(run: Any, frame: Any) -> None:
    model, reasons = run.model, run.model.explain(frame[:2], most=4)
    assert len(reasons) == 2 and {reason["column"] for reason in reasons[1]} == set(NAMES)
    errors = (model.reconstruct(frame[:2]) - frame[:2]).iloc[1] ** 2 * model.form.scale**2
    first = reasons[1][0]
    assert first["column"] == errors.idxmax() and first["value"] == pytest.approx(frame[first["column"]].iloc[1])
    assert first["share"] == pytest.approx(errors.max() / errors.sum(), rel=1e-3)


def test_the_module_of_raw_values_is_the_model(run: Any, digits: Any) -> None:
    pictures = np.random.default_rng(0).integers(0, 256, (5, 8, 8), dtype=np.uint8)
    for model, x in ((run.model, ROWS), (digits.model, pictures)):
        module = model.as_module()
        values = torch.from_numpy(x.astype(np.float64)).requires_grad_()
        np.testing.assert_allclose(module.encode(values).detach(), model.encode(x), rtol=1e-5, atol=1e-5)
        made = module(values)
        np.testing.assert_allclose(made.detach(), model.reconstruct(x), rtol=1e-4, atol=0.51)
        made.square().sum().backward()
        assert values.grad is not None and bool(values.grad.abs().sum() > 0)
        assert all(parameter.grad is not None for parameter in module.parameters())
        same = type(model).from_module(module, model)
        np.testing.assert_array_equal(same.score(x), model.score(x))
        with torch.no_grad():
            for parameter in module.parameters():
                parameter.mul_(0.5)
        changed = type(model).from_module(module, model)
        assert not np.array_equal(changed.score(x), model.score(x)) and changed.threshold(0.1).value > 0


def test_a_model_with_other_weights_keeps_the_error_of_these(run: Any) -> None:
    module, kept = run.model.as_module(), run.model.checkpoint.finished.results
    same = tiedae.Model.from_module(module, run.model).checkpoint.finished
    assert same is not None and same.results.mse_per_value == pytest.approx(kept.mse_per_value, rel=1e-9)
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.mul_(0.5)
    changed = tiedae.Model.from_module(module, run.model)
    parts, held_out = changed.checkpoint.finished, changed._run.split("validation")
    seen = torch.from_numpy(held_out.batch(0, len(held_out)))
    assert parts is not None and parts.results.mse_per_value != pytest.approx(kept.mse_per_value, rel=0.01)
    with torch.no_grad():
        assert parts.results.mse_per_value == pytest.approx(float((changed.module(seen) - seen).square().mean()), rel=1e-5)


def test_a_model_is_pickled_without_its_data(run: Any) -> None:
    content = pickle.dumps(run.model)
    assert len(content) < 100_000
    model = pickle.loads(content)
    np.testing.assert_array_equal(model.score(ROWS), run.model.score(ROWS))
    assert repr(model) == repr(run.model)


def test_images_are_taken_as_pictures(digits: Any) -> None:
    pictures = np.random.default_rng(0).integers(0, 256, (5, 8, 8), dtype=np.uint8)
    images = [Image.fromarray(picture) for picture in pictures]
    np.testing.assert_array_equal(digits.model.encode(images), digits.model.encode(pictures))
    assert digits.model.score(images[0]) == pytest.approx(digits.model.score(pictures)[0], rel=1e-5)


def test_files_are_written_where_they_are_asked_for(digits: Any, empty_folder: Path) -> None:
    path = digits.model.save("model.safetensors")
    x = np.zeros((2, 8, 8), np.uint8)
    np.testing.assert_array_equal(tiedae.load(path).score(x), digits.model.score(x))
    assert "<html" in digits.model.report("page.html") and Path("page.html").stat().st_size > 10_000
    pytest.importorskip("onnxruntime")
    assert digits.model.export_onnx("model.onnx").stat().st_size > 1000
    with pytest.raises(InputError, match="part: 'half'"):
        digits.model.export_onnx("half.onnx", part="half")


def test_epochs_and_errors_are_data_frames(digits: Any) -> None:
    pytest.importorskip("pandas")
    assert digits.history.frame.shape[0] == 2
    assert list(digits.model.evaluate().frame.index) == ["model", "pca", "pca_clipped", "mean"]


@pytest.mark.slow
def test_a_run_says_what_it_reached(digits: Any, run: Any) -> None:
    assert digits.history[0].keys() >= {"epoch", "train_mse_per_value", "validation_mse_per_value"}
    assert digits.results["mse_per_value"] == digits.history[digits.results["best_epoch"] - 1]["validation_mse_per_value"]
    assert repr(digits).count("\n") == 2 and "2 epochs, finished" in repr(digits)
    assert "at 0x" not in repr(digits.model)
    assert digits._repr_html_().count("<img") == 2 and run._repr_html_().count("<img") == 1
    assert "<script" not in digits._repr_html_()
    for kind in ("loss", "reconstructions", "codes", "features"):
        assert digits.figure(kind)._repr_png_().startswith(b"\x89PNG")
    with pytest.raises(InputError, match="figure: features: this model takes vectors of 4 features, not images"):
        run.figure("features")
    with pytest.raises(InputError, match="'curve': no such figure"):
        run.figure("curve")
    assert "<iframe" in run.report()._repr_html_()
