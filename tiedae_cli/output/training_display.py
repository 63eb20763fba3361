"""The display of a running training: a progress bar and a row per epoch, or plain lines if stderr is not a terminal."""

from collections.abc import Iterator

import rich.progress
from rich.console import RenderableType
from rich.progress import BarColumn, ProgressColumn, Task, TextColumn, TimeRemainingColumn
from rich.text import Text

from tiedae_cli.output.terminal import Terminal, stop_bar
from tiedae_cli.runs.observer import Observer, Progress, TrainingResult, TrainingStart
from tiedae_cli.runs.training_state import JOINT, EpochReport

MOST_ROWS = 20  # of epochs, to fit a window of 24 lines


class _Rate(ProgressColumn):
    """Items per second of the current epoch."""

    def __init__(self, items: str) -> None:
        super().__init__()
        self.items = items

    def render(self, task: Task) -> Text:
        """Return the rate in a fixed width, so that the bar does not jump."""
        rate = task.fields.get("rate") or 0.0
        return Text(f"{rate:>9,.0f} {self.items}/s")


class _BarUnderRow(rich.progress.Progress):
    """A progress bar, with the row of the newest epoch above it if that row is not printed permanently."""

    row: Text | None = None

    def get_renderables(self) -> Iterator[RenderableType]:
        """Yield the row and the bar."""
        if self.row is not None:
            yield self.row
        yield from super().get_renderables()


class TrainingDisplay(Observer):
    """Shows a progress bar and a row per epoch; without a terminal, a line per epoch.

    A long training keeps every k-th row, so that all of them fit a window; a terminal also shows the newest epoch above the bar.
    ``metrics.jsonl`` has every epoch.

    Args:
        terminal: where to draw.
        items: the plural name of the items.
    """

    def __init__(self, terminal: Terminal, items: str = "images") -> None:
        self.terminal, self.items = terminal, items
        self.phase = ""
        self.bar = _BarUnderRow(
            TextColumn("epoch {task.fields[label]}"),
            BarColumn(bar_width=None),
            TextColumn("{task.percentage:>3.0f}%"),
            _Rate(items),
            TimeRemainingColumn(compact=True),
            console=terminal.console,
            transient=True,
            expand=True,
            disable=not terminal.interactive,
        )
        self.task = self.bar.add_task("", total=None, label="1", rate=0.0)

    def started(self, start: TrainingStart) -> None:
        """Start the progress bar."""
        self.bar.start()

    def finished(self, result: TrainingResult) -> None:
        """Remove the progress bar."""
        stop_bar(self.bar)

    def stopped(self, error: BaseException | None) -> None:
        """Remove the progress bar."""
        stop_bar(self.bar)

    def progress(self, report: Progress) -> None:
        """Advance the progress bar."""
        rate = report.items / report.seconds if report.seconds else 0.0
        if report.step < self.bar.tasks[0].completed:
            self.bar.reset(self.task, total=report.steps)
        self.bar.update(
            self.task, completed=report.step, total=report.steps, label=f"{report.epoch}/{report.epochs}", rate=rate
        )

    def epoch(self, report: EpochReport) -> None:
        """Print the row or line of an epoch."""
        if report.phase != self.phase:
            self._head(report)
        number = f"{report.epoch}/{report.epochs}"
        kept = report.epoch in (1, report.epochs) or report.epoch % _every(report.epochs) == 0
        validation = report.validation_mse_per_value
        if self.terminal.interactive:
            value = "-" if validation is None else f"{validation:.6f}"
            row = f"{number:>11}  {report.train_mse_per_value:>10.6f}  {value:>10}  {report.seconds:>8.2f}"
            line = Text(row + ("  best" if report.best else ""))
            self.bar.row = None if kept else line
            self.bar.update(self.task, label=number, rate=report.items_per_second)
            if kept:
                self.terminal.console.print(line)
            return
        middle = "" if validation is None else f"validation MSE {validation:.6f}  "
        rate = f"{report.seconds:.2f} s  {report.items_per_second:,.0f} {self.items}/s" if report.epoch else "before training"
        if kept:
            self.terminal.note(f"epoch {number}  train MSE {report.train_mse_per_value:.6f}  {middle}{rate}")

    def _head(self, report: EpochReport) -> None:
        """Print the heading of a phase."""
        if report.phase != JOINT or self.phase:
            what = (
                "all layers together" if report.phase == JOINT else f"{report.phase} alone, on the output of the layers below"
            )
            self.terminal.note(what)
        self.phase = report.phase
        if self.terminal.interactive:
            head = f"{'epoch':>11}  {'train MSE':>10}  {'validation':>10}  {'seconds':>8}"
            self.terminal.console.print(Text(head, style="bold"))


def _every(epochs: int) -> int:
    """Return the smallest k of 1, 2, 5, 10, 20 ... for which every k-th epoch makes at most 20 rows."""
    power: int = 10 ** max(0, len(str(epochs // MOST_ROWS)) - 1)
    return next(k * power for k in (1, 2, 5, 10) if epochs <= MOST_ROWS * k * power)
