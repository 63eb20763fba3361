"""No name, cell or checkpoint controls the terminal or fakes a line of a message; no Python warning is shown."""

import json
import os
import re
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner, Result

from tiedae_cli.cli.app import app
from tiedae_cli.runs import checkpoint
from tiedae_cli.system.text import note_names, shown, shown_lines

TITLE = "\x1b]0;owned\x07.png"  # sets the title of many terminals
NAMES = (
    TITLE,
    "line\nbreak.png",
    "\u202egnp.exe.png",
    "[bold]:smile:[red].png",
    "$x^$.png",
    "caf\udce9.png",
    "\x9b31m.png",
    "\u4f60.png",
)
COMMANDING = re.compile("[\x00-\x09\x0b-\x1f\x7f-\x9f\u202a-\u202e]")


def invoke(*arguments: object) -> Result:
    return CliRunner().invoke(app, list(map(str, arguments)))


@pytest.fixture
def photos(digits_run: Path) -> Path:
    Path("photos").mkdir()
    generator = np.random.default_rng(0)
    for name in NAMES:
        with open(f"photos/{name}", "wb") as file:
            Image.fromarray(generator.integers(0, 256, (8, 8), dtype=np.uint8)).save(file, "png")
        Path(f"photos/bad-{name}").write_text("no image")
    return Path("photos")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("plain \u4f60 \\", "plain \u4f60 \\"),
        ("\x1b[31m\x07\x7f\x9b", "\\x1b[31m\\x07\\x7f\\x9b"),
        ("a\r\n\tb", "a\\r\\n\\tb"),
        ("\u202e\u2028\ufeff", "\\u202e\\u2028\\ufeff"),
        ("caf\udce9 \ud800", "caf\\xe9 \\ud800"),
    ],
)
def test_what_is_shown(text: str, expected: str) -> None:
    assert shown(text) == expected


def test_a_message_keeps_its_own_lines_but_not_those_of_a_name() -> None:
    note_names(["folder/two\nlines.png"])
    assert shown_lines("first\nfolder/two\nlines.png: \x1b") == "first\nfolder/two\\nlines.png: \\x1b"


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["csv", "jsonl"])
def test_names_of_files_in_results_messages_and_pictures(kind: str, photos: Path) -> None:
    result = invoke("score", "runs/digits", photos, "--format", kind, "--contact-sheet", "sheet.png")
    assert result.exit_code == 1  # the bad ones
    assert not COMMANDING.search(result.stdout) and not COMMANDING.search(result.stderr)
    assert len(result.stdout.splitlines()) == len(NAMES) + (kind == "csv")
    assert all(f"bad-{shown(name)}: not an image" in result.stderr for name in NAMES)
    assert all("bad-" in line or not line.startswith("break.png") for line in result.stderr.splitlines())
    if kind == "jsonl":  # which can say every name
        items = {json.loads(line)["item"] for line in result.stdout.splitlines()}
        assert items == {f"photos/{name}" for name in NAMES}
    with Image.open("sheet.png") as sheet:
        assert sheet.width > 300


@pytest.mark.parametrize("kind", ["npy", "csv", "jsonl"])
def test_names_that_are_not_utf8_pass_through_every_format(kind: str, photos: Path) -> None:
    names = [f"photos/{name}" for name in NAMES]
    result = invoke("encode", "runs/digits", *names, "-o", f"caf\udce9.{kind}", "-q")
    assert result.exit_code == 0, result.output
    assert os.path.exists(f"caf\udce9.{kind}")
    assert result.stdout_bytes == b"caf\xe9." + kind.encode() + b"\n"  # the path is what the next command needs
    if kind == "csv":
        assert "photos/caf\\xe9.png" in Path(os.fsdecode(b"caf\xe9.csv")).read_text()


@pytest.mark.slow
@pytest.mark.parametrize("name", [TITLE, "[bold]x[/red]", ":smile:", "a\rb", "\u202ex"])
@pytest.mark.parametrize("command", ["eval", "inspect", "compare"])
def test_a_name_in_a_checkpoint(name: str, command: str, digits_run: Path) -> None:
    """Names are not interpreted as markup of the library that draws the tables."""
    found = replace(checkpoint.load(digits_run / "best.safetensors"), run=name)
    Path("other").mkdir()
    found.save(Path("other") / (re.sub("[/\r\n]", "", name) + ".safetensors"))
    result = invoke(command, *Path("other").iterdir())
    assert result.exit_code == 0, result.output
    assert not COMMANDING.search(result.output)
    if command == "inspect":  # which tells the run's name
        assert shown(name) in result.stdout.replace("\n", "")


@pytest.mark.slow
@pytest.mark.parametrize("name", ["caf\udce9", TITLE.removesuffix(".png"), "two\nlines"])
def test_a_run_of_any_name_in_a_folder_of_any_name(name: str, empty_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    Path(name).mkdir()
    monkeypatch.chdir(name)
    np.save("x.npy", np.random.default_rng(0).integers(0, 256, (60, 4, 4), dtype=np.uint8))
    small = ("--set", "data.dataset=x.npy", "--set", "training.epochs=1", "--set", "model.hidden_sizes=[3]")
    for arguments in (
        ("train", *small, "--run-dir", name),
        ("eval", name),
        ("train", "--resume", name),
        ("inspect", name),
        ("score", name),
    ):
        result = invoke(*arguments)
        assert result.exit_code == 0, (arguments, result.output)
        assert not COMMANDING.search(result.stderr)


@pytest.mark.slow
@pytest.mark.parametrize("name", [TITLE, "caf\udce9", "[bold]:smile:", "\u202ex"])
def test_a_table_and_a_report_of_runs_of_any_name(name: str, digits_run: Path) -> None:
    digits_run.rename(digits_run.parent / name)
    for command in ("runs", "report"):
        result = invoke(command)
        assert result.exit_code == 0, result.output
        assert not COMMANDING.search(result.stderr) and (command == "report" or not COMMANDING.search(result.stdout))
        assert command == "report" or shown(name)[:6] in result.stdout


@pytest.mark.parametrize(
    "arguments",
    [
        ("eval", f"--{TITLE}"),
        (TITLE,),
        ("eval", TITLE),
        ("train", "--config", TITLE),
        ("train", "--set", f"{TITLE}=1"),
        ("train", "--set", f"data.dataset=./{TITLE}"),
        ("train", "--device", TITLE),
        ("eval", "runs/digits", "--split", TITLE),
        ("score", "runs/digits", "x.csv"),
        ("encode", "runs/digits", TITLE),
        ("score", "runs/digits", "--against", TITLE),
        ("export", "runs/digits", "-o", TITLE),
    ],
    ids=str,
)
def test_arguments_in_messages(arguments: tuple[str, ...], digits_run: Path) -> None:
    Path("x.csv").write_text("a,b\x1b]0;owned\x07\n1,\x1b[31mred\n")
    result = invoke(*arguments)
    assert result.exit_code in (1, 2), result.output
    assert not COMMANDING.search(result.stderr)


@pytest.mark.slow
@pytest.mark.parametrize("values", ["float16", "constant", "infinity"])
def test_nothing_of_python_is_shown(values: str) -> None:
    x = np.random.default_rng(0).random((60, 6)).astype(np.float16)
    x = np.ones((60, 4, 4), np.uint8) if values == "constant" else x
    if values == "infinity":
        x[3, 2] = np.inf
    np.save("x.npy", x)
    linear = ["--set", "model.output=linear"]
    command = [sys.executable, "-m", "tiedae_cli", "train", "--set", "data.dataset=x.npy", "--set", "training.epochs=1"]
    result = subprocess.run([*command, "--set", "model.hidden_sizes=[3]", *linear], capture_output=True, text=True, timeout=120)
    assert result.returncode == (2 if values == "infinity" else 0), result.stderr
    assert "Warning" not in result.stderr and ".py" not in result.stderr
    if values == "infinity":
        assert result.stderr == "error: x.npy: row 4 holds infinity\n"


FAKE = "two\nFORGED: line"


def parquet(path: str) -> None:
    import pyarrow
    import pyarrow.parquet

    columns = {FAKE: [None, *range(39)], f"c{FAKE}": [1.0] * 40, "b": [float(i % 7) for i in range(40)]}
    pyarrow.parquet.write_table(pyarrow.table(columns), path)


def labels(path: str) -> None:
    rows = "\n".join(f'{i},{i * i % 7},"{FAKE if i % 3 else "good"}"' for i in range(40))
    Path(path).write_text(f"a,b,label\n{rows}\n")


def arrays(path: str) -> None:
    named: dict[str, Any] = {FAKE: np.zeros((30, 4)), f"c{FAKE}": np.zeros((30, 5))}
    np.savez(path, **named)


def headings(path: str) -> None:
    rows = "\n".join(f"{i},{i * i % 7}" for i in range(40))
    Path(path).write_text(f'"a","{FAKE}"\n{rows}\n3,{{}}\n')


@pytest.mark.slow
@pytest.mark.parametrize("option", ["data.missing=mean", "data.label=absent", "data.normal=absent", "data.columns=absent"])
@pytest.mark.parametrize(("make", "name"), [(parquet, "x.parquet"), (labels, "x.csv"), (arrays, "x.npz"), (headings, "x.csv")])
def test_no_name_in_data_fakes_a_line_of_a_message(make: Callable[[str], None], name: str, option: str) -> None:
    make(name)
    result = invoke("train", name, "--set", option, "--set", "training.epochs=1", "--set", "model.hidden_sizes=[2]")
    assert "FORGED" not in [line[:6] for line in result.stderr.splitlines()], result.stderr
