"""The ``encode`` command: codes of items, block by block."""

from collections.abc import Sequence

import numpy as np

from tiedae_cli.data.item_reader import ItemReader, split_items
from tiedae_cli.data.records import Records
from tiedae_cli.model.inference import codes
from tiedae_cli.output.item_writer import NumberColumn, write_records
from tiedae_cli.runs.trained_run import OpenRun


def encode_items(run: OpenRun, inputs: Sequence[str], split: str, output: str, kind: str) -> int:
    """Write the codes of inputs, or of a split if there are none; return the number of codes.

    Args:
        run: the model.
        inputs: files, folders, or ``-`` for stdin.
        split: train, validation or test.
        output: a path or ``-``.
        kind: an item format.

    Raises:
        DataError: an item cannot be read; none is skipped, so row 17 of the codes is always row 17 of the input.
        StorageError: the codes cannot be written; an older file stays intact.
    """
    size = run.network.sizes[-1]
    items = (
        ItemReader(run.form, run.block_size, data=run.config.data).open(inputs)
        if inputs
        else split_items(run.split(split), run.block_size)
    )
    blocks = (
        Records({"item": block.items, "code": codes(run.network, block.values, run.device).numpy()}) for block in items.blocks
    )
    return write_records(output, kind, blocks, NumberColumn("code", (size,), np.dtype(np.float32)), items.count)
