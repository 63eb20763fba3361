"""``tiedae encode``: codes of a split, of files, of arrays or of stdin."""

import sys
from pathlib import Path
from typing import Annotated

import typer

from tiedae_cli.cli.commands.options import RUNS, Debug, Device, Inputs, Json, Model, Output, Quiet, Split


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
            help="npy, csv or jsonl.",
        ),
    ] = None,
    device: Device = "auto",
    quiet: Quiet = False,
    as_json: Json = False,
    debug: Debug = False,
) -> None:
    """Write the codes of items, a row an item. Memory does not grow with the input; an item that cannot be read stops it."""
    import numpy as np

    from tiedae_cli.data import check_split
    from tiedae_cli.data.streams import ItemReader, split_items
    from tiedae_cli.model import evaluation
    from tiedae_cli.output.rows import FORMATS, Rows, choose_format, write_rows
    from tiedae_cli.output.terminal import Terminal
    from tiedae_cli.runs import checkpoint
    from tiedae_cli.runs.folder import find_checkpoint, separate_model
    from tiedae_cli.system.runtime import resolve_device
    from tiedae_cli.tasks.loading import data_of_model

    terminal = Terminal(quiet, as_json)
    chosen = resolve_device(device)
    check_split(split)
    kind = choose_format(file_format, as_json, output, FORMATS, on_stdout="csv" if sys.stdout.isatty() else "npy")
    model, names = separate_model(model, inputs or [], Path(RUNS))
    path = find_checkpoint(model, Path(RUNS))
    trained = checkpoint.load(path)
    network = trained.model(chosen)
    block_size = evaluation.block_size(trained.form)
    if names:
        items = ItemReader(trained.form, block_size).open(names)
    else:
        items = split_items(data_of_model(trained, path, terminal).filled(split), block_size)
    codes = ((block.items, evaluation.codes(network, block.values, chosen).numpy()) for block in items.blocks)
    size = network.sizes[-1]
    count = write_rows(output, kind, Rows(codes, items.count, (size,), np.dtype(np.float32), "code"))
    if output != "-":
        terminal.note(f"{count:,} codes of {size} numbers")
        terminal.result(output)
        terminal.json_line(output=output, items=count, code_size=size)
