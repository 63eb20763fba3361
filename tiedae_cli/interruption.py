"""SIGINT and SIGTERM as something that a loop asks for: the first lets it finish its step and save, the second stops at once."""

import signal
from types import FrameType
from typing import Any

from tiedae_cli.errors import Interrupted


class StopSignals:
    """While entered, remembers the first SIGINT or SIGTERM in ``received``; a second one raises ``Interrupted`` where it arrives."""

    def __init__(self) -> None:
        self.received: int | None = None
        self._before: dict[int, Any] = {}

    def __enter__(self) -> "StopSignals":
        for number in (signal.SIGINT, signal.SIGTERM):
            self._before[number] = signal.signal(number, self._handle)
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _handle(self, number: int, frame: FrameType | None) -> None:
        if self.received is not None:
            raise Interrupted("stopped at once by a second signal; the last saved state is whole", number)
        self.received = number
