"""A training from Python: a config by its name, file or values, and keys beside it, become a run."""

import contextlib
import json
import logging
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from tiedae_cli.config import Config
from tiedae_cli.config.samples import find_config, run_name
from tiedae_cli.config.yaml_reader import dump_config, load_config, parse_config
from tiedae_cli.output.terminal import Terminal
from tiedae_cli.runs.run_folder import Run
from tiedae_cli.system.devices import Ranks, resolve_device
from tiedae_cli.tasks import train as task


def train(
    config: str | os.PathLike[str] | Mapping[str, Any] | Config = "digits",
    *,
    run_dir: str | os.PathLike[str] | None = None,
    device: str = "auto",
    quiet: bool = False,
    **keys: Any,
) -> Run:
    """Train a model and return its run, whose ``best`` is the checkpoint of the best epoch.

    Args:
        config: the name of a sample config, a YAML file, a dict of sections, or a ``Config``.
        run_dir: exactly this new folder; None makes one under ``output.runs``.
        device: as ``--device``.
        quiet: nothing on stderr.
        **keys: keys of the config by their last part, for example ``epochs=10``.

    Raises:
        ConfigError: a key or a value is wrong; one line a problem.
        DataError: the data is missing or damaged.
        DivergedError: the loss is no longer finite.
    """
    assignments = [f"{key}={json.dumps(_plain(value))}" for key, value in keys.items()]
    if isinstance(config, (Config, Mapping)):
        text = dump_config(config) if isinstance(config, Config) else json.dumps(dict(config), default=os.fspath)
        parsed = parse_config(text, "config", assignments)
        name = Path(parsed.data.dataset).stem
    else:
        file = find_config(os.fspath(config))
        parsed, name = load_config(file, assignments), run_name(file)
    folder = None if run_dir is None else Path(run_dir).expanduser()
    with (
        _saying_nothing() if quiet else Terminal(prints=False) as terminal,
        task.start(parsed, name, folder, resolve_device(device), Ranks(), terminal) as training,
    ):
        training.train()
        return training.run


@contextlib.contextmanager
def _saying_nothing() -> Iterator[None]:
    """Keep Python from printing what is logged in this block only because nobody listens; whoever listens still gets it."""
    logger, handler = logging.getLogger("tiedae_cli"), logging.NullHandler()
    logger.addHandler(handler)
    try:
        yield
    finally:
        logger.removeHandler(handler)


def _plain(value: Any) -> Any:
    return os.fspath(value) if isinstance(value, os.PathLike) else value
