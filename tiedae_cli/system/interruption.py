"""Signals: SIGINT, SIGTERM and SIGHUP stop a command at once; a training finishes its step and saves first.

SIGHUP means a closed terminal or a lost connection. Batch systems send SIGUSR1 before they stop a job: a training then saves and
continues; other commands ignore it. A signal that the parent process ignores (``nohup``) stays ignored.

An exception raised by a handler is lost if it passes through C code that discards exceptions, such as pyarrow's first import of pandas.
The request to stop is therefore remembered, raised again by a timer (not on Windows), and checked before a result gets its name.
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
REPEAT = 0.1  # seconds until a lost stopping signal is raised again


class _Request:
    """What a signal has requested."""

    saving = False  # a checkpoint, even before the training has begun
    stopping: int | None = None  # the number of the signal that asked to stop


@contextlib.contextmanager
def stopping_at_once() -> Iterator[None]:
    """Let SIGINT, SIGTERM and SIGHUP raise ``Interrupted`` in this block, so that temporary files are removed.

    Raises:
        Interrupted: a signal arrived; raised at the end of the block at the latest.
    """
    _Request.saving, _Request.stopping = False, None
    with _handling(_stop_at_once), _no_traceback_of_lost_interrupts():
        try:
            yield
            stop_if_asked()
        except Exception:
            stop_if_asked()  # a library may turn the exception of the stop into an error of its own
            raise
        finally:
            if _Request.stopping is not None:
                call_every(0, _stop_at_last)
                _Request.stopping = None


@contextlib.contextmanager
def _no_traceback_of_lost_interrupts() -> Iterator[None]:
    """Print no traceback of an ``Interrupted`` that Python has to discard, as in an object's ``__del__``."""
    before = sys.unraisablehook

    def hook(lost: "sys.UnraisableHookArgs") -> None:
        if not isinstance(lost.exc_value, Interrupted):  # the timer raises it again
            before(lost)

    sys.unraisablehook = hook
    try:
        yield
    finally:
        sys.unraisablehook = before


def stop_if_asked() -> None:
    """Raise ``Interrupted`` if a stopping signal arrived within ``stopping_at_once`` and a library discarded the exception."""
    if _Request.stopping is not None:
        raise Interrupted("interrupted", _Request.stopping)


def saving_is_asked_for() -> bool:
    """Return whether SIGUSR1 has arrived since the last call."""
    asked, _Request.saving = _Request.saving, False
    return asked


class StopSignals:
    """Keeps the first stopping signal in ``received``; a second one raises ``Interrupted``."""

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
    if _Request.stopping is None:
        _Request.stopping = number
        call_every(REPEAT, _stop_at_last)
    stop_if_asked()


def _stop_at_last(number: int, frame: FrameType | None) -> None:
    if not isinstance(sys.exc_info()[1], Interrupted):  # otherwise it is already being handled
        stop_if_asked()


def _request_saving(number: int, frame: FrameType | None) -> None:
    _Request.saving = True


@contextlib.contextmanager
def _handling(handler: Handler) -> Iterator[None]:
    """Handle the stopping signals in this block; no-op outside the main thread, which alone receives signals."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    handlers: dict[int, Handler] = {**dict.fromkeys(STOPPING, handler), **dict.fromkeys(SAVING, _request_saving)}
    before = {
        number: signal.signal(number, chosen)
        for number, chosen in handlers.items()
        if signal.getsignal(number) not in (signal.SIG_IGN, None)
    }
    try:
        yield
    finally:
        for number, old in before.items():
            signal.signal(number, old)
