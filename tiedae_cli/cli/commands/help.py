"""``tiedae help [COMMAND]``: what ``--help`` prints."""

from typing import Annotated

import typer


def help_(
    context: typer.Context,
    command: Annotated[str | None, typer.Argument(metavar="COMMAND", show_default="all", help="Of this command.")] = None,
) -> None:
    """Print what a command does and takes."""
    parent = context.parent
    assert parent is not None
    group: object = parent.command
    if command is None:
        typer.echo(parent.get_help())
        return
    _, found, _ = group.resolve_command(parent, [command])  # type: ignore[attr-defined]
    with type(context)(found, info_name=command, parent=parent) as inner:
        typer.echo(found.get_help(inner))
