"""Packages that only an extra of tiedae installs, imported when they are first needed."""

import importlib
from typing import Any

from tiedae_cli.errors import InputError


def optional_package(name: str, extra: str) -> Any:
    """Import a package that only an extra of tiedae installs.

    Raises:
        InputError: it is not installed; the message says what installs it.
    """
    try:
        return importlib.import_module(name)
    except ImportError:
        package = name.partition(".")[0]
        raise InputError(f"this needs the package {package}, which is not installed: pip install 'tiedae[{extra}]'") from None
