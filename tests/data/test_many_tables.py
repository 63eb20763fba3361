"""Many files as one table: a folder, a glob pattern or a list gives the rows of all files in order; no window spans two of them."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import Tiedae
from log_capture import captured_log

import tiedae_cli
from tiedae_cli.config import DataConfig
from tiedae_cli.data.item_reader import ItemReader
from tiedae_cli.data.item_set import Splits
from tiedae_cli.data.load_data import load_splits
from tiedae_cli.errors import ConfigError, DataError
from tiedae_cli.runs.trained_run import open_run

pd: Any = pytest.importorskip("pandas", reason="compares with pandas")

NAMES = ["a", "b", "c"]


def frame(seed: int, rows: int = 30) -> Any:
    return pd.DataFrame(np.random.default_rng(seed).normal(size=(rows, 3)).round(6), columns=NAMES)


@pytest.fixture
def days() -> Any:
    """The files 1.csv, 2.csv and 10.csv in a folder; returns all rows in this order."""
    Path("days").mkdir()
    frames = [frame(day, 20 + day) for day in (1, 2, 10)]
    for day, rows in zip((1, 2, 10), frames, strict=True):
        rows.to_csv(f"days/{day}.csv", index=False)
    return pd.concat(frames)


def load(dataset: object, **fields: object) -> Splits:
    return load_splits(DataConfig.model_validate({"dataset": dataset, "validation": 0, "test": 0, **fields}))


def values(dataset: object, **fields: object) -> np.ndarray:
    return load(dataset, **fields).train.raw(0, 10_000)


def problem(dataset: object, **fields: object) -> str:
    with pytest.raises((DataError, ConfigError)) as found:
        load(dataset, **fields)
    return str(found.value)


@pytest.mark.parametrize("dataset", ["days", "days/*.csv", "d*/", ["days/1.csv", "days/2.csv", "days/10.csv"], ["days"]])
def test_every_way_to_name_files_gives_their_rows_in_natural_order(dataset: object, days: Any) -> None:
    np.testing.assert_array_equal(values(dataset), days.to_numpy())


def test_a_list_keeps_the_order_in_which_it_was_typed(days: Any) -> None:
    np.testing.assert_array_equal(values(["days/10.csv", "days/1.csv"])[30:], days.to_numpy()[:21])


def test_columns_are_matched_by_name_in_every_format() -> None:
    first, second = frame(1), frame(2)
    first.to_parquet("1.parquet")
    second[["c", "a", "b"]].to_json("2.jsonl", orient="records", lines=True, double_precision=10)
    np.testing.assert_array_equal(values(["1.parquet", "2.jsonl"]), pd.concat([first, second]).to_numpy())


def test_a_partitioned_table_has_the_values_that_pandas_reads(tmp_path: Path) -> None:
    rows = frame(3, 60).assign(year=np.repeat([2023, 2024], 30), region=np.tile(["eu", "us"], 30))
    rows.to_parquet("all", partition_cols=["year", "region"])
    expected = pd.read_parquet("all")
    with captured_log() as log:
        found = load("all")
    np.testing.assert_array_equal(found.train.raw(0, 99), expected[NAMES].to_numpy())
    assert "ignored, from the names of folders: year, region" in "\n".join(log)
    fed = values("all", columns=["a", "year"])
    np.testing.assert_array_equal(fed, expected[["a", "year"]].astype(float).to_numpy())
    splits = load("all", label="region", normal=["eu"])
    np.testing.assert_array_equal(splits.train.raw(0, 99), expected[expected.region == "eu"][NAMES].to_numpy())


@pytest.mark.parametrize(
    ("change", "file", "column"),
    [(lambda rows: rows.drop(columns="b"), "2.csv", "b"), (lambda rows: rows.assign(z=1.5), "1.csv", "z")],
)
def test_a_file_with_other_columns_is_named(
    change: Callable[[pd.DataFrame], pd.DataFrame], file: str, column: str, days: Any
) -> None:
    change(pd.read_csv("days/2.csv")).to_csv("days/2.csv", index=False)
    text = problem("days")
    assert f"{os.path.join('days', file)}: lacks the column {column}" in text and f"data.ignore=[{column}]" in text
    assert values("days", ignore=[column]).shape[0] == len(days)


def test_a_bad_cell_names_its_file_and_row(days: Any) -> None:
    Path("days/2.csv").write_text(Path("days/2.csv").read_text().replace("\n", "\noops,1,2\n", 3).replace("oops,1,2\n", "", 2))
    assert problem("days").startswith(f"{Path('days/2.csv')}: row 3 (line 4), column a: 'oops' is not a number")


def windows(**fields: object) -> np.ndarray:
    return load("days", window=5, **fields).train.raw(0, 1000).reshape(-1, 5, 3)


def test_no_window_spans_two_files(days: Any) -> None:
    rows, ends = days.to_numpy(), (21, 43, 73)
    starts = [start for first, end in zip((0, *ends), ends, strict=False) for start in range(first, end - 4)]
    np.testing.assert_array_equal(windows(), [rows[start : start + 5] for start in starts])


def test_a_series_that_is_named_spans_files(days: Any) -> None:
    for path in Path("days").iterdir():
        pd.read_csv(path).assign(machine="m1").to_csv(path, index=False)
    rows = days.to_numpy()
    np.testing.assert_array_equal(windows(series="machine"), [rows[start : start + 5] for start in range(69)])


@pytest.mark.parametrize("sorts", [False, True])
def test_each_file_has_a_time_of_its_own(sorts: bool, days: Any) -> None:
    for path in Path("days").iterdir():
        rows = pd.read_csv(path)
        times = pd.date_range("2024-01-01", periods=len(rows), freq="min").astype(str)
        rows.assign(time=times)[:: -1 if sorts else 1].to_csv(path, index=False)
    found = windows(time="time") if sorts else windows()
    assert len(found) == (21 - 4) + (22 - 4) + (30 - 4)
    np.testing.assert_array_equal(found[17], days.to_numpy()[21:26])


def test_rows_out_of_order_name_their_file(days: Any) -> None:
    for path in Path("days").iterdir():
        rows = pd.read_csv(path)
        times = pd.date_range("2024-01-01", periods=len(rows), freq="min").astype(str)
        rows.assign(time=times).iloc[[0, 2, 1] if path.name == "2.csv" else slice(None)].to_csv(path, index=False)
    assert problem("days", window=2).startswith(
        f"{Path('days/2.csv')}: windows need rows in the order of time, but in the column"
    )


def test_all_files_show_the_number_format_together() -> None:
    Path("1.csv").write_text("x;y\n" + "1.234;7\n2.345;8\n" * 20)
    Path("2.csv").write_text("x;y\n" + "1.234.567;7\n2.345,5;8\n" * 20)
    np.testing.assert_array_equal(values(["1.csv", "2.csv"])[[0, 1, 40, 41], 0], [1234, 2345, 1234567, 2345.5])
    Path("3.csv").write_text("x;y\n" + "1.25;7\n" * 20)
    assert "contradict each other" in problem(["2.csv", "3.csv"])


def test_files_named_like_splits_are_the_splits() -> None:
    Path("kaggle").mkdir()
    for name, seed in (("train", 1), ("test", 2)):
        frame(seed).to_csv(f"kaggle/{name}.csv", index=False)
    splits = load_splits(DataConfig(dataset="kaggle", validation=0))
    np.testing.assert_array_equal(splits.train.raw(0, 99), frame(1).to_numpy())
    np.testing.assert_array_equal(splits.test.raw(0, 99), frame(2).to_numpy())
    frame(3).to_csv("kaggle/sample.csv", index=False)
    assert "sample.csv is named like none" in problem("kaggle")


def test_a_folder_of_several_kinds_is_named_not_guessed(days: Any) -> None:
    from PIL import Image

    Path("days/notes.md").write_text("x")
    Path("days/README.txt").write_text("These are measurements of 3 days.")
    Path("days/_SUCCESS").write_text("")
    with captured_log() as log:
        load("days")
    assert "skipped: 1 .md, 1 .txt" in "\n".join(log)
    Image.new("L", (4, 4)).save("days/plot.png")
    assert "3 .csv, 1 .png" in problem("days") and "'days/**/*.csv'" in problem("days")
    np.testing.assert_array_equal(values("days/**/*.csv"), days.to_numpy())
    Path("days/plot.png").unlink()
    frame(1).to_parquet("days/1.parquet")
    assert "3 .csv, 1 .parquet" in problem("days")
    np.testing.assert_array_equal(values("days", include=["*.csv"]), days.to_numpy())


def test_a_table_beside_more_images_is_skipped_with_a_note() -> None:
    from PIL import Image

    Path("photos").mkdir()
    for number in range(12):
        Image.new("L", (4, 4), number * 20).save(f"photos/{number}.png")
    frame(1).to_csv("photos/labels.csv", index=False)
    with captured_log() as log:
        assert load("photos").train.form.kind == "images"
    assert "1 .csv" in "\n".join(log)


def test_names_that_mean_no_tables_are_refused(days: Any) -> None:
    np.save("x.npy", np.zeros((9, 3)))
    assert "no file matches this pattern" in problem("nights/*.csv")
    assert "x.npy: not a table" in problem(["days/1.csv", "x.npy"])
    assert "named twice" in problem(["days", "days/1.csv"])
    assert "x.npy, which is not a table" in problem("*.npy")


def test_the_cache_of_a_large_table_follows_each_file(days: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tiedae_cli.data.sources.table.LARGE", 100)
    monkeypatch.setenv("XDG_CACHE_HOME", str(Path("cache").absolute()))
    np.testing.assert_array_equal(values("days"), days.to_numpy())
    assert list(Path("cache").rglob("values.raw"))
    frame(7, 22).to_csv("days/2.csv", index=False)
    np.testing.assert_array_equal(values("days")[21:43], frame(7, 22).to_numpy())


@pytest.mark.slow
def test_python_and_the_command_line_train_on_the_same_rows(days: Any, tiedae: Tiedae) -> None:
    keys: dict[str, Any] = {"epochs": 1, "hidden_sizes": [2]}
    run = tiedae_cli.train(["days/1.csv", "days/2.csv", "days/10.csv"], quiet=True, **keys)
    assert run.config.data.dataset == tuple(str(Path(f"days/{day}.csv").absolute()) for day in (1, 2, 10))
    for words in (["days"], ["days/*.csv"], ["days/1.csv", "days/2.csv", "days/10.csv"]):
        made = tiedae("train", *words, "--epochs", 1, "--hidden-sizes", 2, "-q")
        assert made.code == 0, made.err
        model = tiedae_cli.load(made.out.strip())
        np.testing.assert_array_equal(model.encode(days.to_numpy()), run.model.encode(days.to_numpy()))
        assert tiedae("eval", made.out.strip(), "--json", "-q").code == 0


@pytest.mark.slow
def test_every_command_reads_all_files_and_names_the_file_of_an_item(days: Any, tiedae: Tiedae) -> None:
    made = tiedae("train", "days", "--epochs", 1, "--hidden-sizes", 2, "-q", "--run-dir", "run")
    assert made.code == 0, made.err
    whole = tiedae_cli.load("run").score(days.to_numpy())
    for words in (["days"], ["days/*.csv"]):
        lines = tiedae("score", "run", *words, "-q").lines
        assert [line["item"] for line in lines][20:22] == [f"{Path('days/1.csv')}[20]", f"{Path('days/2.csv')}[0]"]
        np.testing.assert_allclose([line["squared_error"] for line in lines], whole, rtol=1e-5)
        assert len(tiedae("encode", "run", *words, "--format", "jsonl", "-q").lines) == len(days)
        assert tiedae("eval", "run", *words, "--json", "-q").lines[-1]["items"] == len(days)
    Path("days/2.csv").write_bytes(b"\xff\xfe\x00")
    damaged = tiedae("score", "run", "days", "-q")
    assert damaged.code == 1 and len(damaged.lines) == 51 and "2.csv" in damaged.err


@pytest.mark.slow
def test_a_partitioned_table_is_scored_as_it_was_trained(tiedae: Tiedae) -> None:
    frame(3, 60).assign(year=np.repeat([2023, 2024], 30)).to_parquet("all", partition_cols=["year"])
    made = tiedae("train", "all", "columns=a,b,year", "--epochs", 1, "--hidden-sizes", 2, "-q", "--run-dir", "run")
    assert made.code == 0, made.err
    run = open_run("run")
    reader = ItemReader(run.form, 64, data=run.config.data)
    seen = np.concatenate([block.values for block in reader.open(["all"]).blocks])
    expected = np.repeat([2023, 2024], 30) - run.form.offset[2]  # type: ignore[index]
    np.testing.assert_allclose(seen[:, 2], expected * np.asarray(run.form.scale)[2], rtol=1e-5)
