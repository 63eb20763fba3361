"""``tiedae configs``: list the sample configs, or print one."""

import json
import shutil
import textwrap
from typing import Annotated

import typer

from tiedae_cli.cli import completion
from tiedae_cli.cli.commands.options import Debug, Json

INDENT = 4  # characters before the lines below a name
NARROWEST = 40  # columns: a narrower window wraps the lines itself


def configs(
    name: Annotated[
        str | None,
        typer.Argument(
            metavar="NAME", show_default="all", autocompletion=completion.samples, help="Print this config as YAML."
        ),
    ] = None,
    as_json: Json = False,
    debug: Debug = False,
) -> None:
    """List the sample configs (purpose, data, time and promised result), or print one.

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
    columns = shutil.get_terminal_size().columns
    for config, path in sample_configs().items():
        header = _header(path.read_text(encoding="utf-8"))
        typer.echo(json.dumps({"config": config} | header) if as_json else _entry(config, header, columns))


def _entry(name: str, header: dict[str, str], columns: int) -> str:
    """Return the lines about one config: its name and purpose, then the other fields indented below, broken between words."""
    fields = [f"{field:<9}{header[field]}" for field in ("data", "time", "promise", "goal") if field in header]
    lines = _wrapped(f"{name}: {header['for']}", columns, "", " " * INDENT)
    for field in fields:
        lines += _wrapped(field, columns, " " * INDENT, " " * (INDENT + 9))
    return "\n".join(lines)


def _wrapped(text: str, columns: int, first: str, others: str) -> list[str]:
    width = max(columns, NARROWEST)
    return textwrap.wrap(
        text, width, initial_indent=first, subsequent_indent=others, break_long_words=False, break_on_hyphens=False
    )


def _header(text: str) -> dict[str, str]:
    """Return the fields in a sample config's first comment lines (``# Time: ...``): for, data, run, time, and promise or goal.

    Remarks after three spaces are dropped.
    """
    fields = {}
    for line in text.splitlines():
        name, colon, value = line.removeprefix("# ").partition(": ")
        if not (line.startswith("# ") and colon):
            break
        fields[name.lower()] = value.partition("   ")[0]
    return fields
