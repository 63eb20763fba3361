"""``tiedae runs``: list the runs, or remove some."""

import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Literal

import typer

from tiedae_cli.cli import completion
from tiedae_cli.cli.commands.options import Debug, Json


def runs(
    words: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="FOLDER",
            show_default="runs",
            autocompletion=completion.runs,
            help="Folder that contains the runs. With --remove: the runs to remove.",
        ),
    ] = None,
    sort: Annotated[
        Literal["saved", "name", "data", "epochs", "mse", "state"],
        typer.Option("--sort", help="saved (newest first), name, data, epochs (most first), mse (lowest first) or state."),
    ] = "saved",
    remove: Annotated[bool, typer.Option("--remove", help="Remove the named runs, after asking.")] = False,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="With --remove: do not ask.")] = False,
    as_json: Json = False,
    debug: Debug = False,
) -> None:
    """List the runs, newest first, with data, shape, epochs, best error beside PCA's, time and state."""
    from tiedae_cli.runs.run_list import RUNS, as_values, in_order, require_runs, summarize

    if remove or yes:
        _remove(words or [], asks=not yes, removes=remove)
        return
    found = in_order([summarize(path) for path in require_runs(_parent(words, RUNS))], sort)
    if as_json:
        for values in as_values(found):
            typer.echo(json.dumps(values))
        return
    from tiedae_cli.cli.runs_table import OPTIONAL_RUN_COLUMNS, runs_table
    from tiedae_cli.output.fitted_tables import print_table

    if hidden := print_table(runs_table(found), OPTIONAL_RUN_COLUMNS):
        typer.echo(hidden, err=True)


def _parent(words: Sequence[str] | None, default: Path) -> Path:
    """Return the folder that contains the runs; raise ``InputError`` for more than one."""
    from tiedae_cli.errors import InputError

    if words and len(words) > 1:
        raise InputError(f"runs {' '.join(words)}: expected one folder; to remove runs: tiedae runs --remove {' '.join(words)}")
    return Path(words[0]) if words else default


def _remove(words: Sequence[str], asks: bool, removes: bool) -> None:
    """Remove runs, after a question on a terminal; raise ``InputError`` if nobody can be asked."""
    from rich.filesize import decimal

    from tiedae_cli.errors import InputError
    from tiedae_cli.runs.run_list import RUNS
    from tiedae_cli.system.text import shown
    from tiedae_cli.tasks.runs import removable_runs, remove_run

    if not removes:
        raise InputError("--yes: needs --remove; type: tiedae runs --remove RUN... --yes")
    if not words:
        raise InputError("--remove: no run is named; type: tiedae runs --remove RUN...")
    found = removable_runs(words, RUNS)
    for run in found:
        kept = f"; keeps {', '.join(map(shown, run.kept))}, which tiedae did not write" if run.kept else ""
        typer.echo(f"{shown(str(run.folder))}: {decimal(run.bytes)}{kept}", err=True)
    if asks and not sys.stdin.isatty():
        raise InputError(
            f"--remove asks before it removes; without a terminal type: tiedae runs --remove {' '.join(words)} --yes"
        )
    if asks and not typer.confirm(f"Remove {len(found)} {'run' if len(found) == 1 else 'runs'}?", err=True):
        return
    for run in found:
        remove_run(run)
        typer.echo(f"removed {shown(str(run.folder))}", err=True)
