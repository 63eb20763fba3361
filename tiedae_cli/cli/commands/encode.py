"""``tiedae encode``: write the codes of items."""

import sys
from typing import Annotated

import typer

from tiedae_cli.cli.commands.options import Debug, Device, IdColumn, Inputs, Json, Model, Output, Quiet, Split, Spreadsheet
from tiedae_cli.cli.exported_models import exported_model
from tiedae_cli.output.item_writer import FORMATS, choose_format, for_spreadsheet, listed


def encode(
    model: Model = None,
    inputs: Inputs = None,
    split: Split = "test",
    output: Output = "-",
    file_format: Annotated[
        str | None,
        typer.Option(
            "--format",
            metavar="FORMAT",
            show_default="by the suffix; on stdout npy, in a terminal csv",
            help=f"{listed(FORMATS)}.",
        ),
    ] = None,
    key: IdColumn = None,
    spreadsheet: Spreadsheet = False,
    device: Device = "auto",
    quiet: Quiet = False,
    as_json: Json = False,
    debug: Debug = False,
) -> None:
    """Write the codes of items, one row per item. It reads the input in blocks and stops at the first unreadable item."""
    from tiedae_cli.output.output_targets import refuse_binary_on_terminal
    from tiedae_cli.output.terminal import Terminal

    kind = choose_format(file_format, as_json, output, FORMATS, on_stdout="csv" if sys.stdout.isatty() else "npy")
    writer = for_spreadsheet(kind, spreadsheet)
    if not FORMATS[kind].is_text:
        refuse_binary_on_terminal(output)
    with Terminal(quiet, as_json) as terminal:
        if (exported := exported_model(model, device)) is not None:
            from tiedae_cli.exported.exported_answers import encode_exported

            count, size = encode_exported(exported, inputs or [], output, writer, key)
        else:
            from tiedae_cli.runs.trained_run import open_run_with_inputs
            from tiedae_cli.tasks.encode import encode_items

            run, names = open_run_with_inputs(model, inputs or [], device)
            count, size = encode_items(run, names, split, output, writer, key), run.network.sizes[-1]
        if output != "-":
            terminal.note(f"{count:,} codes of {size} numbers")
            terminal.result(output)
            terminal.json_line(output=output, items=count, code_size=size)
