"""How any part of the program tells how far slow work is; notes and warnings go through ``logging``.

A module that does slow work calls ``progress``; whoever draws it enters ``progress_drawn_by``. Neither knows the other.
"""

import contextlib
from collections.abc import Callable, Iterator
from contextvars import ContextVar

Draw = Callable[[str, int, int], None]  # what, how much is done, of how much
_drawing: ContextVar[Draw | None] = ContextVar("drawing", default=None)


def progress(what: str, done: int, total: int) -> None:
    """Tell how far slow work is; nothing happens where nobody draws it."""
    draw = _drawing.get()
    if draw is not None:
        draw(what, done, total)


def progress_is_drawn() -> bool:
    """Return whether anybody looks on, so that a library may draw a bar of its own on stderr."""
    return _drawing.get() is not None


@contextlib.contextmanager
def progress_drawn_by(draw: Draw | None) -> Iterator[None]:
    """Let somebody draw what ``progress`` is told in this block; None for nobody."""
    token = _drawing.set(draw)
    try:
        yield
    finally:
        _drawing.reset(token)
