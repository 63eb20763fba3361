"""Progress of slow work; notes and warnings go through ``logging``.

Modules that do slow work call ``progress``; the display enters ``progress_drawn_by``. Neither depends on the other.
"""

import contextlib
from collections.abc import Callable, Iterator
from contextvars import ContextVar

Draw = Callable[[str, int, int], None]  # what is being done, amount done, total amount
_drawing: ContextVar[Draw | None] = ContextVar("drawing", default=None)


def progress(what: str, done: int, total: int) -> None:
    """Report the progress of slow work; no-op unless a display is active."""
    draw = _drawing.get()
    if draw is not None:
        draw(what, done, total)


def progress_is_drawn() -> bool:
    """Return whether a display is active, so that a library may draw its own progress bar on stderr."""
    return _drawing.get() is not None


@contextlib.contextmanager
def progress_drawn_by(draw: Draw | None) -> Iterator[None]:
    """Pass calls of ``progress`` in this block to a display; None for no display."""
    token = _drawing.set(draw)
    try:
        yield
    finally:
        _drawing.reset(token)
