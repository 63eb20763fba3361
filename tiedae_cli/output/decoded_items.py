"""Writes decoded items in the data's own units, as a grid of images or in an item format.

Shapes: B items per block, D values per item.
"""

import logging
from collections.abc import Iterable

import numpy as np

from tiedae_cli.data.item_reader import raw_array
from tiedae_cli.data.item_set import Block, ItemForm
from tiedae_cli.data.records import Records
from tiedae_cli.output import figures
from tiedae_cli.output.item_writer import NumberColumn, format_of, write_records
from tiedae_cli.output.named_rows import named_rows
from tiedae_cli.output.terminal import write_output

log = logging.getLogger(__name__)


def write_decoded(
    blocks: Iterable[Block], count: int | None, form: ItemForm, transform: str, output: str, kind: str, as_float: bool
) -> int:
    """Write decoded items; return their number.

    Args:
        blocks: values as the model sees them, (B, D).
        count: items of all blocks; None if it is not known.
        form: of an item.
        transform: ``data.transform`` of the model.
        output: a path or ``-``.
        kind: png (a grid of images), or an item format.
        as_float: write images as floats in [0, 1], without rounding to 8 bits.

    Raises:
        InputError: there are more images than a grid holds.
        StorageError: the output cannot be written; an older file stays intact.
    """
    if transform == "log1p_per_10k":
        log.info("the values are counts per 10,000 (data.transform: log1p_per_10k)")
    if kind == "png":
        pictures = figures.all_pictures((block.values for block in blocks), count, form)
        write_output(output, figures.picture_grid(pictures))
        return len(pictures)
    if form.columns is not None and format_of(kind).has_keys:
        raw = (Block(block.items, form.restored(block.values.astype(np.float64))) for block in blocks)
        return write_records(output, kind, (named_rows(block, form.columns, form.window) for block in raw))
    dtype = np.dtype(np.uint8 if form.kind == "images" and not as_float else np.float32)
    rows = (
        Records({"item": block.items, "values": raw_array(block.values, form, as_float).astype(dtype, copy=False)})
        for block in blocks
    )
    return write_records(output, kind, rows, NumberColumn("values", form.raw_shape, dtype), count)
