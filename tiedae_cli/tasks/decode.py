"""The ``decode`` command: items from codes, block by block."""

import logging

import numpy as np

from tiedae_cli.data.item_reader import ItemReader, raw_array
from tiedae_cli.data.item_set import Block, ItemForm
from tiedae_cli.data.records import Records
from tiedae_cli.model.inference import decoded
from tiedae_cli.output import figures
from tiedae_cli.output.item_writer import NumberColumn, format_of, write_records
from tiedae_cli.output.named_rows import named_rows
from tiedae_cli.output.terminal import write_output
from tiedae_cli.runs.trained_run import OpenRun

log = logging.getLogger(__name__)


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
    if form.transform == "log1p_per_10k":
        log.info("the values are counts per 10,000 (data.transform: log1p_per_10k)")
    if kind == "png":
        pictures = figures.all_pictures((block.values for block in answers), items.count, form)
        write_output(output, figures.picture_grid(pictures))
        return len(pictures)
    if form.columns is not None and format_of(kind).has_keys:
        raw = (Block(block.items, form.restored(block.values.astype(np.float64))) for block in answers)
        return write_records(output, kind, (named_rows(block, form.columns, form.window) for block in raw))
    dtype = np.dtype(np.uint8 if form.kind == "images" and not as_float else np.float32)
    blocks = (Records({"item": block.items, "values": raw_array(block.values, form, as_float)}) for block in answers)
    return write_records(output, kind, blocks, NumberColumn("values", form.raw_shape, dtype), items.count)
