"""tiedae for Python, under the name of the package: ``import tiedae``; everything lives in ``tiedae_cli``."""

from typing import TYPE_CHECKING, Any

import tiedae_cli
from tiedae_cli import __all__ as __all__
from tiedae_cli import __version__ as __version__

if TYPE_CHECKING:
    from tiedae_cli import CheckpointError as CheckpointError
    from tiedae_cli import Config as Config
    from tiedae_cli import ConfigError as ConfigError
    from tiedae_cli import DataError as DataError
    from tiedae_cli import DeviceError as DeviceError
    from tiedae_cli import DivergedError as DivergedError
    from tiedae_cli import ExportError as ExportError
    from tiedae_cli import InputError as InputError
    from tiedae_cli import Interrupted as Interrupted
    from tiedae_cli import Model as Model
    from tiedae_cli import Run as Run
    from tiedae_cli import StorageError as StorageError
    from tiedae_cli import TiedaeError as TiedaeError
    from tiedae_cli import TiedAutoencoder as TiedAutoencoder
    from tiedae_cli import TiedOutlierDetector as TiedOutlierDetector
    from tiedae_cli import Tuning as Tuning
    from tiedae_cli import cross_validate as cross_validate
    from tiedae_cli import load as load
    from tiedae_cli import train as train
    from tiedae_cli import tune as tune


def __getattr__(name: str) -> Any:
    """Return a public name on its first use, so that ``import tiedae`` does not wait for torch."""
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(tiedae_cli, name)


def __dir__() -> list[str]:
    """List the public names, also before their first use."""
    return sorted(__all__)
