"""Signals: SIGINT, SIGTERM and SIGHUP stop a command at once, except in a loop that asks for them, finishes its step and saves.

SIGHUP is a closed terminal or a lost connection. SIGUSR1, which batch systems send before they stop a job, makes a training save and go
on; other commands have nothing to save, and go on too. A signal that the parent process lets be ignored (``nohup``) stays ignored.
"""

import contextlib
import signal
import threading
from collections.abc import Callable, Iterator
from types import FrameType

from tiedae_cli.errors import Interrupted

Handler = Callable[[int, FrameType | None], None]
STOPPING = tuple(getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name))
SAVING = tuple(getattr(signal, name) for name in ("SIGUSR1",) if hasattr(signal, name))


class _Wish:
    """Whether somebody asked for a checkpoint by SIGUSR1, be it before the training began."""

    saving = False


def stopping_at_once() -> contextlib.AbstractContextManager[None]:
    """While entered, SIGINT, SIGTERM and SIGHUP raise ``Interrupted`` where they arrive, so that temporary files are removed."""
    _Wish.saving = False
    return _handling(_stop_at_once)


class StopSignals:
    """While entered, remembers the first stopping signal in ``received``; a second one raises ``Interrupted`` where it arrives."""

    def __init__(self) -> None:
        self.received: int | None = None
        self._handling = _handling(self._remember)

    def __enter__(self) -> "StopSignals":
        self._handling.__enter__()
        return self

    def __exit__(self, *_: object) -> None:
        self._handling.__exit__(None, None, None)

    def saving_is_asked_for(self) -> bool:
        """Return whether SIGUSR1 has arrived since this was asked last."""
        asked, _Wish.saving = _Wish.saving, False
        return asked

    def _remember(self, number: int, frame: FrameType | None) -> None:
        if self.received is not None:
            raise Interrupted("stopped at once by a second signal; the last saved state is whole", number)
        self.received = number


def _stop_at_once(number: int, frame: FrameType | None) -> None:
    raise Interrupted("interrupted", number)


def _wish_for_saving(number: int, frame: FrameType | None) -> None:
    _Wish.saving = True


@contextlib.contextmanager
def _handling(handler: Handler) -> Iterator[None]:
    """Install a handler for the stopping signals; in another thread than the main one, which gets no signals, do nothing."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    wanted: dict[int, Handler] = {**dict.fromkeys(STOPPING, handler), **dict.fromkeys(SAVING, _wish_for_saving)}
    before = {
        number: signal.signal(number, chosen)
        for number, chosen in wanted.items()
        if signal.getsignal(number) not in (signal.SIG_IGN, None)
    }
    try:
        yield
    finally:
        for number, old in before.items():
            signal.signal(number, old)
