"""What the program says by ``logging``, as a list of lines."""

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TypeVar

T = TypeVar("T")


class _Ear(logging.Handler):
    def __init__(self) -> None:
        super().__init__(logging.INFO)
        self.lines: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.lines.append(record.getMessage())


@contextmanager
def heard() -> Iterator[list[str]]:
    """Give the list that each note and warning of this block is appended to."""
    ear, logger = _Ear(), logging.getLogger("tiedae_cli")
    level = logger.level
    logger.addHandler(ear)
    logger.setLevel(logging.INFO)
    try:
        yield ear.lines
    finally:
        logger.removeHandler(ear)
        logger.setLevel(level)


def silently(call: Callable[..., T], *args: object, **options: object) -> T:
    """Return what a call returns, which must say nothing."""
    with heard() as lines:
        result = call(*args, **options)
    assert lines == []
    return result
