"""What ``decode`` does: the items that codes stand for, block by block."""

from collections.abc import Sequence

import numpy as np

from tiedae_cli.data.columns import Columns
from tiedae_cli.data.item_reader import ItemReader, raw_array, raw_shape
from tiedae_cli.data.item_set import Block, ItemForm
from tiedae_cli.data.records import Records
from tiedae_cli.model.inference import decoded
from tiedae_cli.output import figures
from tiedae_cli.output.item_writer import FORMATS, NumberColumn, write_records
from tiedae_cli.output.terminal import write_output
from tiedae_cli.runs.trained_run import OpenRun


def decode_codes(run: OpenRun, codes: str, output: str, kind: str, as_float: bool) -> int:
    """Write what codes stand for, and return how many.

    Args:
        run: the model.
        codes: a file of them, or ``-``.
        output: a path or ``-``.
        kind: png (a grid), or one of the item formats.
        as_float: images unrounded, in [0, 1].

    Raises:
        DataError: a row is no code of this model.
        InputError: more pictures than a grid holds.
        StorageError: they cannot be written; what was there before is intact.
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
    if form.columns is not None and FORMATS[kind].has_keys:
        return write_records(output, kind, (_named(block, form, form.columns) for block in answers))
    dtype = np.dtype(np.uint8 if form.kind == "images" and not as_float else np.float32)
    blocks = (Records({"item": block.items, "values": raw_array(block.values, form, as_float)}) for block in answers)
    return write_records(output, kind, blocks, NumberColumn("values", raw_shape(form), dtype), items.count)


def _named(block: Block, form: ItemForm, columns: Columns) -> Records:
    """Return vectors as rows of the table that the model was trained on: in its own units, a category for its values."""
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
