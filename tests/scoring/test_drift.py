"""Items unlike the training data are noticed by their scores and their columns, and normal items raise no false alarm."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import Tiedae
from scipy import stats

import tiedae_cli
from tiedae_cli.data.item_set import Block, ItemForm
from tiedae_cli.runs.calibration import calibrate
from tiedae_cli.runs.reference import QUANTILES, Reference
from tiedae_cli.runs.trained_run import open_run
from tiedae_cli.scoring.drift import Drift, DriftWatch, excess_likelihood
from tiedae_cli.scoring.drift_check import DriftCheck
from tiedae_cli.scoring.threshold import threshold_of

pytestmark = pytest.mark.slow


def reference_of(values: np.ndarray) -> Reference:
    quantiles = np.quantile(values, np.linspace(0, 1, QUANTILES), axis=0).astype(np.float32)
    statistics = (values.mean(0), values.std(0), values.min(0).astype(np.float32), values.max(0).astype(np.float32), quantiles)
    return Reference(len(values), *map(torch.from_numpy, statistics))


def drift_of(training: np.ndarray, new: np.ndarray, window: int = 1) -> Drift | None:
    watch = DriftWatch(reference_of(training), ItemForm((1, 1, training.shape[1]), "vectors"), window)
    for start in range(0, len(new), 700):
        assert len(list(watch.watch([Block([], new[start : start + 700].astype(np.float32))]))) == 1
    return watch.found(0, len(new), None)


@pytest.mark.parametrize(("above", "items", "calibrated"), [(3, 100, 200), (40, 1000, 199), (1, 5, 5000), (200, 10_000, 999)])
def test_the_tail_is_that_of_the_beta_binomial_distribution(above: int, items: int, calibrated: int) -> None:
    threshold = threshold_of(calibrate(torch.arange(calibrated, dtype=torch.float64)), 0.01)
    places = round(threshold.expected * (calibrated + 1))
    expected = stats.betabinom(items, places, calibrated + 1 - places).sf(above - 1)
    assert excess_likelihood(above, items, threshold) == pytest.approx(expected, rel=1e-6)


def test_the_rate_of_false_alarms_is_below_the_likelihood_for_files_of_any_size() -> None:
    random, alarms = np.random.default_rng(0), 0
    for trial in range(2000):
        scores = random.exponential(size=200)
        threshold = threshold_of(calibrate(torch.from_numpy(scores)), 0.01)
        items = (50, 1000, 100_000)[trial % 3]
        alarms += excess_likelihood(random.binomial(items, np.exp(-threshold.value)), items, threshold) < 1e-3
    assert alarms <= 8  # 2 are expected; a binomial test raises hundreds


@pytest.mark.parametrize("items", [30, 300, 30_000])
def test_items_of_the_same_distribution_do_not_move(items: int) -> None:
    random = np.random.default_rng(items)
    for _ in range(20):
        training, new = (
            np.stack([random.normal(size=n), random.exponential(size=n), random.integers(0, 3, n)], 1) for n in (2000, items)
        )
        assert drift_of(training, new) is None


def test_the_column_that_moved_is_named_with_both_values_in_the_datas_own_units() -> None:
    random = np.random.default_rng(1)
    training, new = random.normal(size=(2000, 4)), random.normal(size=(1000, 4))
    new[:, 2] += 1
    found = drift_of(training, new)
    assert found is not None and [one.column for one in found.columns] == ["feature 2"]
    column = found.columns[0]
    assert column.mean == pytest.approx(new[:, 2].mean(), abs=1e-3) and column.shift == pytest.approx(1, abs=0.1)
    assert column.distance == pytest.approx(2 * stats.norm.cdf(0.5) - 1, abs=0.04)
    assert found.describe().startswith("unlike the training data: feature 2: mean ")


def test_a_column_of_the_same_mean_and_another_spread_is_noticed() -> None:
    random = np.random.default_rng(2)
    training, new = random.normal(size=(2000, 2)), random.normal(size=(2000, 2)) * [1, 2]
    found = drift_of(training, new)
    assert found is not None and [one.column for one in found.columns] == ["feature 1"]


def test_a_small_effect_in_many_items_does_not_matter() -> None:
    random = np.random.default_rng(3)
    assert drift_of(random.normal(size=(50_000, 1)), random.normal(size=(50_000, 1)) + 0.1) is None


def test_rows_of_a_series_count_in_windows() -> None:
    """Fifty slow waves of which a stretch shows two: by rows the mean differs significantly, by windows it may not."""
    rows = np.sin(np.arange(10_000) / 32)[:, None]
    assert drift_of(rows, rows[:900]) is None or drift_of(rows, rows[:900], window=100) is None
    assert drift_of(rows, rows[:250], window=100) is None


def test_score_and_eval_warn_of_a_moved_column(tiedae: Tiedae) -> None:
    random = np.random.default_rng(4)

    def table(name: str, shift: float) -> None:
        values = random.normal(size=(500, 3)) * [1, 2, 3] + [10, 125, -4] + [0, 2 * shift, 0]
        np.savetxt(name, values, delimiter=",", header="time_s,flow,load", comments="")

    table("train.csv", 0)
    assert tiedae("train", "train.csv", "hidden_sizes=8,2", "--epochs", 5, "--run-dir", "run", "-q").code == 0
    table("same.csv", 0)
    table("moved.csv", 1)
    assert tiedae("score", "run", "same.csv", "--summary").lines[0]["drift"] is None
    ran = tiedae("score", "run", "moved.csv", "--summary")
    assert [column["column"] for column in ran.lines[0]["drift"]["columns"]] == ["flow"]
    assert "warning: unlike the training data: " in ran.err and "flow: mean 12" in ran.err
    ran = tiedae("eval", "run", "moved.csv", "--json")
    assert ran.lines[0]["drift"]["columns"][0]["training_mean"] == pytest.approx(125, abs=0.5)
    assert tiedae("eval", "run", "same.csv", "--json").lines[0]["drift"] is None
    Path("train.csv").unlink()
    assert tiedae("score", "run", "moved.csv", "--summary").lines[0]["drift"] is not None


@pytest.fixture(scope="module")
def pump(tmp_path_factory: pytest.TempPathFactory, tiedae: Tiedae) -> Path:
    """A folder with a model of windows, its training file, a file like it, and one with another flow, ended by a short gap."""
    folder, random = tmp_path_factory.mktemp("pump"), np.random.default_rng(5)
    flows = {"train": 125.0, "same": 125.0, "moved": 130.0}
    for name, flow in flows.items():
        values = random.normal(size=(600, 2)) * [1.6, 3] + [flow, 228]
        rows = [f"{1_700_000_000 + number + 100 * (number > 550)},{a},{b}" for number, (a, b) in enumerate(values)]
        (folder / f"{name}.csv").write_text("\n".join(["time,flow,voltage", *rows]))
    keys = [
        "data.window=5",
        "epochs=1",
        "hidden_sizes=4",
        "data.validation=0.2",
        "data.test=0.3",
        "--run-dir",
        folder / "run",
        "-q",
    ]
    assert tiedae("train", folder / "train.csv", *keys).code == 0
    return folder


def test_eval_reads_a_pipe_once_and_says_the_same_of_it_as_of_a_file(pump: Path, tiedae: Tiedae) -> None:
    for name, columns in (("same", []), ("moved", ["flow"])):
        by_file = tiedae("eval", pump / "run", pump / f"{name}.csv", "--json").lines[0]
        ran = tiedae("eval", pump / "run", "-", "--json", stdin=(pump / f"{name}.csv").read_bytes())
        by_pipe = ran.lines[0]
        assert {**by_file, "data": 0} == {**by_pipe, "data": 0}
        drift = by_file["drift"]
        assert [column["column"] for column in drift["columns"]] == columns if columns else drift is None
        assert ("unlike the training data: " in ran.err) == bool(columns)
        summary = tiedae("score", pump / "run", pump / f"{name}.csv", "--summary").lines[0]
        assert summary["drift"] == drift


def test_eval_compares_a_split_of_changed_data_with_the_training_data(pump: Path, tiedae: Tiedae) -> None:
    assert "drift" not in tiedae("eval", pump / "run", "--json").lines[0]
    kept = (pump / "train.csv").read_text()
    for name in ("moved", "same"):
        (pump / "train.csv").write_text((pump / f"{name}.csv").read_text())
        ran = tiedae("eval", pump / "run", "--json")
        columns = [] if ran.lines[0]["drift"] is None else [column["column"] for column in ran.lines[0]["drift"]["columns"]]
        assert columns == (["flow"] if name == "moved" else []) and "the data has changed" in ran.err
    (pump / "train.csv").write_text(kept)


def test_python_returns_the_same_drift_as_eval(pump: Path, tiedae: Tiedae) -> None:
    model = tiedae_cli.load(pump / "run")
    rows = {name: np.loadtxt(pump / f"{name}.csv", delimiter=",", skiprows=1)[:551, 1:] for name in ("same", "moved")}
    same, moved = (model.drift(rows[name]) for name in ("same", "moved"))
    assert not same and same.columns == [] and same.times_expected is None and str(same) == "like the training data"
    assert moved and moved.columns[0].mean == pytest.approx(rows["moved"][:, 0].mean(), rel=1e-4)
    assert moved.columns[0].training_mean == pytest.approx(125, abs=0.3)
    assert moved.columns[0].training_deviation == pytest.approx(1.6, abs=0.2)
    np.savetxt("rows.csv", rows["moved"], delimiter=",", header="flow,voltage", comments="")
    assert tiedae("eval", pump / "run", "rows.csv", "--json").lines[0]["drift"] == moved.values()


def test_two_readers_of_a_stream_stay_in_step(pump: Path) -> None:
    """Many short series end between the blocks; the second reader must not fall behind the first."""
    check, random = DriftCheck(open_run(pump / "run", "cpu")), np.random.default_rng(0)
    made = 0

    def blocks() -> Iterator[Block]:
        nonlocal made
        for made in range(1, 41):
            yield Block(range(6), random.normal(size=(6, 2)).astype(np.float32), made)

    for number, block in enumerate(check.beside(blocks()), start=1):
        assert len(block.items) == 6 and made == number
        assert check.watch.items >= 6 * (number - 1)
    assert check.tally.items == check.watch.items == 240
