"""``tiedae decode``: codes back to pictures or arrays."""

import sys
from pathlib import Path
from typing import Annotated

import typer

from tiedae_cli.cli.commands.options import RUNS, Debug, Device, Json, Output, Quiet


def decode(
    arguments: Annotated[
        list[str],
        typer.Argument(
            metavar="[MODEL] CODES",
            show_default=False,
            help="MODEL as in the other commands; CODES as encode writes them (.npy, .csv, .jsonl), or - for stdin.",
        ),
    ],
    output: Output = "-",
    file_format: Annotated[
        str | None,
        typer.Option(
            "--format", metavar="FORMAT", show_default="by the suffix; on stdout npy", help="png (a grid), npy, csv or jsonl."
        ),
    ] = None,
    as_float: Annotated[
        bool, typer.Option("--float", help="Images as unrounded float32 (0 to 1) rather than uint8 (0 to 255).")
    ] = False,
    device: Device = "auto",
    quiet: Quiet = False,
    as_json: Json = False,
    debug: Debug = False,
) -> None:
    """Turn codes back into images or vectors. Images: a .png grid of up to 10,000, or an array. Vectors: in the data's own units."""
    import numpy as np

    from tiedae_cli.data.image_set import DataForm
    from tiedae_cli.data.streams import Block, ItemReader, raw_array, raw_shape
    from tiedae_cli.errors import InputError
    from tiedae_cli.model import evaluation
    from tiedae_cli.output import figures
    from tiedae_cli.output.rows import FORMATS, Rows, choose_format, write_rows
    from tiedae_cli.output.terminal import Terminal, write_output
    from tiedae_cli.runs import checkpoint
    from tiedae_cli.runs.folder import find_checkpoint, separate_model
    from tiedae_cli.system.runtime import resolve_device

    terminal = Terminal(quiet, as_json)
    chosen = resolve_device(device)
    kind = choose_format(file_format, as_json, output, ("png", *FORMATS), on_stdout="npy")
    if output == "-" and kind in ("npy", "png") and sys.stdout.isatty():
        raise InputError("stdout is a terminal: name a file with --output, or choose --format csv")
    model, names = separate_model(arguments[0], arguments[1:], Path(RUNS))
    if len(names) != 1:
        raise InputError(f"expected one file of codes, or - for stdin, not {len(names)}: tiedae decode [MODEL] CODES")
    trained = checkpoint.load(find_checkpoint(model, Path(RUNS)))
    network, form = trained.model(chosen), trained.form
    size = network.sizes[-1]
    wanted = f"this model's codes have {size} numbers"
    codes = ItemReader(DataForm((1, 1, size), "vectors"), evaluation.block_size(form), wanted=wanted, key="code").open(names)
    decoded = (Block(block.items, evaluation.decoded(network, block.values, chosen)) for block in codes.blocks)
    if kind == "png":
        pictures = figures.all_pictures((block.values for block in decoded), codes.count, form)
        count = len(pictures)
        write_output(output, figures.picture_grid(pictures))
    else:
        dtype = np.dtype(np.uint8 if form.kind == "images" and not as_float else np.float32)
        blocks = ((block.items, raw_array(block.values, form, as_float)) for block in decoded)
        count = write_rows(output, kind, Rows(blocks, codes.count, raw_shape(form), dtype, "values"))
    if output != "-":
        terminal.result(output)
        terminal.json_line(output=output, items=count)
