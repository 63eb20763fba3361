"""What people see and what pipelines read: progress, tables and previews on stderr, JSON Lines and results on stdout."""

import contextlib
import json
import logging
import math
import os
import sys
from collections.abc import Iterator, Sequence
from typing import Any

from rich.console import Console, RenderableType
from rich.progress import BarColumn, MofNCompleteColumn, Progress, ProgressColumn, Task, TextColumn, TimeRemainingColumn
from rich.table import Table
from rich.text import Text

from tiedae_cli.output.figures import Answers
from tiedae_cli.output.fitted_tables import print_table
from tiedae_cli.output.output_targets import opened_output, refuse_bytes_on_terminal
from tiedae_cli.output.preview import preview_lines
from tiedae_cli.runs.training_state import JOINT, EpochReport
from tiedae_cli.system.progress import progress_drawn_by
from tiedae_cli.system.text import shown, shown_lines
from tiedae_cli.training.trainer import Progress as TrainingProgress

MOST_ROWS = 20  # of a training's epochs, so that they fit a window of 24 lines


class Terminal:
    """The two streams of one command.

    Args:
        quiet: nothing on stderr but errors.
        as_json: stdout carries JSON Lines.
        prints: whether results go to stdout at all; a caller from Python gets them as values.
    """

    def __init__(self, quiet: bool = False, as_json: bool = False, prints: bool = True) -> None:
        self.prints = prints
        self.quiet = quiet
        self.as_json = as_json
        self.console = Console(stderr=True, quiet=quiet, highlight=False)
        _ToPeople(self).listen()

    def __enter__(self) -> "Terminal":
        """Draw the progress of slow work until the block ends."""
        self._drawing = self.draws_progress()
        self._drawing.__enter__()
        return self

    def __exit__(self, *error: Any) -> None:
        self._drawing.__exit__(*error)

    @property
    def interactive(self) -> bool:
        """Whether stderr is a terminal that can redraw lines; FORCE_COLOR makes rich take a pipe for one, for its colors alone."""
        forced = os.environ.get("FORCE_COLOR") and not self.console.file.isatty()
        return self.console.is_terminal and not forced and not self.console.is_dumb_terminal and not self.quiet

    def note(self, text: str) -> None:
        """Tell people something, on stderr."""
        self._say(Text(shown_lines(text)))

    def warn(self, text: str) -> None:
        """Warn people, on stderr."""
        self._say(Text("warning: " + shown_lines(text), style="yellow"))

    def _say(self, text: Text) -> None:
        """Print lines, on a terminal wrapped between words; a line to be typed stays whole, so that it can be copied."""
        for line in text.split("\n"):
            whole = not self.console.is_terminal or "tiedae " in line.plain
            self.console.print(line, soft_wrap=whole)

    def result(self, text: str) -> None:
        """Print the one thing that the next command needs, on stdout; not where stdout carries JSON."""
        if self.prints and not self.as_json:
            sys.stdout.flush()
            sys.stdout.buffer.write(os.fsencode(shown(text) if sys.stdout.isatty() else text) + b"\n")  # a path is bytes
            sys.stdout.flush()

    def json_line(self, **values: Any) -> None:
        """Print one JSON object on stdout and flush it, if ``--json`` was given."""
        if self.as_json:
            sys.stdout.write(json_text(values) + "\n")
            sys.stdout.flush()

    def table(self, table: Table, needless: Sequence[str] = ()) -> None:
        """Print a table on stdout, in its full width where stdout is no terminal; not where stdout carries JSON.

        Args:
            table: its title is printed over it.
            needless: headings of columns that may go where the window is too narrow, the first one first.
        """
        left_out = "" if self.as_json else print_table(table, needless)
        if left_out:
            self.note(left_out)

    @contextlib.contextmanager
    def draws_progress(self) -> Iterator[None]:
        """Draw what ``progress`` is told in this block as a bar; only where stderr is a terminal."""
        columns = (TextColumn("{task.description}"), BarColumn(bar_width=None), MofNCompleteColumn())
        bar = Progress(
            *columns,
            TimeRemainingColumn(compact=True),
            console=self.console,
            transient=True,
            expand=True,
            disable=not self.interactive,
        )
        task = bar.add_task("", total=None)

        def draw(what: str, done: int, total: int) -> None:
            bar.start()
            bar.update(task, description=what, completed=done, total=total)

        with progress_drawn_by(draw if self.interactive else None):
            try:
                yield
            finally:
                _stop(bar)

    def preview(self, answers: Sequence[Answers], title: tuple[str, str]) -> None:
        """Draw items and what became of them in half-block characters, laid out and named as in the PNG, as many as fit.

        Args:
            answers: the originals first.
            title: two lines.
        """
        colour = self.console.color_system is not None and not self.console.no_color
        if self.interactive and colour:
            for line in preview_lines(answers, title, self.console.width, self.console.height):
                self.console.print(line, no_wrap=True, overflow="crop")


class _ToPeople(logging.Handler):
    """Shows the notes and warnings of the whole program on a terminal; the newest terminal takes over from an older one."""

    def __init__(self, terminal: Terminal) -> None:
        super().__init__(logging.INFO)
        self.terminal = terminal

    def listen(self) -> None:
        logger = logging.getLogger("tiedae_cli")
        for handler in [handler for handler in logger.handlers if isinstance(handler, _ToPeople)]:
            logger.removeHandler(handler)
        logger.addHandler(self)
        logger.setLevel(logging.INFO)

    def emit(self, record: logging.LogRecord) -> None:
        show = self.terminal.warn if record.levelno >= logging.WARNING else self.terminal.note
        show(record.getMessage())


def json_text(values: dict[str, Any]) -> str:
    """Return one line of JSON; what JSON cannot say (NaN, infinity) becomes null, at every depth."""
    return json.dumps(sayable(values), allow_nan=False)


def sayable(value: Any) -> Any:
    """Return a value with null in place of what JSON cannot say, at every depth."""
    if isinstance(value, dict):
        return {key: sayable(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [sayable(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


class _Rate(ProgressColumn):
    """Items per second of the current epoch."""

    def __init__(self, items: str) -> None:
        super().__init__()
        self.items = items

    def render(self, task: Task) -> Text:
        """Return the rate in a fixed width, so that the bar does not jump."""
        rate = task.fields.get("rate") or 0.0
        return Text(f"{rate:>9,.0f} {self.items}/s")


def _stop(bar: Progress) -> None:
    """Take a bar away; one that was never drawn leaves an empty line, before rich 14.3."""
    if bar.live.is_started:
        bar.stop()


class _BarUnderRow(Progress):
    """A bar, over it the row of the newest epoch where that one has no line of its own."""

    row: Text | None = None

    def get_renderables(self) -> Iterator[RenderableType]:
        """Give the row and the bar."""
        if self.row is not None:
            yield self.row
        yield from super().get_renderables()


class TrainingDisplay:
    """Progress of a training: a bar over the epoch and a row an epoch; without a terminal a line an epoch.

    Of a long training every k-th epoch keeps its row or line, so that the whole fits a window; in a terminal the newest one stands over
    the bar. ``metrics.jsonl`` has all.

    Args:
        terminal: where to draw.
        items: what the items are called.
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

    def __enter__(self) -> "TrainingDisplay":
        self.bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        _stop(self.bar)

    def progress(self, report: TrainingProgress) -> None:
        """Move the bar."""
        rate = report.images / report.seconds if report.seconds else 0.0
        if report.step < self.bar.tasks[0].completed:
            self.bar.reset(self.task, total=report.steps)
        self.bar.update(
            self.task, completed=report.step, total=report.steps, label=f"{report.epoch}/{report.epochs}", rate=rate
        )

    def epoch(self, report: EpochReport) -> None:
        """Add the row or the line of an epoch."""
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
        rate = f"{report.seconds:.2f} s  {report.items_per_second:,.0f} {self.items}/s"
        if kept:
            self.terminal.note(f"epoch {number}  train MSE {report.train_mse_per_value:.6f}  {middle}{rate}")

    def _head(self, report: EpochReport) -> None:
        """Begin a phase."""
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
    """Return k so that every k-th of so many epochs makes at most 20 rows: 1, 2, 5, 10, 20 ..."""
    power: int = 10 ** max(0, len(str(epochs // MOST_ROWS)) - 1)
    return next(k * power for k in (1, 2, 5, 10) if epochs <= MOST_ROWS * k * power)


def write_output(target: str, content: bytes) -> None:
    """Write bytes to a file, whole or not at all, or to stdout where the target is ``-``.

    Raises:
        InputError: stdout is a terminal, and the content is no text.
        StorageError: the file cannot be written.
    """
    if b"\0" in content:
        refuse_bytes_on_terminal(target)
    with opened_output(target) as file:
        file.write(content)
