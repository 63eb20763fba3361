"""``tiedae score``: each item's score, which items are outliers, and why."""

from pathlib import Path
from typing import Annotated

import typer

from tiedae_cli.cli.commands.options import Debug, Device, Inputs, Json, Model, Output, Quiet, Split
from tiedae_cli.output.item_writer import FORMATS, KEYED_FORMATS, choose_format, listed
from tiedae_cli.scoring.false_alarms import FALSE_ALARMS


def score(
    model: Model = None,
    inputs: Inputs = None,
    split: Split = "test",
    top: Annotated[
        int | None,
        typer.Option(
            "--top", metavar="K", min=1, max=1_000_000, show_default="all, in order", help="The K worst, worst first."
        ),
    ] = None,
    rate: Annotated[
        float | None,
        typer.Option(
            "--false-alarms",
            metavar="RATE",
            min=0,
            max=1,
            show_default=str(FALSE_ALARMS),
            help="Set the threshold so that this fraction of usual items is expected above it.",
        ),
    ] = None,
    quantile: Annotated[
        float | None,
        typer.Option("--quantile", metavar="Q", min=0, max=1, show_default=False, help="The same as --false-alarms 1 - Q."),
    ] = None,
    limit: Annotated[
        float | None,
        typer.Option("--threshold", metavar="ERROR", show_default="by the false alarms", help="Outliers have a higher score."),
    ] = None,
    sheet: Annotated[
        Path | None,
        typer.Option(
            "--contact-sheet",
            metavar="PNG",
            show_default=False,
            help="Draw the worst beside their reconstructions and a map of the error.",
        ),
    ] = None,
    plot: Annotated[
        Path | None,
        typer.Option(
            "--plot", metavar="PNG", show_default=False, help="Draw the scores in order, under the values of their rows."
        ),
    ] = None,
    against: Annotated[
        str | None,
        typer.Option(
            "--against",
            metavar="OTHER",
            show_default=False,
            help="Known intruders (file, folder or data set): print one object, how well the error tells them apart.",
        ),
    ] = None,
    explain: Annotated[
        int | None,
        typer.Option(
            "--explain",
            metavar="K",
            min=1,
            max=1_000_000,
            show_default=False,
            help="Add to each outlier the K values that carry most of its error, each beside what the model expected.",
        ),
    ] = None,
    summary: Annotated[
        bool, typer.Option("--summary", help="Print one object about all items; with labels how well they are told apart.")
    ] = False,
    output: Output = "-",
    file_format: Annotated[
        str | None,
        typer.Option(
            "--format", metavar="FORMAT", show_default="by the suffix; on stdout jsonl", help=f"{listed(KEYED_FORMATS)}."
        ),
    ] = None,
    device: Device = "auto",
    quiet: Quiet = False,
    as_json: Json = False,
    debug: Debug = False,
) -> None:
    """Write each item's squared error. An item that cannot be read is named and left out; then the exit code is 1 at the end."""
    from tiedae_cli.errors import InputError
    from tiedae_cli.output.output_targets import refuse_bytes_on_terminal
    from tiedae_cli.output.terminal import Terminal
    from tiedae_cli.runs.trained_run import open_run_with_inputs
    from tiedae_cli.tasks.score import ScoreRequest
    from tiedae_cli.tasks.score import score as score_items

    given = {"--false-alarms": rate, "--quantile": quantile, "--threshold": limit}
    if len(both := [name for name, value in given.items() if value is not None]) > 1:
        raise InputError(f"{' and '.join(both)}: give one of them")
    rate = rate if quantile is None else 1 - quantile
    if summary and (top is not None or explain is not None or against is not None):
        raise InputError("--summary prints one object about all items; --top, --explain and --against have no place there")
    if against is not None and (top is not None or explain is not None):
        raise InputError("--against prints one object about all items; --top and --explain have no place there")
    kind = choose_format(file_format, as_json, output, KEYED_FORMATS, on_stdout="jsonl")
    if explain is not None and not FORMATS[kind].has_lists:
        raise InputError(f"--explain: reasons are lists, which {FORMATS[kind].title} cannot hold: --format jsonl")
    if not FORMATS[kind].is_text:
        refuse_bytes_on_terminal(output)
    request = ScoreRequest(
        split=split,
        limit=limit,
        rate=rate,
        top=top,
        explain=explain,
        summary=summary,
        against=against,
        sheet=sheet,
        plot=plot,
        output=output,
        file_format=kind,
    )
    with Terminal(quiet, as_json) as terminal:
        run, names = open_run_with_inputs(model, inputs or [], device)
        score_items(run, names, request, terminal)
