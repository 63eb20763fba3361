"""Tables in every dialect: the same numbers whatever the container; columns, labels and gaps by name; what is wrong is named."""

import csv
import gzip
import io
import json
import os
import re
import shlex
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow
import pyarrow.feather
import pyarrow.parquet
import pytest
from log_capture import captured_log, silently
from typer.testing import CliRunner

import tiedae_cli
from tiedae_cli.cli.app import app
from tiedae_cli.config import DataConfig
from tiedae_cli.config.yaml_reader import parse_config
from tiedae_cli.data.item_set import ItemSet
from tiedae_cli.data.load_data import load_splits
from tiedae_cli.data.option_text import set_option
from tiedae_cli.errors import ConfigError, DataError
from tiedae_cli.runs import checkpoint

ROWS = np.random.default_rng(2).normal([1, -20, 300], [0.1, 5, 60], (90, 3)).round(4)
ROWS[0] = [-0.5, 1e-3, 4.0]  # a sign, an exponent and a whole number
NAMES = ("a", "b c", "d")


def lines(delimiter: str = ",", decimal: str = ".", names: tuple[str, ...] | None = NAMES, end: str = "\n") -> str:
    rows = [[repr(value).replace(".", decimal) for value in row] for row in ROWS.tolist()]
    heading = [list(names)] if names else []
    return "".join(delimiter.join(row) + end for row in (*heading, *rows))


def write(name: str, content: str | bytes) -> str:
    Path(name).write_bytes(content if isinstance(content, bytes) else content.encode())
    return name


def table() -> pyarrow.Table:
    return pyarrow.table(dict(zip(NAMES, ROWS.T.copy(), strict=True)))


def parquet() -> str:
    pyarrow.parquet.write_table(table(), "x.parquet", row_group_size=20)
    return "x.parquet"


def feather() -> str:
    pyarrow.feather.write_feather(table(), "x.feather", compression="uncompressed")
    return "x.feather"


DIALECTS: dict[str, Callable[[], str]] = {
    "commas": lambda: write("x.csv", lines()),
    "no heading": lambda: write("x.csv", lines(names=None)),
    "no final newline": lambda: write("x.csv", lines().rstrip("\n")),
    "a mark and CRLF": lambda: write("x.csv", "\ufeff" + lines(end="\r\n")),
    "tabs": lambda: write("x.tsv", lines("\t")),
    "semicolons": lambda: write("x.csv", lines(";")),
    "semicolons and decimal commas": lambda: write("x.csv", lines(";", ",")),
    "tabs and decimal commas": lambda: write("x.txt", lines("\t", ",")),
    "bars": lambda: write("x.dat", lines("|")),
    "white space": lambda: write("x.txt", "\n".join(f"  {line}  " for line in lines("   ", names=None).split("\n"))),
    "blank lines": lambda: write("x.csv", lines().replace("\n", "\n\n")),
    "quotes": lambda: write(
        "x.csv", "\n".join(",".join(f'"{cell}"' for cell in row.split(",")) for row in lines().split("\n")[:-1])
    ),
    "an odd suffix": lambda: write("x.tra", lines("\t", names=None)),
    "gzip": lambda: write("x.csv.gz", gzip.compress(lines().encode())),
    "numpy's heading": lambda: write("x.txt", "# " + lines(" ", names=("a", "b", "d"))),
    "pandas' heading": lambda: write("x.csv", lines(names=("0", "1", "2"))),
    "json lines of lists": lambda: write("x.jsonl", "\n".join(map(json.dumps, ROWS.tolist()))),
    "json lines of values": lambda: write("x.jsonl", "\n".join(json.dumps({"values": row}) for row in ROWS.tolist())),
    "json lines of columns": lambda: write(
        "x.jsonl", "\n".join(json.dumps(dict(zip(NAMES, row, strict=True))) for row in ROWS.tolist())
    ),
    "parquet": parquet,
    "feather": feather,
}


def load(path: str, **fields: object) -> ItemSet:
    return load_splits(DataConfig.model_validate({"dataset": path, "validation": 0, "test": 0, **fields})).train


@pytest.mark.parametrize("dialect", DIALECTS)
def test_the_same_rows_in_every_dialect_are_the_same_tensor(dialect: str) -> None:
    found = silently(load, DIALECTS[dialect]())
    np.testing.assert_array_equal(found.raw(0, 999), ROWS)


@pytest.mark.slow
@pytest.mark.parametrize("dialect", [name for name in DIALECTS if name not in ("parquet", "feather")])
def test_a_pipe_gives_what_a_file_gives(dialect: str, monkeypatch: pytest.MonkeyPatch) -> None:
    path = DIALECTS[dialect]()
    run = tiedae_cli.train({"data": {"dataset": path}}, run_dir="run", epochs=1, hidden_sizes=[2], quiet=True)
    monkeypatch.setattr(sys, "stdin", type("Stdin", (), {"buffer": io.BytesIO(Path(path).read_bytes())}))
    outputs = []
    for name in (path, "-"):
        result = CliRunner().invoke(app, ["encode", str(run.folder), name], input=Path(path).read_bytes())
        assert result.exit_code == 0, result.output
        outputs.append(np.load(io.BytesIO(result.stdout_bytes)))
    assert len(outputs[0]) == 90
    np.testing.assert_array_equal(*outputs)


def test_an_index_that_pandas_wrote_is_left_out_and_said() -> None:
    numbered = "".join(
        f"{',' if index == 0 else f'{index - 1},'}{line}\n"
        for index, line in enumerate(lines(names=("0", "1", "2")).split("\n")[:-1])
    )
    with captured_log() as said:
        found = load(write("x.csv", numbered))
    assert said == ["x.csv: the column (without a name) is a row index and is ignored; data.columns feeds it"]
    np.testing.assert_array_equal(found.raw(0, 999), ROWS)


def labelled(name: str = "class", values: tuple[object, ...] = ("good", "bad", "good")) -> str:
    rows = lines().split("\n")[:-1]
    cells = [name, *(str(values[index % len(values)]) for index in range(90))]
    return write("x.csv", "\n".join(f"{row},{cell}" for row, cell in zip(rows, cells, strict=True)))


@pytest.mark.parametrize("name", ["label", "Class", "TARGET", "y"])
def test_what_is_called_like_a_label_is_never_fed_silently(name: str) -> None:
    with captured_log() as said:
        found = load(labelled(name, (0, 1, 1)))
    assert found.form.values_per_item == 3 and found.labels is None
    assert said == [
        f"x.csv: the column {name} is named like a label and is ignored; "
        f"--set data.label={name} keeps it as one, data.columns feeds it"
    ]
    assert silently(load, "x.csv", columns=["*"]).form.values_per_item == 4


def test_labels_in_words_and_numbers() -> None:
    found = silently(load, labelled(), label="class")
    assert found.labels is not None and found.label_names == ("bad", "good")
    assert found.labels.tolist() == [1, 0, 1] * 30
    numbers = silently(load, labelled("class", (7.0, 3, -1)), label="class")
    assert numbers.labels is not None and numbers.labels.tolist() == [7, 3, -1] * 30 and numbers.label_names is None


@pytest.mark.parametrize(
    ("normal", "values"), [("good", ("good", "bad", "good")), (0, (0, 1, 0)), (["a", "b"], ("a", "x", "b"))]
)
def test_training_on_normal_items_alone_keeps_all_others_for_the_test(normal: object, values: tuple[object, ...]) -> None:
    path = labelled("class", values)
    splits = load_splits(
        DataConfig.model_validate({"dataset": path, "label": "class", "normal": normal, "validation": 10, "test": 10})
    )
    assert [len(splits.get(name)) for name in ("train", "validation", "test")] == [40, 10, 40]
    strange = set(map(tuple, ROWS[1::3].tolist()))
    for name, count in (("train", 0), ("validation", 0), ("test", 30)):
        rows = list(map(tuple, splits.get(name).raw(0, 99).tolist()))
        assert sum(row in strange for row in rows) == count
    with pytest.raises(ConfigError, match=r"data\.normal: x\.csv: no item has the label nobody \(it has"):
        load_splits(DataConfig.model_validate({"dataset": path, "label": "class", "normal": "nobody"}))
    with pytest.raises(ConfigError, match=r"data\.normal: x\.csv: which column holds the labels\? --set data\.label=class$"):
        load_splits(DataConfig.model_validate({"dataset": path, "normal": normal}))
    with pytest.raises(ConfigError, match=r"--set data\.label=COLUMN \(it has a, b c, d, class\)"):
        load_splits(DataConfig.model_validate({"dataset": path, "normal": "nobody"}))


def test_columns_are_chosen_and_left_out_by_names_and_globs() -> None:
    path = DIALECTS["commas"]()
    for fields, places in (
        ({"columns": ["d", "a"]}, [0, 2]),
        ({"columns": "[ab]*"}, [0, 1]),
        ({"ignore": "b c"}, [0, 2]),
        ({"columns": "*", "ignore": ["a", "d"]}, [1]),
    ):
        np.testing.assert_array_equal(load(path, **fields).raw(0, 99), ROWS[:, places])
    with pytest.raises(ConfigError, match=r"data\.ignore: x\.csv has no column bc \(did you mean b c\?\)"):
        load(path, ignore="bc")
    with pytest.raises(ConfigError, match=r"data\.label: x\.csv has no column class"):
        load(path, label="class")
    with pytest.raises(ConfigError, match="no column of numbers is left"):
        load(path, ignore="*")


def with_text() -> str:
    rows = lines().split("\n")[:-1]
    cells = ["color,when", *(f"{('red', 'green', 'blue')[index % 3]},2024-01-{index % 28 + 1:02}" for index in range(90))]
    return write("x.csv", "\n".join(f"{row},{cell}" for row, cell in zip(rows, cells, strict=True)))


def test_columns_of_text_are_named_with_both_ways_out() -> None:
    with captured_log() as said, pytest.raises(DataError) as caught:
        load(with_text())
    assert said == ["x.csv: ignored as dates: when"]
    assert "text columns: color (3 distinct)" in str(caught.value)
    assert "--set 'data.ignore=[color]'" in str(caught.value) and "--set data.categories=one_hot" in str(caught.value)


def test_the_line_to_type_means_what_it_says_whatever_a_column_is_called() -> None:
    names = ["size, cm", "[unit]", "mode #1", "it's", "a: b", "true", "*x", 'say "so"', "größe"]
    rows = [[repr(row[0]), *(f"word{index % 3}" for _ in names)] for index, row in enumerate(ROWS.tolist())]
    with open("odd.csv", "w", newline="") as file:
        csv.writer(file).writerows([["a", *names], *rows])
    result = CliRunner().invoke(app, ["train", "odd.csv", "--epochs", "1"])
    (option,) = re.findall(r"^Ignore them with (.*), or make one feature per distinct value with", result.stderr, re.MULTILINE)
    result = CliRunner().invoke(app, ["train", "odd.csv", "--epochs", "1", "-q", *shlex.split(option)])
    assert result.exit_code == 0, result.output


@pytest.mark.parametrize(
    "name", ["size, cm", "[unit]", "mode #1", "it's", "a: b", "true", "7", "null", "*x", 'say "so"', "größe"]
)
def test_a_setting_is_typed_so_that_it_means_its_text(name: str) -> None:
    for key, value, expected in (("data.label", name, name), ("data.ignore", [name, "b"], (name, "b"))):
        (flag, setting) = shlex.split(set_option(key, value))
        config = parse_config("{}", "config", [setting])
        assert (flag, getattr(config.data, key.removeprefix("data."))) == ("--set", expected)


@pytest.mark.slow
def test_categories_live_in_the_checkpoint_and_unseen_ones_are_counted() -> None:
    path = with_text()
    config = {"data": {"dataset": path, "categories": "one_hot"}}
    run = tiedae_cli.train(config, run_dir="run", epochs=1, hidden_sizes=[2], quiet=True)
    trained = checkpoint.load(run.best)
    assert trained.form.columns is not None
    assert trained.form.columns.values == ("a", "b c", "d", "color=blue", "color=green", "color=red")
    whole = load(path, categories="one_hot").raw(0, 1).tolist()[0]
    assert whole == [*ROWS[0].tolist(), 0, 0, 1]
    # Another order, one column more, and a color that was never seen.
    write("y.csv", "color,more,d,a,b c\nred,9,4.0,-0.5,0.001\npink,9,4.0,-0.5,0.001\n")
    result = CliRunner().invoke(app, ["encode", "run", "y.csv", "-o", "y.npy"])
    assert result.exit_code == 0, result.output
    assert "column color: 1 cells hold a category that the model does not know" in result.stderr
    first = CliRunner().invoke(app, ["encode", "run", path, "-o", "x.npy"])
    assert first.exit_code == 0
    np.testing.assert_allclose(np.load("y.npy")[0], np.load("x.npy")[0], rtol=1e-6)  # blocks of other sizes
    assert not np.array_equal(np.load("y.npy")[0], np.load("y.npy")[1])
    write("z.csv", "color,d,a\nred,4.0,-0.5\n")
    result = CliRunner().invoke(app, ["encode", "run", "z.csv"])
    assert result.exit_code == 2 and "z.csv: lacks the columns b c, which this model takes" in result.stderr


def with_gaps() -> str:
    rows = lines().split("\n")
    rows[5] = "," + rows[5].split(",", 1)[1]
    rows[7] = "NA,nan," + rows[7].rsplit(",", 1)[1]
    return write("x.csv", "\n".join(rows))


def test_missing_values_are_counted_dropped_or_filled() -> None:
    path = with_gaps()
    with pytest.raises(
        DataError, match=r"missing values in the columns a \(2\), b c \(1\)\n.*data\.missing=drop.*data\.missing=mean"
    ):
        load(path)
    with captured_log() as said:
        dropped = load(path, missing="drop")
    assert said == ["x.csv: missing values in the columns a (2), b c (1): 2 rows skipped"]
    np.testing.assert_array_equal(dropped.raw(0, 99), np.delete(ROWS, [4, 6], 0))
    filled = load(path, missing="mean")
    seen = filled.batch(0, 99)
    assert np.isfinite(seen).all() and abs(seen[4, 0]) < 1e-6 and abs(seen[6, 0]) < 1e-6
    known = np.delete(ROWS[:, 0], [4, 6])
    np.testing.assert_allclose(seen[0, 0], (ROWS[0, 0] - known.mean()) / known.std(), rtol=1e-5)


@pytest.mark.slow
def test_a_model_that_fills_gaps_fills_those_of_other_tables() -> None:
    config = {"data": {"dataset": with_gaps(), "missing": "mean"}}
    run = tiedae_cli.train(config, run_dir="run", epochs=1, hidden_sizes=[2], quiet=True)
    write("y.csv", "a,b c,d\n,NA,300\n1,-20,300\n")
    result = CliRunner().invoke(app, ["score", str(run.folder), "y.csv", "--threshold", "1"])
    assert result.exit_code == 0 and len(result.stdout.splitlines()) == 2


@pytest.mark.parametrize("scaling", ["standard", "robust", "minmax", "none"])
def test_scalings_are_their_definitions(scaling: str) -> None:
    seen = load(DIALECTS["commas"](), scaling=scaling).batch(0, 99)
    low, middle, high = np.quantile(ROWS, (0.25, 0.5, 0.75), axis=0)
    expected = {
        "standard": (ROWS - ROWS.mean(0)) / ROWS.std(0),
        "robust": (ROWS - middle) / (high - low),
        "minmax": (ROWS - ROWS.min(0)) / (ROWS.max(0) - ROWS.min(0)),
        "none": ROWS,
    }[scaling]
    np.testing.assert_allclose(seen, expected, rtol=1e-5, atol=1e-5)


def test_constant_columns_become_zeros_and_are_named() -> None:
    rows = [f"{row},{'e' if index == 0 else 7}" for index, row in enumerate(lines().split("\n")[:-1])]
    with captured_log() as said:
        found = load(write("x.csv", "\n".join(rows)))
    assert said == ["constant features (no information): e"]
    assert not found.batch(0, 99)[:, 3].any()


def test_a_bad_cell_and_a_short_row_are_named_by_row_and_column() -> None:
    rows = lines().split("\n")
    rows[13] = rows[13].replace(",", ",x", 1)
    path = write("x.csv", "\n".join(rows))
    with pytest.raises(
        DataError,
        match=r"x\.csv: row 13 \(line 14\), column b c: 'x.*' is not a number \(text, columns by ',', decimal '\.', with a",
    ):
        load(path)
    rows[13] = "1,2"
    with pytest.raises(DataError, match=r"x\.csv: row 13 \(line 14\) has 2 cells, not 3"):
        load(write("x.csv", "\n".join(rows)))


def test_underscores_are_no_part_of_a_number() -> None:
    with pytest.raises(DataError, match=r"row 91 \(line 92\), column a: '1_0' is not a number"):
        load(write("x.csv", lines() + "1_0,2,3\n"))


@pytest.mark.slow
def test_a_bad_cell_far_down_is_named(tmp_path: Path) -> None:
    count = 812_345
    with open("x.csv", "w") as file:
        file.write("a,b\n" + "1.5,2.5\n" * (count - 1) + "1.5,oops\n" + "1.5,2.5\n" * 10)
    with pytest.raises(DataError, match=r"x\.csv: row 812,345 \(line 812,346\), column b: 'oops' is not a number"):
        load("x.csv")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", r"x\.csv: no rows of numbers"),
        (b"\n\n", r"x\.csv: no rows of numbers"),
        (b"a,b\n", r"x\.csv: no rows of numbers"),
        (b"a,b\n1,2\n\xff\xfe,3\n", r"x\.csv: line 3: not UTF-8 text"),
        (b"\x1f\x8b\x08 no gzip", r"x\.csv: .*damaged|cannot be read"),
    ],
)
def test_tables_of_no_use_are_refused(content: bytes, message: str) -> None:
    with pytest.raises(DataError, match=message):
        load(write("x.csv", content))


def test_damaged_columnar_files_are_refused() -> None:
    for path in (parquet(), feather()):
        raw = Path(path).read_bytes()
        Path(path).write_bytes(raw[: len(raw) // 2])
        with pytest.raises(DataError, match="damaged, or not a table"):
            load(path)


def test_fields_of_tables_and_vectors_are_refused_elsewhere() -> None:
    np.save("x.npy", np.zeros((30, 4, 4), np.uint8))
    with pytest.raises(ConfigError, match=r"data\.columns: x\.npy: is only for a table"):
        load("x.npy", columns="a")
    with pytest.raises(ConfigError, match=r"data\.scaling: x\.npy: is only for feature vectors"):
        load("x.npy", scaling="robust")
    with pytest.raises(ConfigError, match=r"data\.missing: digits: is only for feature vectors"):
        load_splits(DataConfig(missing="drop"))


REAL = [
    ("winequality-red_decimal_comma.csv", 12, 1599),
    ("optdigits.tes", 65, 1797),
    ("cardio.csv", 21, 1831),
    ("mnist_kaggle_2000.csv", 784, 2000),
    ("machine_temperature_system_failure.csv", 1, 22695),
]


@pytest.mark.slow
@pytest.mark.parametrize(("name", "width", "count"), REAL)
def test_real_files(name: str, width: int, count: int) -> None:
    folder = Path(os.environ.get("TIEDAE_DATA", "")) / "forms"
    if not (folder / name).exists():
        pytest.skip("needs the real files under TIEDAE_DATA")
    found = load(str(folder / name))
    assert found.form.values_per_item == width and len(found) == count


@pytest.mark.slow
def test_decode_gives_the_columns_back_in_their_own_units() -> None:
    path = with_text()
    config = {"data": {"dataset": path, "categories": "one_hot"}, "model": {"hidden_sizes": [6], "activation": "linear"}}
    run = tiedae_cli.train(config, epochs=200, batch_size=20, l2=0, learning_rate=0.02, schedule="one_cycle", quiet=True)
    for kind in ("csv", "jsonl"):
        assert CliRunner().invoke(app, ["encode", str(run.folder), path, "-o", "codes.npy"]).exit_code == 0
        result = CliRunner().invoke(app, ["decode", str(run.folder), "codes.npy", "-o", f"back.{kind}"])
        assert result.exit_code == 0, result.output
        if kind == "csv":
            rows = list(csv.DictReader(Path("back.csv").read_text().splitlines()))
        else:
            rows = [json.loads(line) for line in Path("back.jsonl").read_text().splitlines()]
        assert list(rows[0]) == ["item", "a", "b c", "d", "color"]
        found = np.array([[float(row[name]) for name in NAMES] for row in rows])
        assert (np.abs(found - ROWS).mean(0) / ROWS.std(0)).max() < 0.1
        assert sum(row["color"] == ("red", "green", "blue")[index % 3] for index, row in enumerate(rows)) > 85
    # What is written is read again: the same columns by their names.
    assert CliRunner().invoke(app, ["encode", str(run.folder), "back.csv", "-o", "again.npy"]).exit_code == 0


def test_a_large_table_is_read_once_into_the_cache(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(Path("cache").absolute()))
    path = labelled()
    small = load(path, label="class")
    monkeypatch.setattr("tiedae_cli.data.sources.table.LARGE", 100)
    with captured_log() as said:
        first = load(path, label="class")
    assert len(said) == 1 and said[0].startswith("x.csv: read once into ")
    monkeypatch.setattr("tiedae_cli.data.training_sets._write_cache", lambda *_: pytest.fail("read again"))
    second = silently(load, path, label="class")
    for found in (first, second):
        assert np.array_equal(found.raw(0, 99), small.raw(0, 99)) and found.label_names == small.label_names
        assert found.labels is not None and small.labels is not None and np.array_equal(found.labels, small.labels)
    monkeypatch.setattr("tiedae_cli.data.sources.table.LARGE", 1 << 30)
    assert silently(load, path, label="class", ignore="a").form.values_per_item == 2


@pytest.mark.parametrize("suffix", ["pkl", "pickle", "joblib"])
def test_pickles_are_never_opened_and_the_way_on_is_told(suffix: str) -> None:
    with pytest.raises(
        DataError, match=r"a pickle, which can run any program when it is opened, so it never is; save what is in it"
    ):
        load(write(f"x.{suffix}", b"\x80\x04N."))
