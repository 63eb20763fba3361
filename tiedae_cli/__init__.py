"""tiedae: autoencoders whose decoder is the transposed encoder, from a YAML file, the shell or Python."""

from __future__ import annotations

import importlib

TYPE_CHECKING = (
    False  # `typing` is not loaded yet, and `python -m tiedae_cli` would take a typing.py of the working directory for it
)
if TYPE_CHECKING:
    from typing import Any

    from tiedae_cli.api.python_training import train
    from tiedae_cli.api.trained_model import Model, load

__version__ = "0.2.0"
__all__ = ["Model", "__version__", "load", "train"]

_MODULES = {"Model": "trained_model", "load": "trained_model", "train": "python_training"}  # of api/


def __getattr__(name: str) -> Any:
    """Import the public names on their first use, so that ``--help`` never waits for torch."""
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"tiedae_cli.api.{_MODULES[name]}"), name)


def __dir__() -> list[str]:
    """List the public names, also before their first use."""
    return sorted({*globals(), *__all__})
