"""What is not fed or not read is reported: patterns that match nothing, indexes, labels, times, and folders of other files."""

import os
import unicodedata
from pathlib import Path

import numpy as np
import pytest
from log_capture import captured_log, silently
from PIL import Image
from typer.testing import CliRunner

import tiedae_cli
from tiedae_cli.cli.app import app
from tiedae_cli.config import DataConfig
from tiedae_cli.data.item_reader import ItemReader
from tiedae_cli.data.item_set import Splits
from tiedae_cli.data.load_data import load_splits
from tiedae_cli.errors import ConfigError


@pytest.fixture(autouse=True)
def _own_cache(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


def load(path: str, **fields: object) -> Splits:
    return load_splits(DataConfig.model_validate({"dataset": path, "validation": 0, "test": 0, **fields}))


def fed(path: str, **fields: object) -> tuple[str, ...]:
    columns = load(path, **fields).train.form.columns
    assert columns is not None
    return columns.values


def write(name: str, cells: list[object], other: str = "v") -> str:
    Path("x.csv").write_text("\n".join([f"{name},{other}", *(f"{cell},{index % 7}.5" for index, cell in enumerate(cells))]))
    return "x.csv"


def pictures(*names: str) -> None:
    for index, name in enumerate(names):
        Path(name).parent.mkdir(parents=True, exist_ok=True)
        pixels = np.random.default_rng(index).integers(0, 256, (6, 6), dtype=np.uint8)
        Image.fromarray(pixels).save(name, "PNG")


@pytest.mark.parametrize(
    "name",
    ["label", "Label_1", "is_anomaly", "isFraud", "anomaly", "fraud", "y", "y_true", "class_name", "targets", "outliers"],
)
def test_columns_named_like_labels_are_ignored_with_the_line_that_keeps_them(name: str) -> None:
    with captured_log() as said:
        assert fed(write(name, [0, 1] * 10)) == ("v",)
    assert said == [
        f"x.csv: the column {name} is named like a label and is ignored; --set data.label={name} keeps it as one, "
        "data.columns feeds it"
    ]


@pytest.mark.parametrize("name", ["y_1", "class_width", "target_temperature", "fraudster_age", "yield"])
def test_columns_with_other_names_are_fed(name: str) -> None:
    assert silently(fed, write(name, [3.5, 1.5] * 10)) == (name, "v")


@pytest.mark.parametrize("name", ["", "id", "Unnamed: 0", "index", "__index_level_0__", "item"])
@pytest.mark.parametrize("cells", [list(range(20)), list(range(5, 105, 5)), [7, 3, *range(100, 118)]])
def test_row_indexes_are_ignored_and_reported(name: str, cells: list[object]) -> None:
    with captured_log() as said:
        assert fed(write(name, cells)) == ("v",)
    assert said == [f"x.csv: the column {name or '(without a name)'} is a row index and is ignored; data.columns feeds it"]


def test_a_numeric_column_called_item_is_fed() -> None:
    assert silently(fed, write("item", [0.5, 1.5] * 10)) == ("item", "v")


@pytest.mark.parametrize(
    ("unit", "word"), [(1, "seconds"), (10**3, "milliseconds"), (10**6, "microseconds"), (10**9, "nanoseconds")]
)
@pytest.mark.parametrize("name", ["time", "timestamp", "ts", "Date", "epoch"])
def test_unix_times_are_ignored_as_dates_are(unit: int, word: str, name: str) -> None:
    with captured_log() as said:
        assert fed(write(name, [(1709251200 + 3600 * index) * unit for index in range(20)])) == ("v",)
    assert said == [f"x.csv: the column {name} holds Unix times ({word}) and is ignored; data.columns feeds it"]
    assert silently(fed, write(name, [index * 0.5 for index in range(20)])) == (name, "v")


def test_names_are_compared_in_one_unicode_form() -> None:
    apart = unicodedata.normalize("NFD", "Äpfel")
    pictures(*(f"pics/{name}/é{index}.png" for name in (apart, "Birnen") for index in range(4)))
    with captured_log():
        assert len(load("pics", normal="Äpfel").train) == 4
        assert len(load("pics", include="Äpfel/*").train) == 4
        assert len(load("pics", exclude="é1*").train) == 6
        assert fed(write(apart, [1, 2, 2]), columns=["Äpfel"]) == (apart,)
        assert fed(write(apart, [1, 2, 2]), ignore="Ä*") == ("v",)


def test_patterns_that_match_no_file_are_reported() -> None:
    pictures(*(f"pics/{index}.png" for index in range(6)))
    with captured_log() as said:
        assert len(load("pics", exclude=["*_mask.png", "5*"]).train) == 5
    assert said[0] == "pics: no image matches data.exclude: *_mask.png"
    assert "skipped: 1 by data.exclude" in said[1]
    with pytest.raises(ConfigError, match=r"pics: no image matches data\.include: \*\.jpg"):
        load("pics", include="*.jpg")


def test_a_folder_of_mostly_other_files_is_reported_by_training_and_by_commands() -> None:
    pictures(*(f"pics/{index}.png" for index in range(4)))
    for index in range(6):
        Path(f"pics/{index}.HEIC").touch()
    with captured_log() as said:
        form = load("pics").train.form
    warning = "pics: only 4 of 10 files are read; skipped: 6 .heic"
    assert said[0] == warning
    with captured_log() as said:
        list(ItemReader(form, 4).open(["pics"]).blocks)
    assert said == [warning]
    with captured_log() as said:
        load("pics", exclude=["[0-2].png"])
    assert said[0] == "pics: only 1 of 7 files are read; skipped: 6 .heic, 3 by data.exclude"
    for index in range(6):
        os.remove(f"pics/{index}.HEIC")
    with captured_log() as said:
        load("pics", exclude=["[0-2].png"])
    assert said == []  # from the cache


@pytest.mark.slow
def test_a_tilde_is_the_home_folder_wherever_a_path_is_typed(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    home = tmp_path / "home"
    home.mkdir()
    monkeypatch.setenv("HOME", str(home))
    np.save(home / "x.npy", np.random.default_rng(0).normal(size=(40, 3)))
    run = CliRunner().invoke

    def check(*words: str) -> None:
        result = run(app, list(words))
        assert result.exit_code == 0, result.output

    check("train", "~/x.npy", "epochs=1", "-q", "--run-dir", "~/a")
    check("encode", "~/a", "~/x.npy", "-q", "-o", "~/codes.npy")
    check("encode", "~/a", "~/x.npy", "-q", "--output=~/again.npy")
    assert sorted(path.name for path in home.iterdir() if path.name[0] != ".") == ["a", "again.npy", "codes.npy", "x.npy"]
    assert not Path("~").exists()
    tiedae_cli.train({"data": {"dataset": "~/x.npy"}}, run_dir="~/b", epochs=1, quiet=True)
    assert tiedae_cli.load("~/b").form.values_per_item == 3
