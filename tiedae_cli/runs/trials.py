"""The trials of a tuning: each is an ordinary run in a folder of its own, below the folder of the tuning.

That folder also holds ``tune.json``, by which a later command recognizes its own trials, and a copy of the chosen run, so that it is a
run itself: the newest one, as its trials never are.
"""

import contextlib
import json
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from tiedae_cli.config import Config
from tiedae_cli.errors import DataError, InputError
from tiedae_cli.runs.run_folder import Run
from tiedae_cli.runs.run_list import read_history, read_outcome, summarize
from tiedae_cli.runs.training_state import SplitIdentity
from tiedae_cli.system.storage import link_or_copy, replacing_name, storage_errors

TUNE_FILE = "tune.json"
BEST_CONFIG = "best.yaml"
PICTURE = "rate.png"


@dataclass(frozen=True)
class Trial:
    """One training of a tuning."""

    number: int
    """From 0."""
    folder: Path
    """Its run folder."""
    config: Config
    settings: Mapping[str, Any]
    """What distinguishes it from the others, by ``section.key``."""
    longest: float = math.inf
    """Seconds of steps that its training may take; a trial that would need more is pruned."""


@dataclass(frozen=True)
class TrialResult:
    """How a trial ended."""

    trial: Trial
    state: str
    """finished, diverged, pruned, stopped, or running in another process."""
    epochs: int
    """Done."""
    best_epoch: int | None
    mse_per_value: float | None
    """Of the best epoch, on the validation split; None if there is none."""
    seconds: float
    """Of the training steps."""

    def values(self) -> dict[str, Any]:
        """Return the values for JSON."""
        return {
            "run": str(self.trial.folder),
            "number": self.trial.number,
            "settings": dict(self.trial.settings),
            "state": self.state,
            "epochs": self.epochs,
            "best_epoch": self.best_epoch,
            "validation_mse_per_value": self.mse_per_value,
            "seconds": self.seconds,
        }


def finished_result(trial: Trial) -> TrialResult | None:
    """Return how a trial ended, from its small files; None if its training has not ended by itself."""
    outcome = read_outcome(trial.folder)
    if outcome is None or not Run(trial.folder).config.exists():
        return None
    with contextlib.suppress(OSError):
        if summarize(trial.folder).state in ("finished", "diverged"):
            return result_of(trial, outcome.state)
    return None


def result_of(trial: Trial, state: str) -> TrialResult:
    """Return what a trial has reached so far, from ``metrics.jsonl``."""
    try:
        history = [epoch for epoch in read_history(trial.folder) if epoch.get("phase", "joint") == "joint"]
    except (OSError, ValueError):
        history = []
    best = next((epoch for epoch in reversed(history) if epoch.get("best")), None) if state != "diverged" else None
    return TrialResult(
        trial,
        state,
        epochs=sum(epoch["epoch"] > 0 for epoch in history),
        best_epoch=None if best is None else best["epoch"],
        mse_per_value=None if best is None else best["validation_mse_per_value"],
        seconds=sum(epoch["seconds"] for epoch in history),
    )


class TuneFolder:
    """The folder of a tuning.

    Args:
        path: the folder.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.file, self.best_config, self.picture = path / TUNE_FILE, path / BEST_CONFIG, path / PICTURE

    def __fspath__(self) -> str:
        return str(self.path)

    def write(self, path: Path, content: bytes) -> None:
        """Write one of its files, whole or not at all."""
        with replacing_name(path) as file:
            file.write(content)

    def publish(self, chosen: Trial, trials: Sequence[Trial]) -> bool:
        """Copy a trial's run into the folder, which then is a run itself; return whether that was possible.

        Args:
            chosen: the trial.
            trials: all trials; a run in the folder that is none of theirs was trained further by the user and stays.
        """
        source, target = Run(chosen.folder), Run(self.path)
        if target.last.exists() and not any(_same_run(target, Run(trial.folder)) for trial in trials):
            return False
        for name in ("outcome", "metrics", "config"):
            file: Path = getattr(source, name)
            if file.exists():
                self.write(getattr(target, name), file.read_bytes())
        link_or_copy(source.best, target.best)
        target.previous.unlink(missing_ok=True)
        link_or_copy(source.last if source.last.exists() else source.best, target.last)
        return True


def _same_run(one: Run, other: Run) -> bool:
    """Return whether two folders hold the same run, as far as it has been trained."""
    with contextlib.suppress(OSError):
        return one.metrics.read_bytes() == other.metrics.read_bytes()
    return False


def find_tune_folder(
    parent: Path, name: str, run_dir: Path | None, base: Config, searches: bool, data: Mapping[str, SplitIdentity]
) -> TuneFolder:
    """Return the folder of an earlier tuning of the same config, or a new one: ``name``, ``name-2`` ...

    Args:
        parent: where runs lie.
        name: of the folder.
        run_dir: the folder, if the user names it.
        base: the config without the values that vary.
        searches: whether the settings are proposed instead of given.
        data: identity of the data.

    Raises:
        InputError: ``run_dir`` holds something else.
        DataError: the data has changed since the trials were trained.
        StorageError: the folder cannot be created.
    """
    own = {"searches": searches, "config": _identity(base)}
    kept = {**own, "data": {split: asdict(one) for split, one in data.items()}}
    numbers = range(1, 1_000_000)
    for path in [run_dir] if run_dir else (parent / (name if i == 1 else f"{name}-{i}") for i in numbers):
        folder = TuneFolder(path)
        with storage_errors(path, "created"):
            if not path.exists() or not any(path.iterdir()):
                path.mkdir(parents=True, exist_ok=True)
                folder.write(folder.file, (json.dumps(kept) + "\n").encode())
                return folder
        found = _read(folder.file)
        if found is None or {key: found.get(key) for key in own} != own:
            if run_dir:
                raise InputError(f"--run-dir {run_dir}: holds something else, not a tuning of this config; name a new folder")
            continue
        if found.get("data") != kept["data"]:
            again = f"tiedae tune ... --run-dir {path}-new"
            raise DataError(f"{base.data.data_name} has changed since the runs in {path} were trained; to start anew: {again}")
        return folder
    raise InputError(f"{parent}: a million folders named {name}")


def _identity(base: Config) -> dict[str, Any]:
    values: dict[str, Any] = json.loads(base.model_dump_json(exclude={"output"}))
    return values


def _read(path: Path) -> dict[str, Any] | None:
    with contextlib.suppress(OSError, ValueError):
        values = json.loads(path.read_text())
        return values if isinstance(values, dict) else None
    return None


def remove_weights(folder: Path) -> None:
    """Remove the checkpoints of a trial that was not chosen; its small files stay."""
    run = Run(folder)
    for path in (run.last, run.previous, run.best):
        path.unlink(missing_ok=True)


def tune_name(name: str) -> str:
    """Return the name of the folder for the trials of a run's name."""
    return re.sub(r"-tune$", "", name) + "-tune"
