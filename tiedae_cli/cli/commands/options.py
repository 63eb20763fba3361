"""The arguments and options that several subcommands share."""

from typing import Annotated

import typer

from tiedae_cli.cli import completion


def _remember_debug(context: typer.Context, value: bool) -> bool:
    context.meta["tiedae.debug"] = value
    return value


def _some_model(context: typer.Context, value: str | None) -> str | None:
    """Refuse at once, before torch is imported, where no model is named and there is none."""
    if value is None and not context.resilient_parsing:
        from tiedae_cli.runs.run_list import RUNS, require_runs

        require_runs(RUNS)
    return value


Model = Annotated[
    str | None,
    typer.Argument(
        metavar="MODEL",
        show_default=False,
        callback=_some_model,
        autocompletion=completion.runs,
        help="A checkpoint, a run folder (its best.safetensors) or a run's name. Left out: the newest run under runs/.",
    ),
]
Inputs = Annotated[
    list[str] | None,
    typer.Argument(
        metavar="INPUTS",
        show_default=False,
        help="Files and folders of images, arrays or tables, or - for stdin; left out: a split.",
    ),
]
Output = Annotated[str, typer.Option("--output", "-o", metavar="FILE|-", help="Where to write; - is stdout.")]
Device = Annotated[
    str, typer.Option("--device", metavar="DEVICE", autocompletion=completion.devices, help="auto, cpu, cuda, cuda:N or mps.")
]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="Nothing on stderr but errors.")]
Json = Annotated[bool, typer.Option("--json", help="JSON Lines on stdout.")]
Debug = Annotated[bool, typer.Option("--debug", callback=_remember_debug, is_eager=True, help="Show tracebacks.")]
Split = Annotated[
    str, typer.Option("--split", metavar="SPLIT", autocompletion=completion.splits, help="train, validation or test.")
]
