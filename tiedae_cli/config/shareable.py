"""What a file that is given away says of paths: their last parts, because folders tell who made it and where."""

import re
from pathlib import Path

from tiedae_cli.config.schema import Config

SEPARATORS = re.compile(r"[/\\]+")


def last_part(name: str) -> str:
    """Return the last part of a path or of a URL, without its query; other names as they are."""
    if "://" in name:
        name = name.partition("://")[2].split("?")[0].split("#")[0]
    return SEPARATORS.split(name.rstrip("/\\"))[-1]


def shareable_name(name: str) -> str:
    """Return the last part of an absolute path or of a URL; a relative path as it is, because its folders tell files apart."""
    is_absolute = Path(name).is_absolute() or name.startswith(("~", "\\")) or name[1:3] == ":\\" or "://" in name
    return last_part(name) if is_absolute else name


def without_folders(config: Config) -> Config:
    """Return a config in which each path is its last part; ``data.root`` is a folder, so nothing remains of it."""
    names = tuple(map(last_part, config.data.sources))
    data = {"dataset": names[0] if len(names) == 1 else names, "root": None}
    start = config.training.init_from
    return config.model_copy(
        update={
            "data": config.data.model_copy(update=data),
            "training": config.training.model_copy(update={"init_from": None if start is None else last_part(start)}),
            "output": config.output.model_copy(update={"runs": last_part(config.output.runs)}),
        }
    )
