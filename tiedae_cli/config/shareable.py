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
