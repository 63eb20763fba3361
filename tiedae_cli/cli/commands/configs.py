"""``tiedae configs``: list the sample configs, or print one."""

import json
import sys
from typing import Annotated

import typer

from tiedae_cli.cli import completion
from tiedae_cli.cli.commands.options import Debug, Json


def configs(
    name: Annotated[
        str | None,
        typer.Argument(
            metavar="NAME", show_default="all", autocompletion=completion.samples, help="Print this sample config as YAML."
        ),
    ] = None,
    as_json: Json = False,
    debug: Debug = False,
) -> None:
    """List the sample configs and the result of each, or print one as YAML.

    tiedae configs mnist > my.yaml
    """
    from tiedae_cli.config.problems import suggestion
    from tiedae_cli.config.samples import sample_configs
    from tiedae_cli.errors import InputError

    if name is not None:
        if name.lower() not in sample_configs():
            raise InputError(f"{name}: no sample config has that name{suggestion(name.lower(), sample_configs())}")
        typer.echo(sample_configs()[name.lower()].read_text(encoding="utf-8"), nl=False)
        return
    width = max(map(len, sample_configs()))
    for found, path in sample_configs().items():
        promise = _promise(path.read_text(encoding="utf-8"))
        typer.echo(json.dumps({"config": found, "promise": promise}) if as_json else _wrapped(f"{found:<{width}}  ", promise))


def _wrapped(name: str, promise: str) -> str:
    """Return a line; on a terminal its text wraps under itself, to the right of the name."""
    if not sys.stdout.isatty():
        return name + promise
    import shutil
    import textwrap

    most = max(len(name) + 20, shutil.get_terminal_size().columns)
    wrapper = textwrap.TextWrapper(most, name, " " * len(name), break_long_words=False, break_on_hyphens=False)
    return "\n".join(wrapper.wrap(promise))


def _promise(text: str) -> str:
    """Return the result that the second line of a sample config states, without the figures beside it."""
    line = text.splitlines()[1].lstrip("# ").strip()
    return line.partition("   ")[0]
