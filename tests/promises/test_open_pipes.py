"""A pipe that stays open is answered row by row: the answer to a row is read before the next row is written."""

import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from conftest import Tiedae
from log_capture import captured_log
from tiny_models import save_run

from tiedae_cli.config import DataConfig
from tiedae_cli.data.columns import Column, Columns
from tiedae_cli.data.item_reader import ItemReader
from tiedae_cli.data.item_set import Block, ItemForm
from tiedae_cli.data.sources.part import stop
from tiedae_cli.data.windows import window_starts, windows_of
from tiedae_cli.runs import checkpoint

NAMES = ("flow", "temp")
COLUMNS = Columns(tuple(map(Column, NAMES)))
ROWS = np.random.default_rng(3).normal(size=(7, 2)).round(3).tolist()
TIMES = [f"2024-03-01 {hour:02}:00" for hour in range(7)]
PATIENCE = 60  # s, for a start on a busy machine
WINDOW = 3


def make_model(window: int) -> None:
    """Write the untrained model ``runs/m``."""
    save_run(Path("runs"), "m", ItemForm((1, window, 2), "vectors", columns=COLUMNS), output="linear")
    path = Path("runs/m/best.safetensors")
    made = checkpoint.load(path)
    data = made.config.data.model_copy(update={"window": window})
    replace(made, config=made.config.model_copy(update={"data": data})).save(path)


def csv_lines(header: bool = True) -> list[str]:
    rows = [f"{time},{flow},{temp}\n" for time, (flow, temp) in zip(TIMES, ROWS, strict=True)]
    return ["time,flow,temp\n" + rows[0], *rows[1:]] if header else rows


def json_lines() -> list[str]:
    return [json.dumps({"time": time, "flow": a, "temp": b}) + "\n" for time, (a, b) in zip(TIMES, ROWS, strict=True)]


class Process:
    """A command with a pipe at both ends."""

    def __init__(self, *words: str) -> None:
        command = [sys.executable, "-m", "tiedae_cli", *words]
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        self.timer = threading.Timer(PATIENCE, self.process.kill)  # then a read ends, and the test fails
        self.timer.start()

    def send(self, text: str) -> None:
        """Write a line."""
        assert self.process.stdin is not None
        self.process.stdin.write(text.encode())
        self.process.stdin.flush()

    def line(self) -> str:
        """Return the next line of the output; "" if there is none before ``PATIENCE`` ends."""
        assert self.process.stdout is not None
        return self.process.stdout.readline().decode()

    def end(self) -> tuple[str, int]:
        """Close the input; return the rest of the output and the exit code."""
        out, _ = self.process.communicate(timeout=PATIENCE)
        self.timer.cancel()
        return out.decode(), self.process.returncode


@pytest.fixture
def started() -> Iterator[list[Process]]:
    """Return a list of processes that end with the test."""
    processes: list[Process] = []
    yield processes
    for one in processes:
        one.timer.cancel()
        if one.process.poll() is None:
            one.process.kill()
            one.process.communicate()


SCORE = ("score", "runs/m", "-", "-q", "--threshold", "1")
ENCODE = ("encode", "runs/m", "-", "-q")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("words", "lines", "window"),
    [
        (SCORE, csv_lines(), 1),
        (SCORE, csv_lines(header=False), 1),  # as from tail -f
        (SCORE, csv_lines(), WINDOW),
        ((*SCORE, "--format", "csv"), json_lines(), 1),
        ((*ENCODE, "--json"), csv_lines(), 1),
    ],
)
def test_a_row_is_answered_before_the_next_one_is_written(
    tiedae: Tiedae, started: list[Process], words: tuple[str, ...], lines: list[str], window: int
) -> None:
    make_model(window)
    process = Process(*words)
    started.append(process)
    answers: list[str] = []
    for number, line in enumerate(lines):
        process.send(line)
        time.sleep(0.3 if number < 3 else 0)
        if number + 1 >= window:  # then a window of the row is complete, or the first row of three is
            answers += [process.line() for _ in range(1 + (not answers and "csv" in words))]
            assert answers[-1], f"no answer to row {number}"
    rest, code = process.end()
    assert code == 0
    text = "".join(answers) + rest
    whole = tiedae(*words, stdin="".join(lines)).out
    assert len(text.splitlines()) == len(whole.splitlines())
    if "csv" in words:
        return
    for one, same in zip(map(json.loads, text.splitlines()), map(json.loads, whole.splitlines()), strict=True):
        numbers = "code" if "code" in one else "squared_error"
        assert one[numbers] == pytest.approx(same[numbers], rel=1e-5, abs=1e-6)
        assert {name: one.get(name) for name in ("item", "line", "id")} == {
            name: same.get(name) for name in ("item", "line", "id")
        }


@pytest.mark.slow
def test_an_event_is_written_as_soon_as_it_has_ended(started: list[Process]) -> None:
    make_model(1)
    process = Process(*SCORE[:-1], "300", "--events")
    started.append(process)
    for line in ("time,flow,temp\n", "2024-03-01 00:00,0,0\n", "2024-03-01 01:00,90,0\n", "2024-03-01 02:00,0,0\n"):
        process.send(line)
    event = json.loads(process.line())
    assert (event["from"], event["to"], event["lines"]) == ("2024-03-01 01:00", "2024-03-01 01:00", [3, 3])
    assert process.end() == ("", 0)


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs named pipes")
@pytest.mark.parametrize("first", [1, 3, 25])
def test_a_gap_ends_a_series_however_the_pipe_was_cut(first: int) -> None:
    hours = [*range(30), *range(40, 50)]
    rows = [f"2024-03-{1 + hour // 24:02} {hour % 24:02}:00,{hour},1\n" for hour in hours]
    os.mkfifo("log")

    def write() -> None:
        with open("log", "w") as pipe:
            for part in ("time,flow,temp\n" + "".join(rows[:first]), *rows[first:]):
                pipe.write(part)
                pipe.flush()
                time.sleep(0.5 if part.startswith("time") else 0.02)

    writer = threading.Thread(target=write)
    writer.start()
    form = ItemForm((1, WINDOW, 2), "vectors", columns=COLUMNS)
    with captured_log():
        blocks = list(ItemReader(form, 100, data=DataConfig(window=WINDOW)).open_rows(["log"]).blocks)
    writer.join()
    found = [(block.series, row) for block in blocks for row in block.items]
    assert [row for _, row in found] == list(range(40))
    assert [series for series, _ in found] == [found[0][0]] * 30 + [found[-1][0]] * 10 and found[0][0] != found[-1][0]


def test_rows_of_windows_are_done_as_soon_as_no_window_to_come_can_hold_them() -> None:
    for window in (1, 2, 5):
        for stride in range(1, window + 1):
            blocks = (Block([row], np.zeros((1, 1), np.float32)) for row in range(30))
            for seen, windows in enumerate(windows_of(blocks, window, stride, stop), start=1):
                if windows.ends:
                    continue
                made = set(range(0, seen - window + 1, stride))
                to_come = {start for end in range(seen, 40) for start in window_starts(0, end, window, stride)} - made
                assert windows.done == min(to_come)
