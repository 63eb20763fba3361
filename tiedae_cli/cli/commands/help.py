"""``tiedae help [COMMAND]``: the same as ``tiedae COMMAND --help``."""

from typing import Annotated

import typer

from tiedae_cli.cli.commands.options import ALL


def help_(
    context: typer.Context,
    command: Annotated[str | None, typer.Argument(metavar="COMMAND", show_default="all", help="Command to describe.")] = None,
    show_all: Annotated[bool, typer.Option("--all", help="Show every option, and every key of the config.")] = False,
) -> None:
    """Print the help of a command."""
    context.meta[ALL] = show_all
    parent = context.parent
    assert parent is not None
    group: object = parent.command
    if command is None:
        typer.echo(parent.get_help())
        return
    _, found, _ = group.resolve_command(parent, [command])  # type: ignore[attr-defined]
    with type(context)(found, info_name=command, parent=parent) as inner:
        typer.echo(found.get_help(inner))
