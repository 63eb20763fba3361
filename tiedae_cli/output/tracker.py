"""Which experiment tracker a config names."""

import importlib
from collections.abc import Callable

from tiedae_cli.config.schema import Tracker
from tiedae_cli.runs.observer import Observer

Create = Callable[[], Observer]


def create_tracker(name: Tracker) -> Observer:
    """Return a tracker by its name in ``output.trackers``; only its module is imported.

    A module of ``trackers/`` has that name and a function ``create`` that returns an observer.

    Raises:
        InputError: its package is not installed; the message says what installs it.
    """
    create: Create = importlib.import_module(f"tiedae_cli.output.trackers.{name}").create
    return create()
