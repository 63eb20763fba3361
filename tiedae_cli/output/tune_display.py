"""The display of a tuning: one bar over all trials on a terminal, else a line per trial; with ``--json`` an object per trial."""

import contextlib
import logging
import time
from collections.abc import Callable, Iterator

from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

from tiedae_cli.config.grid import plain
from tiedae_cli.model.verdict import ratio
from tiedae_cli.output.terminal import Terminal, stop_bar
from tiedae_cli.runs.training_state import EpochReport
from tiedae_cli.runs.trials import Trial, TrialResult

LONGEST_LABEL = 60  # characters of settings


class TuneDisplay:
    """Shows the trials of a tuning: a bar, the best error so far beside PCA's, and the time left.

    Args:
        terminal: where to draw.
        value_name: name of one value of an item.
        pca: returns PCA's validation error with as many numbers as a trial's code has; None if PCA is exact.
        total: number of trials; None if only time limits them.
        seconds: they may take; None: no limit.
        done: results of earlier commands.
    """

    def __init__(
        self,
        terminal: Terminal,
        value_name: str,
        pca: Callable[[Trial], float | None],
        total: int | None,
        seconds: float | None,
        done: list[TrialResult],
    ) -> None:
        self.terminal, self.value_name, self.pca, self.total, self.done = terminal, value_name, pca, total, len(done)
        self.best: TrialResult | None = None
        self.seconds, self.began = seconds, time.monotonic()
        self._moving: dict[int, float] = {}  # by the number of an open trial: the share of its epochs that is done
        columns = (TextColumn("{task.description}"), BarColumn(bar_width=None), TimeRemainingColumn(compact=True))
        self.bar = Progress(*columns, console=terminal.console, transient=True, expand=True, disable=not terminal.interactive)
        self.task = self.bar.add_task("", total=total if seconds is None else seconds)
        for result in done:
            self._keep(result)

    def __enter__(self) -> "TuneDisplay":
        self._opened = contextlib.ExitStack()
        self._opened.enter_context(_only_warnings())
        self._opened.callback(stop_bar, self.bar)
        self.bar.start()
        self._draw()
        return self

    def __exit__(self, *error: object) -> None:
        self._opened.close()

    def moved(self, trial: Trial, report: EpochReport) -> None:
        """Move the bar by an epoch."""
        self._moving[trial.number] = report.epoch / report.epochs
        self._draw()

    def ended(self, result: TrialResult) -> None:
        """Show the result of a trial."""
        self._moving.pop(result.trial.number, None)
        self.done += result.state != "stopped"
        self._keep(result)
        self._draw()
        pca = self.pca(result.trial)
        if not self.terminal.interactive:
            of = "" if self.total is None else f" of {self.total:,}"
            self.terminal.note(
                f"run {self.done:,}{of}: {label(result.trial)}: {self._words(result, pca)}, {result.seconds:.1f} s"
            )
        self.terminal.json_line(event="run", **result.values(), pca_mse_per_value=pca)

    def _keep(self, result: TrialResult) -> None:
        error = result.mse_per_value
        if result.state == "finished" and error is not None:
            if self.best is None or self.best.mse_per_value is None or error < self.best.mse_per_value:
                self.best = result

    def _draw(self) -> None:
        of = "" if self.total is None else f"/{self.total}"
        best = f", best: {self._words(self.best, self.pca(self.best.trial))}" if self.best is not None else ""
        moved = self.done + sum(self._moving.values()) if self.seconds is None else time.monotonic() - self.began
        self.bar.update(self.task, description=f"run {self.done}{of}{best}", completed=moved)

    def _words(self, result: TrialResult, pca: float | None) -> str:
        if result.mse_per_value is None:
            return result.state
        state = "" if result.state == "finished" else f"{result.state} at "
        beside = "" if pca is None else f", {ratio(result.mse_per_value, pca)} PCA"
        return f"{state}MSE {result.mse_per_value:.6f} per {self.value_name}{beside}"


def label(trial: Trial) -> str:
    """Return a trial's settings as people type them, or its number."""
    short = " ".join(f"{key.rpartition('.')[2]}={plain(value)}" for key, value in trial.settings.items())
    return short if 0 < len(short) <= LONGEST_LABEL else trial.folder.name


@contextlib.contextmanager
def _only_warnings() -> Iterator[None]:
    """Let through the program's warnings, each once; what a training logs about itself is for a single one."""
    logger, seen = logging.getLogger("tiedae_cli"), set[str]()

    def first_warning(record: logging.LogRecord) -> bool:
        message = record.getMessage()
        kept = record.levelno >= logging.WARNING and message not in seen
        seen.add(message)
        return kept

    handlers = list(logger.handlers)
    for handler in handlers:
        handler.addFilter(first_warning)
    try:
        yield
    finally:
        for handler in handlers:
            handler.removeFilter(first_warning)
