"""The commands on a system without ``fcntl``, where folders cannot be opened and open files cannot be replaced."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image

from tiedae_cli.system.locks import LOCK_FILE

pytestmark = pytest.mark.slow

# Remove what Windows lacks before the program is imported, and refuse what Windows refuses.
PRELUDE = r"""
import os, sys

sys.modules["fcntl"] = None
for name in ("O_DIRECTORY", "O_NOFOLLOW", "O_NONBLOCK", "O_CLOEXEC"):
    delattr(os, name)
os.supports_dir_fd.clear()
os.supports_follow_symlinks.discard(os.link)
refused = []

def in_use(path):
    path = os.path.realpath(path)
    links = []
    for number in os.listdir("/proc/self/fd"):
        try:
            links.append(os.readlink(f"/proc/self/fd/{number}"))
        except OSError:
            pass
    with open("/proc/self/maps") as file:
        return path in links or any(line.rstrip().endswith(path) for line in file)

def guarded(call, count):
    def checked(*paths, **options):
        if any(value is not None for name, value in options.items() if name.endswith("dir_fd")):
            raise NotImplementedError("dir_fd unavailable on this platform")
        for path in paths[:count]:
            if isinstance(path, int):
                raise TypeError("a descriptor in place of a path")
            if call is opened and os.path.isdir(path):
                raise PermissionError(13, "Permission denied", str(path))
            if call is not opened and in_use(path):
                refused.append(path)
                raise PermissionError(13, "Permission denied", str(path))
        return call(*paths, **options)
    return checked

opened = os.open
os.open = guarded(os.open, 1)
for name, count in (("replace", 2), ("rename", 2), ("unlink", 1), ("remove", 1)):
    setattr(os, name, guarded(getattr(os, name), count))
"""

COMMANDS = r"""
from pathlib import Path
from typer.testing import CliRunner
from tiedae_cli.cli.app import app
from tiedae_cli.runs.trained_run import open_run

def tiedae(*words):
    result = CliRunner().invoke(app, words)
    assert result.exit_code == 0, (words, result.output, result.exception)

small = ("-q", "--device", "cpu", "--set", "model.hidden_sizes=[4]", "--set", "training.epochs=1")
tiedae("train", *small, "--set", "training.batch_size=400", "--set", "training.checkpoint_every=1e-9", "--run-dir", "run")
tiedae("train", "-q", "--device", "cpu", "--resume", "run", "--set", "training.epochs=2")
tiedae("eval", "run", "-q")
for _ in range(2):
    tiedae("encode", "run", "-q", "--split", "test", "-o", "codes.npy")
    tiedae("score", "run", "-q", "--split", "test", "-o", "scores.csv")
    tiedae("reconstruct", "run", "-q", "--n", "2")
held = []
for number in range(2):
    tiedae("train", *small, "--config", "folder", "--set", "data.dataset=pics", "--run-dir", f"folder-{number}")
    held.append(open_run(f"folder-{number}", "cpu").splits)  # maps the images, as a notebook would
    os.utime("pics/0.png", (0, 0))  # so that the images are decoded again, beside those that are still mapped
left = [str(path) for path in Path().rglob(".tiedae-*")]
assert not left, left
print(*(path.name for path in Path("run").iterdir()))
print(*refused)
"""


def test_the_commands_without_fcntl_and_with_open_files_that_stay() -> None:
    for index in range(20):
        Path("pics").mkdir(exist_ok=True)
        Image.new("L", (8, 8), index).save(f"pics/{index}.png")
    environment = {**os.environ, "XDG_CACHE_HOME": str(Path("cache").absolute()), "PYTHONPATH": os.pathsep.join(sys.path)}
    command = [sys.executable, "-c", PRELUDE + COMMANDS]
    result = subprocess.run(command, capture_output=True, text=True, timeout=200, check=False, env=environment)
    assert result.returncode == 0, result.stderr
    written, refused = result.stdout.splitlines()[-2:]
    names = {"config.yaml", "last.safetensors", "previous.safetensors", "best.safetensors", "loss.png"}
    assert names <= set(written.split())
    kept = {path for path in refused.split() if not path.endswith(LOCK_FILE)}  # the lock's file is filelock's own business
    assert kept and all(path.startswith(str(Path("cache").absolute())) for path in kept), refused
