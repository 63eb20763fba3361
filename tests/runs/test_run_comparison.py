"""Several runs on the same items: numbers, table and picture."""

import io
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from log_capture import captured_log, silently
from PIL import Image
from small_runs import CPU, train_small, untrained
from typer.testing import CliRunner

from tiedae_cli.cli.app import app
from tiedae_cli.config import Config, DataConfig
from tiedae_cli.data.item_set import ItemForm, Splits
from tiedae_cli.data.load_data import load_splits
from tiedae_cli.errors import DataError
from tiedae_cli.model import pca
from tiedae_cli.model.autoencoder import TiedAutoencoder
from tiedae_cli.model.inference import Evaluation, evaluate
from tiedae_cli.output import figures
from tiedae_cli.runs import checkpoint as checkpoints
from tiedae_cli.runs.checkpoint import Checkpoint
from tiedae_cli.runs.run_comparison import Candidate, common_splits, compare, refuse_other_forms
from tiedae_cli.runs.run_folder import Run
from tiedae_cli.runs.training_summary import run_history

DIGITS = ItemForm((1, 8, 8), scale=1 / 255)


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> tuple[Run, Run]:
    folder = tmp_path_factory.mktemp("runs")
    return train_small(folder / "three"), train_small(folder / "five", epochs=1, hidden_sizes=[5], tied=False)


def decoded(png: bytes) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(png)).convert("RGB"))


def candidate(trained: Checkpoint, name: str) -> Candidate:
    return Candidate(name, Path(name), trained, trained.config, [])


def candidate_of(run: Run) -> Candidate:
    trained = checkpoints.load(run.best)
    return Candidate(run.name, run.best, trained, trained.config, run_history(run.best, trained))


def on(dataset: str, trained: Checkpoint) -> Checkpoint:
    config = Config(data=DataConfig(dataset=dataset), model=trained.config.model)
    return replace(trained, config=config)


def load(one: Candidate) -> Splits:
    return load_splits(one.trained.config.data).for_model(one.trained.form, str(one.path))


def measured_on(splits: Splits) -> Callable[[Candidate, TiedAutoencoder], Evaluation]:
    return lambda one, model: evaluate(model, pca.fit(splits.train, model.sizes[-1]), splits.test, "test", CPU)


def test_each_run_has_its_own_error_beside_pca_of_its_own_code_size(runs: tuple[Run, Run]) -> None:
    candidates = [candidate_of(run) for run in runs]
    splits = silently(common_splits, candidates, "test", load)
    three, five = compare(candidates, measured_on(splits), CPU)
    train, test = (images.batch(0, len(images)).astype(np.float64) for images in (splits.train, splits.test))
    mean = train.mean(0)
    axes = np.linalg.svd(train - mean, full_matrices=False)[2]
    for run, components, found in ((runs[0], 3, three), (runs[1], 5, five)):
        with torch.inference_mode():
            x = torch.from_numpy(splits.test.batch(0, 300))
            own = (checkpoints.load(run.best).model(CPU)(x) - x).square().sum(1).mean().item()
        assert found.evaluation.model.squared_error_per_item == pytest.approx(own, rel=1e-5)
        kept = axes[:components]
        left_over = (test - mean) - (test - mean) @ kept.T @ kept
        assert found.evaluation.components == components
        assert found.evaluation.pca.squared_error_per_item == pytest.approx((left_over**2).sum(1).mean(), rel=1e-5)
    assert [found.name for found in (three, five)] == ["three", "five"]
    assert [found.sizes for found in (three, five)] == [(64, 12, 3), (64, 5)]
    assert [found.parameters for found in (three, five)] == [895, 64 * 5 * 2 + 5 + 64]
    history = checkpoints.load(runs[0].last).training.history
    assert (three.epochs, three.seconds) == (2, sum(report.seconds for report in history))


def test_runs_of_one_name_are_called_as_on_the_command_line(runs: tuple[Run, Run]) -> None:
    trained = checkpoints.load(runs[0].best)
    candidates = [
        Candidate("a/best.safetensors", runs[0].best, trained, trained.config, []),
        Candidate("a/last.safetensors", runs[0].last, trained, trained.config, []),
    ]
    splits = silently(common_splits, candidates, "test", load)
    assert [run.name for run in compare(candidates, measured_on(splits), CPU)] == [
        "a/best.safetensors",
        "a/last.safetensors",
    ]


def test_other_forms_cannot_be_compared() -> None:
    small, large = candidate(untrained(DIGITS), "small"), candidate(untrained(ItemForm((3, 8, 8))), "large")
    with pytest.raises(DataError, match=r"^large: made for 8x8 color images; small: made for 8x8 gray images; their errors"):
        refuse_other_forms([small, large], same_scaling=False)


def test_vectors_of_another_scaling_are_not_compared_in_the_models_units() -> None:
    form = ItemForm((1, 1, 6), "vectors", np.zeros(6), np.ones(6))
    other = replace(form, scale=np.full(6, 2.0))
    with pytest.raises(DataError, match=r"^b: made for vectors of 6 features, scaled otherwise; a: made for"):
        refuse_other_forms([candidate(untrained(form), "a"), candidate(untrained(other), "b")], same_scaling=True)
    refuse_other_forms([candidate(untrained(form), "a"), candidate(untrained(other), "b")], same_scaling=False)


def test_images_of_another_raw_scaling_have_the_same_unit() -> None:
    bytes_, floats = candidate(untrained(DIGITS), "a"), candidate(untrained(ItemForm((1, 8, 8))), "b")
    assert silently(common_splits, [bytes_, floats], "test", load).source == "digits"


def test_a_run_of_other_items_is_named() -> None:
    digits = load_splits(DataConfig())

    def load_by_name(one: Candidate) -> Splits:
        name = one.trained.config.data.dataset
        if name == "gone":
            raise DataError("gone")
        return replace(digits, test=digits.validation) if name == "other" else digits

    candidates = [candidate(on(name, untrained(DIGITS)), name) for name in ("digits", "other", "same", "gone")]
    with captured_log() as said:
        assert common_splits(candidates, "test", load_by_name) is digits
    assert said == [
        "other: its own test split has other items; measured here on that of digits",
        "gone: its own test split has other items; measured here on that of digits",
    ]
    with captured_log() as said:
        common_splits(candidates, "validation", load_by_name)
    assert said == ["gone: its own validation split has other items; measured here on that of digits"]


def test_runs_whose_splits_differ_only_in_their_seed_have_other_items() -> None:
    """Both look into one tensor; the items are those that their indices choose."""
    np.save("x.npy", np.random.default_rng(0).integers(0, 256, (40, 8, 8), dtype=np.uint8))
    trained = untrained(DIGITS)
    seeds = {
        str(seed): replace(
            trained, config=Config(data=DataConfig(dataset="x.npy", split_seed=seed), model=trained.config.model)
        )
        for seed in (0, 1)
    }
    candidates = [candidate(of_seed, name) for name, of_seed in seeds.items()]
    with captured_log() as said:
        common_splits(candidates, "test", load)
    assert said == ["1: its own test split has other items; measured here on that of 0"]


@pytest.mark.parametrize("channels", [1, 3])
def test_every_pixel_of_every_row_is_a_sharp_square(channels: int) -> None:
    shape = (5, 24, 24) if channels == 1 else (5, 24, 24, 3)
    rows = [np.random.default_rng(seed).integers(0, 256, shape) / 255 for seed in range(3)]
    answered = [figures.Answers(f"run {i}", "a line", pictures) for i, pictures in enumerate(rows)]
    picture = decoded(figures.labelled_rows(answered, ("title", "line")))
    assert picture.shape[0] == 46 + 3 * 100 + 12
    for index, pictures in enumerate(rows):
        top = 46 + index * 100
        for column in range(5):
            x = picture.shape[1] - 12 - (5 - column) * 100
            square = picture[top : top + 96, x : x + 96]
            expected = np.rint(255 * pictures[column]).astype(int)
            expected = expected[..., None].repeat(3, 2) if channels == 1 else expected
            assert np.abs(square - np.kron(expected, np.ones((4, 4, 1)))).max() <= 1


def test_rows_have_room_for_their_labels() -> None:
    picture = np.zeros((1, 1, 96))  # one pixel high: the text needs more

    def drawn(name: str) -> np.ndarray:
        return decoded(figures.labelled_rows([figures.Answers(name, "b", picture)] * 2, ("t", "l")))

    short, long = drawn("a"), drawn("$x^2$ " * 30)
    assert short.shape[0] == long.shape[0] == 46 + 2 * 40 + 12
    assert long.shape[1] > short.shape[1]
    assert (long[:8] == 255).all() and (long[:, :12] == 255).all()  # no letter touches the edge


def test_compare_prints_one_table_in_the_order_given(runs: tuple[Run, Run]) -> None:
    result = CliRunner().invoke(app, ["compare", str(runs[1].folder), str(runs[0].folder)])
    assert result.exit_code == 0, result.output
    lines = [line.split() for line in result.stdout.splitlines() if "64-" in line]
    assert [line[:5] for line in lines] == [["five", "64-5", "no", "709", "5"], ["three", "64-12-3", "yes", "895", "3"]]
    assert "digits, test split, 300 images" in result.stdout
    told = result.stdout.split("settings that differ")[1]
    assert [" ".join(line.split()) for line in told.splitlines() if ":" in line and "value" not in line] == [
        "model.hidden_sizes [5]: five",
        "[12, 3]: three",
        "model.tied false: five",
        "true: three",
        "training.epochs 1: five",
        "2: three",
    ]


@pytest.mark.slow
def test_compare_json_and_picture(runs: tuple[Run, Run], tmp_path: Path) -> None:
    output = tmp_path / "compare.png"
    arguments = ["compare", *(str(run.folder) for run in runs), "-o", str(output), "--n", "4", "--json"]
    result = CliRunner().invoke(app, [*arguments, "--split", "validation"])
    assert result.exit_code == 0, result.output
    values = json.loads(result.stdout)
    assert (values["split"], values["items"], values["output"]) == ("validation", 200, str(output))
    assert [run["run"] for run in values["runs"]] == ["three", "five"]
    assert [run["pca"]["components"] for run in values["runs"]] == [3, 5]
    for run in values["runs"]:
        assert run["squared_error_per_item"] == pytest.approx(64 * run["mse_per_value"])
    assert [run["settings"]["model.tied"] for run in values["runs"]] == [True, False]
    assert (
        decoded(output.read_bytes()).shape[0] == 46 + 100 + 4 * 116 + 12
    )  # originals, and each code size's PCA before its run


@pytest.mark.slow
def test_the_pictures_path_is_printed_and_runs_alike_have_no_settings_to_tell(runs: tuple[Run, Run], tmp_path: Path) -> None:
    output = tmp_path / "compare.png"
    result = CliRunner().invoke(app, ["compare", str(runs[0].folder), str(runs[0].last), "-o", str(output)])
    assert result.exit_code == 0, result.output
    assert result.stdout.splitlines()[-1] == str(output) and "settings" not in result.stdout


@pytest.mark.slow
def test_a_picture_on_stdout_is_alone_there(runs: tuple[Run, Run]) -> None:
    result = CliRunner().invoke(app, ["compare", str(runs[0].folder), str(runs[0].last), "-o", "-"])
    assert result.exit_code == 0, result.output
    assert decoded(result.stdout_bytes).shape[0] == 46 + 100 + 3 * 116 + 12


def test_vectors_have_no_picture(tmp_path: Path) -> None:
    path = tmp_path / "vectors.pt"
    untrained(ItemForm((1, 1, 6), "vectors", np.zeros(6), np.ones(6))).save(path)
    result = CliRunner().invoke(app, ["compare", str(path), "-o", str(tmp_path / "c.png")])
    assert result.exit_code == 2
    assert "--output: needs image models; these runs take vectors of 6 features" in result.stderr


def test_a_run_that_is_not_there_is_named() -> None:
    result = CliRunner().invoke(app, ["compare", "nowhere/at-all"])
    assert result.exit_code == 2
    assert "nowhere/at-all: no such checkpoint or run folder" in result.stderr
