"""Training on data in memory: bit-identical to the command, with the rules and messages of files, and no files."""

import gc
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow
import pyarrow.parquet
import pytest
import torch
from PIL import Image

import tiedae
from tiedae_cli.errors import ConfigError, DataError, InputError
from tiedae_cli.runs import checkpoint as checkpoints

pytestmark = pytest.mark.slow

ROWS = np.random.default_rng(0).normal([5.0, -300.0, 1e4, 0.1], [1.0, 20.0, 500.0, 2.0], (120, 4))
NAMES = ["mass", "charge", "energy", "spin"]
PICTURES = np.random.default_rng(1).integers(0, 256, (60, 8, 8), dtype=np.uint8)
SMALL: dict[str, Any] = {"epochs": 2, "hidden_sizes": [6, 2], "batch_size": 20}


def same_weights(run: Any, folder: Path) -> bool:
    ours, theirs = (checkpoints.load(path / "best.safetensors") for path in (run.folder, folder))
    alike = all(torch.equal(ours.weights[name], theirs.weights[name]) for name in theirs.weights)
    offsets = all(np.array_equal(getattr(ours.form, name), getattr(theirs.form, name)) for name in ("offset", "scale"))
    return ours.weights.keys() == theirs.weights.keys() and alike and offsets


@pytest.fixture
def by_command(empty_folder: Path, tiedae: Any) -> Callable[..., Path]:
    """Return a trainer by the command: (file, words) -> the run folder."""

    def trained(file: str, *words: str) -> Path:
        settings = ("epochs=2", "hidden_sizes=6,2", "batch_size=20", *words)
        assert tiedae("train", file, *settings, "--run-dir", "command", "-q").code == 0
        return Path("command")

    return trained


def fortran(x: np.ndarray) -> Any:
    return np.asfortranarray(x)


def strided(x: np.ndarray) -> Any:
    return np.repeat(x, 2, axis=1)[:, ::2]


def swapped(x: np.ndarray) -> Any:
    return x.astype(x.dtype.newbyteorder())


def tensor(x: np.ndarray) -> Any:
    return torch.from_numpy(x).requires_grad_()


def sparse(x: np.ndarray) -> Any:
    scipy = pytest.importorskip("scipy.sparse")
    return scipy.csc_array(x)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("form", [np.asarray, fortran, strided, swapped, tensor, sparse, np.ndarray.tolist])
def test_arrays_train_to_the_bits_of_the_command(
    form: Callable[[np.ndarray], Any], dtype: type, by_command: Callable[..., Path]
) -> None:
    x: np.ndarray = ROWS.astype(dtype)
    if form is np.ndarray.tolist and dtype is np.float32:
        pytest.skip("Python's floats are float64")
    np.save("x.npy", x)
    folder = by_command("x.npy")
    assert same_weights(tiedae.train(form(x), quiet=True, **SMALL), folder)


def frames() -> dict[str, Callable[[], Any]]:
    columns = dict(zip(NAMES, ROWS.T, strict=True))

    def pandas(dtype: str) -> Callable[[], Any]:
        return lambda: pytest.importorskip("pandas").DataFrame(columns).astype(dtype)

    return {
        "pandas": pandas("float64"),
        "pandas, nullable": pandas("Float64"),
        "pandas, objects": pandas("object"),
        "polars": lambda: pytest.importorskip("polars").DataFrame(columns),
        "polars, lazy": lambda: pytest.importorskip("polars").LazyFrame(columns),
        "pyarrow": lambda: pyarrow.table(columns),
        "structured": lambda: np.array([tuple(row) for row in ROWS], [(name, np.float64) for name in NAMES]),
    }


@pytest.mark.parametrize("name", frames())
def test_tables_train_to_the_bits_of_the_command(name: str, by_command: Callable[..., Path]) -> None:
    data = frames()[name]()
    pyarrow.parquet.write_table(pyarrow.table(dict(zip(NAMES, ROWS.T, strict=True))), "x.parquet")
    folder = by_command("x.parquet")
    run = tiedae.train(data, quiet=True, **SMALL)
    assert same_weights(run, folder)
    assert run.model.value_names == NAMES


def test_images_train_to_the_bits_of_the_command(by_command: Callable[..., Path]) -> None:
    Path("images").mkdir()
    images = [Image.fromarray(picture) for picture in PICTURES]
    for number, image in enumerate(images):
        image.save(f"images/{number:03}.png")
    folder = by_command("images")
    assert same_weights(tiedae.train(images, quiet=True, **SMALL), folder)
    assert same_weights(tiedae.train(PICTURES, quiet=True, **SMALL), folder)


def test_named_data_trains_to_the_bits_of_the_command(by_command: Callable[..., Path]) -> None:
    np.save("x.npy", ROWS)
    folder = by_command("x.npy")
    assert same_weights(tiedae.train("x.npy", quiet=True, **SMALL), folder)
    assert same_weights(tiedae.train(Path("x.npy"), "vectors", quiet=True, **SMALL), folder)


def test_splits_and_labels_train_to_the_bits_of_the_command(by_command: Callable[..., Path]) -> None:
    labels = np.arange(len(ROWS)) % 5 == 0
    items = {"train": ROWS, "validation": ROWS[:30] + 1, "test": ROWS[30:50] + 1}
    kinds = {"train": labels.astype(int), "validation": labels[:30], "test": labels[30:50]}
    named: dict[str, Any] = {f"x_{name}": part for name, part in items.items()}
    np.savez("x.npz", **(named | {f"y_{name}": part for name, part in kinds.items()}))
    folder = by_command("x.npz", "normal=0")
    held: dict[str, Any] = {"validation": items["validation"], "test": items["test"]}
    run = tiedae.train(ROWS, labels=kinds, normal=["0"], quiet=True, **held, **SMALL)
    assert same_weights(run, folder)
    with pytest.raises(ConfigError, match="data.normal"):  # the validation items have no labels
        tiedae.train(ROWS, labels=labels, normal=["0"], quiet=True, **held, **SMALL)


def test_words_and_booleans_are_labels(empty_folder: Path) -> None:
    labels = np.arange(len(ROWS)) % 5 == 0
    by_words = tiedae.train(ROWS, labels=np.where(labels, "bad", "good"), normal=["good"], quiet=True, **SMALL)
    by_truth = tiedae.train(ROWS, labels=labels, normal=[False], quiet=True, **SMALL)
    by_numbers = tiedae.train(ROWS, labels=labels.astype(float).tolist(), normal=["0"], quiet=True, **SMALL)
    assert by_words.results["mse_per_value"] == by_truth.results["mse_per_value"] == by_numbers.results["mse_per_value"]
    found = by_words.model.evaluate(ROWS, np.where(labels, "bad", "good"))
    assert found.detection["auroc"] == by_truth.model.evaluate(ROWS, labels).detection["auroc"]


def test_validation_and_test_are_data_of_the_same_kind(empty_folder: Path) -> None:
    run = tiedae.train(ROWS[:80], validation=ROWS[80:100], test=ROWS[100:], quiet=True, **SMALL)
    assert run.model.threshold(0.1).items == 20
    assert run.model.evaluate().items == 20
    pandas = pytest.importorskip("pandas")
    frame = pandas.DataFrame(ROWS, columns=NAMES)
    same = tiedae.train(frame[:80], validation=frame[80:100][NAMES[::-1]], test=frame[100:], quiet=True, **SMALL)
    assert same.results["mse_per_value"] == run.results["mse_per_value"]
    with pytest.raises(InputError, match="validation: an array, but X is a table"):
        tiedae.train(frame, validation=ROWS, quiet=True)
    with pytest.raises(DataError, match="validation: lacks the columns spin"):
        tiedae.train(frame, validation=frame.drop(columns="spin"), quiet=True)
    with pytest.raises(InputError, match="validation: arrays go with data in memory"):
        tiedae.train("digits", validation=ROWS)


def test_counts_and_fractions_are_those_of_the_config(empty_folder: Path) -> None:
    run = tiedae.train(ROWS, validation=30, test=0.25, quiet=True, **SMALL)
    assert (run.config.data.validation, run.config.data.test) == (30, 0.25)
    assert run.model.threshold(0.1).items == 30 and run.model.evaluate().items == 30


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (np.where(ROWS > 1e4, np.nan, ROWS), "X: row . holds NaN"),
        (np.zeros((3, 2, 2, 2, 2)), "X: 3 x 2 x 2 x 2 x 2: 5 dimensions"),
        (np.zeros(3), "X: a series of 3 numbers; a window of them is an item"),
        (np.zeros((0, 4)), "X: 0 x 4: empty"),
        (np.full((3, 2), "a"), "X: its type is <U1, not numbers"),
        (np.zeros((3, 2), complex), "not numbers"),
        (np.array(["2020-01-01"], "datetime64[D]"), "not numbers"),
        ([[1.0, 2.0], [3.0]], "X: list: not an array of numbers"),
        (np.array([[1.0, {}]], dtype=object), "X: ndarray: not an array of numbers"),
        (
            (ROWS, np.zeros(120)),
            r"X: two arrays, \(120, 4\) and \(120,\); if these are items and labels, give X\[0\] and labels=X\[1\]",
        ),
        ({"a": np.zeros(9), "b": np.zeros(9)}, r"X: dict: values by name; give a table: pandas.DataFrame\(X\)"),
        ({"train": ROWS, "test": ROWS}, r"X: dict: several arrays \(train, test\); give one of them, such as X\['train'\]"),
        ([{"a": 1.0, "b": 2.0}] * 9, r"X: list: values by name; give a table: pandas.DataFrame\(X\)"),
        (iter(ROWS), r"X: .*: can be read only once; give its items as np.stack\(list\(X\)\)"),
        (torch.utils.data.TensorDataset(torch.zeros(9, 3)), r"X: TensorDataset: give what it holds: tensors as torch.stack"),
        (
            torch.utils.data.DataLoader(torch.utils.data.TensorDataset(torch.zeros(9, 3))),
            r"X: DataLoader: give what it holds: tensors as torch.cat",
        ),
        (torch.empty(9, 3, device="meta"), r"X: a tensor of torch.float32 that cannot become an array"),
        (np.full((9, 8, 8), 300), None),
        (np.full((9, 8, 8), -1), "images of whole numbers must be in 0..255"),
        (pyarrow.table({"a": [1.0, None, 3.0], "b": [1.0, 2.0, 3.0]}), r"X: missing values in the columns a \(1\)"),
        (pyarrow.table({"a": ["x", "y", "z"], "b": [1.0, 2.0, 3.0]}), r"X: DataFrame: text columns: a \(3 distinct\)"),
        (pyarrow.Table.from_arrays([[1.0], [2.0]], names=["a", "a"]), "X: two columns are named a"),
        (pyarrow.table({"a": pyarrow.array([], pyarrow.float64())}), "X: 0 rows x 1 columns: empty"),
    ],
)
def test_data_is_refused_by_the_rules_of_files(data: Any, said: str | None, empty_folder: Path) -> None:
    if said is None:
        assert tiedae.train(data, quiet=True, **SMALL).config.data.dataset == "<memory>"
        return
    with pytest.raises(DataError, match=said):
        tiedae.train(data, quiet=True, **SMALL)
    assert os.listdir() == []


def test_what_holds_arrays_is_named_wherever_data_are_taken(empty_folder: Path) -> None:
    model = tiedae.train(ROWS, quiet=True, **SMALL).model
    held = torch.utils.data.TensorDataset(torch.from_numpy(ROWS))
    for take in (model.score, model.encode, model.reconstruct, model.evaluate):
        with pytest.raises(DataError, match="TensorDataset: give what it holds"):
            take(held)
    with pytest.raises(DataError, match="validation: TensorDataset: give what it holds"):
        tiedae.train(ROWS, validation=held, quiet=True, **SMALL)


def test_forms_of_pandas(empty_folder: Path) -> None:
    pandas = pytest.importorskip("pandas")
    whole = np.random.default_rng(0).integers(0, 9, (60, 3))
    nullable = pandas.DataFrame({"a": whole[:, 0], "b": whole[:, 1] > 0, "c": whole[:, 2]})
    nullable = nullable.astype({"a": "Int64", "b": "boolean", "c": "category"})
    plain = pandas.DataFrame({"a": whole[:, 0], "b": whole[:, 1] > 0, "c": whole[:, 2]})
    assert tiedae.train(nullable, quiet=True, **SMALL).results["mse_per_value"] == pytest.approx(
        tiedae.train(plain, quiet=True, **SMALL).results["mse_per_value"]
    )
    levels = pandas.DataFrame(ROWS, columns=pandas.MultiIndex.from_product([["x", "y"], ["mean", "sd"]]))
    assert tiedae.train(levels, quiet=True, **SMALL).model.value_names == ["x.mean", "x.sd", "y.mean", "y.sd"]
    dated = pandas.DataFrame(ROWS, columns=NAMES).assign(when=pandas.Timestamp("2020-01-01"))
    assert tiedae.train(dated, quiet=True, **SMALL).model.value_names == NAMES
    numbered = pandas.DataFrame(ROWS)
    assert tiedae.train(numbered, quiet=True, **SMALL).model.score(ROWS).shape == (120,)
    timed = dated.assign(month=pandas.Period("2020-01"), took=pandas.Timedelta("1D"))
    assert tiedae.train(timed, quiet=True, **SMALL).model.value_names == NAMES
    mixed = pandas.DataFrame({"a": [*range(59), "broken"], "b": ROWS[:60, 0]})
    with pytest.raises(DataError, match="X: row 60, column a: 'broken' is not a number"):
        tiedae.train(mixed, quiet=True, **SMALL)
    colors = pandas.DataFrame({"color": pandas.Categorical(["red", "blue"] * 60), "x": ROWS[:, 0]})
    hot = tiedae.train(colors, categories="one_hot", quiet=True, **SMALL).model
    assert hot.value_names == ["color=blue", "color=red", "x"]
    labelled = tiedae.train(colors, labels="color", normal=["red"], quiet=True, **SMALL)
    assert labelled.model.value_names == ["x"]
    half = pandas.DataFrame(ROWS.clip(-100, 100).astype(np.float16), columns=NAMES)
    assert tiedae.train(half, quiet=True, **SMALL).finished


def test_forms_of_polars(empty_folder: Path) -> None:
    polars = pytest.importorskip("polars")
    data = polars.DataFrame({"x": ROWS[:, 0], "color": ["red", "blue"] * 60, "count": ["1", "2"] * 60})
    data = data.with_columns(polars.col("color").cast(polars.Categorical), polars.lit("2020-01-01").str.to_date().alias("when"))
    model = tiedae.train(data, categories="one_hot", quiet=True, **SMALL).model
    assert model.value_names == ["x", "color=blue", "color=red", "count"]
    with pytest.raises(DataError, match=r"ignore=\['color'\]"):
        tiedae.train(data, quiet=True, **SMALL)


def test_nothing_is_copied_that_need_not_be(empty_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from tiedae_cli.training.suitable_data import data_to_train_on as original

    seen: list[np.ndarray] = []

    def watched(*arguments: Any, **more: Any) -> Any:
        splits = original(*arguments, **more)
        seen.append(splits.train.values)
        return splits

    monkeypatch.setattr("tiedae_cli.tasks.train.data_to_train_on", watched)
    x = ROWS.astype(np.float32)
    x.flags.writeable = False
    tiedae.train(x, quiet=True, **SMALL)
    tiedae.train(torch.from_numpy(ROWS.astype(np.float32)), quiet=True, **SMALL)
    assert np.shares_memory(seen[0], x)


def test_nothing_is_left_on_disk(empty_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    temporary = tmp_path / "temporary"
    temporary.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(temporary))
    run = tiedae.train(ROWS, quiet=True, **SMALL)
    scores = run.model.score(ROWS)
    model = run.model
    assert os.listdir() == [] and len(os.listdir(temporary)) == 1
    run.save("kept")
    del run
    np.testing.assert_array_equal(model.score(ROWS), scores)
    del model
    gc.collect()  # frames of pytest may hold it until then
    assert os.listdir(temporary) == []
    assert {"best.safetensors", "config.yaml", "loss.png", "metrics.jsonl", "outcome.json"} <= set(os.listdir("kept"))
    np.testing.assert_array_equal(tiedae.load("kept").score(ROWS), scores)
    with pytest.raises(DataError, match="trained on data in memory"):
        tiedae.load("kept").report()
    with pytest.raises(DataError):
        tiedae.train(np.full((9, 3), np.nan), quiet=True)
    assert os.listdir(temporary) == []


def test_a_run_folder_stays_if_it_is_asked_for(empty_folder: Path) -> None:
    assert tiedae.train(ROWS, run_dir="here", quiet=True, **SMALL).folder == Path("here")
    assert (Path("here") / "loss.png").exists()
    assert tiedae.train(ROWS, runs="mine", quiet=True, **SMALL).folder == Path("mine/array")


@pytest.mark.skipif(sys.platform == "win32", reason="sends SIGINT")
def test_interrupting_returns_the_run_so_far(empty_folder: Path, request: pytest.FixtureRequest) -> None:
    before = signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's job in the background ignores SIGINT
    request.addfinalizer(lambda: signal.signal(signal.SIGINT, before))

    def interrupt() -> None:
        time.sleep(1.5)
        os.kill(os.getpid(), signal.SIGINT)

    threading.Thread(target=interrupt).start()
    run = tiedae.train(ROWS, epochs=1_000_000, hidden_sizes=[6, 2], early_stopping=None, quiet=True)
    assert not run.finished and 0 < len(run.history) < 1_000_000 and "not finished" in repr(run)
    assert run.model.score(ROWS).shape == (120,)
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_a_second_data_set_is_refused(empty_folder: Path) -> None:
    with pytest.raises(InputError, match="a second data set beside the data in memory"):
        tiedae.train(ROWS, dataset="digits", quiet=True)
    with pytest.raises(InputError, match="expected one"):
        tiedae.train({}, {}, quiet=True)
    with pytest.raises(DataError, match="labels: 3 labels for 120 items"):
        tiedae.train(ROWS, labels=[0, 1, 0], quiet=True)


@pytest.mark.slow
def test_a_large_array_takes_no_second_copy(empty_folder: Path) -> None:
    code = """
import resource, numpy as np, tiedae
x = np.zeros((2_000_000, 50), np.float32)
x[:] = np.random.default_rng(0).standard_normal(50, np.float32)
x[:, 0] = np.arange(len(x))
tiedae.train(x[:1000].copy(), epochs=1, hidden_sizes=[4], quiet=True)
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
tiedae.train(x, epochs=1, hidden_sizes=[4], batch_size=100_000, quiet=True)
after = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
print((after - before) * 1024 / x.nbytes)
"""
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True, timeout=300)
    assert float(done.stdout) < 0.9
