"""What a file that is given away says of paths: their last parts, because folders tell who made it and where."""

import re
from pathlib import Path

from tiedae_cli.config.schema import Config

SEPARATORS = re.compile(r"[/\\]+")


def last_part(name: str) -> str:
    """Return the last part of an absolute path or of a URL, without its query; other names as they are."""
    if "://" in name:
        return last_part("/" + name.partition("://")[2].split("?")[0].split("#")[0])
    absolute = Path(name).is_absolute() or name.startswith(("~", "\\")) or name[1:3] == ":\\"
    return SEPARATORS.split(name.rstrip("/\\"))[-1] if absolute else name


def without_folders(config: Config) -> Config:
    """Return a config in which each path is its last part."""
    names = tuple(map(last_part, config.data.sources))
    data = {
        "dataset": names[0] if len(names) == 1 else names,
        "root": None if config.data.root is None else last_part(config.data.root),
    }
    start = config.training.init_from
    return config.model_copy(
        update={
            "data": config.data.model_copy(update=data),
            "training": config.training.model_copy(update={"init_from": None if start is None else last_part(start)}),
            "output": config.output.model_copy(update={"runs": last_part(config.output.runs)}),
        }
    )
