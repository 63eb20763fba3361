"""What people see and what pipelines read: progress, tables and previews on stderr, JSON Lines and results on stdout."""

import contextlib
import logging
import os
import sys
from collections.abc import Iterator, Sequence
from typing import Any

from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table
from rich.text import Text

from tiedae_cli.output.figures import Answers
from tiedae_cli.output.fitted_tables import PipedConsole, print_table
from tiedae_cli.output.output_targets import opened_output, refuse_bytes_on_terminal
from tiedae_cli.output.preview import preview_lines
from tiedae_cli.system.json_text import json_text
from tiedae_cli.system.progress import progress_drawn_by
from tiedae_cli.system.text import shown, shown_lines


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
        self.console = PipedConsole(stderr=True, quiet=quiet, highlight=False)

    def __enter__(self) -> "Terminal":
        """Show what the program logs, and the progress of slow work, until the block ends."""
        self._shown = contextlib.ExitStack()
        self._shown.enter_context(self.draws_progress())
        self._shown.enter_context(self._shows_what_is_logged())
        return self

    def __exit__(self, *error: Any) -> None:
        self._shown.__exit__(*error)

    @contextlib.contextmanager
    def _shows_what_is_logged(self) -> Iterator[None]:
        """Show the notes and warnings of the program in this block, and leave its logger as it was."""
        logger, handler = logging.getLogger("tiedae_cli"), _ToPeople(self)
        level = logger.level
        logger.addHandler(handler)
        logger.setLevel(logging.INFO)
        try:
            yield
        finally:
            logger.removeHandler(handler)
            logger.setLevel(level)

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
                stop_bar(bar)

    def preview(self, answers: Sequence[Answers], title: tuple[str, str]) -> None:
        """Draw items and what became of them in half-block characters, laid out and named as in the PNG, as many as fit.

        Args:
            answers: the originals first.
            title: two lines.
        """
        color = self.console.color_system is not None and not self.console.no_color
        if self.interactive and color:
            for line in preview_lines(answers, title, self.console.width, self.console.height):
                self.console.print(line, no_wrap=True, overflow="crop")


class _ToPeople(logging.Handler):
    """Shows the notes and warnings of the whole program on a terminal."""

    def __init__(self, terminal: Terminal) -> None:
        super().__init__(logging.INFO)
        self.terminal = terminal

    def emit(self, record: logging.LogRecord) -> None:
        show = self.terminal.warn if record.levelno >= logging.WARNING else self.terminal.note
        show(record.getMessage())


def stop_bar(bar: Progress) -> None:
    """Take a bar away; one that was never drawn leaves an empty line, before rich 14.3."""
    if bar.live.is_started:
        bar.stop()


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
