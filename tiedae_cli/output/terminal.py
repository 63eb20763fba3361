"""The terminal: progress, notes and previews on stderr; tables, results and JSON Lines on stdout."""

import contextlib
import logging
import os
import sys
from collections.abc import Iterator, Sequence
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table
from rich.text import Text

from tiedae_cli.output.figures import Answers
from tiedae_cli.output.fitted_tables import PipedConsole, print_table
from tiedae_cli.output.output_targets import opened_output, refuse_binary_on_terminal
from tiedae_cli.output.preview import preview_lines
from tiedae_cli.system.json_text import json_text
from tiedae_cli.system.progress import progress_drawn_by
from tiedae_cli.system.text import shown, shown_lines


class Terminal:
    """The output streams of one command.

    Args:
        quiet: print only errors to stderr.
        as_json: print JSON Lines to stdout.
        prints: whether to print results to stdout at all; callers in Python get return values instead.
    """

    def __init__(self, quiet: bool = False, as_json: bool = False, prints: bool = True) -> None:
        self.prints = prints
        self.quiet = quiet
        self.as_json = as_json
        self.console: Console = PipedConsole(stderr=True, quiet=quiet, highlight=False)

    def __enter__(self) -> "Terminal":
        """Show log messages and the progress of slow work until the block ends."""
        self._shown = contextlib.ExitStack()
        self._shown.enter_context(self.draws_progress())
        self._shown.enter_context(self._shows_log_messages())
        return self

    def __exit__(self, *error: Any) -> None:
        self._shown.__exit__(*error)

    @contextlib.contextmanager
    def _shows_log_messages(self) -> Iterator[None]:
        """Show the program's log messages in this block; restore its logger afterwards."""
        logger, handler = logging.getLogger("tiedae_cli"), _TerminalHandler(self)
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
        """Whether stderr is a terminal that can redraw lines; with FORCE_COLOR, rich also calls a pipe a terminal."""
        forced = os.environ.get("FORCE_COLOR") and not self.console.file.isatty()
        return self.console.is_terminal and not forced and not self.console.is_dumb_terminal and not self.quiet

    def note(self, text: str) -> None:
        """Print a note to stderr."""
        self._say(Text(shown_lines(text)))

    def warn(self, text: str) -> None:
        """Print a warning to stderr."""
        self._say(Text("warning: " + shown_lines(text), style="yellow"))

    def _say(self, text: Text) -> None:
        """Print lines, wrapped between words on a terminal; a line with a command is not wrapped, so it can be copied."""
        for line in text.split("\n"):
            whole = not self.console.is_terminal or "tiedae " in line.plain
            self.console.print(line, soft_wrap=whole)

    def result(self, text: str) -> None:
        """Print the result that the next command of a pipeline needs to stdout; nothing with ``--json``."""
        if self.prints and not self.as_json:
            sys.stdout.flush()
            sys.stdout.buffer.write(
                os.fsencode(shown(text) if sys.stdout.isatty() else text) + b"\n"
            )  # a path may contain any bytes
            sys.stdout.flush()

    def json_line(self, **values: Any) -> None:
        """With ``--json``, print one JSON object to stdout and flush it."""
        if self.as_json:
            sys.stdout.write(json_text(values) + "\n")
            sys.stdout.flush()

    def table(self, table: Table, optional: Sequence[str] = ()) -> None:
        """Print a table to stdout (full width if stdout is not a terminal); nothing with ``--json``.

        Args:
            table: its title is printed above it.
            optional: headings of columns to hide if the window is too narrow, the first one first.
        """
        hidden = "" if self.as_json else print_table(table, optional)
        if hidden:
            self.note(hidden)

    @contextlib.contextmanager
    def draws_progress(self) -> Iterator[None]:
        """Draw a bar for the steps reported to ``progress`` in this block, if stderr is a terminal."""
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
        """Draw as many items and reconstructions as fit, in half-block characters, with the layout of the PNG.

        Args:
            answers: the originals first.
            title: two lines.
        """
        color = self.console.color_system is not None and not self.console.no_color
        if self.interactive and color:
            for line in preview_lines(answers, title, self.console.width, self.console.height):
                self.console.print(line, no_wrap=True, overflow="crop")


class _TerminalHandler(logging.Handler):
    """A logging handler that prints the program's messages to the terminal."""

    def __init__(self, terminal: Terminal) -> None:
        super().__init__(logging.INFO)
        self.terminal = terminal

    def emit(self, record: logging.LogRecord) -> None:
        show = self.terminal.warn if record.levelno >= logging.WARNING else self.terminal.note
        show(record.getMessage())


def stop_bar(bar: Progress) -> None:
    """Remove a bar; before rich 14.3, one that was never drawn would leave an empty line."""
    if bar.live.is_started:
        bar.stop()


def write_output(target: str, content: bytes) -> None:
    """Write bytes to a file (atomically), or to stdout if the target is ``-``.

    Raises:
        InputError: stdout is a terminal.
        StorageError: the file cannot be written.
    """
    if b"\0" in content:
        refuse_binary_on_terminal(target)
    with opened_output(target) as file:
        file.write(content)
