"""Arguments and options that several commands share."""

from typing import Annotated

import typer

from tiedae_cli.cli import completion

STDOUT = ("/dev/stdout", "/dev/fd/1", "/proc/self/fd/1")
ALL = "tiedae.all"  # in the context's meta: whether help shows every option


def _remember_debug(context: typer.Context, value: bool) -> bool:
    context.meta["tiedae.debug"] = value
    return value


def _some_model(context: typer.Context, value: str | None) -> str | None:
    """Fail before torch is imported if no model is named and no run exists."""
    if value is None and not context.resilient_parsing:
        from tiedae_cli.runs.run_list import RUNS, require_runs

        require_runs(RUNS)
    return value


def output_target(value: str | None) -> str | None:
    """Return the target of an output option, with ``-`` for the other names of stdout, such as ``/dev/stdout``."""
    return "-" if value in STDOUT else value


def fraction(text: str) -> float:
    """Return a fraction from 0 to 1, written as a number or a percentage (``0.01``, ``1%``).

    Raises:
        BadParameter: it is not such a fraction; the message says what to type.
    """
    plain = str(text).strip().replace(",", ".")
    percent = plain.endswith("%")
    try:
        value = float(plain.removesuffix("%")) / (100 if percent else 1)
    except ValueError:
        raise typer.BadParameter(
            f"{text} is not a fraction; expected a number from 0 to 1, or a percentage such as 1%"
        ) from None
    if not 0 <= value <= 1:
        percentage = f"; for {value:g}% type {value / 100:g}" if 1 < value <= 100 and not percent else ""
        raise typer.BadParameter(f"{text} is not a fraction from 0 to 1{percentage}")
    return value


Model = Annotated[
    str | None,
    typer.Argument(
        metavar="MODEL",
        show_default=False,
        callback=_some_model,
        autocompletion=completion.runs,
        help="A checkpoint, a run folder (its best.safetensors) or the name of a run. Default: the newest finished run under runs/.",
    ),
]
Inputs = Annotated[
    list[str] | None,
    typer.Argument(
        metavar="DATA",
        show_default=False,
        help="Files and folders of images, arrays or tables, or - for stdin. Default: a split of the run's data.",
    ),
]
Output = Annotated[
    str, typer.Option("--output", "-o", metavar="FILE|-", callback=output_target, help="Output file; - is stdout.")
]
ConfigFile = Annotated[
    str | None,
    typer.Option(
        "--config",
        "-c",
        metavar="FILE|NAME",
        show_default="digits",
        autocompletion=completion.configs,
        help="YAML file (- is stdin) or name of a sample config.",
    ),
]
IdColumn = Annotated[
    str | None,
    typer.Option(
        "--id",
        metavar="COLUMN",
        show_default="the only time stamp or row index",
        help="Write this column of DATA, your key or time stamp of each item, as `id` beside `item`.",
    ),
]
Spreadsheet = Annotated[
    bool,
    typer.Option(
        "--spreadsheet", help="In CSV, put an apostrophe before text that a spreadsheet would run as a formula (=, +, -, @)."
    ),
]
Device = Annotated[
    str, typer.Option("--device", metavar="DEVICE", autocompletion=completion.devices, help="auto, cpu, cuda, cuda:N or mps.")
]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="Print only errors on stderr.")]
Json = Annotated[bool, typer.Option("--json", help="Print JSON Lines on stdout.")]
Debug = Annotated[bool, typer.Option("--debug", callback=_remember_debug, is_eager=True, help="Show tracebacks.")]
Split = Annotated[
    str, typer.Option("--split", metavar="SPLIT", autocompletion=completion.splits, help="train, validation or test.")
]
