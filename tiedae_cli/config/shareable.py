"""What a file that is given away says of paths: their last parts, because folders tell who made it and where."""

import re
from pathlib import Path

from tiedae_cli.config.schema import Config

URL = re.compile(r"[A-Za-z][A-Za-z0-9+.-]+://")  # two letters at least: a drive of Windows has one
SEPARATORS = re.compile(r"[/\\]+")


def is_url(name: str) -> bool:
    """Return whether a name says where data lies on the network: ``https://...``, ``s3://...``."""
    return URL.match(name) is not None


def public_url(name: str) -> str:
    """Return a URL without what may be secret: user name, password, query and fragment. Other names stay as they are."""
    if not is_url(name):
        return name
    scheme, _, rest = name.partition("://")
    host, slash, path = rest.partition("/")
    plain = host.rpartition("@")[2] + slash + path
    return f"{scheme}://{plain.split('?')[0].split('#')[0]}"


def without_secrets(config: Config) -> Config:
    """Return a config with the URL of its data without what may be secret."""
    names = tuple(map(public_url, config.data.sources))
    data = config.data.model_copy(update={"dataset": names[0] if len(names) == 1 else names})
    return config if names == config.data.sources else config.model_copy(update={"data": data})


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
