"""What a label's text is: the same from every source, in training, in a file and in a pipe, and in what the user writes."""

import json
import shlex
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pyarrow
import pyarrow.feather
import pyarrow.parquet
import pytest
from log_capture import captured_log, silently
from typer.testing import CliRunner

from tiedae_cli.cli.app import app
from tiedae_cli.config import DataConfig
from tiedae_cli.config.yaml_reader import parse_config
from tiedae_cli.data.load_data import load_splits
from tiedae_cli.data.sources.cells import label_text
from tiedae_cli.errors import ConfigError

COUNT = 120
STRANGE = np.arange(COUNT) % 6 == 0
ROWS = np.random.default_rng(5).normal(size=(COUNT, 3)).round(4) + 9 * STRANGE[:, None]
NUMBERS = ("0", "1")

SAID = {
    "1.0": "1",
    " 1": "1",
    "1 ": "1",
    "+1": "1",
    "1.": "1",
    "1e0": "1",
    "True": "1",
    "true": "1",
    "FALSE": "0",
    "0.0": "0",
    "-0.0": "0",
    "-3.00": "-3",
    "1.50": "1.5",
    ".5": "0.5",
    "1e+16": "10000000000000000",
    "9007199254740993.0": "9007199254740993",
    "9007199254740993": "9007199254740993",
    "123456789012345678901234567890": "123456789012345678901234567890",
    "1e200": "1e+200",
    "1e400": "1e400",
    "9" * 5000: "9" * 5000,
    "1e999999999": "1e999999999",
    "007": "007",
    "00": "00",
    "01.0": "01.0",
    "1_0": "1_0",
    "１": "１",
    "größer": "größer",
    "inf": "inf",
    "nan": "nan",
    "": "",
    "good ": "good",
    "1,0": "1,0",
}


@pytest.mark.parametrize("cell", SAID)
def test_the_text_of_a_label(cell: str) -> None:
    assert label_text(cell) == SAID[cell] == label_text(SAID[cell])


def test_a_decimal_comma_is_one_where_the_table_has_it() -> None:
    assert (label_text("1,0", ","), label_text("1,5", ","), label_text("a,b", ",")) == ("1", "1.5", "a,b")


def text(name: str, delimiter: str, words: Sequence[str], blank: str = "", decimal: str = ".") -> str:
    lines = [f"{delimiter}{blank}".join("abc") + f"{delimiter}{blank}kind"]
    for row, strange in zip(ROWS.tolist(), STRANGE.tolist(), strict=True):
        cells = [*(repr(value).replace(".", decimal) for value in row), words[strange]]
        lines.append(f"{delimiter}{blank}".join(cells))
    Path(name).write_text("\n".join(lines) + "\n", encoding="utf-8")
    return name


def objects(values: Sequence[object]) -> str:
    rows = [
        {**dict(zip("abc", row, strict=True)), "kind": values[int(s)]} for row, s in zip(ROWS.tolist(), STRANGE, strict=True)
    ]
    Path("x.jsonl").write_text("\n".join(map(json.dumps, rows)))
    return "x.jsonl"


def headless(name: str) -> str:
    Path(name).write_text(Path(name).read_text().partition("\n")[2])
    return name


def lists(values: Sequence[float]) -> str:
    rows = [[*row, values[int(strange)]] for row, strange in zip(ROWS.tolist(), STRANGE, strict=True)]
    Path("x.jsonl").write_text("\n".join(map(json.dumps, rows)))
    return "x.jsonl"


def columnar(labels: pyarrow.Array, name: str = "x.parquet") -> str:
    table = pyarrow.table({**dict(zip("abc", ROWS.T.copy(), strict=True)), "kind": labels})
    (pyarrow.feather.write_feather if name.endswith("feather") else pyarrow.parquet.write_table)(table, name)
    return name


def archive(labels: np.ndarray) -> str:
    np.savez("x.npz", x=ROWS, y=labels)
    return "x.npz"


def hdf5(labels: np.ndarray) -> str:
    h5py = pytest.importorskip("h5py")
    with h5py.File("x.h5", "w") as file:
        file["x"], file["y"] = ROWS, labels
    return "x.h5"


def matlab(labels: np.ndarray) -> str:
    pytest.importorskip("scipy.io").savemat("x.mat", {"x": ROWS, "y": labels})
    return "x.mat"


def words(pair: Sequence[str]) -> pyarrow.Array:
    return pyarrow.array([pair[int(strange)] for strange in STRANGE])


SOURCES: dict[str, tuple[Callable[[], str], tuple[str, str]]] = {
    "csv, whole": (lambda: text("x.csv", ",", ("0", "1")), NUMBERS),
    "csv, floats": (lambda: text("x.csv", ",", ("0.0", "1.0")), NUMBERS),
    "csv, blanks": (lambda: text("x.csv", ",", ("0", "1"), blank=" "), NUMBERS),
    "csv, words after blanks": (lambda: text("x.csv", ",", ("good", "größer"), blank=" "), ("good", "größer")),
    "csv, leading zeros": (lambda: text("x.csv", ",", ("007", "7")), ("007", "7")),
    "csv, pandas' booleans": (lambda: text("x.csv", ",", ("False", "True")), NUMBERS),
    "csv, decimal commas": (lambda: text("x.csv", ";", ("0,0", "1,0"), decimal=","), NUMBERS),
    "csv, no heading": (lambda: headless(text("x.csv", ",", ("0.0", "1.0"))), NUMBERS),
    "json lines, lists": (lambda: lists((0.0, 1.0)), NUMBERS),
    "tsv, floats": (lambda: text("x.tsv", "\t", ("0.0", "1.0")), NUMBERS),
    "json lines, whole": (lambda: objects((0, 1)), NUMBERS),
    "json lines, floats": (lambda: objects((0.0, 1.0)), NUMBERS),
    "json lines, booleans": (lambda: objects((False, True)), NUMBERS),
    "json lines, text": (lambda: objects(("good", "bad")), ("good", "bad")),
    "json lines, large floats": (lambda: objects((1e16, 2e16)), ("10000000000000000", "20000000000000000")),
    "parquet, int": (lambda: columnar(pyarrow.array(STRANGE.astype(np.int32))), NUMBERS),
    "parquet, float": (lambda: columnar(pyarrow.array(STRANGE.astype(np.float32))), NUMBERS),
    "parquet, bool": (lambda: columnar(pyarrow.array(STRANGE)), NUMBERS),
    "parquet, string": (lambda: columnar(words(("good", "bad"))), ("good", "bad")),
    "parquet, dictionary": (lambda: columnar(words(("good", "bad")).dictionary_encode()), ("good", "bad")),
    "parquet, dictionary of floats": (lambda: columnar(words(("0.0", "1.0")).dictionary_encode()), NUMBERS),
    "feather, float": (lambda: columnar(pyarrow.array(STRANGE.astype(float)), "x.feather"), NUMBERS),
    "npz, int": (lambda: archive(STRANGE.astype(int)), NUMBERS),
    "npz, float": (lambda: archive(STRANGE.astype(np.float32)), NUMBERS),
    "npz, bool": (lambda: archive(STRANGE), NUMBERS),
    "npz, words": (lambda: archive(np.where(STRANGE, "größer", "good")), ("good", "größer")),
    "npz, bytes": (lambda: archive(np.where(STRANGE, b"bad", b"good")), ("good", "bad")),
    "npz, floats as words": (lambda: archive(np.where(STRANGE, "1.0", "0.0")), NUMBERS),
    "hdf5, words": (lambda: hdf5(np.where(STRANGE, "größer", "good").astype(object)), ("good", "größer")),
    "hdf5, bytes": (lambda: hdf5(np.where(STRANGE, b"bad", b"good")), ("good", "bad")),
    "hdf5, int": (lambda: hdf5(STRANGE.astype(int)), NUMBERS),
    "matlab, rows of letters": (lambda: matlab(np.where(STRANGE, "bad", "good")), ("good", "bad")),
    "matlab, cells": (lambda: matlab(np.where(STRANGE, "bad", "good").astype(object)), ("good", "bad")),
}
UNNAMED = ("csv, no heading", "json lines, lists")
PIPED = (".csv", ".tsv", ".jsonl")


def scored(path: str | None = None, pipe: bool = False) -> tuple[list[dict[str, object]], dict[str, object]]:
    """Return the lines of ``score run`` (of its test split, a file or a pipe) and the object of its ``--summary``."""
    name, content = ("-", Path(path).read_bytes()) if pipe and path else (path, None)
    found = []
    for extra in ([], ["--summary"]):
        result = CliRunner().invoke(app, ["score", "run", *([name] if name else []), *extra, "-q"], input=content)
        assert result.exit_code == 0, result.output
        found.append([json.loads(line) for line in result.stdout.splitlines()])
    return found[0], found[1][0]


@pytest.mark.slow
@pytest.mark.parametrize("source", SOURCES)
def test_a_split_the_file_and_a_pipe_say_the_same_labels(source: str) -> None:
    write, pair = SOURCES[source]
    path = write()
    named = [] if path.endswith(("npz", "h5", "mat")) else ["--set", f"data.label={3 if source in UNNAMED else 'kind'}"]
    given = ["--set", f"data.normal='{pair[0]}'", "--set", "data.validation=10", "--set", "data.test=10"]
    shape = ["--set", "model.hidden_sizes=[2]", "--set", "model.output=linear", "--set", "training.epochs=1"]
    result = CliRunner().invoke(app, ["train", path, *named, *given, *shape, "--run-dir", "run", "-q"])
    assert result.exit_code == 0, result.output
    lines, summary = scored()
    assert sorted(str(line["label"]) for line in lines) == sorted([pair[0]] * 10 + [pair[1]] * 20)
    assert summary["auroc"] == 1.0
    for pipe in (False, True)[: 1 + path.endswith(PIPED)]:
        lines, summary = scored(path, pipe)
        assert [line["label"] for line in lines] == [pair[int(strange)] for strange in STRANGE]
        assert summary["auroc"] == 1.0 and summary["items"] == COUNT


@pytest.mark.parametrize("said", ["0", "0.0", "false", "False", "[0.0]", "+0"])
def test_the_user_may_write_a_label_in_any_of_its_ways(said: str) -> None:
    config = parse_config(f"data: {{dataset: x.csv, label: kind, normal: {said}, validation: 10, test: 10}}", "x.yaml").data
    text("x.csv", ",", ("0", "1.0"))
    assert [len(load_splits(config).get(name)) for name in ("train", "validation", "test")] == [80, 10, 30]
    text("x.csv", ",", ("2.0", "007"))
    with pytest.raises(ConfigError, match=r"no item has the label .* \(it has 007, 2\)$"):
        load_splits(config)


def gaps(missing: str) -> str:
    """Labels 0 and 1, and in every tenth row ``missing``."""
    rows = zip(ROWS.tolist(), STRANGE.tolist(), range(COUNT), strict=True)
    cells = [[*map(repr, row), missing if number % 10 == 3 else str(int(strange))] for row, strange, number in rows]
    Path("x.csv").write_text("\n".join(map(",".join, [["a", "b", "c", "kind"], *cells])))
    return "x.csv"


@pytest.mark.parametrize("missing", ["", "NA", "nan"])
def test_rows_without_a_label_are_neither_trained_on_nor_judged(missing: str) -> None:
    config = DataConfig.model_validate({"dataset": gaps(missing), "label": "kind", "normal": 0, "validation": 10, "test": 10})
    with captured_log() as said:
        splits = load_splits(config)
    assert said == ["x.csv: 12 unlabelled items are in the test split, and excluded from label-based metrics"]
    assert [len(splits.get(name)) for name in ("train", "validation", "test")] == [68, 10, 42]
    texts = splits.test.label_texts(0, 99)
    assert texts is not None and [texts.count(label) for label in ("0", "1", missing)] == [10, 20, 12]
    train = splits.train.label_texts(0, 99)
    assert train is not None and set(train) == {"0"}
    own = DataConfig.model_validate({**config.model_dump(), "normal": ["0", missing]})
    assert len(silently(load_splits, own).train) == 80


def test_a_table_whose_labels_all_miss_is_told_so() -> None:
    text("x.csv", ",", ("", ""))
    with pytest.raises(ConfigError, match=r"x\.csv: no item has the label good \(it has no label\)$"):
        load_splits(DataConfig.model_validate({"dataset": "x.csv", "label": "kind", "normal": "good"}))


@pytest.mark.parametrize("value", [np.inf, np.nan, 0.5, 1e19, np.uint64(2**63)])
def test_an_array_that_no_whole_numbers_hold_is_left_out(value: float) -> None:
    labels = np.array([value, *[0] * (COUNT - 1)], dtype=type(value))
    with captured_log() as said:
        found = load_splits(DataConfig(dataset=archive(labels), validation=0, test=0)).train
    assert found.labels is None
    assert said == [f"x.npz: y: 120 {labels.dtype}; labels are 120 whole numbers or words, one per item; ignored"]


@pytest.mark.slow
def test_columns_without_names_are_those_of_the_same_table_only_where_that_is_told() -> None:
    path = headless(text("x.csv", ",", ("0", "1")))
    shape = ["--set", "model.hidden_sizes=[2]", "--set", "model.output=linear", "--epochs", "1", "-q", "--run-dir"]
    outputs = []
    for name, chosen in (("run", "data.columns=[1, 2]"), ("first", "data.columns=[0, 1]")):
        assert CliRunner().invoke(app, ["train", path, "--set", chosen, *shape, name]).exit_code == 0
        outputs.append(CliRunner().invoke(app, ["encode", name, path, "--json", "-q"]))
    assert outputs[0].exit_code == 0 and len(outputs[0].stdout.splitlines()) == COUNT
    assert outputs[1].exit_code == 2 and "x.csv: has 4 columns without names; this model takes 2" in outputs[1].stderr


def series_with_classes(first: bool, values: Sequence[int], form: str, heading: bool) -> str:
    """Write 140 waves of 30 values with a column of classes, as the UCR archive does."""
    random = np.random.default_rng(0)
    waves = np.sin(np.arange(30) / 4 + random.uniform(0, 6, (140, 1)))
    column = [form % values[number % len(values)] for number in range(140)]
    rows = [[f"{value:.6f}" for value in wave] for wave in waves]
    cells = [[label, *row] if first else [*row, label] for label, row in zip(column, rows, strict=True)]
    names = [f"t{number}" for number in range(30)]
    head = [["kind", *names] if first else [*names, "kind"]] if heading else []
    Path("waves.csv").write_text("\n".join(",".join(row) for row in [*head, *cells]))
    return "waves.csv"


@pytest.mark.slow
@pytest.mark.parametrize("first", [True, False])
@pytest.mark.parametrize("heading", [True, False])
@pytest.mark.parametrize(
    ("values", "form"), [((1, 2, 3, 4, 5), "%d"), ((-1, 1), "%d"), ((0, 1), "%.1f"), ((1, 2), "%.7e"), ((3, 4, 7, 8), "%d")]
)
def test_a_column_that_looks_like_a_label_is_named_with_the_option_that_makes_it_one(
    first: bool, heading: bool, values: Sequence[int], form: str
) -> None:
    path = series_with_classes(first, values, form, heading)
    name = "kind" if heading else "0" if first else "30"
    with captured_log() as said:
        found = load_splits(DataConfig(dataset=path))
    (note,) = [line for line in said if "like a label" in line]
    assert f"the {'first' if first else 'last'} column, {name}, holds few whole numbers ({', '.join(map(str, values))})" in note
    assert found.form.values_per_item == 31  # it is fed
    option = shlex.split(note.rpartition("label: ")[2])
    assert option[0] == "--set"
    config = parse_config(f"data: {{dataset: {path}}}", "x", option[1:])
    with captured_log() as said:
        kept = load_splits(config.data)
    assert kept.form.values_per_item == 30 and not any("like a label" in line for line in said)
    assert kept.train.labels is not None and set(kept.train.labels.tolist()) == set(values)


ORDINARY: dict[str, Callable[[np.random.Generator], np.ndarray]] = {
    "answers": lambda random: random.integers(1, 6, (200, 12)),
    "counts": lambda random: random.poisson(40, (200, 5)),
    "pixels": lambda random: random.integers(0, 17, (200, 64)),
    "values": lambda random: random.normal(size=(200, 5)),
    "far apart": lambda random: np.c_[random.choice([0, 100], 200), random.normal(size=(200, 5))],
    "rare": lambda random: np.c_[random.normal(size=(40, 5)), random.permutation(40) % 20],
    "in the middle": lambda random: np.insert(random.normal(size=(200, 4)), 2, random.integers(0, 2, 200), axis=1),
}


@pytest.mark.parametrize("kind", ORDINARY)
def test_ordinary_columns_do_not_look_like_labels(kind: str) -> None:
    np.savetxt("x.csv", ORDINARY[kind](np.random.default_rng(0)), fmt="%g", delimiter=",")
    with captured_log() as said:
        load_splits(DataConfig(dataset="x.csv"))
    assert not [line for line in said if "like a label" in line]
