"""An output never replaces an input, another output or a run's state, and follows no looping link."""

import io
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import typer
from PIL import Image
from typer.testing import CliRunner

from tiedae_cli.cli.app import app
from tiedae_cli.errors import InputError
from tiedae_cli.output.output_targets import check_targets, opened_output
from tiedae_cli.runs.run_folder import STATE
from tiedae_cli.system.storage import replacing

pytestmark = pytest.mark.slow

RUN = "runs/digits"
# (command line, the option that names the output, a suffix that it takes); a new output option must be added here
OUTPUTS: dict[tuple[str, str], list[str]] = {
    ("encode", "--output"): ["encode", RUN, "x.npy", "--format", "npy"],
    ("decode", "--output"): ["decode", RUN, "codes.npy", "--format", "npy"],
    ("score", "--output"): ["score", RUN, "x.npy", "--format", "csv"],
    ("score", "--contact-sheet"): ["score", RUN, "x.npy"],
    ("score", "--plot"): ["score", RUN, "x.npy"],
    ("reconstruct", "--output"): ["reconstruct", RUN, "photos", "--no-preview"],
    ("inspect", "--features"): ["inspect", RUN],
    ("inspect", "--codes"): ["inspect", RUN],
    ("export", "--output"): ["export", RUN, "--format", "safetensors"],
    ("compare", "--output"): ["compare", RUN, RUN],
    ("report", "--output"): ["report", RUN],
}
INPUTS = {
    "encode": "x.npy",
    "decode": "codes.npy",
    "score": "x.npy",
    "reconstruct": "photos/a.png",
    "inspect": "copy.safetensors",
    "export": "copy.safetensors",
    "compare": "copy.safetensors",
    "report": "copy.safetensors",
}


@pytest.fixture
def files(digits_run: Path) -> Path:
    """A run, and something to read for each command."""
    generator = np.random.default_rng(0)
    np.save("x.npy", generator.integers(0, 256, (5, 8, 8), dtype=np.uint8))
    np.save("codes.npy", generator.normal(size=(3, 8)).astype(np.float32))
    Path("photos").mkdir()
    Image.fromarray(generator.integers(0, 256, (8, 8), dtype=np.uint8)).save("photos/a.png")
    shutil.copy(digits_run / "best.safetensors", "copy.safetensors")
    return digits_run


def contents() -> dict[str, bytes]:
    return {str(path): path.read_bytes() for path in Path().rglob("*") if path.is_file() and not path.is_symlink()}


def output_options() -> Iterator[tuple[str, str]]:
    """Yield (command, option) of everything in the command line that names a file to write."""
    for name, command in typer.main.get_command(app).commands.items():  # type: ignore[attr-defined]
        for parameter in command.params:
            metavar = str(getattr(parameter, "metavar", None) or "")
            if parameter.opts[0].startswith("--") and metavar in ("FILE|-", "PNG", "HTML", "FILE.html"):
                yield name, parameter.opts[0]


def refused(arguments: list[str]) -> str:
    before = contents()
    result = CliRunner().invoke(app, [*arguments, "-q"])
    assert result.exit_code == 2, (arguments, result.output)
    assert contents() == before, arguments
    return result.stderr


def test_every_output_option_is_tried_here() -> None:
    found = {(name, option) for name, option in output_options()}
    assert found == set(OUTPUTS)


@pytest.mark.parametrize(("command", "option"), OUTPUTS, ids="".join)
@pytest.mark.parametrize("name", STATE)
def test_no_output_replaces_the_state_of_a_run(command: str, option: str, name: str, files: Path) -> None:
    message = refused([*OUTPUTS[command, option], option, str(files / name)])
    assert message.startswith(f"error: {files / name}: this file holds the state of a run; write to another file, for example ")


def test_no_output_replaces_a_future_file_of_a_run_under_any_name(files: Path) -> None:
    (files / "previous.safetensors").unlink()
    refused([*OUTPUTS["export", "--output"], "--output", str(files / "previous.safetensors")])
    os.symlink(files / "last.safetensors", "link.safetensors")
    os.symlink(files, "elsewhere")
    refused([*OUTPUTS["export", "--output"], "--output", "link.safetensors"])
    refused([*OUTPUTS["export", "--output"], "--output", "elsewhere/last.safetensors"])
    refused([*OUTPUTS["export", "--output"], "--output", "runs/../runs/digits/last.safetensors"])


@pytest.mark.parametrize(("command", "option"), OUTPUTS, ids="".join)
def test_no_output_replaces_an_input(command: str, option: str, files: Path) -> None:
    source = INPUTS[command]
    arguments = [
        source if argument == RUN and source.endswith(".safetensors") else argument for argument in OUTPUTS[command, option]
    ]
    message = refused([*arguments, option, source])
    assert f"{source}: this command reads this file and must not replace it; write to another file, for example " in message
    os.symlink(source, "link")
    refused([*arguments, option, "link"])


@pytest.mark.parametrize(("command", "option"), OUTPUTS, ids="".join)
def test_nothing_is_written_through_a_looping_link(command: str, option: str, files: Path) -> None:
    os.symlink("one.out", "other.out")
    os.symlink("other.out", "one.out")
    assert "one.out: the symbolic link leads in a circle" in refused([*OUTPUTS[command, option], option, "one.out"])
    assert os.path.islink("one.out") and os.path.islink("other.out")


@pytest.mark.parametrize(("command", "option"), OUTPUTS, ids="".join)
def test_an_impossible_output_is_refused_before_the_work(command: str, option: str, files: Path) -> None:
    Path("folder").mkdir()
    for target, problem in (
        ("missing/a.out", "the folder missing does not exist; create it first, or give another file name"),
        ("x.npy/a.out", "the folder x.npy does not exist; create it first, or give another file name"),
        ("folder", "is a folder; give a file name, for example folder/result"),
    ):
        result = CliRunner().invoke(app, [*OUTPUTS[command, option], option, target])
        assert (result.exit_code, result.stdout) == (2, "")
        assert result.stderr.splitlines()[-1] == f"error: {target}: {problem}"


@pytest.mark.parametrize(("command", "option"), OUTPUTS, ids="".join)
def test_an_ordinary_older_file_is_replaced(command: str, option: str, files: Path) -> None:
    Path("older").write_text("older")
    result = CliRunner().invoke(app, [*OUTPUTS[command, option], option, "older", "-q"])
    assert result.exit_code == 0, result.output
    assert Path("older").read_bytes() != b"older"


def test_an_image_of_a_folder_that_is_read(files: Path) -> None:
    refused(["score", RUN, "photos", "--contact-sheet", "photos/a.png"])
    assert CliRunner().invoke(app, ["score", RUN, "photos", "-q", "--contact-sheet", "photos/new.png"]).exit_code == 0


def test_the_data_that_the_model_was_trained_on(files: Path) -> None:
    np.save("own.npy", np.random.default_rng(0).integers(0, 256, (60, 8, 8), dtype=np.uint8))
    trained = CliRunner().invoke(
        app, ["train", "-q", "--set", "data.dataset=own.npy", "--set", "training.epochs=1", "--run-dir", "own"]
    )
    assert trained.exit_code == 0, trained.output
    refused(["encode", "own", "-o", "own.npy"])
    refused(["encode", "own", "x.npy", "-o", "own.npy"])  # where it is not read at all


@pytest.mark.parametrize("name", ["f.csv", "-"])
def test_two_outputs_in_one_file(name: str, files: Path) -> None:
    message = refused(["score", RUN, "x.npy", "--format", "csv", "-o", name, "--contact-sheet", name])
    assert message.startswith(f"error: {name}: two results would be ")
    refused(["inspect", RUN, "--features", name, "--codes", f"./{name}" if name != "-" else name])


def test_a_second_output_of_a_command_that_did_not_ask_early(files: Path) -> None:
    from tiedae_cli.system.files_in_use import tracking_files_in_use

    with tracking_files_in_use():
        with opened_output("a.txt") as file:
            file.write(b"first")
        with pytest.raises(InputError, match="a.txt: two results"), opened_output("a.txt"):
            pass
        check_targets("b.txt", "/dev/null", "/dev/null")
    assert Path("a.txt").read_bytes() == b"first"


def test_names_of_temporary_files(files: Path) -> None:
    assert "are reserved for temporary files" in refused(["encode", RUN, "x.npy", "--format", "npy", "-o", ".tiedae-mine"])


def run(*arguments: str, **options: object) -> "subprocess.CompletedProcess[bytes]":
    return subprocess.run([sys.executable, "-m", "tiedae_cli", *arguments], timeout=120, **options)  # type: ignore[call-overload]


def test_the_input_behind_stdin_and_stdout(files: Path) -> None:
    before = contents()
    with open("x.npy", "rb") as stdin:
        result = run("encode", RUN, "-", "-o", "x.npy", "-q", stdin=stdin, capture_output=True)
    assert (result.returncode, contents()) == (2, before), result
    with open("x.npy", "ab") as stdout:
        result = run("encode", RUN, "x.npy", "-q", stdout=stdout, stderr=subprocess.PIPE)
    assert (result.returncode, contents()) == (2, before), result
    assert b"stdout is redirected to a file that this command reads" in result.stderr


def test_a_picture_is_drawn_also_if_the_reader_leaves(files: Path) -> None:
    command = f"{sys.executable} -m tiedae_cli score {RUN} --split train --contact-sheet sheet.png -q | head -1 > first.txt"
    subprocess.run(["bash", "-c", command], timeout=120, check=True)
    assert Path("first.txt").read_text().startswith('{"item": 0')
    assert Image.open(io.BytesIO(Path("sheet.png").read_bytes())).width > 300


# Temporary files of dead processes


def test_what_a_dead_process_left_is_removed_by_the_next_one_that_writes_there(tmp_path: Path) -> None:
    dead, mine, held = tmp_path / ".tiedae-0123456789abcdef", tmp_path / ".tiedae-notes", tmp_path / ".tiedae-fedcba9876543210"
    for path in (dead, mine, held):
        path.write_text("half")
    import fcntl

    with held.open() as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        with replacing(tmp_path / "new") as new:
            new.write(b"whole")
    assert sorted(path.name for path in tmp_path.iterdir()) == [held.name, mine.name, "new"]


def test_a_signal_that_arrives_as_the_temporary_file_is_made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from tiedae_cli.system import portability

    def stopped(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(portability, "flock", stopped)
    with pytest.raises(KeyboardInterrupt), replacing(tmp_path / "new"):
        pass
    assert list(tmp_path.iterdir()) == []


def test_links_in_a_run_folder_are_not_followed(files: Path, make_set: Callable[..., object]) -> None:
    """A run from elsewhere may contain links instead of files: their targets stay unchanged."""
    for name in STATE[3:] + ("loss.png", "reconstructions.png", "previous.safetensors"):
        Path(f"victim-{name}").write_text("precious")
        (files / name).unlink()
        os.symlink(os.path.abspath(f"victim-{name}"), files / name)
    result = CliRunner().invoke(app, ["train", "-q", "--resume", RUN, "--set", "training.epochs=5"])
    assert result.exit_code == 0, result.output
    assert {path.read_text() for path in Path().glob("victim-*")} == {"precious"}
