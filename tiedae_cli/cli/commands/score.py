"""``tiedae score``: each item's squared error, and which items are outliers."""

from pathlib import Path
from typing import Annotated

import typer

from tiedae_cli.cli.commands.options import Debug, Device, Inputs, Json, Model, Output, Quiet, Split
from tiedae_cli.tasks.defaults import QUANTILE


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
    quantile: Annotated[
        float | None,
        typer.Option(
            "--quantile", metavar="Q", min=0, max=1, show_default=str(QUANTILE), help="Of the validation errors: the threshold."
        ),
    ] = None,
    limit: Annotated[
        float | None,
        typer.Option("--threshold", metavar="ERROR", show_default="the quantile", help="Outliers have a larger squared error."),
    ] = None,
    sheet: Annotated[
        Path | None,
        typer.Option("--contact-sheet", metavar="PNG", show_default=False, help="Draw the worst beside their reconstructions."),
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
    output: Output = "-",
    file_format: Annotated[
        str | None,
        typer.Option("--format", metavar="FORMAT", show_default="by the suffix; on stdout jsonl", help="jsonl or csv."),
    ] = None,
    device: Device = "auto",
    quiet: Quiet = False,
    as_json: Json = False,
    debug: Debug = False,
) -> None:
    """Write each item's squared error. An item that cannot be read is named and left out; then the exit code is 1 at the end."""
    from tiedae_cli.errors import InputError
    from tiedae_cli.output.rows import choose_format
    from tiedae_cli.output.targets import check_targets
    from tiedae_cli.output.terminal import Terminal, write_values
    from tiedae_cli.runs.opened import open_run_with_inputs
    from tiedae_cli.tasks.screening import Screening

    if quantile is not None and limit is not None:
        raise InputError("--quantile and --threshold: give one of them")
    if against is not None and top is not None:
        raise InputError("--against prints one object about all items; --top has no place there")
    kind = choose_format(file_format, as_json, output, ("jsonl", "csv"), on_stdout="jsonl")
    with Terminal(quiet, as_json) as terminal:
        run, names = open_run_with_inputs(model, inputs or [], device)
        screening = Screening(run)
        if sheet is not None:
            screening.check_can_draw()
        items = screening.open(names, split, limit, quantile, QUANTILE)
        check_targets(output, None if sheet is None else str(sheet))
        draws = sheet is not None
        lines = screening.lines(items, top, draws) if against is None else screening.detection(items, against, draws)
        with screening.drawing(lines, sheet, top):
            write_values(output, kind, lines)
        if output != "-":
            terminal.result(output)
            terminal.json_line(output=output, items=screening.tally.items)
        screening.finish()
