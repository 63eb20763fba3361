"""Parquet and Feather: files that store columns with their types, read block by block by pyarrow; each row is an item.

Shapes: B rows per block.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from tiedae_cli.data.data_errors import data_errors
from tiedae_cli.data.sources.dialect import distinct
from tiedae_cli.data.sources.number_format import NumberFormat
from tiedae_cli.data.sources.part import Bad
from tiedae_cli.data.sources.table import Table, TableBlock, first_rows
from tiedae_cli.errors import DataError
from tiedae_cli.system.memory_limits import require_memory


def open_columns(path: Path, kind: str) -> Table:
    """Open a file that stores its columns with their types.

    Args:
        path: the file.
        kind: parquet or feather.

    Raises:
        DataError: it cannot be read, or has no rows.
    """
    name, batches = str(path), _parquet_batches if kind == "parquet" else _feather_batches

    def read(bad: Bad) -> Iterator[TableBlock]:
        start = 0
        widths: dict[str, int] = {}
        with data_errors(name, "a table"):
            for batch in batches(path):
                rows = np.arange(start, start + batch.num_rows)
                start += batch.num_rows
                columns = dict(zip(distinct(batch.schema.names), batch.columns, strict=True))
                yield TableBlock(rows, _without_lists(name, columns, widths))

    blocks = read(lambda problem: None)
    first = next((block for block in blocks if len(block.rows)), None)
    if first is None:
        raise DataError(f"{name}: no rows")
    return Table(name, tuple(first.columns), True, NumberFormat(), first_rows([first]), read, kind.capitalize())


def _without_lists(name: str, columns: dict[str, Any], widths: dict[str, int]) -> dict[str, Any]:
    """Return columns with each list of numbers as one column per value: ``emb[0]``, ``emb[1]`` ...

    Args:
        name: of the file, for messages.
        columns: pyarrow arrays of B values.
        widths: the length of the lists of each column, which the first block sets.
    """
    import pyarrow
    import pyarrow.compute as compute
    import pyarrow.types as types

    found = {}
    for column, values in columns.items():
        kind = values.type
        is_list = types.is_list(kind) or types.is_large_list(kind) or types.is_fixed_size_list(kind)
        if not is_list or not (types.is_integer(kind.value_type) or types.is_floating(kind.value_type)):
            found[column] = values
            continue
        lengths = compute.fill_null(compute.list_value_length(values), 0)
        width = widths.setdefault(column, lengths[0].as_py() if len(lengths) else 0)
        wrong = compute.index(compute.not_equal(lengths, width), True).as_py()
        if wrong >= 0:
            raise DataError(
                f"{name}: column {column}: lists of {width:,} and of {lengths[wrong].as_py():,} numbers; all must be as long"
            )
        flat = np.asarray(compute.list_flatten(values).to_numpy(zero_copy_only=False)).reshape(len(values), width)
        found |= {f"{column}[{index}]": pyarrow.array(flat[:, index]) for index in range(width)}
    return found


def _parquet_batches(path: Path) -> Iterator[Any]:
    import pyarrow.parquet

    with pyarrow.parquet.ParquetFile(path) as file:
        groups = range(file.metadata.num_row_groups)
        require_memory(str(path), max((file.metadata.row_group(group).total_byte_size for group in groups), default=0))
        yield from file.iter_batches(batch_size=1 << 14)


def _feather_batches(path: Path) -> Iterator[Any]:
    import pyarrow

    with pyarrow.memory_map(str(path)) as source, pyarrow.ipc.open_file(source) as file:
        for index in range(file.num_record_batches):
            yield file.get_batch(index)
