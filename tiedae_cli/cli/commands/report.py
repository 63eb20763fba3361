"""``tiedae report``: write an HTML page about one or several runs."""

from typing import Annotated

import typer

from tiedae_cli.cli.commands.options import Debug, Device, Json, Quiet, Split, output_target
from tiedae_cli.scoring.false_alarms import QUANTILE


def report(
    runs: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="RUN",
            show_default="the newest run",
            help="Checkpoints, run folders (their best.safetensors) or names of runs. Several runs are compared.",
        ),
    ] = None,
    output: Annotated[
        str | None,
        typer.Option(
            "--output",
            "-o",
            metavar="FILE|-",
            callback=output_target,
            show_default="report.html in the run folder",
            help="Output file; - is stdout.",
        ),
    ] = None,
    split: Split = "test",
    quantile: Annotated[
        float,
        typer.Option(
            "--quantile", metavar="Q", min=0, max=1, help="Quantile of the validation errors above which an item is an outlier."
        ),
    ] = QUANTILE,
    device: Device = "auto",
    quiet: Quiet = False,
    as_json: Json = False,
    debug: Debug = False,
) -> None:
    """Write one HTML page about runs, with live models to try, and print its path. The page works offline."""
    from tiedae_cli.output.output_targets import check_targets
    from tiedae_cli.output.terminal import Terminal, write_output
    from tiedae_cli.runs.trained_run import open_run
    from tiedae_cli.tasks.report import report_page, report_path

    with Terminal(quiet, as_json) as terminal:
        opened = [open_run(run, device) for run in runs] if runs else [open_run(None, device)]
        for run in opened:
            run.warn_if_unfinished()
        check_targets(output)
        names = runs or [str(opened[0].path)]
        content = report_page(opened, names, split, quantile)
        target = str(report_path(opened, content)) if output is None else output
        write_output(target, content)
        if target != "-":
            terminal.result(target)
            checkpoints = [str(run.path) for run in opened]
            terminal.json_line(output=target, checkpoints=checkpoints, split=split, bytes=len(content))
