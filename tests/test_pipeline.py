"""The tool as a Unix program among others: real processes, real pipes, a shell."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image

QUICK = "--device cpu --set model.hidden_sizes=[16,4] --set training.epochs=2"


def shell(script: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run a bash script in which ``tiedae`` is the tool of this checkout."""
    checkout = str(Path(__file__).parent.parent)
    path = os.pathsep.join([checkout, *filter(None, [os.environ.get("PYTHONPATH")])])
    settings = {**os.environ, "PYTHONPATH": path, "PYTHONWARNINGS": "error", "PYTHON": sys.executable, **environment}
    define = 'tiedae() { "$PYTHON" -m tiedae_cli "$@"; }\n'
    return subprocess.run(["bash", "-c", define + script], capture_output=True, text=True, env=settings, timeout=120)


def test_train_into_a_variable_and_a_picture_into_a_file() -> None:
    """What runs here is in the README; the second command reads nothing but the first one's line."""
    found = shell(f'ckpt=$(tiedae train -q {QUICK}) && echo "$ckpt" && tiedae reconstruct "$ckpt" --n 2 --output - > pair.png')
    assert (found.returncode, found.stdout, found.stderr) == (0, "runs/digits/best.pt\n", "")
    with Image.open("pair.png") as image:
        assert (image.format, image.size) == ("PNG", (800, 600))


def test_a_reader_that_has_seen_enough() -> None:
    """``head`` leaves after a line; the training of 100,000 epochs ends with SIGPIPE's exit code and not a word."""
    found = shell(f'tiedae train --json -q {QUICK} --set training.epochs=100000 | head -1; echo "${{PIPESTATUS[*]}}"')
    line, statuses = found.stdout.splitlines()
    assert json.loads(line)["epoch"] == 1
    assert (statuses, found.stderr) == ("141 0", "")


def test_every_line_of_json_is_json_and_stderr_is_for_people() -> None:
    found = shell(f"tiedae train --json {QUICK}", NO_COLOR="1", TERM="xterm-256color")
    lines = [json.loads(line) for line in found.stdout.splitlines()]
    assert [line["event"] for line in lines] == ["epoch", "epoch", "done"]
    assert "epoch 2/2  train MSE" in found.stderr and "\x1b" not in found.stderr + found.stdout


@pytest.mark.parametrize(
    ("environment", "coloured"),
    [({"TERM": "xterm-256color"}, True), ({"TERM": "xterm-256color", "NO_COLOR": "1"}, False), ({"TERM": "dumb"}, False)],
    ids=["colour", "NO_COLOR", "dumb"],
)
def test_a_terminal(digits_run: Path, environment: dict[str, str], coloured: bool) -> None:
    """``script`` gives the tool a pseudo-terminal."""
    command = f"{sys.executable} -m tiedae_cli reconstruct --device cpu"
    found = shell(f'script --quiet --return --command "{command}" /dev/null', COLUMNS="80", **environment)
    assert found.returncode == 0 and "reconstructions-2.png" in found.stdout
    assert ("\x1b[38;" in found.stdout) is coloured
    assert ("▀" in found.stdout) is coloured


def test_messages_in_a_pipeline() -> None:
    """An error stops ``&&``, goes to stderr alone, and is one line."""
    found = shell('tiedae train -q --set training.epoch=1 && echo not reached; echo "$?"')
    assert found.stdout == "2\n"
    assert found.stderr == "error: --set 'training.epoch=1': training.epoch: unknown key (did you mean epochs?)\n"
