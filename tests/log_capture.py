"""Captures the messages that the program logs, as a list of lines."""

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TypeVar

T = TypeVar("T")


class _ListHandler(logging.Handler):
    def __init__(self) -> None:
        super().__init__(logging.INFO)
        self.lines: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.lines.append(record.getMessage())


@contextmanager
def captured_log() -> Iterator[list[str]]:
    """Yield a list to which each message logged in this block is appended."""
    handler, logger = _ListHandler(), logging.getLogger("tiedae_cli")
    level = logger.level
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)
    try:
        yield handler.lines
    finally:
        logger.removeHandler(handler)
        logger.setLevel(level)


def silently(call: Callable[..., T], *args: object, **options: object) -> T:
    """Call a function that must not log anything; return its result."""
    with captured_log() as lines:
        result = call(*args, **options)
    assert lines == []
    return result
