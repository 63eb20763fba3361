"""Decoded vectors as rows of the training table."""

from collections.abc import Sequence

from tiedae_cli.data.columns import Columns
from tiedae_cli.data.item_set import Block
from tiedae_cli.data.records import Records


def named_rows(block: Block, columns: Columns, window: int) -> Records:
    """Return vectors in the table's units with its column names, and category names instead of their columns.

    Args:
        block: values in the table's units, (B, W * D).
        columns: of the table.
        window: W, rows of an item.
    """
    cells: dict[str, Sequence[object]] = {"item": block.items}
    place = 0
    for row in range(window):
        for column in columns.fed:
            own = block.values[:, place : place + len(column.values)]
            place += len(column.values)
            name = column.name if window == 1 else f"{column.name}[{row}]"
            kinds = column.categories
            cells[name] = own[:, 0].tolist() if kinds is None else [kinds[index] for index in own.argmax(1).tolist()]
    return Records(cells)
