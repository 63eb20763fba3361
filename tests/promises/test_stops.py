"""However a command is stopped, it leaves a resumable run and nothing else; signals that the parent process ignores stay ignored."""

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from tiedae_cli.errors import Interrupted
from tiedae_cli.runs import checkpoint
from tiedae_cli.system.interruption import REPEAT, STOPPING, StopSignals, stopping_at_once
from tiedae_cli.system.storage import replacing

pytestmark = pytest.mark.slow

LONG = "training: {epochs: 100000, batch_size: 10, checkpoint_every: 100000}\nmodel: {hidden_sizes: [16, 4]}\n"


def begin(*arguments: str, **options: object) -> "subprocess.Popen[str]":
    command = [sys.executable, "-m", "tiedae_cli", *arguments]
    return subprocess.Popen(  # type: ignore[call-overload, no-any-return]
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, **{"preexec_fn": usual, **options}
    )


def usual() -> None:
    """Restore the default handlers: the process that runs the tests may ignore signals."""
    for number in (*STOPPING, signal.SIGUSR1):
        signal.signal(number, signal.SIG_DFL)


def wait_for(condition: Callable[[], bool]) -> None:
    for _ in range(1200):
        if condition():
            return
        time.sleep(0.05)
    raise AssertionError("it took more than a minute")


@pytest.fixture
def training(empty_folder: Path) -> "subprocess.Popen[str]":
    """A training that would take hours, after its first epoch."""
    Path("long.yaml").write_text(LONG)
    process = begin("train", "--config", "long.yaml", "--run-dir", "run")
    wait_for(lambda: Path("run/best.safetensors").exists())
    return process


def test_a_training_saves_and_says_how_to_go_on(training: "subprocess.Popen[str]") -> None:
    training.send_signal(signal.SIGHUP)
    _, errors = training.communicate(timeout=60)
    assert training.returncode == 129
    assert errors.splitlines()[-1] == "interrupted and saved; continue with: tiedae train --resume run"
    assert not list(Path("run").glob(".tiedae-[0-9a-f]*"))
    assert checkpoint.load("run/last.safetensors").training.epoch >= 1


def test_a_closed_terminal(training: "subprocess.Popen[str]") -> None:
    """Nobody reads the last messages of the training; it is saved all the same."""
    assert training.stderr is not None and training.stdout is not None
    before = checkpoint.load("run/last.safetensors").training
    training.stdout.close()
    training.send_signal(signal.SIGHUP)
    assert training.wait(60) == 129
    after = checkpoint.load("run/last.safetensors").training
    assert (after.epoch, after.step) > (before.epoch, before.step)
    training.stderr.close()


def test_sigusr1_saves_and_goes_on(training: "subprocess.Popen[str]") -> None:
    assert training.stderr is not None
    training.send_signal(signal.SIGUSR1)
    line = next(line for line in training.stderr if "SIGUSR1" in line)
    assert line.startswith("saved in epoch ") and line.endswith(", as SIGUSR1 asks; the training continues\n")
    training.send_signal(signal.SIGTERM)
    training.communicate(timeout=60)
    assert training.returncode == 143


@pytest.mark.parametrize("number", STOPPING)
def test_a_signal_that_is_ignored_stays_ignored(number: int) -> None:
    before = signal.signal(number, signal.SIG_IGN)
    try:
        with stopping_at_once(), StopSignals() as stop:
            os.kill(os.getpid(), number)
            assert stop.received is None
            assert signal.getsignal(number) == signal.SIG_IGN
    finally:
        signal.signal(number, before)


def test_trap_and_ampersand(digits_run: Path) -> None:
    """As in `trap '' INT HUP; tiedae train`, which is what nohup does."""
    script = f"trap '' INT HUP; exec {sys.executable} -m tiedae_cli train -q --set training.epochs=60 --run-dir run"
    process = subprocess.Popen(["bash", "-c", script], stdout=subprocess.PIPE, text=True)
    wait_for(lambda: Path("run/last.safetensors").exists())
    for number in (signal.SIGINT, signal.SIGHUP):
        process.send_signal(number)
    output, _ = process.communicate(timeout=120)
    assert (process.returncode, output) == (0, "run/best.safetensors\n")


@pytest.mark.parametrize(
    ("command", "number", "code"),
    [("score", signal.SIGHUP, 129), ("encode", signal.SIGHUP, 129), ("score", signal.SIGTERM, 143)],
)
def test_other_commands_leave_no_temporary_file(command: str, number: int, code: int, digits_run: Path) -> None:
    """The commands are stopped while they wait for more input."""
    process = begin(command, "runs/digits", "-", "-o", "out.csv", "-q", stdin=subprocess.PIPE)
    assert process.stdin is not None
    image = ",".join(["3"] * 64) + "\n"
    process.stdin.write(image * 100_000)  # enough for a first block
    process.stdin.flush()
    wait_for(lambda: bool(list(Path().glob(".tiedae-*"))))
    process.send_signal(number)
    process.stdin.close()
    process.stdin = None
    process.communicate(timeout=60)
    assert process.returncode == code
    assert sorted(path.name for path in Path().iterdir()) == ["runs"]


def lost(number: int) -> None:
    """Receive a signal in a library that discards exceptions of its Python callbacks."""
    with contextlib.suppress(BaseException):
        os.kill(os.getpid(), number)
        time.sleep(1)


@pytest.mark.parametrize("number", STOPPING)
def test_a_signal_that_a_library_loses_is_obeyed_all_the_same(number: int) -> None:
    with pytest.raises(Interrupted) as stopped, stopping_at_once():
        lost(number)
        lost(number)
        time.sleep(60)
    assert stopped.value.exit_code == 128 + number
    time.sleep(2 * REPEAT)  # and once only


def test_a_signal_that_a_library_turns_into_an_error_is_obeyed() -> None:
    """As an import of a compiled module does: ``ImportError: initialization failed``."""
    with pytest.raises(Interrupted), stopping_at_once():
        try:
            os.kill(os.getpid(), signal.SIGTERM)
            time.sleep(1)
        except Interrupted:
            raise ImportError("initialization failed") from None


def test_a_lost_signal_before_the_end(empty_folder: Path) -> None:
    """No result is written, no training begins, and the command reports that it was stopped."""
    with pytest.raises(Interrupted), stopping_at_once(), replacing(Path("codes.csv")) as file:
        file.write(b"1,2")
        lost(signal.SIGTERM)
    with pytest.raises(Interrupted), stopping_at_once():
        lost(signal.SIGTERM)
        with StopSignals():
            raise AssertionError("the training began")
    with pytest.raises(Interrupted), stopping_at_once():
        lost(signal.SIGTERM)
    assert not list(Path().iterdir())


def test_no_traceback_of_a_signal_that_arrives_while_an_object_is_deleted(monkeypatch: pytest.MonkeyPatch) -> None:
    """Python discards what a destructor raises, and prints it; other errors are still printed."""
    printed: list[object] = []
    monkeypatch.setattr(sys, "unraisablehook", lambda lost: printed.append(type(lost.exc_value)))

    class Deleted:
        def __init__(self, act: Callable[[], object]) -> None:
            self.act = act

        def __del__(self) -> None:
            self.act()

    with pytest.raises(Interrupted), stopping_at_once():
        Deleted(lambda: 1 / 0)
        Deleted(lambda: os.kill(os.getpid(), signal.SIGTERM))
        assert printed == [ZeroDivisionError]
        time.sleep(10 * REPEAT)
        raise AssertionError("the wish to stop was lost")
    assert printed == [ZeroDivisionError]
    Deleted(lambda: 1 / 0)
    assert printed == [ZeroDivisionError] * 2


def test_what_a_stop_tidies_up_is_not_stopped_again() -> None:
    with pytest.raises(Interrupted), stopping_at_once():
        try:
            os.kill(os.getpid(), signal.SIGTERM)
        finally:
            time.sleep(3 * REPEAT)
            tidy = True
    assert tidy


@pytest.mark.parametrize("command", ["score", "decode"])
def test_a_closed_stdin(command: str, digits_run: Path) -> None:
    script = f"{sys.executable} -m tiedae_cli {command} runs/digits - -o out.csv -q <&-"
    result = subprocess.run(["bash", "-c", script], capture_output=True, text=True, timeout=60)
    assert (result.returncode, result.stderr) == (2, "error: -: stdin is closed\n")
    assert not Path("out.csv").exists()


def test_a_closed_stdin_for_a_config() -> None:
    config = subprocess.run(
        ["bash", "-c", f"{sys.executable} -m tiedae_cli train --config - <&-"], capture_output=True, text=True, timeout=60
    )
    assert (config.returncode, config.stderr) == (2, "error: --config -: stdin is closed\n")


@pytest.mark.parametrize("arguments", ["encode runs/digits", "score runs/digits", "eval runs/digits", "--version"])
def test_a_closed_stdout_is_no_success(arguments: str, digits_run: Path) -> None:
    before = {path.name: path.read_bytes() for path in digits_run.iterdir()}
    result = subprocess.run(
        ["bash", "-c", f"{sys.executable} -m tiedae_cli {arguments} -q >&-".replace("--version -q", "--version")],
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert (result.returncode, result.stderr) == (1, "error: stdout: cannot be written: Bad file descriptor\n")
    assert {path.name: path.read_bytes() for path in digits_run.iterdir()} == before  # no file took the stream's place


def test_a_closed_stdout_that_nothing_goes_to(digits_run: Path) -> None:
    np.save("x.npy", np.zeros((3, 8, 8), np.uint8))
    script = f"{sys.executable} -m tiedae_cli train -q --set training.epochs=1 --json >&-; echo $?"
    result = subprocess.run(["bash", "-c", script], capture_output=True, text=True, timeout=60)
    assert result.stdout == "1\n"  # its lines are a result
