"""The terminal: what goes to stderr for people and to stdout for pipelines."""

import io
import json
import math
import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import cast

import numpy as np
import pytest
from rich.console import Console
from rich.table import Table
from rich.text import Text

from tiedae_cli.cli.evaluation_table import evaluation_table, evaluation_values
from tiedae_cli.data.records import Records
from tiedae_cli.errors import InputError
from tiedae_cli.model.inference import Evaluation
from tiedae_cli.model.metrics import ErrorSum
from tiedae_cli.output.figures import Answers
from tiedae_cli.output.item_writer import NumberColumn, write_records
from tiedae_cli.output.terminal import Terminal, write_output
from tiedae_cli.output.training_display import TrainingDisplay
from tiedae_cli.runs.observer import Progress, TrainingStart
from tiedae_cli.runs.training_state import JOINT, EpochReport
from tiedae_cli.system.json_text import json_text

Captured = pytest.CaptureFixture[str]
REPORT = EpochReport(JOINT, 3, 5, 0.0123456, 0.0234567, 1.5, 36_666.7, 0.01, True)
EVALUATION = Evaluation("test", ErrorSum(20.0, 10, 4), ErrorSum(30.0, 10, 4), 2, ErrorSum(80.0, 10, 4))


@contextmanager
def displayed(terminal: Terminal) -> Iterator[TrainingDisplay]:
    """Show a training from its start to its stop; its data does not matter."""
    display = TrainingDisplay(terminal)
    display.started(cast(TrainingStart, None))
    yield display
    display.stopped(None)


def on_a_terminal(quiet: bool = False, **options: object) -> tuple[Terminal, io.StringIO]:
    """Return a terminal with color on stderr, 80 characters wide, and its output."""
    shown = io.StringIO()
    terminal = Terminal(quiet)
    settings = {"color_system": "truecolor", "width": 80, "highlight": False, **options}
    terminal.console = Console(file=shown, force_terminal=True, quiet=quiet, **settings)
    return terminal, shown


def test_notes_go_to_stderr_and_results_to_stdout(capsys: Captured) -> None:
    terminal = Terminal()
    terminal.note("a note that is longer than the eighty columns which rich assumes if there is no terminal to ask [x]")
    terminal.warn("careful")
    terminal.result("runs/x/best.safetensors")
    terminal.json_line(event="epoch")
    found = capsys.readouterr()
    assert found.out == "runs/x/best.safetensors\n"
    assert found.err.splitlines() == [
        "a note that is longer than the eighty columns which rich assumes if there is no terminal to ask [x]",
        "warning: careful",
    ]


def test_quiet_silences_stderr_only(capsys: Captured) -> None:
    terminal = Terminal(quiet=True)
    terminal.note("a note")
    terminal.warn("careful")
    with displayed(terminal) as display:
        display.progress(Progress(JOINT, 1, 5, 2, 10, 20, 0.5))
        display.epoch(REPORT)
    terminal.result("x")
    found = capsys.readouterr()
    assert (found.out, found.err) == ("x\n", "")


def test_json_replaces_results_and_tables(capsys: Captured) -> None:
    terminal = Terminal(as_json=True)
    terminal.result("x")
    terminal.table(evaluation_table(EVALUATION, "x"))
    terminal.json_line(event="done", checkpoint="x")
    assert json.loads(capsys.readouterr().out) == {"event": "done", "checkpoint": "x"}


def test_each_json_line_is_flushed_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """A reader at the other end of a pipe sees an epoch when it ends, not when a buffer is full."""
    pipe = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(pipe))
    Terminal(as_json=True).json_line(epoch=1)
    assert pipe.getvalue() == b'{"epoch": 1}\n'
    Terminal().result("x")
    assert pipe.getvalue().endswith(b"x\n")


def test_nan_and_infinity_become_null_in_json() -> None:
    line = json_text({"a": math.nan, "b": math.inf, "c": 1.5, "d": None, "e": "é\n"})
    assert json.loads(line) == {"a": None, "b": None, "c": 1.5, "d": None, "e": "é\n"} and "\n" not in line


def test_without_a_terminal_each_epoch_is_one_line(capsys: Captured) -> None:
    with displayed(Terminal()) as display:
        display.progress(Progress(JOINT, 1, 5, 2, 10, 20, 0.5))
        display.epoch(REPORT)
        display.epoch(EpochReport(JOINT, 4, 5, 0.01, None, 0.5, 100.0, 0.01, False))
    found = capsys.readouterr()
    assert found.out == ""
    assert found.err.splitlines() == [
        "epoch 3/5  train MSE 0.012346  validation MSE 0.023457  1.50 s  36,667 images/s",
        "epoch 4/5  train MSE 0.010000  0.50 s  100 images/s",
    ]


def test_on_a_terminal_epochs_form_a_table_with_a_progress_bar() -> None:
    terminal, shown = on_a_terminal(no_color=True)
    with displayed(terminal) as display:
        display.progress(Progress(JOINT, 1, 12, 50, 100, 5000, 0.5))
        display.bar.refresh()
        display.epoch(EpochReport(JOINT, 1, 12, 0.05, 0.04, 1.25, 1000.0, 0.01, True))
        display.progress(Progress(JOINT, 2, 12, 1, 100, 100, 0.01))
        display.epoch(EpochReport(JOINT, 2, 12, 0.03, None, 1.5, 1000.0, 0.01, False))
    text = shown.getvalue()
    lines = text.replace("\r", "\n").splitlines()
    assert any("epoch 1/12" in line and " 50%" in line and "10,000 images/s" in line for line in lines)
    rows = [" ".join(line.split()) for line in lines]
    (heading,) = (re.sub(r"\x1b\[[0-9;]*[mK]", "", line) for line in lines if "train MSE" in line)
    (first,) = (re.sub(r"\x1b\[[0-9;]*[mK]", "", line) for line in lines if "0.050000" in line)
    for name, value in (("epoch", "1/12"), ("train MSE", "0.050000"), ("validation", "0.040000"), ("seconds", "1.25")):
        assert heading.index(name) + len(name) == first.index(value) + len(value)  # a number ends under its heading's end
    assert any("1/12 0.050000 0.040000 1.25 best" in row for row in rows)
    assert any("2/12 0.030000 - 1.50" in row and "best" not in row for row in rows)


def test_a_long_training_keeps_every_kth_row_and_shows_the_newest_above_the_bar() -> None:
    terminal, shown = on_a_terminal(no_color=True, height=24)
    with displayed(terminal) as display:
        for epoch in range(1, 38):
            display.epoch(EpochReport(JOINT, epoch, 200, 1 / epoch, 0.04, 1.25, 1000.0, 0.01, True))
            display.bar.refresh()
            assert (display.bar.row is None) is (epoch == 1 or epoch % 10 == 0)
    plain = re.sub(r"\x1b\[[0-9;]*[a-zA-Z]", "", shown.getvalue()).replace("\r", "\n").splitlines()
    rows = [line.split()[0] for line in plain if line.endswith("best")]
    assert {"1/200", "10/200", "20/200", "30/200"} <= set(rows) and rows[-1] == "37/200"  # stopped there
    assert any(line.startswith("epoch 37/200") and "1,000 images/s" in line for line in plain)


@pytest.mark.parametrize(("epochs", "rows"), [(1, 1), (20, 20), (21, 11), (60, 13), (200, 21), (1000, 21), (12_345, 13)])
def test_the_rows_of_a_training_fit_a_window(epochs: int, rows: int) -> None:
    terminal, shown = on_a_terminal(no_color=True)
    display = TrainingDisplay(terminal)
    for epoch in range(1, epochs + 1):
        display.epoch(EpochReport(JOINT, epoch, epochs, 0.5, 0.04, 1.25, 1000.0, 0.01, False))
    kept = [line.split()[0] for line in shown.getvalue().splitlines() if "/" in line]
    assert kept[0] == f"1/{epochs}" and kept[-1] == f"{epochs}/{epochs}"
    assert len(kept) in (rows, rows + 1)  # the last epoch need not be a k-th one


def wide_table() -> Table:
    table = Table(title="runs/mnist/best.safetensors on mnist, test split, 10,000 images of the kind that people draw by hand")
    for heading in ("run", "squared error per image", "optional", "PSNR dB"):
        table.add_column(heading, justify="left" if heading == "run" else "right")
    table.add_row("runs/mnist-best", "0.9886", "1234567", "28.99")
    table.add_row(Text("PCA, 150 components"), "2.6842", "7654321", "24.66")
    return table


@pytest.mark.parametrize("width", range(12, 100, 4))
def test_no_width_breaks_a_word_of_a_table(width: int, monkeypatch: pytest.MonkeyPatch, capsys: Captured) -> None:
    monkeypatch.setenv("COLUMNS", str(width))
    monkeypatch.setenv("FORCE_COLOR", "1")
    Terminal().table(wide_table(), ("optional", "PSNR dB"))
    found = capsys.readouterr()
    shown = re.sub(r"\x1b\[[0-9;]*m", "", found.out)
    assert all(word in re.split(r"[\s│┃:]+", shown) for word in ("0.9886", "2.6842", "components", "squared", "image"))
    assert (width < 15) or "runs/mnist-best" in shown
    assert ("7654321" in shown) is ("optional" not in found.err)
    if width >= 30:
        assert max(map(len, shown.splitlines())) <= width


def test_a_table_without_a_terminal_has_all_its_columns(capsys: Captured) -> None:
    Terminal().table(wide_table(), ("optional", "PSNR dB"))
    found = capsys.readouterr()
    assert "7654321" in found.out and "28.99" in found.out and found.err == ""


def test_a_table_that_cannot_fit_becomes_a_list(monkeypatch: pytest.MonkeyPatch, capsys: Captured) -> None:
    monkeypatch.setenv("COLUMNS", "22")
    monkeypatch.setenv("FORCE_COLOR", "1")
    Terminal().table(wide_table(), ("optional", "PSNR dB"))
    lines = [line.strip() for line in re.sub(r"\x1b\[[0-9;]*m", "", capsys.readouterr().out).splitlines()]
    assert "run: runs/mnist-best" in lines and "PSNR dB: 28.99" in lines


def test_notes_break_between_words_on_a_terminal_and_lines_to_type_stay_whole() -> None:
    terminal, shown = on_a_terminal(width=40)
    terminal.note("best epoch 59: MSE 0.005519 per pixel, 2.1 times less than PCA")
    terminal.note("interrupted; continue with: tiedae train --resume runs/digits-and-more")
    assert shown.getvalue().splitlines() == [
        "best epoch 59: MSE 0.005519 per pixel, ",
        "2.1 times less than PCA",
        "interrupted; continue with: tiedae train --resume runs/digits-and-more",
    ]


def test_binary_data_is_not_written_to_a_terminal(
    monkeypatch: pytest.MonkeyPatch, capfdbinary: pytest.CaptureFixture[bytes]
) -> None:
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    with pytest.raises(InputError, match=r"^refusing to write binary data to a terminal; give a file name instead of -"):
        write_output("-", b"\x89PNG\0")
    blocks = [Records({"item": (0,), "code": np.zeros((1, 2), np.float32)})]
    with pytest.raises(InputError, match="binary data"):
        write_records("-", "npy", blocks, NumberColumn("code", (2,), np.dtype(np.float32)), 1)
    write_output("-", b"words\n")
    assert capfdbinary.readouterr().out == b"words\n"


def test_the_evaluation_table_has_rows_for_model_pca_and_mean(capsys: Captured) -> None:
    Terminal().table(evaluation_table(EVALUATION, "runs/x/best.safetensors on digits"))
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].strip() == "runs/x/best.safetensors on digits, test split, 10 images"
    cells = [[cell.strip() for cell in line.split("│")[1:-1]] for line in lines if "│" in line]
    assert cells == [
        ["model", "0.500000", "2.0000", "3.01", "75.00%"],
        ["PCA, 2 components", "0.750000", "3.0000", "1.25", "62.50%"],
        ["mean image", "2.000000", "8.0000", "-3.01", "0.00%"],
    ]


def test_json_of_an_evaluation_has_the_same_values_as_the_table() -> None:
    values = json.loads(json_text(evaluation_values(EVALUATION)))
    assert (values["split"], values["items"], values["mse_per_value"], values["squared_error_per_item"]) == (
        "test",
        10,
        0.5,
        2,
    )
    assert values["psnr_db"] == pytest.approx(3.0103, abs=1e-4) and values["explained_variance"] == 0.75
    assert values["pca"] == {
        "components": 2,
        "mse_per_value": 0.75,
        "squared_error_per_item": 3.0,
        "psnr_db": pytest.approx(1.2494, abs=1e-4),
        "explained_variance": 0.625,
    }
    assert values["mean_item"]["mse_per_value"] == 2.0 and values["mean_item"]["explained_variance"] == 0.0


def test_undefined_metrics_of_constant_data_are_null_in_json_and_a_dash_in_the_table() -> None:
    """A perfect reconstruction of constant images has infinite PSNR and no variance to explain."""
    nothing = ErrorSum(0.0, 10, 4)
    values = json.loads(json_text(evaluation_values(Evaluation("test", nothing, nothing, 1, nothing))))
    assert values["psnr_db"] is None and values["pca"]["psnr_db"] is None and values["explained_variance"] is None
    console = Console(file=io.StringIO(), width=200, record=True)
    console.print(evaluation_table(Evaluation("test", nothing, nothing, 1, nothing), "x"))
    assert "inf" in console.export_text()


def answers(count: int, height: int = 28, width: int = 28) -> list[Answers]:
    names = ("original", "PCA, 16 components", "reconstruction")
    pictures = np.zeros((count, height, width))
    return [
        Answers(name, "mean 2.00" if index else "", pictures, [2.0] * count if index else None)
        for index, name in enumerate(names)
    ]


TITLE = "digits: 64-16-64", "digits, test split"


def test_the_preview_draws_two_pixels_per_character() -> None:
    terminal, shown = on_a_terminal()
    top = np.zeros((1, 20, 20))
    top[0, 0, :2], top[0, 1, :2] = [0, 1], [0.2, 0.4]
    terminal.preview([Answers("original", "", top), Answers("reconstruction", "", 1 - top, [1.0])], TITLE)
    line = next(line for line in shown.getvalue().splitlines() if "▀" in line)
    assert line.startswith("\x1b[38;2;0;0;0;48;2;51;51;51m▀\x1b[0m\x1b[38;2;255;255;255;48;2;102;102;102m▀")
    assert "\x1b[38;2;255;255;255;48;2;204;204;204m▀" in line  # the reconstruction is beside it, as in the PNG


@pytest.mark.parametrize(("width", "rows"), [(80, [2, 1]), (120, [3]), (29, [1, 1, 1])])
def test_few_items_have_a_row_each_and_pca_is_drawn_below_if_it_does_not_fit(width: int, rows: list[int]) -> None:
    terminal, shown = on_a_terminal(width=width, height=24)
    terminal.preview(answers(8), TITLE)
    lines = re.sub(r"\x1b\[[0-9;]*m", "", shown.getvalue()).splitlines()
    assert lines[:2] == list(TITLE)
    assert [line.count("▀") for line in lines if "▀" in line] == [28 * pictures for pictures in rows * 2 for _ in range(14)]
    captions = [line for line in lines if "original" in line]
    assert len(captions) == 2 and all(("reconstruction: 2.00" in line) is (rows[0] > 1) for line in captions)
    assert sum("PCA, 16 components: 2.00" in line for line in lines) == 2
    assert lines[-1] == "2 of 8 shown here" and max(map(len, lines)) <= max(width, 30)


@pytest.mark.parametrize(("width", "fitting"), [(80, 2), (120, 4), (29, 1), (27, 0)])
def test_many_items_are_stacked_in_columns_as_many_as_fit(width: int, fitting: int) -> None:
    terminal, shown = on_a_terminal(width=width)
    terminal.preview(answers(20), TITLE)
    lines = re.sub(r"\x1b\[[0-9;]*m", "", shown.getvalue()).splitlines()
    assert [line.count("▀") for line in lines if "▀" in line] == [28 * fitting] * (42 if fitting else 0)
    assert [line for line in lines if line.startswith(("original", "PCA", "recon"))] == (
        ["original", "PCA, 16 components, mean 2.00", "reconstruction, mean 2.00"] if fitting else []
    )


def test_small_digits_are_enlarged_in_the_preview() -> None:
    terminal, shown = on_a_terminal()
    terminal.preview(answers(1, 8, 8), TITLE)
    assert [line.count("▀") for line in shown.getvalue().splitlines() if "▀" in line] == [72] * 12


@pytest.mark.parametrize("options", [{"no_color": True}, {"color_system": None}, {"quiet": True}])
def test_there_is_no_preview_without_color_or_with_quiet(options: dict[str, bool]) -> None:
    """Half blocks in one color are a white bar, not a picture."""
    terminal, shown = on_a_terminal(**options)
    terminal.preview(answers(1), TITLE)
    assert shown.getvalue() == ""


def test_there_is_no_preview_without_a_terminal(capsys: Captured) -> None:
    Terminal().preview(answers(1), TITLE)
    assert capsys.readouterr() == ("", "")


def test_a_dumb_terminal_is_not_redrawn(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "dumb")
    terminal, _ = on_a_terminal()
    assert not terminal.interactive


def test_output_goes_to_a_file_or_to_stdout(capfdbinary: pytest.CaptureFixture[bytes]) -> None:
    write_output("x.bin", b"\x00\xff")
    assert Path("x.bin").read_bytes() == b"\x00\xff"
    write_output("-", b"\x89PNG\n")
    assert capfdbinary.readouterr().out == b"\x89PNG\n"
    with pytest.raises(
        InputError, match="nowhere/x.png: the folder nowhere does not exist; create it first, or give another file name"
    ):
        write_output("nowhere/x.png", b"")


def test_json_is_valid_at_every_depth() -> None:
    text = json_text({"a": float("nan"), "pca": {"b": float("inf"), "c": [1.0, -float("inf"), {"d": float("nan")}]}})
    assert json.loads(text) == {"a": None, "pca": {"b": None, "c": [1.0, None, {"d": None}]}}
