"""The ``decode`` command: items from codes, block by block."""

from tiedae_cli.data.item_reader import ItemReader
from tiedae_cli.data.item_set import Block, ItemForm
from tiedae_cli.model.inference import decoded
from tiedae_cli.output.decoded_items import write_decoded
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
    return write_decoded(answers, items.count, form, form.transform, output, kind, as_float)
