"""The ``encode`` command: codes of items, block by block."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from tiedae_cli.data.item_reader import ItemReader, check_id, split_items
from tiedae_cli.data.records import Records, item_columns
from tiedae_cli.model.inference import codes
from tiedae_cli.output.item_writer import NumberColumn, write_records, writes_ids
from tiedae_cli.runs.trained_run import OpenRun


def encode_items(run: OpenRun, inputs: Sequence[str], split: str, output: str, kind: str, key: str | None = None) -> int:
    """Write the codes of inputs, or of a split if there are none; return the number of codes.

    Args:
        run: the model.
        inputs: files, folders, or ``-`` for stdin.
        split: train, validation or test.
        output: a path or ``-``.
        kind: an item format.
        key: the column that holds the user's key of each item. Default: detected.

    Raises:
        InputError: no input has such a column.
        DataError: an item cannot be read; none is skipped, so row 17 of the codes is always row 17 of the input.
        StorageError: the codes cannot be written; an older file stays intact.
    """
    size = run.network.sizes[-1]
    has_keys = writes_ids(kind, key)
    check_id(key, inputs)
    reader = ItemReader(run.form, run.block_size, data=run.config.data, finds_id=has_keys, id=key)
    items = reader.open(inputs) if inputs else split_items(run.split(split), run.block_size)
    named = replace(items, has_lines=False)  # codes are often read again, by programs that expect no more than they need
    blocks = (
        Records({**item_columns(block, named), "code": codes(run.network, block.values, run.device).numpy()})
        for block in items.blocks
    )
    return write_records(output, kind, blocks, NumberColumn("code", (size,), np.dtype(np.float32)), items.count)
