"""An output keeps the mode of the file that it replaces, devices and pipes are written to, and a closed pipe ends every command alike."""

import os
import stat
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner, Result

from tiedae_cli.cli.app import app

WRITERS = (  # each output option of a command that can write to a file
    ("score digits x.npy --format csv -o", "csv"),
    ("encode digits x.npy --format csv -o", "csv"),
    ("reconstruct digits --no-preview -o", "png"),
    ("compare digits digits -o", "png"),
    ("report digits -o", "html"),
    ("inspect digits --features", "png"),
    ("inspect digits --codes", "png"),
    ("export digits --format safetensors -o", "safetensors"),
)
pytestmark = [pytest.mark.slow, pytest.mark.skipif(sys.platform == "win32", reason="POSIX modes and devices")]


def invoke(words: str) -> Result:
    """Run a command in this process."""
    return CliRunner().invoke(app, words.split())


def tiedae(words: str, stdout: int) -> "subprocess.CompletedProcess[bytes]":
    """Run a command in another process."""
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}
    command = [sys.executable, "-m", "tiedae_cli", *words.split()]
    return subprocess.run(command, check=False, stdout=stdout, stderr=subprocess.PIPE, timeout=120, env=environment)


@pytest.fixture(autouse=True)
def x(digits_run: Path) -> None:
    """Items to read."""
    np.save("x.npy", np.random.default_rng(0).integers(0, 16, (5, 8, 8), dtype=np.uint8))


@pytest.mark.parametrize(("words", "suffix"), WRITERS)
def test_the_mode_of_a_replaced_file_stays(words: str, suffix: str) -> None:
    path = Path(f"old.{suffix}")
    path.touch(mode=0o600)
    path.chmod(0o600)
    if os.geteuid() == 0:
        os.chown(path, 1234, 2345)
    assert invoke(f"{words} {path}").exit_code == 0
    information = path.stat()
    assert information.st_size > 0 and stat.S_IMODE(information.st_mode) == 0o600
    assert os.geteuid() != 0 or (information.st_uid, information.st_gid) == (1234, 2345)


@pytest.mark.parametrize(("words", "suffix"), WRITERS)
def test_the_device_of_stdout_carries_the_data_alone(words: str, suffix: str) -> None:
    outputs = [invoke(f"{words} {name}") for name in ("-", "/dev/stdout")]
    assert [output.exit_code for output in outputs] == [0, 0]
    assert len(outputs[0].stdout_bytes) == len(outputs[1].stdout_bytes) > 0


def test_devices_and_pipes_are_written_to_not_replaced() -> None:
    os.mkfifo("pipe")
    read: list[bytes] = []
    reader = threading.Thread(target=lambda: read.append(Path("pipe").read_bytes()), daemon=True)
    reader.start()
    assert invoke("score digits x.npy --format csv -o pipe").exit_code == 0
    reader.join(10)
    assert read[0].startswith(b"item,") and stat.S_ISFIFO(os.stat("pipe").st_mode)
    assert invoke("score digits x.npy --format csv -o /dev/null").exit_code == 0
    assert stat.S_ISCHR(os.stat(os.devnull).st_mode)


@pytest.mark.parametrize("words", ["inspect", "compare digits digits", "--help", "score digits x.npy --format csv"])
def test_a_reader_that_has_gone_ends_every_command_with_141(words: str) -> None:
    read, write = os.pipe()
    os.close(read)
    try:
        result = tiedae(words, stdout=write)
    finally:
        os.close(write)
    assert (result.returncode, b"error:" in result.stderr) == (141, False)
