"""``tiedae runs``: list the runs."""

import json
from pathlib import Path
from typing import Annotated

import typer

from tiedae_cli.cli.commands.options import Debug, Json


def runs(
    folder: Annotated[
        Path | None, typer.Argument(metavar="FOLDER", show_default="runs", help="Folder that contains the runs.")
    ] = None,
    as_json: Json = False,
    debug: Debug = False,
) -> None:
    """List the runs, newest first, with data, shape, epochs, best error beside PCA's, time and state."""
    from tiedae_cli.runs.run_list import RUNS, as_values, require_runs, summarize

    found = [summarize(path) for path in require_runs(folder or RUNS)]
    if as_json:
        for values in as_values(found):
            typer.echo(json.dumps(values))
        return
    from tiedae_cli.cli.runs_table import OPTIONAL_RUN_COLUMNS, runs_table
    from tiedae_cli.output.fitted_tables import print_table

    if hidden := print_table(runs_table(found), OPTIONAL_RUN_COLUMNS):
        typer.echo(hidden, err=True)
