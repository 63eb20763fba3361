"""The bundled sample configs, and the lookup of a config by name."""

import os
from collections.abc import Sequence
from itertools import takewhile
from pathlib import Path

from tiedae_cli.config.problems import suggestion
from tiedae_cli.errors import ConfigError

STDIN = Path("-")


def sample_configs() -> dict[str, Path]:
    """Return the bundled sample configs by name."""
    package = Path(__file__).parent.parent
    folder = next(f for f in (package / "sample_configs", package.parent / "sample_configs") if f.is_dir())
    return {path.stem: path for path in sorted(folder.glob("*.yaml"), key=Path.as_posix)}


def find_config(name: str) -> Path:
    """Return the path that ``--config`` means: a file, ``-`` for stdin, the name of a sample config, or a run folder (its config).

    Raises:
        ConfigError: no config has that name; the message says what to type.
    """
    if name == "-":
        return STDIN
    samples = sample_configs()
    path = Path(os.path.expanduser(name))
    if path.is_dir() and (path / "config.yaml").is_file():
        return path / "config.yaml"
    if path.exists() and not (name in samples and path.is_dir()):  # a folder named digits/ does not hide the sample config
        if path.is_dir():
            raise ConfigError(f"--config {name}: a folder, not a YAML file; to train on its contents: tiedae train {name}")
        return path
    if name.lower() in samples:
        return samples[name.lower()]
    raise ConfigError(f"--config {name}: no such file, and no sample config has that name{suggestion(name.lower(), samples)}")


def run_name_of_data(dataset: str | Sequence[str]) -> str:
    """Return the default run name for data: the stem of its file, the name of its folder, or the folder of a glob pattern."""
    first = dataset if isinstance(dataset, str) else dataset[0]
    parts = Path(os.path.abspath(os.path.expanduser(first))).parts
    plain = list(takewhile(lambda part: not set("*?[") & set(part), parts))
    return (Path(plain[-1].removesuffix(".gz")).stem if len(plain) > 1 else "") or "tables"


def run_name(path: Path) -> str:
    """Return the default run name for a config file: its stem, or the folder's name for a saved ``config.yaml``."""
    if path == STDIN:
        return "stdin"
    return path.resolve().parent.name if path.name == "config.yaml" else path.stem
