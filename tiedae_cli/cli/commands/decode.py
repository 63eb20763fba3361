"""``tiedae decode``: turn codes back into images or vectors."""

from typing import Annotated

import typer

from tiedae_cli.cli.commands.options import Debug, Device, Json, Output, Quiet
from tiedae_cli.cli.exported_models import exported_model
from tiedae_cli.output.item_writer import FORMATS, choose_format, listed


def decode(
    arguments: Annotated[
        list[str],
        typer.Argument(
            metavar="[MODEL] CODES",
            show_default=False,
            help="MODEL: as in the other commands. CODES: a file that encode wrote (.npy, .csv, .jsonl), or - for stdin.",
        ),
    ],
    output: Output = "-",
    file_format: Annotated[
        str | None,
        typer.Option(
            "--format", metavar="FORMAT", show_default="by the suffix; on stdout npy", help=f"png (a grid), {listed(FORMATS)}."
        ),
    ] = None,
    as_float: Annotated[
        bool, typer.Option("--float", help="Write images as float32 from 0 to 1. Default: uint8 from 0 to 255.")
    ] = False,
    device: Device = "auto",
    quiet: Quiet = False,
    as_json: Json = False,
    debug: Debug = False,
) -> None:
    """Decode codes into images (a PNG grid of up to 10,000, or an array) or into vectors in the data's own units."""
    from tiedae_cli.errors import InputError
    from tiedae_cli.output.output_targets import refuse_binary_on_terminal
    from tiedae_cli.output.terminal import Terminal

    kind = choose_format(file_format, as_json, output, ("png", *FORMATS), on_stdout="npy")
    if kind == "png" or not FORMATS[kind].is_text:
        refuse_binary_on_terminal(output)
    with Terminal(quiet, as_json) as terminal:
        exported = exported_model(arguments[0], device)
        if exported is not None:
            names = arguments[1:]
        else:
            from tiedae_cli.runs.trained_run import open_run_with_inputs

            run, names = open_run_with_inputs(arguments[0], arguments[1:], device)
        if len(names) != 1:
            raise InputError(f"expected one file of codes, or - for stdin, not {len(names)}: tiedae decode [MODEL] CODES")
        if exported is not None:
            from tiedae_cli.exported.exported_answers import decode_exported

            count = decode_exported(exported, names[0], output, kind, as_float)
        else:
            from tiedae_cli.tasks.decode import decode_codes

            count = decode_codes(run, names[0], output, kind, as_float)
        if output != "-":
            terminal.result(output)
            terminal.json_line(output=output, items=count)
