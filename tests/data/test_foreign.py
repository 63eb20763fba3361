"""Files that are not read are recognized by their first bytes and named; what can be read is read."""

import bz2
import lzma
import pickle
import sqlite3
import struct
import wave
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow
import pyarrow.orc
import pyarrow.parquet
import pytest
from log_capture import captured_log, silently
from safetensors.numpy import save_file
from typer.testing import CliRunner

from tiedae_cli.cli.app import app
from tiedae_cli.config import DataConfig
from tiedae_cli.config.yaml_reader import parse_config
from tiedae_cli.data.item_set import ItemSet
from tiedae_cli.data.load_data import load_splits
from tiedae_cli.errors import ConfigError, DataError

pytestmark = pytest.mark.slow


def load(path: str, **fields: object) -> ItemSet:
    return load_splits(DataConfig.model_validate({"dataset": path, "validation": 0, "test": 0, **fields})).train


def database(path: Path) -> None:
    with sqlite3.connect(path) as connection:
        connection.execute("create table t (a)")
    connection.close()


def sound(path: Path) -> None:
    with wave.open(str(path), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(8000)
        file.writeframes(bytes(100))


def zipped(*names: str) -> Callable[[Path], None]:
    def write(path: Path) -> None:
        with zipfile.ZipFile(path, "w") as archive:
            for name in names:
                archive.writestr(name, "a,b\n1,2\n")

    return write


FILES: dict[str, tuple[Callable[[Path], object], str]] = {
    "sqlite": (database, "a SQLite database"),
    "wav": (sound, "a sound file"),
    "zip": (zipped("x.csv", "y.csv"), "an archive of x.csv, y.csv; unpack it: unzip "),
    "xlsx": (zipped("xl/workbook.xml"), "a spreadsheet"),
    "pickle": (lambda path: path.write_bytes(pickle.dumps([1.5, 2.5])), "a pickle"),
    "safetensors": (lambda path: save_file({"x": np.zeros((4, 3), np.float32)}, path, {"tiedae": "{}"}), "a model, not data"),
    "orc": (lambda path: pyarrow.orc.write_table(pyarrow.table({"a": [1.5]}), path), "an ORC table"),
    "dcm": (lambda path: path.write_bytes(bytes(128) + b"DICM" + bytes(40)), "a DICOM image"),
    "nii": (lambda path: path.write_bytes(struct.pack("<i", 348) + bytes(340) + b"n+1\0" + bytes(9)), "a NIfTI image"),
    "xls": (lambda path: path.write_bytes(b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + bytes(600)), "an old Office file"),
    "html": (lambda path: path.write_text("<!DOCTYPE html><html>404</html>"), "a web page"),
    "pointer": (
        lambda path: path.write_text("version https://git-lfs.github.com/spec/v1\noid sha256:0\n"),
        "a Git LFS pointer",
    ),
}


@pytest.mark.parametrize("name", ["x", "x.csv", "x.bin"])
@pytest.mark.parametrize("kind", FILES)
def test_files_of_other_kinds_are_named_whatever_their_suffix(kind: str, name: str) -> None:
    write, what = FILES[kind]
    write(Path(name))
    with pytest.raises(DataError) as caught:
        load(name)
    assert str(caught.value).startswith(f"{name}: {what}")


@pytest.mark.parametrize("kind", ["sqlite", "pickle", "orc", "xls", "html"])
def test_streams_of_other_kinds_are_named(kind: str) -> None:
    write, what = FILES[kind]
    write(Path("x"))
    np.save("x.npy", np.random.default_rng(0).normal(size=(40, 3)))
    assert CliRunner().invoke(app, ["train", "x.npy", "epochs=1", "-q", "--run-dir", "run"]).exit_code == 0
    result = CliRunner().invoke(app, ["score", "run", "-"], input=Path("x").read_bytes())
    assert result.exit_code == 2 and f"error: -: {what}" in result.stderr


def zstandard(text: bytes) -> bytes:
    return bytes(pyarrow.compress(text, "zstd", asbytes=True))


@pytest.mark.parametrize(("suffix", "compress"), [("bz2", bz2.compress), ("xz", lzma.compress), ("zst", zstandard)])
def test_compressed_tables_are_read(suffix: str, compress: Callable[[bytes], bytes]) -> None:
    Path(f"x.csv.{suffix}").write_bytes(compress(b"a,b\n1.5,2\n3,4\n"))
    assert silently(load, f"x.csv.{suffix}").raw(0, 9).tolist() == [[1.5, 2], [3, 4]]


EMBEDDINGS = np.random.default_rng(0).normal(size=(30, 8)).round(4)


@pytest.mark.parametrize("kind", ["list", "fixed", "jsonl"])
def test_lists_of_numbers_become_one_column_per_value(kind: str) -> None:
    rows = EMBEDDINGS.tolist()
    path = "x.jsonl" if kind == "jsonl" else "x.parquet"
    if kind == "jsonl":
        Path(path).write_text("".join(f'{{"v": {index / 4}, "emb": {row}}}\n' for index, row in enumerate(rows)))
    else:
        lists = pyarrow.array(
            rows, pyarrow.list_(pyarrow.float64(), 8) if kind == "fixed" else pyarrow.list_(pyarrow.float64())
        )
        pyarrow.parquet.write_table(
            pyarrow.table({"v": [index / 4 for index in range(30)], "emb": lists}), path, row_group_size=7
        )
    found = silently(load, path)
    np.testing.assert_array_equal(found.raw(0, 30)[:, 1:], EMBEDDINGS)
    assert found.form.columns is not None and found.form.columns.values == ("v", *(f"emb[{index}]" for index in range(8)))


@pytest.mark.parametrize("kind", ["parquet", "jsonl"])
def test_lists_of_several_lengths_are_an_error(kind: str) -> None:
    rows = [[1.0, 2.0], [3.0]]
    if kind == "jsonl":
        Path("x.jsonl").write_text("".join(f'{{"emb": {row}}}\n' for row in rows))
    else:
        pyarrow.parquet.write_table(pyarrow.table({"emb": rows}), "x.parquet")
    with pytest.raises(DataError, match="row 2 \\(line 2\\): a list is not as long|lists of 2 and of 1 numbers"):
        load(f"x.{kind}")


def test_the_only_table_in_a_zip_archive_is_read() -> None:
    with zipfile.ZipFile("x.zip", "w") as archive:
        archive.writestr("folder/", "")
        archive.writestr("folder/x.csv", "a,b\n1.5,2\n3,4\n")
        archive.writestr("__MACOSX/folder/._x.csv", "x")
    assert silently(load, "x.zip").raw(0, 9).tolist() == [[1.5, 2], [3, 4]]


@pytest.mark.parametrize("encoding", ["utf-16-le", "utf-16-be"])
def test_wide_text_without_its_mark_is_read(encoding: str) -> None:
    Path("x.csv").write_bytes("a,b\n1.5,2\n3,4\n".encode(encoding))
    assert silently(load, "x.csv").raw(0, 9).tolist() == [[1.5, 2], [3, 4]]


SIGNED = {"12%": 12, "-3.5 %": -3.5, "$5": 5, "-$1,234.50": -1234.5, "€ 3,50": 3.5, "7 €": 7, "£-2": -2}


@pytest.mark.parametrize("cell", SIGNED)
def test_a_number_is_read_without_its_sign_which_is_reported(cell: str) -> None:
    Path("x.csv").write_text(
        "p;v\n" + f"{cell};1.5\n" * 5 if "," not in cell or "€" not in cell else "p;v\n" + f"{cell};1,5\n" * 5
    )
    with captured_log() as log:
        assert load("x.csv", header=True).raw(0, 9).tolist() == [[SIGNED[cell], 1.5]] * 5
    assert any(f"{cell!r} is read as {SIGNED[cell]:g} (column p)" in line for line in log)


@pytest.mark.parametrize(("cells", "row"), [(["12%", "0.12"], 2), (["0.5", "1.5", "20%"], 3), (["$5", "3", "€5"], 3)])
def test_a_column_with_two_units_is_an_error(cells: list[str], row: int) -> None:
    Path("x.csv").write_text("p;v\n" + "".join(f"{cell};1\n" for cell in cells))
    with (
        captured_log(),
        pytest.raises(
            DataError, match=rf"x.csv: row {row} \(line {row + 1}\), column p: .* the numbers of a column have one unit"
        ),
    ):
        load("x.csv")


@pytest.mark.parametrize("word", ["-", ".", "n/a", "#N/A", "<NA>", "NULL", "1.#IND", "?"])
def test_words_for_missing_numbers_are_missing_values(word: str) -> None:
    Path("x.csv").write_text("p,v\n1.5,2\n" + f"{word},3\n4,5\n")
    with captured_log():
        assert load("x.csv", missing="drop").raw(0, 9).tolist() == [[1.5, 2], [4, 5]]


def test_numbers_with_a_unit_are_named() -> None:
    Path("x.csv").write_text("p;v\n" + "7 kg;1\n" * 5)
    with pytest.raises(DataError, match=r"The column p holds numbers with a unit \('7 kg'\)"):
        load("x.csv")


def test_folders_of_other_things_are_named() -> None:
    for name in ("days/a.csv", "days/b.npy", "days/c.npy"):
        Path(name).parent.mkdir(exist_ok=True)
        Path(name).write_text("a\n1\n")
    with pytest.raises(DataError, match=r"it has 2 \.npy, 1 \.csv: to read tables alone, name their pattern: 'days/\*\.csv'"):
        load("days")


def test_marks_that_yaml_would_not_read_can_be_typed() -> None:
    assert parse_config("", "x", ["data.decimal=,", "data.thousands=."]).data.thousands == "."
    assert parse_config("", "x", ["data.thousands='"]).data.thousands == "'"
    with pytest.raises(ConfigError, match=r"x:2: not valid YAML: .*write a Windows path in single quotes"):
        parse_config('data:\n  dataset: "C:\\Users\\me\\x.csv"', "x")
