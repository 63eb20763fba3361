"""tiedae: autoencoders whose decoder is the transposed encoder, from a YAML file, the shell or Python."""

from __future__ import annotations

import importlib

TYPE_CHECKING = (
    False  # `typing` is not loaded yet, and `python -m tiedae_cli` would take a typing.py of the working directory for it
)
if TYPE_CHECKING:
    from typing import Any

    from tiedae_cli.api.cross_validation import cross_validate
    from tiedae_cli.api.estimators import TiedAutoencoder, TiedOutlierDetector
    from tiedae_cli.api.python_run import Run
    from tiedae_cli.api.python_training import train
    from tiedae_cli.api.python_tuning import Tuning, tune
    from tiedae_cli.api.trained_model import Model, load
    from tiedae_cli.config import Config
    from tiedae_cli.errors import (
        CheckpointError,
        ConfigError,
        DataError,
        DeviceError,
        DivergedError,
        ExportError,
        InputError,
        Interrupted,
        StorageError,
        TiedaeError,
    )

__version__ = "0.2.0"
__all__ = [
    "CheckpointError",
    "Config",
    "ConfigError",
    "DataError",
    "DeviceError",
    "DivergedError",
    "ExportError",
    "InputError",
    "Interrupted",
    "Model",
    "Run",
    "StorageError",
    "TiedAutoencoder",
    "TiedOutlierDetector",
    "TiedaeError",
    "Tuning",
    "__version__",
    "cross_validate",
    "load",
    "train",
    "tune",
]

_MODULES = {
    "Config": "config",
    "Model": "api.trained_model",
    "Run": "api.python_run",
    "TiedAutoencoder": "api.estimators",
    "TiedOutlierDetector": "api.estimators",
    "Tuning": "api.python_tuning",
    "cross_validate": "api.cross_validation",
    "load": "api.trained_model",
    "train": "api.python_training",
    "tune": "api.python_tuning",
}  # all others are errors
_NEEDS_SKLEARN = "api.estimators"


def __getattr__(name: str) -> Any:
    """Import the public names on their first use, so that ``--help`` never waits for torch."""
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    module = _MODULES.get(name, "errors")
    if module == _NEEDS_SKLEARN:
        from tiedae_cli.system.optional_packages import optional_package

        optional_package("sklearn", "sklearn", f"tiedae.{name}")
    return getattr(importlib.import_module(f"tiedae_cli.{module}"), name)


def __dir__() -> list[str]:
    """List the public names, also before their first use."""
    return sorted(__all__)
