"""Records written in blocks equal those that ``json`` and ``csv`` write one by one."""

import csv
import io
import json
import math
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

import numpy as np
import pyarrow.parquet
import pytest
from conftest import Tiedae
from hypothesis import given
from hypothesis import strategies as st
from typer.testing import CliRunner

from tiedae_cli.cli.app import app
from tiedae_cli.data.records import Records
from tiedae_cli.errors import InputError
from tiedae_cli.output import item_writer
from tiedae_cli.output.item_writer import FORMATS, ItemFormat, Layout, NumberColumn, choose_format, json_lines, write_records
from tiedae_cli.system.text import shown

CELLS = st.one_of(st.floats(), st.integers(), st.booleans(), st.text(max_size=6), st.none(), st.lists(st.floats(), max_size=2))
COLUMNS = st.dictionaries(
    st.text(min_size=1, max_size=5),
    st.one_of(
        *(st.lists(kind, min_size=4, max_size=4) for kind in (st.floats(), st.integers(), st.booleans(), st.text(), CELLS))
    ),
    min_size=1,
    max_size=4,
)


def plain(value: Any) -> Any:
    if isinstance(value, list):
        return [plain(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


@pytest.mark.slow
@given(COLUMNS, st.integers(0, 4), st.lists(st.one_of(st.none(), st.lists(st.floats())), min_size=4, max_size=4))
def test_json_lines_equal_those_of_the_json_module(columns: dict[str, list[Any]], count: int, extra: list[Any]) -> None:
    columns = {key: values[:count] for key, values in columns.items()}
    columns.pop("%d more", None)
    rows = [{key: plain(values[row]) for key, values in columns.items()} for row in range(count)]
    assert json_lines(Records(columns)) == "".join(json.dumps(row) + "\n" for row in rows)
    with_more = [
        {**row, "%d more": plain(value)} if value is not None else row for row, value in zip(rows, extra, strict=False)
    ]
    assert json_lines(Records(columns, {"%d more": extra[:count]})) == "".join(json.dumps(row) + "\n" for row in with_more)
    assert json_lines(Records({"item": range(3)})) == '{"item": 0}\n{"item": 1}\n{"item": 2}\n'


@given(columns=COLUMNS)
@pytest.mark.slow
def test_csv_equals_that_of_the_csv_module(tmp_path_factory: pytest.TempPathFactory, columns: dict[str, list[Any]]) -> None:
    columns = {"first": [1, 2, 3, 4], **columns}
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    writer.writerow(map(shown, columns))
    for row in zip(*columns.values(), strict=True):
        writer.writerow(
            str(value).lower() if isinstance(value, bool) else shown(value) if isinstance(value, str) else value
            for value in row
        )
    target = tmp_path_factory.mktemp("records") / "records.csv"
    assert write_records(str(target), "csv", [Records({key: [] for key in columns}), Records(columns)]) == 4
    assert target.read_text() == buffer.getvalue()


CODES = NumberColumn("code", (3,), np.dtype(np.float32))


def blocks_of_codes(*counts: int) -> Iterator[Records]:
    start = 0
    for count in counts:
        numbers = np.arange(start, start + count)
        yield Records({"item": numbers.tolist(), "code": (numbers[:, None] + np.array([0, 0.25, 0.5])).astype(np.float32)})
        start += count


@pytest.mark.parametrize("count", [None, 7])
@pytest.mark.parametrize("kind", FORMATS)
def test_every_format_holds_the_same_numbers(kind: str, count: int | None) -> None:
    assert write_records(f"x.{kind}", kind, blocks_of_codes(4, 0, 3), CODES, count) == 7
    expected = np.arange(7)[:, None] + np.array([0, 0.25, 0.5])
    if kind == "npy":
        found = np.load("x.npy")
    elif kind == "csv":
        found = np.loadtxt("x.csv", delimiter=",", skiprows=1)[:, 1:]
    elif kind == "jsonl":
        found = np.array([json.loads(line)["code"] for line in Path("x.jsonl").read_text().splitlines()])
    else:
        table = pyarrow.parquet.read_table("x.parquet")
        assert table.schema.names == ["item", "code_0", "code_1", "code_2"] and table["item"].to_pylist() == list(range(7))
        found = np.stack([table[name].to_numpy() for name in CODES.names], 1)
        assert found.dtype == np.float32
    assert np.array_equal(found, expected)


def test_parquet_groups_many_rows_per_row_group(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(item_writer, "ROW_GROUP", 10)
    assert write_records("x.parquet", "parquet", blocks_of_codes(*[4] * 7), CODES) == 28
    file = pyarrow.parquet.ParquetFile("x.parquet")
    assert file.read()["item"].to_pylist() == list(range(28))
    assert [file.metadata.row_group(index).num_rows for index in range(file.num_row_groups)] == [12, 12, 4]


def test_parquet_of_scores_has_the_types_of_their_values() -> None:
    block = Records(
        {"item": ["a.png", "b\n.png"], "label": [None, None], "squared_error": [1.5, math.nan], "outlier": [True, False]}
    )
    write_records("x.parquet", "parquet", [block])
    table = pyarrow.parquet.read_table("x.parquet")
    assert [str(kind) for kind in table.schema.types] == ["string", "string", "double", "bool"]
    assert table["item"].to_pylist() == ["a.png", "b\\n.png"] and table["outlier"].to_pylist() == [True, False]


def test_parquet_without_items_still_has_its_columns() -> None:
    assert write_records("x.parquet", "parquet", [], CODES) == 0
    assert pyarrow.parquet.read_table("x.parquet").schema.names == ["item", *CODES.names]


def test_parquet_refuses_a_column_of_two_types() -> None:
    blocks = [Records({"item": [1]}), Records({"item": ["one"]})]
    with pytest.raises(InputError, match="Parquet needs one type per column"):
        write_records("x.parquet", "parquet", blocks)
    assert not Path("x.parquet").exists()


@pytest.mark.slow
def test_codes_decode_alike_from_parquet_and_npy(digits_run: Path) -> None:
    runner = CliRunner()
    for kind in ("npy", "parquet"):
        assert runner.invoke(app, ["encode", "digits", "-q", "-o", f"codes.{kind}"]).exit_code == 0
        assert runner.invoke(app, ["decode", "digits", f"codes.{kind}", "-q", "--float", "-o", f"{kind}.npy"]).exit_code == 0
    assert np.array_equal(np.load("npy.npy"), np.load("parquet.npy"))
    piped = runner.invoke(app, ["score", "digits", "-q", "--format", "parquet"]).stdout_bytes
    lines = runner.invoke(app, ["score", "digits", "-q"]).stdout.splitlines()
    found = pyarrow.parquet.read_table(io.BytesIO(piped)).to_pylist()
    assert found == [json.loads(line) for line in lines]


def test_adding_a_format_takes_one_row(digits_run: Path, monkeypatch: pytest.MonkeyPatch, tiedae: Tiedae) -> None:
    """A function and a row of ``FORMATS`` add the format to options and suffixes."""

    def write_tabs(file: IO[bytes], blocks: Iterator[Records], layout: Layout) -> None:
        for block in blocks:
            for item, numbers in zip(block.columns["item"], block.columns["code"], strict=True):
                file.write(("\t".join(map(str, [item, *numbers.tolist()])) + "\n").encode())

    monkeypatch.setitem(FORMATS, "tsv", ItemFormat("TSV", write_tabs))
    result = tiedae("encode", "digits", "-q", "-o", "codes.tsv")
    assert result.code == 0, result.err
    tiedae("encode", "digits", "-q", "-o", "codes.npy")
    assert np.allclose(np.loadtxt("codes.tsv", delimiter="\t")[:, 1:], np.load("codes.npy"))
    with pytest.raises(InputError, match="choose npy, csv, jsonl, parquet or tsv"):
        choose_format("xml", False, "-", FORMATS, "csv")
