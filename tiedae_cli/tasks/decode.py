"""The ``decode`` command: items from codes, block by block."""

from collections.abc import Sequence

import numpy as np

from tiedae_cli.data.columns import Columns
from tiedae_cli.data.item_reader import ItemReader, raw_array, raw_shape
from tiedae_cli.data.item_set import Block, ItemForm
from tiedae_cli.data.records import Records
from tiedae_cli.model.inference import decoded
from tiedae_cli.output import figures
from tiedae_cli.output.item_writer import WRITERS, NumberColumn, write_records
from tiedae_cli.output.terminal import write_output
from tiedae_cli.runs.trained_run import OpenRun


def decode_codes(run: OpenRun, codes: str, output: str, kind: str, as_float: bool) -> int:
    """Decode codes and write the items; return the number of items.

    Args:
        run: the model.
        codes: a file with codes, or ``-`` for stdin.
        output: a path or ``-``.
        kind: png (a grid of images), or an item format.
        as_float: write images as floats in [0, 1], without rounding to 8 bits.

    Raises:
        DataError: a row is not a code of this model.
        InputError: there are more images than a grid holds.
        StorageError: the output cannot be written; an older file stays intact.
    """
    size, form = run.network.sizes[-1], run.form
    reader = ItemReader(
        ItemForm((1, 1, size), "vectors"), run.block_size, expected=f"this model's codes have {size} numbers", key="code"
    )
    items = reader.open([codes])
    answers = (Block(block.items, decoded(run.network, block.values, run.device).numpy()) for block in items.blocks)
    if kind == "png":
        pictures = figures.all_pictures((block.values for block in answers), items.count, form)
        write_output(output, figures.picture_grid(pictures))
        return len(pictures)
    if form.columns is not None and WRITERS[kind].has_keys:
        return write_records(output, kind, (_named(block, form, form.columns) for block in answers))
    dtype = np.dtype(np.uint8 if form.kind == "images" and not as_float else np.float32)
    blocks = (Records({"item": block.items, "values": raw_array(block.values, form, as_float)}) for block in answers)
    return write_records(output, kind, blocks, NumberColumn("values", raw_shape(form), dtype), items.count)


def _named(block: Block, form: ItemForm, columns: Columns) -> Records:
    """Return vectors as rows of the training table: in its units, with category names instead of their columns."""
    raw = form.denormalize(block.values.astype(np.float64))  # (B, D)
    cells: dict[str, Sequence[object]] = {"item": block.items}
    place = 0
    for row in range(form.window):
        for column in columns.fed:
            own = raw[:, place : place + len(column.values)]
            place += len(column.values)
            name = column.name if form.window == 1 else f"{column.name}[{row}]"
            kinds = column.categories
            cells[name] = own[:, 0].tolist() if kinds is None else [kinds[index] for index in own.argmax(1).tolist()]
    return Records(cells)
