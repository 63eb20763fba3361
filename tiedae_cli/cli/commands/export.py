"""``tiedae export``: write a model as ONNX or safetensors."""

from pathlib import Path
from typing import Annotated, Literal

import typer

from tiedae_cli.cli.commands.options import Debug, Json, Model, Quiet, output_target

FORMATS = ("onnx", "safetensors")


def export(
    output: Annotated[
        str,
        typer.Option(
            "--output",
            "-o",
            metavar="FILE|-",
            callback=output_target,
            show_default=False,
            help="FILE.onnx or FILE.safetensors.",
        ),
    ],
    model: Model = None,
    part: Annotated[
        Literal["encoder", "decoder", "both"], typer.Option("--part", help="Part of the model to export.")
    ] = "both",
    wanted: Annotated[
        Literal["onnx", "safetensors"] | None,
        typer.Option("--format", show_default="the suffix of FILE", help="Format, if the suffix of FILE does not tell it."),
    ] = None,
    raw: Annotated[
        bool,
        typer.Option("--raw", help="ONNX only: inputs and outputs in the data's own units (0 to 255) instead of the model's."),
    ] = False,
    quiet: Quiet = False,
    as_json: Json = False,
    debug: Debug = False,
) -> None:
    """Export a model for other tools, and print the path of the file."""
    kind = _format(output, wanted, raw)

    from tiedae_cli.output.output_targets import check_targets, refuse_binary_on_terminal
    from tiedae_cli.output.terminal import Terminal, write_output
    from tiedae_cli.runs.trained_run import open_run
    from tiedae_cli.tasks.export import export_run

    refuse_binary_on_terminal(output)
    with Terminal(quiet, as_json) as terminal:
        run = open_run(model, "cpu")
        check_targets(output)
        content, difference = export_run(run, kind, part, raw)
        write_output(output, content)
        if output != "-":
            terminal.result(output)
            terminal.json_line(
                output=output,
                checkpoint=str(run.path),
                format=kind,
                part=part,
                raw=raw,
                bytes=len(content),
                largest_difference=difference,
            )


def _format(output: str, wanted: str | None, raw: bool) -> str:
    """Return the format given by ``--format`` or by the file's suffix."""
    from tiedae_cli.errors import InputError

    kind = wanted or Path(output).suffix.lower().removeprefix(".")
    if kind not in FORMATS:
        known = " or ".join(f".{name}" for name in FORMATS)
        raise InputError(f"--output {output}: unknown format; use a file name that ends in {known}, or --format")
    if raw and kind != "onnx":
        raise InputError("--raw: needs --format onnx; a safetensors file keeps the scaling in its metadata")
    return kind
