"""What an alert needs: the line and the user's own key beside each item, and events."""

import csv
import json
from collections.abc import Sequence
from dataclasses import replace
from itertools import groupby
from pathlib import Path

import numpy as np
import pyarrow
import pyarrow.parquet
import pytest
from conftest import Tiedae
from tiny_models import DIGITS, save_run

from tiedae_cli.data.columns import Column, Columns
from tiedae_cli.data.item_set import ItemForm
from tiedae_cli.runs import checkpoint

NAMES = ("flow", "temp")
COLUMNS = Columns(tuple(map(Column, NAMES)))
ROWS = np.random.default_rng(3).normal(size=(12, 2)).round(3)
TIMES = [f"2024-03-01 {hour:02}:00" for hour in range(12)]
SCORE = ("--threshold", "1", "-q")


@pytest.fixture(autouse=True)
def models(empty_folder: Path) -> None:
    """A model of rows and one of windows of three rows, made for the columns flow and temp."""
    save_run(Path("runs"), "rows", ItemForm((1, 1, 2), "vectors", columns=COLUMNS), output="linear")
    save_run(Path("runs"), "windows", ItemForm((1, 3, 2), "vectors", columns=COLUMNS), output="linear")
    path = Path("runs/windows/best.safetensors")
    made = checkpoint.load(path)
    data = made.config.data.model_copy(update={"window": 3})
    replace(made, config=made.config.model_copy(update={"data": data})).save(path)


def write_log(path: str = "log.csv", /, **columns: Sequence[object]) -> str:
    """Write a table of ``ROWS`` after some other columns."""
    with open(path, "w", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow([*columns, *NAMES])
        writer.writerows([*others, *row] for *others, row in zip(*columns.values(), ROWS.tolist(), strict=True))
    return path


@pytest.mark.parametrize("model", ["rows", "windows"])
def test_each_item_of_a_text_has_its_line_and_each_bad_row_is_named_by_both(tiedae: Tiedae, model: str) -> None:
    lines = Path(write_log()).read_text().splitlines()
    lines[0:0] = ["# a log", "# of a pump"]
    lines.insert(6, "")
    lines[12] = "1,much"
    Path("log.csv").write_text("\n".join(lines))
    ran = tiedae("score", f"runs/{model}", "log.csv", *SCORE)
    expected = list(enumerate([4, 5, 6, 8, 9, 10, 11, 12, 13, 14, 15, 16]))  # line 7 is blank
    assert [(one["item"], one["line"]) for one in ran.lines] == [pair for pair in expected if pair[1] != 13]
    assert "row 9 (line 13), column temp: 'much' is not a number" in ran.err


def test_a_line_break_in_a_cell_moves_the_lines_after_it(tiedae: Tiedae) -> None:
    write_log(note=["two\nlines" if row in (2, 5) else "one" for row in range(12)])
    found = tiedae("score", "runs/rows", "log.csv", *SCORE).lines
    assert [one["line"] for one in found] == [2, 3, 4, 6, 7, 8, 10, 11, 12, 13, 14, 15]
    text = Path("log.csv").read_text().splitlines()
    assert all(text[one["line"] - 1].split(",")[0] in ("one", '"two') for one in found)


def test_json_lines_have_lines_and_arrays_do_not(tiedae: Tiedae) -> None:
    objects = [json.dumps(dict(zip(NAMES, row, strict=True))) for row in ROWS.tolist()]
    Path("log.jsonl").write_text("\n\n".join(objects))
    assert [one["line"] for one in tiedae("score", "runs/rows", "log.jsonl", *SCORE).lines] == list(range(1, 25, 2))
    np.save("log.npy", ROWS)
    assert "line" not in tiedae("score", "runs/rows", "log.npy", *SCORE).lines[0]
    both = tiedae("score", "runs/rows", "log.npy", "log.jsonl", *SCORE).lines
    assert ["line" in one for one in both] == [False] * 12 + [True] * 12
    both_csv = tiedae("score", "runs/rows", "log.npy", "log.jsonl", *SCORE, "--format", "csv").out
    cells = list(csv.DictReader(both_csv.splitlines()))
    assert [cell["line"] for cell in cells] == [""] * 12 + [str(line) for line in range(1, 25, 2)]


@pytest.mark.parametrize("model", ["rows", "windows"])
@pytest.mark.parametrize("name", ["time", "Datetime", "id", "when"])
def test_the_only_time_stamp_or_index_is_the_id(tiedae: Tiedae, model: str, name: str) -> None:
    keys = [str(1000 + 7 * row) for row in range(12)] if name == "id" else TIMES
    write_log(**{name: keys})
    assert [one["id"] for one in tiedae("score", f"runs/{model}", "log.csv", *SCORE).lines] == keys
    codes = tiedae("encode", f"runs/{model}", "log.csv", "--json", "-q").lines
    assert [one["id"] for one in codes] == keys[: len(codes)]  # a window's id is that of its first row


def test_two_keys_are_a_choice_which_id_makes(tiedae: Tiedae) -> None:
    write_log(id=list(range(12)), time=TIMES, tag=[f"007-{row}" for row in range(12)])
    ran = tiedae("score", "runs/rows", "log.csv", "--threshold", "1")
    assert "id" not in ran.lines[0]
    assert "log.csv: each of the columns id, time could be the id of a row; --id id chooses one" in ran.err
    for name, first in (("id", "0"), ("time", TIMES[0]), ("tag", "007-0")):
        assert tiedae("score", "runs/rows", "log.csv", *SCORE, "--id", name).lines[0]["id"] == first
    assert tiedae("score", "runs/windows", "log.csv", *SCORE).lines[0]["id"] == TIMES[0]  # the time of its row


@pytest.mark.slow
def test_every_format_carries_the_id(tiedae: Tiedae) -> None:
    write_log(time=TIMES)
    for kind in ("csv", "parquet", "jsonl"):
        for command in ("score", "encode"):
            options = SCORE if command == "score" else ["-q"]
            assert tiedae(command, "runs/rows", "log.csv", *options, "-o", f"{command}.{kind}").code == 0
    for command in ("score", "encode"):
        with open(f"{command}.csv", newline="") as file:
            assert [row["id"] for row in csv.DictReader(file)] == TIMES
        assert pyarrow.parquet.read_table(f"{command}.parquet")["id"].to_pylist() == TIMES
        assert [json.loads(line)["id"] for line in Path(f"{command}.jsonl").read_text().splitlines()] == TIMES
    found = tiedae("score", "runs/rows", "log.csv", "-q", "--threshold", "0", "--top", "3", "--explain", "1").lines
    assert all(one["id"] == TIMES[one["item"]] and one["because"] for one in found)


def test_codes_with_ids_are_decoded_as_codes_without(tiedae: Tiedae) -> None:
    write_log(time=TIMES)
    for kind in ("csv", "parquet"):
        tiedae("encode", "runs/rows", "log.csv", "-q", "-o", f"with.{kind}")
        write_log("plain.csv")
        tiedae("encode", "runs/rows", "plain.csv", "-q", "-o", f"without.{kind}")
        ran = [tiedae("decode", "runs/rows", f"{name}.{kind}", "--json", "-q") for name in ("with", "without")]
        assert ran[0].code == 0 and ran[0].out == ran[1].out


def test_ids_keep_their_type(tiedae: Tiedae) -> None:
    keys = ["007", 7, 12345678901234567890, None, *range(8)]
    rows = ROWS.tolist()
    text = [json.dumps({"key": key, **dict(zip(NAMES, row, strict=True))}) for key, row in zip(keys, rows, strict=True)]
    Path("log.jsonl").write_text("\n".join(text))
    assert [one["id"] for one in tiedae("score", "runs/rows", "log.jsonl", *SCORE, "--id", "key").lines] == keys
    times = pyarrow.array([f"2024-03-01 {hour:02}:00:00" for hour in range(12)]).cast(pyarrow.timestamp("ns"))
    table = pyarrow.table({"when": times, "number": range(12), **dict(zip(NAMES, ROWS.T.copy(), strict=True))})
    pyarrow.parquet.write_table(table, "log.parquet")
    found = tiedae("score", "runs/rows", "log.parquet", *SCORE).lines
    assert [one["id"] for one in found] == [f"{time}:00" for time in TIMES]
    numbers = tiedae("score", "runs/rows", "log.parquet", *SCORE, "--id", "number").lines
    assert [one["id"] for one in numbers] == list(range(12))


def test_an_id_that_does_not_exist_is_refused(tiedae: Tiedae) -> None:
    write_log(time=TIMES)
    np.save("log.npy", ROWS)
    for command in ("score", "encode"):
        options = SCORE if command == "score" else ["--json", "-q"]
        ran = tiedae(command, "runs/rows", "log.csv", *options, "--id", "tme")
        assert ran.code == 2 and "--id tme: log.csv has no such column (it has time, flow, temp)" in ran.err
        ran = tiedae(command, "runs/rows", "log.npy", *options, "--id", "time")
        assert ran.code == 2 and "--id time: log.npy has no columns with names" in ran.err
        ran = tiedae(command, "runs/rows", *options, "--id", "time")
        assert ran.code == 2 and "name a file that has this column" in ran.err
    ran = tiedae("encode", "runs/rows", "log.csv", "--id", "time", "-o", "codes.npy")
    assert ran.code == 2 and "use --format csv, jsonl or parquet" in ran.err


def write_outlying_log() -> str:
    """Write a log with a time column, three high rows that follow each other, and one more."""
    rows = ROWS.copy()
    rows[[3, 4, 5, 9]] += [[50, 0], [90, 0], [40, 0], [0, 70]]
    lines = [f"{time},{flow},{temp}\n" for time, (flow, temp) in zip(TIMES, rows.tolist(), strict=True)]
    Path("log.csv").write_text("time,flow,temp\n" + "".join(lines))
    return "log.csv"


@pytest.mark.parametrize("model", ["rows", "windows"])
def test_events_are_the_runs_of_outlying_rows(tiedae: Tiedae, model: str) -> None:
    asked = ["score", f"runs/{model}", write_outlying_log(), "--threshold", "300", "-q"]
    rows, events = tiedae(*asked).lines, tiedae(*asked, "--events").lines
    runs = [list(run) for yes, run in groupby(rows, key=lambda row: bool(row["outlier"])) if yes]
    assert len(runs) == len(events) > 0
    for run, event in zip(runs, events, strict=True):
        peak = max(run, key=lambda row: float(row["squared_error"]))
        assert (event["from"], event["to"]) == (run[0]["id"], run[-1]["id"])
        assert (event["items"], event["lines"]) == ([run[0]["item"], run[-1]["item"]], [run[0]["line"], run[-1]["line"]])
        assert (event["rows"], event["threshold"]) == (len(run), 300)
        names = ("item", "line", "id")
        assert event["peak"] == {**{name: peak[name] for name in names}, "score": pytest.approx(peak["squared_error"])}
    if model == "rows":
        assert [event["items"] for event in events] == [[3, 5], [9, 9]]
        explained = {row["item"]: row.get("because") for row in tiedae(*asked, "--explain", "2").lines}
        assert [event["columns"] for event in events] == [explained[event["peak"]["item"]] for event in events]


def test_a_column_of_an_event_is_named_once_and_explain_says_how_many(tiedae: Tiedae) -> None:
    for model in ("rows", "windows"):
        asked = ["score", f"runs/{model}", write_outlying_log(), "--threshold", "300", "-q", "--events"]
        for event in tiedae(*asked).lines:
            assert sorted(reason["column"] for reason in event["columns"]) == ["flow", "temp"]
        assert all(len(event["columns"]) == 1 for event in tiedae(*asked, "--explain", "1").lines)


def test_fail_above_counts_events_and_wins_over_unreadable_rows(tiedae: Tiedae) -> None:
    asked = ["score", "runs/rows", write_outlying_log(), "--threshold", "300"]
    ran = tiedae(*asked, "--events", "--fail-above", "2")
    assert ran.code == 0 and "4 of 12 items are above the threshold, in 2 events" in ran.err
    ran = tiedae(*asked, "--events", "--fail-above", "1")
    assert ran.code == 3 and "2 events, --fail-above allows 1" in ran.err
    assert tiedae(*asked, "--fail-above", "3").code == 3
    text = Path("log.csv").read_text().replace(TIMES[4] + ",", TIMES[4] + ",broken")
    Path("log.csv").write_text(text)
    ran = tiedae(*asked, "--events", "--fail-above", "2")  # the unreadable row parts the first event
    assert ran.code == 3 and "3 events, --fail-above allows 2; 1 item could not be read" in ran.err
    (summary,) = tiedae(*asked, "--events", "--summary").lines
    assert (summary["outliers"], summary["events"], summary["unreadable"]) == (3, 3, 1)


def test_a_summary_says_where_the_highest_score_is(tiedae: Tiedae) -> None:
    asked = ["score", "runs/rows", write_outlying_log(), *SCORE]
    (worst,), (summary,) = tiedae(*asked, "--top", "1").lines, tiedae(*asked, "--summary").lines
    names = ("item", "line", "id")
    assert summary["highest"] == {**{name: worst[name] for name in names}, "score": worst["squared_error"]}


def test_events_that_cannot_be_are_refused(tiedae: Tiedae) -> None:
    save_run(Path("runs"), "digits", DIGITS)
    for options, problem in (
        (["--format", "csv"], "use --format jsonl"),
        (["-o", "events.parquet"], "use --format jsonl"),
        (["--top", "3"], "cannot be combined with --top"),
        (["--no-threshold"], "cannot be combined with --no-threshold"),
    ):
        threshold = [] if "--no-threshold" in options else ["--threshold", "1"]
        ran = tiedae("score", "runs/rows", write_outlying_log(), "--events", *threshold, *options)
        assert ran.code == 2 and problem in ran.err
    ran = tiedae("score", "runs/digits", "--events", "--threshold", "1")
    assert ran.code == 2 and "--events joins rows that follow each other; this model takes 8x8 gray images" in ran.err


def test_sorted_rows_keep_their_line_and_id(tiedae: Tiedae) -> None:
    path = Path("runs/windows/best.safetensors")
    made = checkpoint.load(path)
    data = made.config.data.model_copy(update={"time": "time"})
    replace(made, config=made.config.model_copy(update={"data": data})).save(path)
    header, *rows = Path(write_log(time=TIMES)).read_text().splitlines()
    Path("log.csv").write_text("\n".join([header, *reversed(rows)]))
    found = tiedae("score", "runs/windows", "log.csv", *SCORE).lines
    assert [(one["id"], one["line"], one["item"]) for one in found] == [
        (time, 13 - hour, 11 - hour) for hour, time in enumerate(TIMES)
    ]
