"""Packages that only an extra of tiedae installs, imported when they are first needed."""

import importlib
from typing import Any

from tiedae_cli.errors import InputError


def optional_package(name: str, extra: str, purpose: str = "this") -> Any:
    """Import a package, or a module of one, that an extra of tiedae installs.

    Args:
        name: the module.
        extra: the extra that installs it.
        purpose: what needs it, for the message.

    Raises:
        InputError: it is not installed; the message says what installs it.
    """
    try:
        return importlib.import_module(name)
    except ImportError:
        package = name.partition(".")[0]
        raise InputError(f"{purpose} needs {package}: pip install 'tiedae[{extra}]'") from None
