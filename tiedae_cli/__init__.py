"""tiedae: autoencoders whose decoder is the transposed encoder, from a YAML file, the shell or Python."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tiedae_cli.api.python_training import train
    from tiedae_cli.api.trained_model import Model, load

__version__ = "0.2.0"
__all__ = ["Model", "__version__", "load", "train"]


def __getattr__(name: str) -> Any:
    """Import the public names on their first use, so that ``--help`` never waits for torch."""
    if name == "train":
        from tiedae_cli.api import python_training as room
    elif name in ("Model", "load"):
        from tiedae_cli.api import trained_model as room  # type: ignore[no-redef]
    else:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(room, name)
