"""Signals: SIGINT, SIGTERM and SIGHUP stop a command at once, except in a loop that asks for them, finishes its step and saves.

SIGHUP is a closed terminal or a lost connection. SIGUSR1, which batch systems send before they stop a job, makes a training save and go
on; other commands have nothing to save, and go on too. A signal that the parent process lets be ignored (``nohup``) stays ignored.

An exception out of a handler is lost where a library written in C was just running Python: pyarrow's first look for pandas forgets all
exceptions. So the wish to stop is kept, raised again until it is obeyed where there are timers, and asked for before a result gets its
name.
"""

import contextlib
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from types import FrameType

from tiedae_cli.errors import Interrupted
from tiedae_cli.system.portability import call_every

Handler = Callable[[int, FrameType | None], None]
STOPPING = tuple(getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name))
SAVING = tuple(getattr(signal, name) for name in ("SIGUSR1",) if hasattr(signal, name))


REPEAT = 0.1  # seconds until a stopping signal that was lost is raised again


class _Wish:
    """What somebody asked for by a signal."""

    saving = False  # a checkpoint, be it before the training began
    stopping: int | None = None  # to stop at once: the signal's number


@contextlib.contextmanager
def stopping_at_once() -> Iterator[None]:
    """While entered, SIGINT, SIGTERM and SIGHUP raise ``Interrupted`` where they arrive, so that temporary files are removed.

    Raises:
        Interrupted: a signal arrived, at the latest as this is left.
    """
    _Wish.saving, _Wish.stopping = False, None
    with _handling(_stop_at_once), _silent_where_it_is_lost():
        try:
            yield
            stop_if_asked()
        finally:
            if _Wish.stopping is not None:
                call_every(0, _stop_at_last)
                _Wish.stopping = None


@contextlib.contextmanager
def _silent_where_it_is_lost() -> Iterator[None]:
    """Print no traceback of an ``Interrupted`` that is raised where Python can only forget it, as while an object is being deleted."""
    before = sys.unraisablehook

    def hook(lost: "sys.UnraisableHookArgs") -> None:
        if not isinstance(lost.exc_value, Interrupted):  # which is raised again
            before(lost)

    sys.unraisablehook = hook
    try:
        yield
    finally:
        sys.unraisablehook = before


def stop_if_asked() -> None:
    """Raise ``Interrupted`` if a stopping signal arrived within ``stopping_at_once`` and a library lost the exception."""
    if _Wish.stopping is not None:
        raise Interrupted("interrupted", _Wish.stopping)


def saving_is_asked_for() -> bool:
    """Return whether SIGUSR1 has arrived since this was asked last."""
    asked, _Wish.saving = _Wish.saving, False
    return asked


class StopSignals:
    """While entered, remembers the first stopping signal in ``received``; a second one raises ``Interrupted`` where it arrives."""

    def __init__(self) -> None:
        self.received: int | None = None
        self._handling = _handling(self._remember)

    def __enter__(self) -> "StopSignals":
        stop_if_asked()
        self._handling.__enter__()
        return self

    def __exit__(self, *_: object) -> None:
        self._handling.__exit__(None, None, None)

    def _remember(self, number: int, frame: FrameType | None) -> None:
        if self.received is not None:
            raise Interrupted("stopped at once by a second signal; the last saved state is whole", number)
        self.received = number


def _stop_at_once(number: int, frame: FrameType | None) -> None:
    if _Wish.stopping is None:
        _Wish.stopping = number
        call_every(REPEAT, _stop_at_last)
    stop_if_asked()


def _stop_at_last(number: int, frame: FrameType | None) -> None:
    if not isinstance(sys.exc_info()[1], Interrupted):  # else it is on its way, and what it passes is being tidied up
        stop_if_asked()


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
