"""One attack of ``hostile.py``: a command line in a folder with a small trained run, and what is right."""

import os
import resource
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

from tiedae_cli.runs import checkpoint

RUN = "runs/digits"


@dataclass(frozen=True)
class Attack:
    """One command line and what is right."""

    kind: str
    what: str
    arguments: tuple[str, ...]
    code: int | tuple[int, ...] = 2
    """The exit codes that are right; minus the number of a signal that may kill the process."""
    prepare: Callable[[], object] = tuple
    says: str = ""
    """What stderr must hold."""
    stdin: Path | None = None
    closed: int | None = None
    """A standard stream that is closed."""
    ignored: tuple[int, ...] = ()
    """Signals that the parent process lets be ignored."""
    stop: tuple[str, tuple[int, ...]] | None = None
    """A glob, and the signals that are sent as soon as it fits a file."""
    meanwhile: tuple[str, Callable[[], object]] | None = None
    """A glob, and what is done in the folder as soon as it fits a file."""
    enter: Callable[[], object] = tuple
    """What the process does to itself before the command: limits, variables, another folder."""
    after: Callable[[str, str], list[str]] = lambda out, err: []
    """Given stdout and stderr, returns what is wrong in the folder afterwards."""
    may_change: tuple[str, ...] = ()
    """Globs of files that may be written."""


def forge(**values: object) -> None:
    """Write a checkpoint with other contents and a right digest."""
    replace(checkpoint.load(f"{RUN}/best.safetensors"), **values).save(Path("forged.safetensors"))  # type: ignore[arg-type]


def variables(**values: str | None) -> None:
    """Set or unset variables."""
    for name, value in values.items():
        os.environ.pop(name, None)
        if value is not None:
            os.environ[name] = value


def limit(what: int, most: int) -> None:
    """Limit a resource of the process."""
    resource.setrlimit(what, (most, resource.getrlimit(what)[1]))
