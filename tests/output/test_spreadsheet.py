"""``--spreadsheet`` writes CSV in which no cell begins a formula; without it CSV holds every text exactly."""

import csv
import shutil
from pathlib import Path

import numpy as np
import pytest
from conftest import Tiedae
from PIL import Image

from tiedae_cli.data.records import Records
from tiedae_cli.output.item_writer import write_records

TEXTS = ["=1+1", "+2", "-3", "@x", "\tx", "\uff1d1", "plain", "", "'quoted", "a=b"]


def rows(kind: str) -> list[list[str]]:
    write_records("x.csv", kind, [Records({"=item": TEXTS, "number": [-1.5] * len(TEXTS)})])
    with open("x.csv", newline="", encoding="utf-8") as file:
        return list(csv.reader(file))


def test_text_that_begins_like_a_formula_gets_an_apostrophe() -> None:
    head, *cells = rows("spreadsheet")
    assert head == ["'=item", "number"] and {number for _, number in cells} == {"-1.5"}
    assert [text for text, _ in cells] == ["'=1+1", "'+2", "'-3", "'@x", "'\\tx", "'\uff1d1", "plain", "", "'quoted", "a=b"]
    head, *cells = rows("csv")
    assert head[0] == "=item" and [text for text, _ in cells] == [text.replace("\t", "\\t") for text in TEXTS]


@pytest.mark.slow
@pytest.mark.parametrize("command", ["score", "encode"])
def test_names_of_files_are_no_formulas(command: str, digits_run: Path, tiedae: Tiedae) -> None:
    Path("photos").mkdir()
    Image.fromarray(np.zeros((8, 8), np.uint8)).save("photos/a.png")
    shutil.copy("photos/a.png", "=cmd.png")
    result = tiedae(command, digits_run, "=cmd.png", "photos", "--format", "csv", "--spreadsheet", "-q")
    assert result.code == 0 and [line[0] for line in csv.reader(result.out.splitlines())][1:] == ["'=cmd.png", "photos/a.png"]
    assert "=cmd.png" in tiedae(command, digits_run, "=cmd.png", "photos", "--format", "csv", "-q").out
    for kind in ("jsonl", "parquet"):
        result = tiedae(command, digits_run, "photos", "--format", kind, "--spreadsheet", "-o", "out", "-q")
        assert result.code == 2 and "--spreadsheet: for CSV only" in result.err
