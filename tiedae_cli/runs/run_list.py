"""What lies under ``runs/``, told from the small files alone: no checkpoint is read, no torch is imported, it answers at once."""

import contextlib
import json
import math
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import yaml

from tiedae_cli.errors import InputError
from tiedae_cli.system.locks import is_held
from tiedae_cli.system.portability import quoted
from tiedae_cli.system.regular_files import open_regular

RUNS = Path("runs")  # where runs are looked for when no config says otherwise
OUTCOME = "outcome.json"
LARGEST = 1 << 24  # bytes of a file that is read
NAMED = 8  # runs that a message names


@dataclass(frozen=True)
class Outcome:
    """How a training ended, as its run folder keeps it."""

    state: str
    """finished or diverged."""
    epochs: int
    """That were asked for."""
    best_epoch: int | None = None
    mse_per_value: float | None = None
    """Of the best epoch: validation, else training."""
    pca_mse_per_value: float | None = None
    """PCA's on the same split, with as many numbers as the code has; None if it is not a baseline."""

    stopped_early_after: int | None = None
    """Epochs done, if early stopping ended the training."""

    def text(self) -> str:
        """Return it as JSON."""
        return json.dumps(asdict(self)) + "\n"


@dataclass(frozen=True)
class RunSummary:
    """One run."""

    name: str
    data: str
    """Name, or last part of the path."""
    shape: str
    """Hidden sizes."""
    epochs: int
    """Done."""
    asked: int
    """Epochs asked for."""
    mse_per_value: float | None
    """Of the best epoch: validation, else training."""
    pca_mse_per_value: float | None
    """PCA's, once the training is finished."""
    when: str
    """Last saved: ISO 8601, UTC, seconds."""
    state: str
    """running, stopped, finished, diverged or unreadable."""


def run_folders(parent: Path) -> list[Path]:
    """Return the folders of runs, the one that was saved last first."""
    found = []
    for path in parent.glob("*/last.safetensors"):
        with contextlib.suppress(OSError):
            found.append((path.stat().st_mtime_ns, path.parent.name, path.parent))
    return [folder for _, _, folder in sorted(found, reverse=True)]


def require_runs(parent: Path) -> list[Path]:
    """Return the folders of runs, the newest first.

    Raises:
        InputError: there is none.
    """
    found = run_folders(parent)
    if not found:
        raise InputError(f"no run under {parent}/ yet: train one with `tiedae train`, or name a checkpoint")
    return found


def choose_run(parent: Path) -> tuple[Path, str | None]:
    """Return the run that is meant if none is named, the newest finished one, and what to say about the choice.

    Without a finished run it is the newest one that has finished an epoch. A training that stopped early is finished.

    Raises:
        InputError: there is none.
    """
    folders = require_runs(parent)
    finished = next((folder for folder in folders if is_finished(folder)), None)
    started = next((folder for folder in folders if (folder / "best.safetensors").exists()), folders[0])
    if finished == folders[0]:
        return finished, None
    summary = summarize(folders[0])
    if started == folders[0] and finished is None and summary.state == "unreadable":
        return started, None
    newest = f"{folders[0]}: {progress_of(summary)}"
    if finished is not None:
        return finished, f"{newest}; using {finished}, the newest finished run"
    return started, f"{newest}; no run is finished, using {started}" if started != folders[0] else newest


def is_finished(folder: Path) -> bool:
    """Return whether the training of a run has ended by itself and has not been resumed since."""
    outcome = read_outcome(folder)
    return outcome is not None and outcome.state == "finished" and summarize(folder).state == "finished"


def progress_of(run: RunSummary) -> str:
    """Return how far an unfinished run has come, in words."""
    if run.state == "unreadable":
        return "its config.yaml or metrics.jsonl is missing or damaged"
    how = {"running": "still training", "diverged": "diverged"}.get(run.state, "stopped")
    return f"{run.epochs:,} of {run.asked:,} epochs, {how}"


def known_runs(parent: Path) -> str:
    """Return the names of the newest runs, for a message; empty if there are none."""
    names = [folder.name for folder in run_folders(parent)]
    more = f" and {len(names) - NAMED} more (tiedae runs)" if len(names) > NAMED else ""
    return f" (runs under {parent}/: {', '.join(map(quoted, names[:NAMED]))}{more})" if names else ""


def summarize(folder: Path) -> RunSummary:
    """Return what a run folder's small files say."""
    when = datetime.fromtimestamp((folder / "last.safetensors").stat().st_mtime, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    try:
        config = yaml.load(_read(folder / "config.yaml"), Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader))
        data = str(config["data"]["dataset"])
        model, asked = config["model"], int(config["training"]["epochs"])
        shape = "-".join(map(str, model.get("layers") or model["hidden_sizes"]))
        history = read_history(folder)
        epochs = [entry for entry in history if entry.get("phase", "joint") == "joint"]
        finished = sum(entry.get("epoch") != 0 for entry in epochs)  # epoch 0 is the start of a linear path
        best = min(
            (error for entry in epochs if entry.get("best") is not False and (error := _selection(entry)) is not None),
            default=None,
        )
    except (OSError, ValueError, KeyError, TypeError, AttributeError, yaml.YAMLError):
        state = "running" if is_held(folder) else "unreadable"  # a training's first moment: its config is not written yet
        return RunSummary(folder.name, "?", "?", 0, 0, None, None, when, state)
    outcome = read_outcome(folder)
    state, pca = _state(folder, outcome, asked, finished), None if outcome is None else outcome.pca_mse_per_value
    return RunSummary(folder.name, Path(data).name, shape, finished, asked, best, pca, when, state)


def read_outcome(folder: Path) -> Outcome | None:
    """Return how a training ended; None where it has not, or nothing whole says so."""
    with contextlib.suppress(OSError, ValueError, TypeError):
        from pydantic import TypeAdapter

        return TypeAdapter(Outcome).validate_json(_read(folder / OUTCOME), strict=True)
    return None


def read_history(folder: Path) -> list[dict[str, Any]]:
    """Return what the run folder says of each epoch; the file is made when the first epoch is saved."""
    try:
        text = _read(folder / "metrics.jsonl")
    except FileNotFoundError:
        return []
    return [json.loads(line) for line in text.splitlines() if line.strip()]


def _selection(epoch: dict[str, Any]) -> float | None:
    """Return the error by which an epoch is chosen: validation if there is one, otherwise training."""
    found = epoch.get("validation_mse_per_value")
    error = epoch.get("train_mse_per_value") if found is None else found
    return None if error is None else float(error)


def _state(folder: Path, outcome: Outcome | None, asked: int, done: int) -> str:
    if is_held(folder):
        return "running"
    if outcome is not None and (outcome.state == "diverged" or outcome.epochs == asked):
        return outcome.state
    return "stopped" if outcome is not None or done < asked else "finished"


def _read(path: Path) -> str:
    with open_regular(path) as file:
        return file.read(LARGEST).decode()


def in_order(runs: Iterable[RunSummary], key: str) -> list[RunSummary]:
    """Return runs in the order of ``tiedae runs --sort``; equal ones keep theirs.

    Args:
        runs: the newest first.
        key: ``saved``, ``name``, ``data``, ``epochs`` (most first), ``mse`` (lowest first, without one last) or ``state``.
    """
    keys: dict[str, Callable[[RunSummary], Any]] = {
        "saved": lambda run: 0,
        "name": lambda run: run.name,
        "data": lambda run: run.data,
        "epochs": lambda run: -run.epochs,
        "mse": lambda run: math.inf if run.mse_per_value is None else run.mse_per_value,
        "state": lambda run: run.state,
    }
    return sorted(runs, key=keys[key])


def as_values(runs: Iterable[RunSummary]) -> list[dict[str, Any]]:
    """Return runs as the JSON interface names them."""
    return [asdict(run) for run in runs]
