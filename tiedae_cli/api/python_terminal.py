"""What a training shows to a caller from Python: lines on stderr, or in a notebook one display that is updated."""

import importlib
import io
import sys
import time
from html import escape
from typing import Any

from rich.console import Console
from rich.text import Text

from tiedae_cli.api.python_words import python_words
from tiedae_cli.output.terminal import Terminal
from tiedae_cli.runs.observer import Observer, Progress, TrainingResult
from tiedae_cli.runs.training_state import EpochReport

EVERY = 0.2  # seconds between updates of a display
WIDTH = 110  # characters of a line in a notebook


def in_notebook() -> bool:
    """Return whether the caller is a Jupyter kernel."""
    ipython = sys.modules.get("IPython")
    shell = None if ipython is None else ipython.get_ipython()
    return shell is not None and hasattr(shell, "kernel")


class PythonTerminal(Terminal):
    """A terminal that speaks Python.

    Args:
        hidden: a folder that no message names, because it is temporary.
    """

    def __init__(self, hidden: str | None = None) -> None:
        super().__init__(prints=False)
        self.hidden = hidden

    def _say(self, text: Text) -> None:
        plain = text.plain if self.hidden is None else text.plain.replace(f"{self.hidden}/", "")
        super()._say(Text(python_words(plain), style=text.style))

    def observers(self) -> list[Observer]:
        """Return what else follows the training."""
        return []


class NotebookTerminal(PythonTerminal):
    """One display for a whole training: its lines and, under them, the position in the epoch."""

    def __init__(self, hidden: str | None = None) -> None:
        super().__init__(hidden)
        self.console: Console = Console(
            file=io.StringIO(), force_jupyter=False, force_terminal=False, width=WIDTH, highlight=False
        )
        self.position, self._shown_at = "", 0.0
        self._handle: Any = None

    @property
    def interactive(self) -> bool:
        """Return False: the display is not a terminal."""
        return False

    def _say(self, text: Text) -> None:
        super()._say(text)
        self.draw()

    def draw(self, *, at_once: bool = True) -> None:
        """Update the display, unless that was done a moment ago."""
        now = time.monotonic()
        if not at_once and now - self._shown_at < EVERY:
            return
        self._shown_at = now
        assert isinstance(self.console.file, io.StringIO)
        text = self.console.file.getvalue() + self.position
        content = {"text/plain": text, "text/html": f'<pre style="margin:0">{escape(text)}</pre>'}
        if self._handle is None:
            display = importlib.import_module("IPython.display").display
            self._handle = display(content, raw=True, display_id=True)
        else:
            self._handle.update(content, raw=True)

    def observers(self) -> list[Observer]:
        """Return what keeps the position."""
        return [_Position(self)]


class _Position(Observer):
    """Shows the position in the current epoch."""

    def __init__(self, terminal: NotebookTerminal) -> None:
        self.terminal = terminal

    def progress(self, report: Progress) -> None:
        """Show it, a few times per second."""
        self.terminal.position = f"epoch {report.epoch}/{report.epochs}  {report.step / report.steps:.0%}"
        self.terminal.draw(at_once=False)

    def epoch(self, report: EpochReport) -> None:
        """Show the next epoch soon."""
        self.terminal.position = f"epoch {report.epoch}/{report.epochs}"
        self.terminal.draw(at_once=False)

    def finished(self, result: TrainingResult) -> None:
        """Show the lines alone."""
        self._clear()

    def stopped(self, error: BaseException | None) -> None:
        """Show the lines alone."""
        self._clear()

    def _clear(self) -> None:
        self.terminal.position = ""
        self.terminal.draw()
