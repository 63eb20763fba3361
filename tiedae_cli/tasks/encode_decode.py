"""What ``encode`` and ``decode`` do: codes of items, and what codes stand for, block by block.

Shapes: N items, K numbers of a code.
"""

from collections.abc import Sequence

import numpy as np

from tiedae_cli.data.columns import Columns
from tiedae_cli.data.item_reader import ItemReader, raw_array, raw_shape, split_items
from tiedae_cli.data.item_set import Block, ItemForm
from tiedae_cli.model import inference as evaluation
from tiedae_cli.output import figures
from tiedae_cli.output.records import Records, write_records
from tiedae_cli.output.rows import Rows, write_rows
from tiedae_cli.output.terminal import write_output
from tiedae_cli.runs.trained_run import OpenRun


def encode(run: OpenRun, inputs: Sequence[str], split: str, output: str, kind: str) -> int:
    """Write the codes of inputs, or of a split where there are none, and return how many.

    Args:
        run: the model.
        inputs: files, folders, ``-``.
        split: train, validation or test.
        output: a path or ``-``.
        kind: npy, csv or jsonl.

    Raises:
        DataError: an item cannot be read: row 17 of the codes is row 17 of the input, or there is none.
        StorageError: the codes cannot be written; what was there before is intact.
    """
    size = run.network.sizes[-1]
    items = (
        ItemReader(run.form, run.block_size, data=run.config.data).open(inputs)
        if inputs
        else split_items(run.split(split), run.block_size)
    )
    codes = ((block.items, evaluation.codes(run.network, block.values, run.device).numpy()) for block in items.blocks)
    return write_rows(output, kind, Rows(codes, items.count, (size,), np.dtype(np.float32), "code"))


def decode(run: OpenRun, codes: str, output: str, kind: str, as_float: bool) -> int:
    """Write what codes stand for, and return how many.

    Args:
        run: the model.
        codes: a file of them, or ``-``.
        output: a path or ``-``.
        kind: png (a grid), npy, csv or jsonl.
        as_float: images unrounded, in [0, 1].

    Raises:
        DataError: a row is no code of this model.
        InputError: more pictures than a grid holds.
        StorageError: they cannot be written; what was there before is intact.
    """
    size, form = run.network.sizes[-1], run.form
    reader = ItemReader(
        ItemForm((1, 1, size), "vectors"), run.block_size, wanted=f"this model's codes have {size} numbers", key="code"
    )
    items = reader.open([codes])
    decoded = (Block(block.items, evaluation.decoded(run.network, block.values, run.device).numpy()) for block in items.blocks)
    if kind == "png":
        pictures = figures.all_pictures((block.values for block in decoded), items.count, form)
        write_output(output, figures.picture_grid(pictures))
        return len(pictures)
    if form.columns is not None and kind != "npy":
        return write_records(output, kind, (_named(block, form, form.columns) for block in decoded))
    dtype = np.dtype(np.uint8 if form.kind == "images" and not as_float else np.float32)
    blocks = ((block.items, raw_array(block.values, form, as_float)) for block in decoded)
    return write_rows(output, kind, Rows(blocks, items.count, raw_shape(form), dtype, "values"))


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
