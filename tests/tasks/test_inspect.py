"""The tables and pictures of ``tiedae inspect``."""

import io
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import Tiedae
from PIL import Image
from small_runs import train_small, untrained
from typer.testing import CliRunner

from tiedae_cli.cli.app import app
from tiedae_cli.data.item_set import ItemForm
from tiedae_cli.output import figures
from tiedae_cli.output.figures import weights
from tiedae_cli.runs.run_folder import Run

VECTORS = ItemForm((1, 1, 6), "vectors", np.arange(6.0), np.full(6, 2.0))


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    return train_small(tmp_path_factory.mktemp("runs") / "small", epochs=3)


def decoded(png: bytes) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(png)).convert("RGB"))


def test_gray_weights_are_white_at_zero_blue_below_and_red_above() -> None:
    pictures = figures.signed_pictures(np.array([[0.0, 3.0, -3.0, 0.0], [0.0] * 4], np.float32), ItemForm((1, 2, 2)))
    assert pictures.shape == (2, 2, 2, 3)
    assert (pictures[0, 0, 0] > 0.95).all() and (pictures[1] > 0.95).all()
    assert pictures[0, 0, 1, 0] > 0.35 > 0.2 > pictures[0, 0, 1, 2]  # red at the largest value
    assert pictures[0, 1, 0, 2] > 0.35 > 0.2 > pictures[0, 1, 0, 0]  # blue at its negative


def test_color_weights_are_middle_gray_at_zero_and_keep_their_channels() -> None:
    row = torch.tensor([[0.0, 2.0, 0.0, -1.0, 0.0, 0.0]])  # (C, H, W) = (3, 1, 2)
    pictures = figures.signed_pictures(row.numpy(), ItemForm((3, 1, 2)))
    np.testing.assert_allclose(pictures, [[[[0.5, 0.5, 0.5], [1.0, 0.25, 0.5]]]])


def features(weight: torch.Tensor, form: ItemForm) -> np.ndarray:
    """Draw features and return the grid under its title and scale."""
    drawn = decoded(figures.feature_grid(weight.numpy(), form, "run"))
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


@pytest.mark.slow
def test_at_most_a_hundred_features_are_drawn() -> None:
    assert features(torch.randn(150, 64), ItemForm((1, 8, 8))).shape == (10 * 72 + 8, 10 * 72 + 8, 3)


@pytest.mark.parametrize("channels", [1, 3])
def test_the_scale_of_the_features_runs_from_below_zero_to_above(channels: int) -> None:
    drawn = decoded(figures.feature_grid(torch.randn(16, channels * 64).numpy(), ItemForm((channels, 8, 8)), "run"))
    ramp = drawn[50, 12 + 85 : 12 + 85 + 170].astype(int)
    if channels == 1:
        assert ramp[3, 2] > ramp[3, 0] and ramp[-3, 0] > ramp[-3, 2] and (ramp[85] > 240).all()  # blue, white, red
    else:
        assert ramp[0].max() < 5 and ramp[-1].min() > 250 and abs(ramp[85] - 128).max() < 3  # black, middle gray, white


@pytest.mark.slow
@pytest.mark.parametrize("classes", [None, 3, 12, 47])
def test_code_maps_are_drawn_with_and_without_labels(classes: int | None) -> None:
    points = torch.randn(94, 2, generator=torch.Generator().manual_seed(0))
    labels = None if classes is None else torch.arange(94) % classes
    picture = decoded(
        figures.code_map(points.numpy(), None if labels is None else labels.numpy(), ("first", "second"), "title")
    )
    assert picture.shape == (750, 900, 3)
    if classes == 3:  # the legend's dots are opaque: each class's color is there, the next one's is not
        colors = {tuple(color) for color in picture.reshape(-1, 3).tolist()}
        assert {(31, 119, 180), (255, 127, 14), (44, 160, 44)} <= colors
        assert (214, 39, 40) not in colors


def test_label_names_are_not_parsed_as_formulas(monkeypatch: pytest.MonkeyPatch) -> None:
    from matplotlib.figure import Figure

    drawn: list[Figure] = []
    monkeypatch.setattr(weights, "figure_png", lambda figure: drawn.append(figure) or b"")
    points = torch.randn(8, 2, generator=torch.Generator().manual_seed(0))
    names = ("$\\frac$", "_hidden", "bell\a", "no label")
    figures.code_map(points.numpy(), np.arange(8) % 4, ("x", "y"), "t", names)
    drawn[0].canvas.draw()
    texts = drawn[0].axes[0].get_legend().get_texts()
    assert [text.get_text() for text in texts] == ["$\\frac$", "_hidden", "bell\\x07", "no label"]


def test_inspect_prints_layers_parameters_and_training(run: Run, tiedae: Tiedae) -> None:
    result = tiedae("inspect", str(run.folder))
    assert result.code == 0, result.err
    assert "encoder 2, transposed" in result.out
    assert "895 tied; the same shape untied: 1,699" in result.out
    assert "digits: 8x8 gray images, 1 x 8 x 8, values in [0, 1]" in result.out
    assert "3 of 3; this checkpoint is from epoch 1" in result.out


@pytest.mark.slow
def test_inspect_writes_json_and_both_pictures(run: Run, tmp_path: Path, tiedae: Tiedae) -> None:
    features, codes = tmp_path / "features.png", tmp_path / "codes.png"
    arguments = ["inspect", str(run.folder), "--features", str(features), "--codes", str(codes), "--json"]
    result = tiedae(*arguments)
    assert result.code == 0, result.err
    values = json.loads(result.out)
    assert (values["parameters"], values["parameters_tied"], values["parameters_untied"]) == (895, 895, 1699)
    assert [layer["transpose_of"] for layer in values["layers"]] == [None, None, "encoder 2", "encoder 1"]
    assert values["form"] == {"kind": "images", "shape": [1, 8, 8]}
    assert values["config"]["training"]["batch_size"] == 150
    assert (values["epochs"], values["checkpoint_epochs"], values["features"]) == (3, 1, str(features))
    assert decoded(features.read_bytes()).shape[0] == 76 + 3 * 72 + 8 + 12
    assert decoded(codes.read_bytes()).shape == (750, 900, 3)


def test_a_picture_on_stdout_is_not_mixed_with_text(run: Run) -> None:
    result = CliRunner().invoke(app, ["inspect", str(run.folder), "--features", "-"])
    assert result.exit_code == 0, result.output
    assert decoded(result.stdout_bytes).shape[0] == 76 + 3 * 72 + 8 + 12


def test_two_pictures_need_two_files(run: Run, tiedae: Tiedae) -> None:
    result = tiedae("inspect", str(run.folder), "--features", "-", "--codes", "-")
    assert result.code == 2
    assert result.err == "error: -: two results would be mixed on stdout; give a file name for one of them\n"


def test_features_of_vectors_are_refused(tmp_path: Path, tiedae: Tiedae) -> None:
    path = tmp_path / "vectors.pt"
    untrained(VECTORS).save(path)
    result = tiedae("inspect", str(path), "--features", str(tmp_path / "f.png"))
    assert result.code == 2
    assert f"--features needs an image model; {path} takes vectors of 6 features" in result.err
    assert not (tmp_path / "f.png").exists()
    plain = tiedae("inspect", str(path))
    assert plain.code == 0, plain.err
    assert "vectors of 6 features, 1 x 1 x 6, standardized by the training split" in plain.out


@pytest.mark.slow
def test_too_few_validation_items_for_the_rate_are_named_beside_the_threshold(tiedae: Tiedae, empty_folder: Path) -> None:
    np.save("x.npy", np.random.default_rng(0).normal(size=(400, 3)))
    words = ("train", "x.npy", "epochs=1", "hidden_sizes=2", "--run-dir")
    assert tiedae(*words, "few").code == tiedae(*words, "enough", "validation=0.3").code == 0
    few, enough = (" ".join(tiedae("inspect", run).out.replace("│", " ").split()) for run in ("few", "enough"))
    assert "by 40 items, too few: 2.4% expected" in few
    assert "by 120 items" in enough and "too few" not in enough
