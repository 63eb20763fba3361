"""``tiedae export``: write a model as ONNX or safetensors."""

from pathlib import Path
from typing import Annotated, Literal

import typer

from tiedae_cli.cli.commands.options import Debug, Json, Model, Quiet, fraction, output_target
from tiedae_cli.scoring.false_alarms import FALSE_ALARMS

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
        Literal["score", "both", "encoder", "decoder"],
        typer.Option(
            "--part",
            help="Part of the model to export: score is the whole answer of `tiedae score` from raw values (ONNX only).",
        ),
    ] = "both",
    wanted: Annotated[
        Literal["onnx", "safetensors"] | None,
        typer.Option("--format", show_default="the suffix of FILE", help="Format, if the suffix of FILE does not tell it."),
    ] = None,
    raw: Annotated[
        bool,
        typer.Option("--raw", help="ONNX only: inputs and outputs in the data's own units (0 to 255) instead of the model's."),
    ] = False,
    rate: Annotated[
        float | None,
        typer.Option(
            "--false-alarms",
            metavar="RATE",
            parser=fraction,
            show_default=str(FALSE_ALARMS),
            help="Part score only: fraction of normal items expected above the file's threshold.",
        ),
    ] = None,
    limit: Annotated[
        float | None,
        typer.Option(
            "--threshold",
            metavar="SCORE",
            show_default="by --false-alarms",
            help="Part score only: the file's threshold.",
        ),
    ] = None,
    quiet: Quiet = False,
    as_json: Json = False,
    debug: Debug = False,
) -> None:
    """Export a model for other tools, and print the path of the file.

    An ONNX file appears only after onnxruntime has given the model's answers. With --part score, it is a MODEL for score, encode,
    decode, reconstruct and inspect, which then need no torch.
    """
    kind = _format(output, wanted, raw)
    _check_judgment(part, kind, rate, limit)

    from tiedae_cli.output.output_targets import check_targets, refuse_binary_on_terminal
    from tiedae_cli.output.terminal import Terminal, write_output
    from tiedae_cli.runs.trained_run import open_run
    from tiedae_cli.scoring.onnx_score import JudgedBy
    from tiedae_cli.tasks.export import export_run, export_score

    refuse_binary_on_terminal(output)
    with Terminal(quiet, as_json) as terminal:
        run = open_run(model, "cpu")
        check_targets(output)
        if part == "score":
            content, proof = export_score(run, JudgedBy(rate, limit))
            difference: float | None = proof.largest_difference
        else:
            content, difference = export_run(run, kind, part, raw)
        write_output(output, content)
        if output != "-":
            terminal.result(output)
            terminal.json_line(
                output=output,
                checkpoint=str(run.path),
                format=kind,
                part=part,
                raw=raw or part == "score",
                bytes=len(content),
                largest_difference=difference,
            )


def _check_judgment(part: str, kind: str, rate: float | None, limit: float | None) -> None:
    """Raise ``InputError`` for options that exclude each other."""
    import math

    from tiedae_cli.errors import InputError

    if part == "score" and kind != "onnx":
        raise InputError("--part score: needs --format onnx; a safetensors file holds weights alone")
    given = {"--false-alarms": rate, "--threshold": limit}
    names = [name for name, value in given.items() if value is not None]
    if names and part != "score":
        raise InputError(f"{names[0]}: needs --part score; the other parts have no threshold")
    if len(names) > 1:
        raise InputError(f"{' and '.join(names)}: only one of them can be given")
    if limit is not None and not math.isfinite(limit):
        raise InputError(f"--threshold {limit}: must be a finite number")


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
