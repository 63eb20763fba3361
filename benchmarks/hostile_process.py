"""Attacks of ``hostile.py`` on the process: signals at any moment, two processes on one run, clocks, streams, limits and variables."""

import io
import os
import random
import re
import resource
import signal
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import redirect_stderr, redirect_stdout
from functools import partial
from pathlib import Path

from attack import RUN, Attack, limit, variables

from tiedae_cli.__main__ import main as tiedae
from tiedae_cli.runs import checkpoint
from tiedae_cli.system.storage import TEMPORARY_PREFIX

SHORT = ("train", "--run-dir", "short", "--set", "training.epochs=4", "--set", "model.hidden_sizes=[16, 4]")
WRITES = ("short/*", "long/*", "runs/*/*", "runs/*/*/*", "out*", "*.png", "*.html")


def run_in_child(*words: str) -> int:
    """Run a command in a process of its own; return its exit code."""
    child = os.fork()
    if not child:
        with open(os.devnull, "w") as null, redirect_stdout(null), redirect_stderr(null):
            sys.argv = ["tiedae", *words]
            try:
                tiedae()
            except SystemExit as end:
                os._exit(end.code if isinstance(end.code, int) else 1)
        os._exit(0)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


# Signals at any moment

MOMENTS = 60
LONGEST_WAIT = 2.5  # s: most of a short training with its report


def signal_after(seconds: float, number: int) -> None:
    """Let a child send this process a signal after some seconds."""
    parent = os.getpid()
    if not os.fork():
        time.sleep(seconds)
        if os.getppid() == parent:
            os.kill(parent, number)
        os._exit(0)


def resumes(out: str, err: str) -> list[str]:
    """Return what is wrong with a run after its training was stopped, and with the one that resumes it."""
    problems = [f"{path} is left" for path in Path().rglob(f"{TEMPORARY_PREFIX}*") if not path.name.startswith(".tiedae-lock")]
    if Path("short/last.safetensors").exists():
        checkpoint.load("short/last.safetensors")
        if code := run_in_child("train", "--resume", "short", "-q"):
            problems.append(f"--resume ends with exit code {code}")
        else:
            checkpoint.load("short/best.safetensors")
    return problems


def moments() -> Iterator[Attack]:
    """Yield attacks by signals at random moments: while data are read, PCA is fitted, files are written, the report is drawn."""
    chance = random.Random(0)
    for index in range(MOMENTS):
        number = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGUSR1)[index % 4]
        seconds = chance.uniform(0, LONGEST_WAIT)
        yield Attack(
            "moments",
            f"{number.name} after {seconds:.2f} s",
            (*SHORT, "--set", "output.report=true"),
            code=0 if number == signal.SIGUSR1 else (0, 128 + number, -number),  # minus: before a handler is installed
            enter=partial(signal_after, seconds, number),
            after=resumes,
            may_change=WRITES,
        )


# Two processes on one run


def beside(*words: str) -> None:
    """Begin a long training in a process of its own, and wait for its first checkpoint."""
    parent = os.getpid()
    if not os.fork():
        sys.argv = ["tiedae", *words]
        for number in (1, 2):
            os.dup2(os.open(os.devnull, os.O_WRONLY), number)
        if not os.fork():  # ends the training with the attack
            trainer = os.getppid()
            while os.getppid() == trainer and _exists(parent):
                time.sleep(0.05)
            os.kill(trainer, signal.SIGKILL)
            os._exit(0)
        try:
            tiedae()
        finally:
            os._exit(0)
    while not Path("long/previous.safetensors").exists():
        time.sleep(0.02)


def _exists(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    return Path(f"/proc/{process}/stat").read_text().split()[2] != "Z"


def together() -> Iterator[Attack]:
    """Yield attacks by a second process on the folder of a run in training."""
    training = partial(beside, "train", "--config", "long.yaml", "--run-dir", "long")
    refused: dict[str, tuple[str, int | tuple[int, ...]]] = {
        "train --resume long": ("long", (1, 2)),
        "train --run-dir long": ("long", (1, 2)),
        "train digits --run-dir long --resume": ("long", (1, 2)),
        "runs long --remove": ("long", (1, 2)),
        "eval long": ("", 0),
        "score long x.npy": ("no threshold", 2),
        "report long -o out.html": ("", 0),
        "inspect long": ("", 0),
        "compare long long": ("", 0),
        "export long --format safetensors -o out.st": ("", 0),
        "runs": ("", 0),
        "reconstruct long -o out.png": ("", 0),
    }
    for words, (says, code) in refused.items():
        yield Attack(
            "together", f"{words} beside its training", tuple(words.split()), code, enter=training, says=says, may_change=WRITES
        )


# Clocks


def clock(offset: Callable[[float], float]) -> None:
    """Let the process see another time of day."""
    real, real_ns = time.time, time.time_ns
    time.time = lambda: offset(real())
    time.time_ns = lambda: int(offset(real_ns() / 1e9) * 1e9)


def backwards(now: float) -> float:
    """Return a time of day that falls by an hour per call."""
    STATE["calls"] = STATE.get("calls", 0) + 1
    return now - 3600 * STATE["calls"]


STATE: dict[str, int] = {}
NEGATIVE_TIME = re.compile(r"(?<![\w.])-\d[\d.,:]* ?(s|min|h|d|images|items|seconds)\b")
CLOCKS: dict[str, Callable[[float], float]] = {
    "1970": lambda now: 1.0,
    "before 1970": lambda now: -1e9,
    "2039": lambda now: 2.2e9,
    "2107": lambda now: 4.33e9,
    "backwards": backwards,
}


def no_negative_time(out: str, err: str) -> list[str]:
    """Return a problem if a duration or an age is negative."""
    found = NEGATIVE_TIME.search(out + err)
    return [f"a negative time: {found[0]}"] if found else []


def clocks() -> Iterator[Attack]:
    """Yield attacks by a clock that is wrong, or goes backwards."""
    for name, offset in CLOCKS.items():
        for words in (SHORT, ("train", "--resume", RUN, "epochs=3"), ("runs",), ("eval",), ("report", RUN, "-o", "out.html")):
            after = no_negative_time if words[0] in ("train", "runs") else lambda out, err: []
            yield Attack(
                "clocks", f"{' '.join(words)}: {name}", words, 0, enter=partial(clock, offset), after=after, may_change=WRITES
            )


# Streams, limits and variables, for every command

COMMANDS = (
    "train --run-dir short --set training.epochs=1 --set model.hidden_sizes=[4]", f"eval {RUN}", f"reconstruct {RUN} -o out.png",
    f"encode {RUN} x.npy --format csv", f"decode {RUN} codes.npy --format csv", f"score {RUN} x.npy", f"report {RUN} -o out.html",
    f"compare {RUN} {RUN}", f"inspect {RUN}", f"export {RUN} --format safetensors -o out.st", "runs", "configs", "schema", "help",
    "tune epochs=1 hidden_sizes=4 code_size=2,3",
)  # fmt: skip


def little_address_space() -> None:
    """Leave the process 60 MB more than it has."""
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    limit(resource.RLIMIT_AS, pages * resource.getpagesize() + 60_000_000)


def encoding(name: str) -> None:
    """Write to the standard streams in another encoding."""
    os.environ["PYTHONIOENCODING"] = name
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(encoding=name)


def everywhere() -> Iterator[Attack]:
    """Yield attacks by closed streams, limits and variables on every command."""
    settings: dict[str, tuple[Callable[[], object], int | tuple[int, ...]]] = {
        "16 open files": (partial(limit, resource.RLIMIT_NOFILE, 16), (0, 1, 2)),
        "files of 4 kB": (partial(limit, resource.RLIMIT_FSIZE, 4096), (0, 1, 2)),
        "60 MB of address space": (little_address_space, (0, 1, 2)),
        "no HOME, no TERM": (partial(variables, HOME=None, TERM=None, XDG_CACHE_HOME=None), 0),
        "TMPDIR cannot be written": (partial(variables, TMPDIR="/proc/self", HOME="/proc/self"), 0),
        "10 columns": (partial(variables, COLUMNS="10", LC_ALL="POSIX"), 0),
        "ascii": (partial(encoding, "ascii"), 0),
    }
    for words in COMMANDS:
        for name, (enter, code) in settings.items():
            yield Attack("anywhere", f"{words}: {name}", tuple(words.split()), code, enter=enter, may_change=WRITES)
        for stream, code in ((0, 0), (1, (0, 1)), (2, 0)):
            yield Attack(
                "anywhere", f"{words}: stream {stream} closed", tuple(words.split()), code, closed=stream, may_change=WRITES
            )


PROCESS_KINDS: dict[str, Callable[[], Iterator[Attack]]] = {
    "moments": moments,
    "together": together,
    "clocks": clocks,
    "anywhere": everywhere,
}
