"""tiedae for Python, under the name of the package: ``import tiedae``; everything lives in ``tiedae_cli``."""

from typing import TYPE_CHECKING, Any

import tiedae_cli
from tiedae_cli import __all__, __version__

if TYPE_CHECKING:
    from tiedae_cli import (
        CheckpointError,
        Config,
        ConfigError,
        DataError,
        DeviceError,
        DivergedError,
        ExportError,
        InputError,
        Interrupted,
        Model,
        Run,
        StorageError,
        TiedaeError,
        TiedAutoencoder,
        TiedOutlierDetector,
        load,
        train,
    )


def __getattr__(name: str) -> Any:
    """Return a public name on its first use, so that ``import tiedae`` does not wait for torch."""
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(tiedae_cli, name)


def __dir__() -> list[str]:
    """List the public names, also before their first use."""
    return sorted(__all__)
