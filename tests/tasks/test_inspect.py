"""What `tiedae inspect` says and draws."""

import io
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from hearing import heard, silently
from PIL import Image
from small_runs import CPU, train_small, untrained
from typer.testing import CliRunner

from tiedae_cli.cli.app import app
from tiedae_cli.config import ModelConfig
from tiedae_cli.data import ItemForm, ItemSet, load_splits
from tiedae_cli.model.autoencoder import build_autoencoder
from tiedae_cli.output import figures
from tiedae_cli.output.figures import weights
from tiedae_cli.runs import checkpoint as checkpoints
from tiedae_cli.runs.run_folder import Run
from tiedae_cli.tasks import inspect as inspection
from tiedae_cli.tasks.inspect import LayerSummary, map_codes, parameter_count, summarise_layers, summarise_training

VECTORS = ItemForm((1, 1, 6), "vectors", torch.arange(6.0), torch.full((6,), 2.0))


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    return train_small(tmp_path_factory.mktemp("runs") / "small", epochs=3)


def decoded(png: bytes) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(png)).convert("RGB"))


def test_layers_of_a_tied_model() -> None:
    config = ModelConfig(hidden_sizes=(5, 3), activation="elu", code_activation="linear", output="sigmoid")
    assert summarise_layers(build_autoencoder(64, config)) == [
        LayerSummary("encoder 1", "dense 5", 64, 5, "elu", None, 64 * 5 + 5),
        LayerSummary("encoder 2", "dense 3", 5, 3, "linear", None, 5 * 3 + 3),
        LayerSummary("decoder 1", "dense 3", 3, 5, "elu", "encoder 2", 5),
        LayerSummary("decoder 2", "dense 5", 5, 64, "sigmoid", "encoder 1", 64),
    ]


def test_layers_of_an_untied_model_have_weights_of_their_own() -> None:
    layers = summarise_layers(build_autoencoder(64, ModelConfig(hidden_sizes=(5, 3), tied=False)))
    assert [layer.transpose_of for layer in layers] == [None] * 4
    assert [layer.parameters for layer in layers] == [325, 18, 20, 384]


@pytest.mark.parametrize("tied", [True, False])
def test_parameter_counts_are_those_that_torch_counts(tied: bool) -> None:
    model = build_autoencoder(20, ModelConfig(hidden_sizes=(9, 6, 2), tied=tied))
    counted = sum(parameter.numel() for parameter in model.parameters())
    other = build_autoencoder(20, ModelConfig(hidden_sizes=(9, 6, 2), tied=not tied))
    assert (
        parameter_count(other, tied)
        == parameter_count(model, tied)
        == counted
        == sum(layer.parameters for layer in summarise_layers(model))
    )


def test_training_summary_of_best_reads_the_whole_history_beside_it(run: Run) -> None:
    summary = summarise_training(run.best, checkpoints.load(run.best))
    whole = checkpoints.load(run.last).training.history
    assert (summary.epochs, summary.checkpoint_epochs) == (3, 1)
    assert summary.seconds == sum(report.seconds for report in whole)
    assert summary.best is not None
    assert summary.best.validation_mse_per_value == min(report.validation_mse_per_value for report in whole)


def test_training_summary_believes_no_damaged_or_foreign_last_checkpoint(run: Run, tmp_path: Path) -> None:
    trained = checkpoints.load(run.best)
    copy = tmp_path / "best.safetensors"
    copy.write_bytes(run.best.read_bytes())
    assert summarise_training(copy, trained).epochs == 1
    (tmp_path / "last.safetensors").write_bytes(b"no checkpoint")
    assert summarise_training(copy, trained).epochs == 1
    foreign = train_small(tmp_path / "foreign", epochs=2, hidden_sizes=[4])
    (tmp_path / "last.safetensors").write_bytes(foreign.last.read_bytes())
    assert summarise_training(copy, trained).epochs == 1


def test_training_summary_before_the_first_epoch(tmp_path: Path) -> None:
    summary = summarise_training(tmp_path / "last.safetensors", untrained(VECTORS))
    assert (summary.epochs, summary.seconds, summary.best) == (0, 0, None)


def test_a_code_of_two_numbers_is_the_map() -> None:
    test = load_splits(untrained(VECTORS).config.data).test
    model = untrained(test.form, hidden_sizes=[9, 2]).model(CPU)
    code_map = silently(map_codes, model, test)
    with torch.inference_mode():
        torch.testing.assert_close(code_map.points, model.encode(test.batch(0, 300, CPU)))
    assert test.labels is not None and code_map.labels is not None
    assert code_map.labels.tolist() == test.labels.tolist()
    assert code_map.axes == ("code, number 1", "code, number 2") and code_map.label_names is None
    words = tuple("zero one two three four five six seven eight nine".split())
    named = silently(map_codes, model, replace(test, label_names=words))
    assert named.label_names == words
    drawn = figures.code_map(named.points, named.labels, named.axes, "codes", named.label_names)
    assert drawn != figures.code_map(named.points, named.labels, named.axes, "codes")


def test_a_longer_code_is_projected_on_its_two_principal_components() -> None:
    test = load_splits(untrained(VECTORS).config.data).test
    model = untrained(test.form, hidden_sizes=[20, 8]).model(CPU)
    code_map = silently(map_codes, model, test)
    with torch.inference_mode():
        codes = model.encode(test.batch(0, 300, CPU)).double().numpy()
    centred = codes - codes.mean(0)
    left, values, _ = np.linalg.svd(centred, full_matrices=False)
    np.testing.assert_allclose(np.abs(code_map.points.numpy()), np.abs(left[:, :2] * values[:2]), atol=1e-4)
    shares = 100 * values**2 / (values**2).sum()
    assert code_map.axes[0] == f"codes, first principal component: {shares[0]:.0f}% of their variance"
    assert code_map.axes[1] == f"codes, second principal component: {shares[1]:.0f}% of their variance"


def test_a_code_of_one_number_is_spread_at_random_and_says_so() -> None:
    test = load_splits(untrained(VECTORS).config.data).test
    model = untrained(test.form, hidden_sizes=[1]).model(CPU)
    code_map = silently(map_codes, model, test)
    with torch.inference_mode():
        torch.testing.assert_close(code_map.points[:, :1], model.encode(test.batch(0, 300, CPU)))
    assert code_map.axes == ("code", "no meaning: spread at random")


@pytest.mark.parametrize("count", [1, 2])
def test_a_map_of_one_or_two_equal_items_has_no_nan(count: int) -> None:
    images = ItemSet(torch.ones(count, 1, 1, 6), None, VECTORS)
    code_map = silently(map_codes, untrained(VECTORS).model(CPU), images)
    assert code_map.points.shape == (count, 2)
    assert code_map.points.isfinite().all()
    assert all("0% of their variance" in name for name in code_map.axes)


def test_a_map_takes_a_choice_of_many_items_with_their_own_labels(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(inspection, "MOST_POINTS", 40)
    test = load_splits(untrained(VECTORS).config.data).test
    model = untrained(test.form, hidden_sizes=[2]).model(CPU)
    with heard() as said:
        code_map = map_codes(model, test)
    assert said == ["40 of the 300 items, chosen at random"]
    with torch.inference_mode():
        codes = model.encode(test.batch(0, 300, CPU))  # (300, 2)
    nearest = torch.cdist(code_map.points, codes).argmin(1)
    assert len(nearest.unique()) == 40
    assert test.labels is not None and code_map.labels is not None
    assert code_map.labels.tolist() == test.labels[nearest].tolist()


def test_gray_weights_are_white_at_zero_blue_below_and_red_above() -> None:
    pictures = figures.signed_pictures(torch.tensor([[0.0, 3.0, -3.0, 0.0], [0.0] * 4]), ItemForm((1, 2, 2)))
    assert pictures.shape == (2, 2, 2, 3)
    assert (pictures[0, 0, 0] > 0.95).all() and (pictures[1] > 0.95).all()
    assert pictures[0, 0, 1, 0] > 0.35 > 0.2 > pictures[0, 0, 1, 2]  # red at the largest value
    assert pictures[0, 1, 0, 2] > 0.35 > 0.2 > pictures[0, 1, 0, 0]  # blue at its negative


def test_colour_weights_are_middle_gray_at_zero_and_keep_their_channels() -> None:
    row = torch.tensor([[0.0, 2.0, 0.0, -1.0, 0.0, 0.0]])  # (C, H, W) = (3, 1, 2)
    pictures = figures.signed_pictures(row, ItemForm((3, 1, 2)))
    np.testing.assert_allclose(pictures, [[[[0.5, 0.5, 0.5], [1.0, 0.25, 0.5]]]])


def features(weight: torch.Tensor, form: ItemForm) -> np.ndarray:
    """Draw features and return the grid under its title and scale."""
    drawn = decoded(figures.feature_grid(weight, form, "run"))
    assert not (drawn[:76] == 255).all() and (drawn[-12:] == 255).all()
    rows, columns = (np.flatnonzero((drawn[76:] == 153).all(2).any(axis)) for axis in (1, 0))
    return drawn[76 : 76 + rows.max() + 1, 12 : columns.max() + 1]


def test_features_are_drawn_strongest_first_as_sharp_squares() -> None:
    weight = torch.zeros(4, 4)
    for row, strength in enumerate((1.0, 4.0, 2.0, 3.0)):
        weight[row, row] = strength  # the row's own pixel is red
    grid = features(weight, ItemForm((1, 2, 2)))
    factor = gap = 32
    assert grid.shape == (2 * 2 * factor + 3 * gap, 2 * 2 * factor + 3 * gap, 3)
    red = features(torch.ones(1, 1), ItemForm((1, 1, 1)))[100, 100]
    is_red = (grid == red).all(2)
    assert is_red.sum() == 4 * factor**2
    found = []
    for tile in range(4):
        y, x = (gap + (2 * factor + gap) * place for place in divmod(tile, 2))
        inside = is_red[y : y + 2 * factor : factor, x : x + 2 * factor : factor]
        found += np.flatnonzero(inside).tolist()
    assert found == [1, 3, 2, 0]


def test_at_most_a_hundred_features_are_drawn() -> None:
    assert features(torch.randn(150, 64), ItemForm((1, 8, 8))).shape == (10 * 72 + 8, 10 * 72 + 8, 3)


@pytest.mark.parametrize("channels", [1, 3])
def test_the_scale_of_the_features_runs_from_below_zero_to_above(channels: int) -> None:
    drawn = decoded(figures.feature_grid(torch.randn(16, channels * 64), ItemForm((channels, 8, 8)), "run"))
    ramp = drawn[50, 12 + 85 : 12 + 85 + 170].astype(int)
    if channels == 1:
        assert ramp[3, 2] > ramp[3, 0] and ramp[-3, 0] > ramp[-3, 2] and (ramp[85] > 240).all()  # blue, white, red
    else:
        assert ramp[0].max() < 5 and ramp[-1].min() > 250 and abs(ramp[85] - 128).max() < 3  # black, middle gray, white


@pytest.mark.parametrize("classes", [None, 3, 12, 47])
def test_code_maps_with_and_without_labels(classes: int | None) -> None:
    points = torch.randn(94, 2, generator=torch.Generator().manual_seed(0))
    labels = None if classes is None else torch.arange(94) % classes
    picture = decoded(figures.code_map(points, labels, ("first", "second"), "title"))
    assert picture.shape == (750, 900, 3)
    if classes == 3:  # the legend's dots are opaque: each class's colour is there, the next one's is not
        colours = {tuple(colour) for colour in picture.reshape(-1, 3).tolist()}
        assert {(31, 119, 180), (255, 127, 14), (44, 160, 44)} <= colours
        assert (214, 39, 40) not in colours


def test_a_name_of_a_label_is_no_formula(monkeypatch: pytest.MonkeyPatch) -> None:
    from matplotlib.figure import Figure

    drawn: list[Figure] = []
    monkeypatch.setattr(weights, "figure_png", lambda figure: drawn.append(figure) or b"")
    points = torch.randn(8, 2, generator=torch.Generator().manual_seed(0))
    names = ("$\\frac$", "_hidden", "bell\a", "no label")
    figures.code_map(points, torch.arange(8) % 4, ("x", "y"), "t", names)
    drawn[0].canvas.draw()
    texts = drawn[0].axes[0].get_legend().get_texts()
    assert [text.get_text() for text in texts] == ["$\\frac$", "_hidden", "bell\\x07", "no label"]


def test_inspect_prints_layers_parameters_and_training(run: Run) -> None:
    result = CliRunner().invoke(app, ["inspect", str(run.folder)])
    assert result.exit_code == 0, result.output
    assert "encoder 2, transposed" in result.stdout
    assert "895 tied; the same shape untied: 1,699" in result.stdout
    assert "digits: 8x8 gray images, 1 x 8 x 8, values in [0, 1]" in result.stdout
    assert "3 of 3; this checkpoint is from epoch 1" in result.stdout


def test_inspect_json_and_both_pictures(run: Run, tmp_path: Path) -> None:
    features, codes = tmp_path / "features.png", tmp_path / "codes.png"
    arguments = ["inspect", str(run.folder), "--features", str(features), "--codes", str(codes), "--json"]
    result = CliRunner().invoke(app, arguments)
    assert result.exit_code == 0, result.output
    values = json.loads(result.stdout)
    assert (values["parameters"], values["parameters_tied"], values["parameters_untied"]) == (895, 895, 1699)
    assert [layer["transpose_of"] for layer in values["layers"]] == [None, None, "encoder 2", "encoder 1"]
    assert values["form"] == {"kind": "images", "shape": [1, 8, 8]}
    assert values["config"]["training"]["batch_size"] == 150
    assert (values["epochs"], values["checkpoint_epochs"], values["features"]) == (3, 1, str(features))
    assert decoded(features.read_bytes()).shape[0] == 76 + 3 * 72 + 8 + 12
    assert decoded(codes.read_bytes()).shape == (750, 900, 3)


def test_a_picture_on_stdout_is_alone_there(run: Run) -> None:
    result = CliRunner().invoke(app, ["inspect", str(run.folder), "--features", "-"])
    assert result.exit_code == 0, result.output
    assert decoded(result.stdout_bytes).shape[0] == 76 + 3 * 72 + 8 + 12


def test_two_pictures_need_two_files(run: Run) -> None:
    result = CliRunner().invoke(app, ["inspect", str(run.folder), "--features", "-", "--codes", "-"])
    assert result.exit_code == 2
    assert result.stderr == "error: -: two results would be mixed on stdout; name a file for one of them\n"


def test_features_of_vectors_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "vectors.pt"
    untrained(VECTORS).save(path)
    result = CliRunner().invoke(app, ["inspect", str(path), "--features", str(tmp_path / "f.png")])
    assert result.exit_code == 2
    assert f"--features: draws weights as images, but {path} takes vectors of 6 features" in result.stderr
    assert not (tmp_path / "f.png").exists()
    plain = CliRunner().invoke(app, ["inspect", str(path)])
    assert plain.exit_code == 0, plain.output
    assert "vectors of 6 features, 1 x 1 x 6, standardized by the training split" in plain.stdout
