"""``tiedae score``: write anomaly scores, and which items are outliers and why."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from tiedae_cli.cli.commands.options import (
    Debug,
    Device,
    IdColumn,
    Inputs,
    Json,
    Model,
    Output,
    Quiet,
    Split,
    Spreadsheet,
    fraction,
)
from tiedae_cli.cli.exported_models import exported_model, refuse_options
from tiedae_cli.output.item_writer import FORMATS, KEYED_FORMATS, choose_format, for_spreadsheet, format_of, listed
from tiedae_cli.scoring.false_alarms import FALSE_ALARMS

if TYPE_CHECKING:
    from tiedae_cli.output.terminal import Terminal


def score(
    model: Model = None,
    inputs: Inputs = None,
    split: Split = "test",
    top: Annotated[
        int | None,
        typer.Option(
            "--top",
            metavar="K",
            min=1,
            max=1_000_000,
            show_default="all, in order",
            help="Write only the K highest scores, highest first.",
        ),
    ] = None,
    rate: Annotated[
        float | None,
        typer.Option(
            "--false-alarms",
            metavar="RATE",
            parser=fraction,
            show_default=str(FALSE_ALARMS),
            help="Fraction of normal items expected above the threshold, for example 0.01 or 1%.",
        ),
    ] = None,
    quantile: Annotated[
        float | None,
        typer.Option("--quantile", metavar="Q", parser=fraction, show_default=False, help="The same as --false-alarms 1 - Q."),
    ] = None,
    limit: Annotated[
        float | None,
        typer.Option(
            "--threshold", metavar="ERROR", show_default="by --false-alarms", help="Score above which an item is an outlier."
        ),
    ] = None,
    no_threshold: Annotated[bool, typer.Option("--no-threshold", help="Write scores alone; no item is an outlier.")] = False,
    events: Annotated[
        bool,
        typer.Option(
            "--events",
            help="Write one object per event instead of one per item: outlying rows that follow each other, from when to when, where "
            "the score peaks, and the columns that carry the error there.",
        ),
    ] = False,
    fail_above: Annotated[
        int | None,
        typer.Option(
            "--fail-above",
            metavar="N",
            min=0,
            show_default="never",
            help="End with exit code 3 if more than N items are outliers (0: if any is); with --events, if there are more than N events.",
        ),
    ] = None,
    sheet: Annotated[
        Path | None,
        typer.Option(
            "--contact-sheet",
            metavar="PNG",
            show_default=False,
            help="Draw the items with the highest scores, their reconstructions and an error map.",
        ),
    ] = None,
    plot: Annotated[
        Path | None,
        typer.Option(
            "--plot", metavar="PNG", show_default=False, help="Plot the scores in order, below the values of their rows."
        ),
    ] = None,
    against: Annotated[
        str | None,
        typer.Option(
            "--against",
            metavar="OTHER",
            show_default=False,
            help="Known anomalies (file, folder or data set): print one object that says how well the scores separate them.",
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
            help="Add to each outlier the K values with the largest errors, and what the model expected there.",
        ),
    ] = None,
    summary: Annotated[
        bool,
        typer.Option(
            "--summary", help="Print one object about all items; with labels, also how well the scores separate them."
        ),
    ] = False,
    key: IdColumn = None,
    output: Output = "-",
    file_format: Annotated[
        str | None,
        typer.Option(
            "--format", metavar="FORMAT", show_default="by the suffix; on stdout jsonl", help=f"{listed(KEYED_FORMATS)}."
        ),
    ] = None,
    spreadsheet: Spreadsheet = False,
    device: Device = "auto",
    quiet: Quiet = False,
    as_json: Json = False,
    debug: Debug = False,
) -> None:
    """Write the anomaly score of each item. Unreadable items are reported and skipped; the exit code is then 1.

    With --fail-above, the exit code is 3 if there are too many outliers, whatever else is wrong.
    """
    from tiedae_cli.errors import InputError
    from tiedae_cli.output.output_targets import refuse_binary_on_terminal
    from tiedae_cli.output.terminal import Terminal

    given = {"--false-alarms": rate, "--quantile": quantile, "--threshold": limit, "--no-threshold": no_threshold or None}
    if len(both := [name for name, value in given.items() if value is not None]) > 1:
        raise InputError(f"{' and '.join(both)}: only one of them can be given")
    rate = rate if quantile is None else 1 - quantile
    kind = choose_format(file_format, as_json, output, KEYED_FORMATS, on_stdout="jsonl")
    if not FORMATS[kind].is_text:
        refuse_binary_on_terminal(output)
    judged: dict[str, Any] = {
        "limit": limit,
        "rate": rate,
        "judges": not no_threshold,
        "fail_above": fail_above,
        "top": top,
        "summary": summary,
        "output": output,
        "file_format": for_spreadsheet(kind, spreadsheet),
    }
    others: dict[str, Any] = {
        "explain": explain,
        "against": against,
        "sheet": sheet,
        "plot": plot,
        "events": events,
        "key": key,
    }
    _check({**judged, **others})
    with Terminal(quiet, as_json) as terminal:
        if rate == 1:
            terminal.warn("a false-alarm rate of 1 flags all normal items; for 1% type: --false-alarms 0.01")
        _score(model, inputs or [], device, judged, {"split": split, **others}, terminal)


def _score(
    model: str | None,
    inputs: Sequence[str],
    device: str,
    judged: dict[str, Any],
    others: dict[str, Any],
    terminal: "Terminal",
) -> None:
    """Score with an exported file, or with a checkpoint, which knows more options."""
    if (exported := exported_model(model, device)) is not None:
        from tiedae_cli.exported.exported_answers import ExportedRequest, score_exported

        names = {"explain": "--explain", "against": "--against", "sheet": "--contact-sheet", "plot": "--plot"}
        given = {option: others[name] for name, option in names.items()}
        refuse_options(exported, {**given, "--events": others["events"] or None})
        score_exported(exported, inputs, ExportedRequest(**judged, key=others["key"]), terminal)
        return
    from tiedae_cli.runs.trained_run import open_run_with_inputs
    from tiedae_cli.tasks.score import ScoreRequest
    from tiedae_cli.tasks.score import score as score_items

    run, words = open_run_with_inputs(model, inputs, device)
    score_items(run, words, ScoreRequest(**judged, **others), terminal)


def _check(request: dict[str, Any]) -> None:
    """Raise ``InputError`` if options exclude each other."""
    from tiedae_cli.errors import InputError

    one = "prints one object about all items; it cannot be combined with"
    chosen, written = request["top"] is not None, format_of(request["file_format"])
    if request["summary"] and (chosen or request["explain"] is not None or request["against"] is not None):
        raise InputError(f"--summary {one} --top, --explain or --against")
    if request["against"] is not None and (chosen or request["explain"] is not None or request["key"] is not None):
        raise InputError(f"--against {one} --top, --explain or --id")
    if request["events"] and (chosen or request["against"] is not None):
        raise InputError("--events prints one object per event; it cannot be combined with --top or --against")
    if not request["judges"] and request["fail_above"] is not None:
        raise InputError("--fail-above counts outliers, which need a threshold; it cannot be combined with --no-threshold")
    if not written.has_lists and request["explain"] is not None:
        raise InputError(f"--explain: reasons are lists, which {written.title} cannot hold; use --format jsonl")
    if not written.has_lists and request["events"]:
        raise InputError(f"--events: an event has lists, which {written.title} cannot hold; use --format jsonl")
