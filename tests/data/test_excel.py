"""Spreadsheets: the sheet with numbers is read, value for value as openpyxl wrote it; several such sheets are named."""

import datetime
from typing import Any

import numpy as np
import pytest
from log_capture import captured_log

from tiedae_cli.config import DataConfig
from tiedae_cli.data.load_data import load_splits
from tiedae_cli.errors import ConfigError, DataError

openpyxl = pytest.importorskip("openpyxl")
pytest.importorskip("python_calamine")
ROWS = np.random.default_rng(3).normal(size=(30, 3)).round(6)


def write(sheets: dict[str, list[list[Any]]]) -> str:
    book = openpyxl.Workbook()
    book.remove(book.active)
    for name, rows in sheets.items():
        sheet = book.create_sheet(name)
        for row in rows:
            sheet.append(row)
    book.save("x.xlsx")
    return "x.xlsx"


def measured(factor: float = 1.0) -> list[list[Any]]:
    day = datetime.datetime(2024, 1, 1)
    rows = [[day + datetime.timedelta(hours=index), *(row * factor).round(6).tolist()] for index, row in enumerate(ROWS)]
    return [["Station 7"], [], ["time", "a", "b", "c"], *rows]


def load(**fields: Any) -> Any:
    return load_splits(DataConfig.model_validate({"dataset": "x.xlsx", "validation": 0, "test": 0, **fields})).train


def test_the_only_sheet_with_numbers_is_read() -> None:
    write({"Notes": [["made by", "x"]], "Data": measured()})
    with captured_log() as log:
        found = load()
    np.testing.assert_array_equal(found.raw(0, 99), ROWS)
    assert found.form.columns.values == ("a", "b", "c")
    said = "\n".join(log)
    assert "skipped 1 line before the table: 'Station 7'" in said
    assert "reads the sheet Data; ignored: Notes" in said and "ignored as dates: time" in said


def test_several_sheets_with_numbers_are_named() -> None:
    write({"Jan": measured(), "Feb": measured(2.0)})
    with captured_log(), pytest.raises(DataError, match=r"several sheets hold numbers \(Jan, Feb\).*--set data\.arrays=NAME"):
        load()
    with captured_log():
        np.testing.assert_array_equal(load(arrays="Feb").raw(0, 99), (ROWS * 2).round(6))
    with pytest.raises(ConfigError, match=r"has no sheet Mar \(it has Jan, Feb\)"):
        load(arrays="Mar")


def test_a_damaged_spreadsheet_is_named(tmp_path: Any) -> None:
    with open("x.xlsx", "wb") as file:
        file.write(b"PK\3\4 damaged")
    with pytest.raises(DataError, match=r"x\.xlsx: (not a spreadsheet, or damaged|damaged)"):
        load()
