"""SIGINT and SIGTERM: they stop a command at once, except in a loop that asks for them, finishes its step and saves."""

import contextlib
import signal
import threading
from collections.abc import Callable, Iterator
from types import FrameType

from tiedae_cli.errors import Interrupted

Handler = Callable[[int, FrameType | None], None]


def stopping_at_once() -> contextlib.AbstractContextManager[None]:
    """While entered, SIGINT and SIGTERM raise ``Interrupted`` where they arrive, so that temporary files are removed."""
    return _handling(_stop_at_once)


class StopSignals:
    """While entered, remembers the first SIGINT or SIGTERM in ``received``; a second one raises ``Interrupted`` where it arrives."""

    def __init__(self) -> None:
        self.received: int | None = None
        self._handling = _handling(self._remember)

    def __enter__(self) -> "StopSignals":
        self._handling.__enter__()
        return self

    def __exit__(self, *_: object) -> None:
        self._handling.__exit__(None, None, None)

    def _remember(self, number: int, frame: FrameType | None) -> None:
        if self.received is not None:
            raise Interrupted("stopped at once by a second signal; the last saved state is whole", number)
        self.received = number


def _stop_at_once(number: int, frame: FrameType | None) -> None:
    raise Interrupted("interrupted", number)


@contextlib.contextmanager
def _handling(handler: Handler) -> Iterator[None]:
    """Install a handler for both signals; in another thread than the main one, which gets no signals, do nothing."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.signal(number, handler) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, old in before.items():
            signal.signal(number, old)
