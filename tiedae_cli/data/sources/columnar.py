"""Parquet and Feather: files that store columns with their types, read block by block by pyarrow; each row is an item.

Shapes: B rows per block.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from tiedae_cli.data.data_errors import data_errors
from tiedae_cli.data.sources.arrow_messages import unpacked_bytes
from tiedae_cli.data.sources.dialect import distinct
from tiedae_cli.data.sources.number_format import NumberFormat
from tiedae_cli.data.sources.part import Bad
from tiedae_cli.data.sources.table import Table, TableBlock, first_rows
from tiedae_cli.errors import DataError
from tiedae_cli.system.memory_limits import LONGEST_LINE, require_columns, require_memory

BATCH_ROWS = 1 << 14
FIRST_MESSAGE = 8  # position in an Arrow IPC file: after ``ARROW1`` and two zeros comes a stream
ARROW_STREAM = b"\xff\xff\xff\xff"  # how an Arrow IPC stream begins; a file begins with ``ARROW1``


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
        require_columns(name, width)
        flat = np.asarray(compute.list_flatten(values).to_numpy(zero_copy_only=False)).reshape(len(values), width)
        found |= {f"{column}[{index}]": pyarrow.array(flat[:, index]) for index in range(width)}
    return found


def _parquet_batches(path: Path) -> Iterator[Any]:
    import pyarrow.parquet

    with pyarrow.parquet.ParquetFile(path) as file:
        groups = [file.metadata.row_group(group) for group in range(file.metadata.num_row_groups)]
        schema = file.schema_arrow
        require_memory(str(path), max((group.total_byte_size for group in groups), default=0))
        for chunk in (group.column(place) for group in groups for place in range(group.num_columns)):
            if chunk.total_uncompressed_size > LONGEST_LINE * max(1, chunk.num_values):
                raise _too_long(f"{path}: column {chunk.path_in_schema}", chunk.total_uncompressed_size)
    texts = [field.name for field in schema if pyarrow.types.is_string(field.type) or pyarrow.types.is_large_string(field.type)]
    # A text that repeats is stored once, and may not fit into memory as often as it repeats: it is counted before it is repeated.
    with pyarrow.parquet.ParquetFile(path, read_dictionary=texts) as file:
        for batch in file.iter_batches(batch_size=BATCH_ROWS):
            for place, name in enumerate(batch.schema.names):
                _check_texts(f"{path}: column {name}", batch.column(place))
            columns = [column.dictionary_decode() if name in texts else column for name, column in _cells_of(batch)]
            yield pyarrow.record_batch(columns, names=batch.schema.names)


def _cells_of(batch: Any) -> Iterator[tuple[str, Any]]:
    return zip(batch.schema.names, batch.columns, strict=True)


def _check_texts(name: str, cells: Any) -> None:
    """Refuse a column of a block with a text longer than ``LONGEST_LINE``, or with more text than fits into memory.

    Raises:
        DataError: the name, and how much text it is.
    """
    import pyarrow.compute as compute
    import pyarrow.types as types

    is_dictionary = types.is_dictionary(cells.type)
    words = cells.dictionary if is_dictionary else cells
    if not (types.is_string(words.type) or types.is_large_string(words.type)):
        return
    lengths = compute.binary_length(words)
    longest = compute.max(lengths).as_py() or 0
    if longest > LONGEST_LINE:
        raise _too_long(name, longest)
    if is_dictionary:
        lengths = compute.take(lengths, cells.indices)
    require_memory(name, compute.sum(compute.cast(lengths, "int64")).as_py() or 0)


def _too_long(name: str, length: int) -> DataError:
    return DataError(f"{name}: text of {length / 1e6:,.0f} MB; the limit is {LONGEST_LINE >> 20} MB per cell")


def _feather_batches(path: Path) -> Iterator[Any]:
    for whole in _whole_batches(path):
        for place, name in enumerate(whole.schema.names):
            _check_texts(f"{path}: column {name}", whole.column(place))
        for start in range(0, whole.num_rows, BATCH_ROWS):
            yield whole.slice(start, BATCH_ROWS)


def _whole_batches(path: Path) -> Iterator[Any]:
    import pyarrow

    with pyarrow.memory_map(str(path)) as source:
        is_stream = source.read(len(ARROW_STREAM)) == ARROW_STREAM
        source.seek(0 if is_stream else FIRST_MESSAGE)
        require_memory(str(path), max(map(unpacked_bytes, pyarrow.ipc.MessageReader.open_stream(source)), default=0))
        source.seek(0)
        if is_stream:
            with pyarrow.ipc.open_stream(source) as stream:
                yield from stream
            return
        with pyarrow.ipc.open_file(source) as file:
            for index in range(file.num_record_batches):
                yield file.get_batch(index)
