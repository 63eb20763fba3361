"""The arguments and options that several subcommands share."""

from typing import Annotated

import typer


def _remember_debug(context: typer.Context, value: bool) -> bool:
    context.meta["tiedae.debug"] = value
    return value


Model = Annotated[
    str | None,
    typer.Argument(
        metavar="MODEL",
        show_default=False,
        help="A checkpoint, a run folder (its best.safetensors) or a run's name. Left out: the newest run under runs/.",
    ),
]
Inputs = Annotated[
    list[str] | None,
    typer.Argument(
        metavar="INPUTS",
        show_default=False,
        help="Image files, folders of them, arrays (.npy, .npz), tables (.csv, .jsonl), or - for stdin; left out: a split.",
    ),
]
Output = Annotated[str, typer.Option("--output", "-o", metavar="FILE|-", help="Where to write; - is stdout.")]
Device = Annotated[str, typer.Option("--device", metavar="DEVICE", help="auto, cpu, cuda, cuda:N or mps.")]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="Nothing on stderr but errors.")]
Json = Annotated[bool, typer.Option("--json", help="JSON Lines on stdout.")]
Debug = Annotated[bool, typer.Option("--debug", callback=_remember_debug, is_eager=True, help="Show tracebacks.")]
Split = Annotated[str, typer.Option("--split", metavar="SPLIT", help="train, validation or test.")]
