"""How text tables are written: number formats by evidence, distinct column names, preambles, encodings."""

import gzip
import json
from pathlib import Path

import numpy as np
import pyarrow
import pyarrow.feather
import pyarrow.parquet
import pytest
from log_capture import captured_log, silently

from tiedae_cli.config import DataConfig
from tiedae_cli.data.item_set import ItemSet
from tiedae_cli.data.load_data import load_splits
from tiedae_cli.errors import DataError

pytestmark = pytest.mark.slow


def load(path: str, **fields: object) -> ItemSet:
    return load_splits(DataConfig.model_validate({"dataset": path, "validation": 0, "test": 0, **fields})).train


def write(content: str | bytes, name: str = "x.csv") -> str:
    Path(name).write_bytes(content if isinstance(content, bytes) else content.encode())
    return name


def values(path: str, **fields: object) -> list[list[float]]:
    found: list[list[float]] = load(path, **fields).raw(0, 99).tolist()
    return found


FORMATS = {
    "a;b\n8.520;0,5\n844;-1,25": ([[8520, 0.5], [844, -1.25]], "'8.520' is read as 8520 (data.thousands: '.')"),
    "a\tb\n48,859\t0.5\n967\t1.25": ([[48859, 0.5], [967, 1.25]], "'48,859' is read as 48859 (data.thousands: ',')"),
    "a;b\n1.234.567;1\n2.345;2": ([[1234567, 1], [2345, 2]], "'1.234.567' is read as 1234567 (data.thousands: '.')"),
    "a;b\n1,234,567.5;1\n7;2": ([[1234567.5, 1], [7, 2]], "'1,234,567.5' is read as 1234567.5 (data.thousands: ',')"),
    "a;b\n1'234.5;1\n7;2": ([[1234.5, 1], [7, 2]], None),
    "a;b\n473 715,5;1\n7;2": ([[473715.5, 1], [7, 2]], None),
    "a;b\n473\u202f715,5;1\n7;2": ([[473715.5, 1], [7, 2]], None),
    "price,qty\n473 715,5\n1 200,7\n999,3": (
        [[473715, 5], [1200, 7], [999, 3]],
        "'473 715' is read as 473715 (data.thousands: ' ')",
    ),
    'a,b\n"1,234,567",1\n7,2': ([[1234567, 1], [7, 2]], "'1,234,567' is read as 1234567 (data.thousands: ',')"),
    'a,b\n"1,234",0.5\n7,2': ([[1234, 0.5], [7, 2]], "'1,234' is read as 1234 (data.thousands: ',')"),
}


@pytest.mark.parametrize("text", FORMATS)
def test_thousands_marks_are_read_on_evidence_and_reported(text: str) -> None:
    expected, note = FORMATS[text]
    with captured_log() as said:
        assert values(write(text)) == expected
    assert len(said) == 1 and "data.thousands" in said[0]
    assert note is None or said == [f"x.csv: {note}"]


@pytest.mark.parametrize(("mark", "other"), [(".", ","), (",", ".")])
def test_single_groups_alone_are_decimals_with_a_note_that_names_the_key(mark: str, other: str) -> None:
    text = f"a;b\n1{mark}234;5\n2{mark}345;6"
    with captured_log() as said:
        assert values(write(text)) == [[1.234, 5], [2.345, 6]]
    assert said == [
        f"x.csv: '1{mark}234' is read as 1.234, with decimals; if '{mark}' separates thousands: "
        f"--set \"data.thousands='{mark}'\""
    ]
    with captured_log():
        assert values("x.csv", thousands=mark) == [[1234, 5], [2345, 6]]
        assert values("x.csv", decimal=other) == [[1234, 5], [2345, 6]]
    assert silently(values, write(f"a;b\n1{mark}234;5\n0{mark}345;6")) == [[1.234, 5], [0.345, 6]]


@pytest.mark.parametrize("cells", [("1,5", "2.5"), ("1,234", "2.345"), ("1.234.567", "0.5"), ("1,234.5", "0,5")])
def test_cells_that_contradict_each_other_are_an_error_with_both_lines_to_type(cells: tuple[str, str]) -> None:
    with pytest.raises(DataError) as caught:
        load(write("a;b\n" + "".join(f"{cell};{index}\n" for index, cell in enumerate(cells))))
    for part in (*map(repr, cells), "--set \"data.decimal=','\"", "--set \"data.decimal='.'\""):
        assert part in str(caught.value)


def test_a_point_in_a_table_of_decimal_commas_is_a_bad_cell_not_another_number() -> None:
    text = "a;b\n" + "0,5;1\n" * 2000 + "0.5;1\n"
    with pytest.raises(DataError, match=r"row 2,001 \(line 2,00\d\), column a: '0\.5' is not a number"):
        load(write(text))


def test_generated_names_never_collide_and_no_column_is_lost() -> None:
    found = silently(load, write("x,x_2,x\n1,2,3\n4,5,6\n"))
    assert found.form.columns is not None and found.form.columns.values == ("x", "x_2", "x_3")
    assert found.raw(0, 9).tolist() == [[1, 2, 3], [4, 5, 6]]


@pytest.mark.parametrize("kind", ["parquet", "feather"])
def test_columns_of_one_name_in_columnar_files_are_all_read(kind: str) -> None:
    table = pyarrow.Table.from_arrays([pyarrow.array([1.5, 2.5]), pyarrow.array([3.5, 4.5])], names=["x", "x"])
    if kind == "parquet":
        pyarrow.parquet.write_table(table, "x.parquet")
    else:
        pyarrow.feather.write_feather(table, "x.feather")
    assert values(f"x.{kind}") == [[1.5, 3.5], [2.5, 4.5]]


def test_a_key_that_appears_twice_in_json_lines_is_an_error() -> None:
    with pytest.raises(DataError, match=r"row 2 \(line 2\): the key 'a' appears twice"):
        load(write('{"a": 1}\n{"a": 1, "a": 2}\n', "x.jsonl"))


PREAMBLES = {
    "sep=;\na;b\n1,5;2\n3;4": None,
    "# made by a sensor\n# version 2\na;b\n1,5;2\n3;4": "skipped 2 lines before the table: '# made by a sensor'",
    "Sensor export\n\na;b\n1,5;2\n3;4\n5;6": "skipped 1 line before the table: 'Sensor export'",
    "# a b\n1.5 2\n3 4": None,
    "# made by numpy\n# a b\n1.5 2\n3 4": "skipped 1 line before the table: '# made by numpy'",
    "a;b\n°C;bar\n1,5;2\n3;4": "skipped the row of units after the header: '°C;bar'",
}


@pytest.mark.parametrize("text", PREAMBLES)
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "gzip"])
def test_lines_before_the_table_and_units_are_skipped_and_reported(text: str, encoding: str) -> None:
    content = gzip.compress(text.encode()) if encoding == "gzip" else text.encode(encoding)
    with captured_log() as said:
        found = load(write(content))
    assert found.raw(0, 2).tolist() == [[1.5, 2], [3, 4]]
    assert found.form.columns is not None and found.form.columns.values == ("a", "b")
    note = PREAMBLES[text]
    assert said == ([] if note is None else [f"x.csv: {note}"])


@pytest.mark.parametrize("word", ["n/a", "#N/A", "<NA>", "NaN", "NULL", ""])
def test_words_for_missing_values_are_missing(word: str) -> None:
    assert np.isnan(values(write(f"a,b\n1,2\n{word},3\n"), missing="mean")[1][0])


@pytest.mark.parametrize("form", ["csv", "jsonl"])
def test_rows_longer_than_a_block_of_the_head_are_read(form: str) -> None:
    rows = np.random.default_rng(0).normal(size=(3, 20_000))
    names = [f"gene_{index}" for index in range(20_000)]
    if form == "csv":
        lines = [",".join(names), *(",".join(map(repr, row)) for row in rows.tolist())]
    else:
        lines = [json.dumps(dict(zip(names, row, strict=True))) for row in rows.tolist()]
    np.testing.assert_array_equal(load(write("\n".join(lines), f"x.{form}")).raw(0, 3), rows)


@pytest.mark.parametrize("character", ["\x0b", "\x0c", "\x1c", "\x85", "\u2028"])
@pytest.mark.parametrize("text", ["a{}x,b\n", '"a{}x",b\n', "# a{}comment\n# another\na,b\n"])
def test_only_line_breaks_end_a_line(text: str, character: str) -> None:
    """Python's ``splitlines`` ends lines at more characters, which took the first row for the heading."""
    assert values(write(text.format(character) + "1,2\n3,4\n")) == [[1, 2], [3, 4]]


def test_a_quoted_heading_may_hold_a_line_break() -> None:
    columns = load(write('"a\nx",b\n1,2\n3,4\n')).form.columns
    assert columns is not None and [column.name for column in columns.fed] == ["a\nx", "b"]


def test_lines_before_a_table_end_with_any_line_break() -> None:
    assert values(write("Title\r\ra,b\r1,2\r3,4\r")) == [[1, 2], [3, 4]]


def test_a_number_of_thousands_of_digits_is_read() -> None:
    assert values(write("a,b\n1,0." + "3" * 5000 + "\n3,4\n")) == [[1, 1 / 3], [3, 4]]
