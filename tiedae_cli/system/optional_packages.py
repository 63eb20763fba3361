"""Packages that come with an extra of tiedae, imported on first use."""

import importlib
from typing import Any

from tiedae_cli.errors import InputError


def optional_package(name: str, extra: str, purpose: str = "this") -> Any:
    """Import a package (or a module of one) that an extra of tiedae installs.

    Args:
        name: of the module.
        extra: the extra that installs it.
        purpose: what needs the package, for the message.

    Raises:
        InputError: it is not installed; the message says how to install it.
    """
    try:
        return importlib.import_module(name)
    except ImportError:
        package = name.partition(".")[0]
        raise InputError(f"{purpose} needs {package}: pip install 'tiedae[{extra}]'") from None
