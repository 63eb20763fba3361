"""tiedae in a shell: real processes and real pipes."""

import contextlib
import json
import os
import pty
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image

pytestmark = pytest.mark.slow

QUICK = "--device cpu --set model.hidden_sizes=[16,4] --set training.epochs=2"


def settings(**environment: str) -> dict[str, str]:
    """Return the environment of a process that runs the tool of this checkout."""
    checkout = str(Path(__file__).parent.parent.parent)
    path = os.pathsep.join([checkout, *filter(None, [os.environ.get("PYTHONPATH")])])
    return {**os.environ, "PYTHONPATH": path, "PYTHONWARNINGS": "error", "PYTHON": sys.executable, **environment}


def shell(script: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run a bash script in which ``tiedae`` is the tool of this checkout."""
    define = 'tiedae() { "$PYTHON" -m tiedae_cli "$@"; }\n'
    return subprocess.run(
        ["bash", "-c", define + script], capture_output=True, text=True, env=settings(**environment), timeout=300
    )


def test_a_checkpoint_path_in_a_variable_and_a_picture_on_stdout_work() -> None:
    """The second command of this line from the docs reads only the first one's output."""
    found = shell(f'ckpt=$(tiedae train -q {QUICK}) && echo "$ckpt" && tiedae reconstruct "$ckpt" --n 2 --output - > pair.png')
    assert (found.returncode, found.stdout, found.stderr) == (0, "runs/digits/best.safetensors\n", "")
    with Image.open("pair.png") as image:
        assert (image.format, image.size) == ("PNG", (800, 600))


def test_a_reader_that_closes_the_pipe_ends_the_command_quietly() -> None:
    """``head`` exits after a line; a training of 100,000 epochs then ends silently with the exit code of SIGPIPE."""
    found = shell(f'tiedae train --json -q {QUICK} --set training.epochs=100000 | head -1; echo "${{PIPESTATUS[*]}}"')
    line, statuses = found.stdout.splitlines()
    assert json.loads(line)["epoch"] == 1
    assert (statuses, found.stderr) == ("141 0", "")


def test_stdout_holds_only_json_lines_and_stderr_messages() -> None:
    found = shell(f"tiedae train --json {QUICK}", NO_COLOR="1", TERM="xterm-256color")
    lines = [json.loads(line) for line in found.stdout.splitlines()]
    assert [line["event"] for line in lines] == ["epoch", "epoch", "done"]
    assert "epoch 2/2  train MSE" in found.stderr and "\x1b" not in found.stderr + found.stdout


def on_a_terminal(*arguments: str, **environment: str) -> tuple[str, str]:
    """Run the tool with stderr on a pseudo-terminal; return stdout and what the terminal got."""
    master, terminal = pty.openpty()
    command = [sys.executable, "-m", "tiedae_cli", *arguments]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=terminal, env=settings(**environment)) as process:
        os.close(terminal)
        shown = b""
        with contextlib.suppress(OSError):  # Linux reports a closed terminal this way
            while part := os.read(master, 65_536):
                shown += part
        os.close(master)
        assert process.stdout is not None
        stdout = process.stdout.read()
    assert process.returncode == 0, shown
    return stdout.decode(), shown.decode()


@pytest.mark.parametrize("no_color", [False, True])
def test_a_terminal_shows_a_preview_unless_no_color_is_set(digits_run: Path, no_color: bool) -> None:
    wish = {"NO_COLOR": "1"} if no_color else {}
    stdout, shown = on_a_terminal("reconstruct", "--device", "cpu", TERM="xterm-256color", COLUMNS="80", **wish)
    assert stdout == "runs/digits/reconstructions-2.png\n"
    if no_color:
        assert shown == ""
    else:
        assert shown.count("▀") == 2 * 3 * 24 * 12  # two items, PCA's and the model's, 24 x 24 pixels each, two per character
        assert "\x1b[38;" in shown


def test_an_error_in_a_pipeline_is_one_line_on_stderr() -> None:
    """An error stops ``&&``, goes to stderr alone, and is one line."""
    found = shell('tiedae train -q --set training.epohs=1 && echo not reached; echo "$?"')
    assert found.stdout == "2\n"
    assert found.stderr == "error: training.epohs: no such key (did you mean training.epochs=1?)\n"


@pytest.mark.parametrize("arguments", ["--help", "--version", "train --help", "train -q --print-config"])
def test_a_full_disk_under_stdout_is_reported(arguments: str) -> None:
    found = shell(f"tiedae {arguments} > /dev/full")
    assert (found.returncode, found.stderr) == (1, "error: stdout: cannot be written: No space left on device\n")
