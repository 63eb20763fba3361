"""``tiedae runs``: a table of the runs."""

import json
from pathlib import Path
from typing import Annotated

import typer

from tiedae_cli.cli import completion
from tiedae_cli.cli.commands.options import Debug, Json


def runs(
    folder: Annotated[Path, typer.Argument(metavar="FOLDER", help="Where the runs lie.")] = completion.RUNS,
    as_json: Json = False,
    debug: Debug = False,
) -> None:
    """List the runs, the newest first: data, shape, epochs, best error beside PCA's, when, and how far each is."""
    from tiedae_cli.runs.listing import as_values, require_runs, summarise

    found = [summarise(path) for path in require_runs(folder)]
    if as_json:
        for values in as_values(found):
            typer.echo(json.dumps(values))
        return
    from rich.console import Console

    from tiedae_cli.cli.runs_table import runs_table
    from tiedae_cli.output.tables import shown_table

    console = Console(highlight=False, markup=False, emoji=False)
    if not console.is_terminal:
        console = Console(highlight=False, markup=False, emoji=False, width=200)
    console.print(shown_table(runs_table(found, console.width)))
