"""``tiedae help [COMMAND]``: the same as ``tiedae COMMAND --help``."""

import os
import pydoc
import shutil
import sys
from typing import Annotated

import typer

from tiedae_cli.cli.commands.options import ALL


def help_(
    context: typer.Context,
    command: Annotated[str | None, typer.Argument(metavar="COMMAND", show_default="all", help="Command to describe.")] = None,
    show_all: Annotated[bool, typer.Option("--all", help="Show every option, and every key of the config.")] = False,
) -> None:
    """Print the help of a command; on a terminal, long text is shown page by page."""
    context.meta[ALL] = show_all
    parent = context.parent
    assert parent is not None
    group: object = parent.command
    if command is None:
        print_paged(parent.get_help())
        return
    _, found, _ = group.resolve_command(parent, [command])  # type: ignore[attr-defined]
    with type(context)(found, info_name=command, parent=parent) as inner:
        print_paged(found.get_help(inner))


def print_paged(text: str) -> None:
    """Print a text, through the user's pager (``$PAGER``) if it is longer than the terminal."""
    is_terminal = sys.stdout.isatty() and sys.stdin.isatty() and os.environ.get("TERM") != "dumb"
    if not is_terminal or text.count("\n") < shutil.get_terminal_size().lines:
        typer.echo(text)
        return
    os.environ.setdefault("LESS", "FRX")  # as git does: colors, and no pager for what fits
    pydoc.pager(text)
