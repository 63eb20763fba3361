"""One writer for the records of all items, in every format: ``.npy``, CSV, JSON Lines, Parquet.

A format is a function that writes blocks, and a row of ``FORMATS``; options, help and messages come from that list. Help imports
this module, so it imports nothing slow at the top.

Shapes: N items, B items per block, K numbers per item.
"""

import csv
import json
import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import chain, islice
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from tiedae_cli.errors import DataError, InputError
from tiedae_cli.system.json_text import json_values
from tiedae_cli.system.text import shown

if TYPE_CHECKING:
    import numpy as np

    from tiedae_cli.data.records import Records

ROW_GROUP = 1 << 16  # rows of a Parquet file that readers load together
ROW_GROUP_BYTES = 1 << 26
FORMULAS = ("=", "+", "-", "@", "\t", "\r", "\n", "\uff1d", "\uff0b", "\uff0d", "\uff20")  # how a cell begins that is run


@dataclass(frozen=True)
class NumberColumn:
    """The key that holds an array of numbers for each item."""

    key: str
    """The key in JSON Lines; the columns of CSV and Parquet are ``key_0``, ``key_1`` and so on."""
    shape: tuple[int, ...]
    """Shape of one item's array."""
    dtype: "np.dtype"

    @property
    def names(self) -> list[str]:
        """The columns that hold its K numbers."""
        return [f"{self.key}_{index}" for index in range(math.prod(self.shape))]


@dataclass(frozen=True)
class Layout:
    """What is known about a stream of blocks before the first block."""

    numbers: NumberColumn | None
    """Each item's numbers, if it has any."""
    count: int | None
    """N, if known."""
    rewindable: bool
    """Whether the output can be rewound to its first byte."""
    is_stream: bool = False
    """Whether somebody may read along."""

    def flush(self, file: IO[bytes]) -> None:
        """Pass on what was written so far if somebody may read along."""
        if self.is_stream:
            file.flush()


@dataclass(frozen=True)
class ItemFormat:
    """A file format."""

    title: str
    """Its name in help and messages; its key in ``FORMATS`` is also its file suffix."""
    write: Callable[[IO[bytes], Iterator["Records"], Layout], None]
    is_text: bool = True
    """Whether a terminal can show it."""
    has_keys: bool = True
    """Whether it holds records with several keys; otherwise only the array of ``Layout.numbers``."""
    has_lists: bool = False
    """Whether a value may be a list or an object."""


def write_records(
    target: str, kind: str, blocks: Iterable["Records"], numbers: NumberColumn | None = None, count: int | None = None
) -> int:
    """Write blocks as they arrive to a file (atomically), or to stdout if the target is ``-``; return the number of items.

    Args:
        target: a path or ``-``.
        kind: one of ``FORMATS``, or ``spreadsheet``.
        blocks: all with the same keys.
        numbers: the key that holds each item's numbers, if there is one.
        count: N, if known.

    Raises:
        InputError: stdout is a terminal, and the format is not text.
        DataError: one of the numbers is not finite; the input does not fit the model.
        StorageError: the output cannot be written.
    """
    from tiedae_cli.output.output_targets import opened_output, refuse_binary_on_terminal

    chosen, written = format_of(kind), 0
    if not chosen.is_text:
        refuse_binary_on_terminal(target)

    def counted() -> Iterator["Records"]:
        nonlocal written
        for block in filter(len, blocks):
            if numbers is not None:
                _check_finite(block, numbers.key)
            written += len(block)
            yield block

    stream = counted()
    first = list(islice(stream, 1))  # an error in the first block is raised before anything is written
    with opened_output(target) as file:
        is_file = target != "-" and file.seekable()
        chosen.write(file, chain(first, stream), Layout(numbers, count, is_file, is_stream=not is_file))
    return written


def _check_finite(block: "Records", key: str) -> None:
    import numpy as np

    from tiedae_cli.data.sources.part import item_name

    wrong = np.flatnonzero(~np.isfinite(np.asarray(block.columns[key]).reshape(len(block), -1)).all(1))
    if len(wrong):
        lines = block.columns.get("line")
        name = item_name(block.columns["item"][wrong[0]], None if lines is None else int(lines[wrong[0]]))
        raise DataError(
            f"{name}: the model returns NaN or infinity; check that its values are in the range of the training data"
        )


def _write_npy(output: IO[bytes], blocks: Iterator["Records"], layout: Layout) -> None:
    """Write an array; if N is unknown, fill in the header at the end (in a temporary file if the output cannot be rewound)."""
    import contextlib
    import shutil
    import tempfile

    if layout.count is not None:
        _write_npy_header(output, layout, layout.count)
        _write_npy_values(output, blocks, layout)
        return
    with contextlib.nullcontext(output) if layout.rewindable else tempfile.TemporaryFile() as file:
        _write_npy_header(file, layout, 0)
        count = _write_npy_values(file, blocks, layout)
        file.seek(0)
        _write_npy_header(file, layout, count)  # numpy leaves room for the digits of N: the header keeps its length
        if not layout.rewindable:
            file.seek(0)
            shutil.copyfileobj(file, output)


def _write_npy_header(file: IO[bytes], layout: Layout, count: int) -> None:
    from numpy.lib import format as npy

    assert layout.numbers is not None
    head = {"descr": npy.dtype_to_descr(layout.numbers.dtype), "fortran_order": False, "shape": (count, *layout.numbers.shape)}
    npy.write_array_header_1_0(file, head)


def _write_npy_values(file: IO[bytes], blocks: Iterator["Records"], layout: Layout) -> int:
    import numpy as np

    assert layout.numbers is not None
    count = 0
    for block in blocks:
        file.write(np.ascontiguousarray(block.columns[layout.numbers.key], layout.numbers.dtype).data)
        count += len(block)
    return count


def _write_csv(file: IO[bytes], blocks: Iterator["Records"], layout: Layout) -> None:
    numbers, headed = layout.numbers, False
    for block in blocks:
        if not headed:
            names = (numbers.names if numbers is not None and key == numbers.key else [key] for key in block.columns)
            file.write((",".join(_quoted(map(shown, chain.from_iterable(names)))) + "\n").encode())
            headed = True
        columns = [[""] * len(block) if values is None else _csv_column(values) for values in block.columns.values()]
        file.write("".join([",".join(cells) + "\n" for cells in zip(*columns, strict=True)]).encode())
        layout.flush(file)
    if numbers is not None and not headed:
        file.write((",".join(["item", *numbers.names]) + "\n").encode())


def _csv_column(values: Any) -> Iterable[str]:
    """Return each value as CSV text; numbers are formatted without a Python call each."""
    if _is_array(values):
        return _number_lists(values)
    kinds = set(map(type, values))
    if kinds <= {float}:
        return _float_texts(values)
    if kinds <= {int}:
        return map(str, values)
    if kinds <= {bool}:
        return ["true" if value else "false" for value in values]
    return _quoted(map(_csv_cell, values))


def _csv_cell(value: object) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    return "" if value is None else shown(value) if isinstance(value, str) else str(value)


def _write_spreadsheet(file: IO[bytes], blocks: Iterator["Records"], layout: Layout) -> None:
    """Write CSV in which no text is a formula."""
    from dataclasses import replace

    def harmless(block: "Records") -> "Records":
        columns = {
            _no_formula(key): values if _is_array(values) or values is None else list(map(_no_formula, values))
            for key, values in block.columns.items()
        }
        return replace(block, columns=columns)

    _write_csv(file, map(harmless, blocks), layout)


def _no_formula(value: Any) -> Any:
    """Return text that a spreadsheet would run with an apostrophe before it; anything else as it is."""
    return f"'{value}" if isinstance(value, str) and value.startswith(FORMULAS) else value


class _Lines(list[str]):
    """A target for ``csv.writer``, which calls ``write`` once per line."""

    write = list.append


def _quoted(texts: Iterable[str]) -> list[str]:
    """Return cells quoted by the rules of CSV."""
    lines = _Lines()
    csv.writer(lines, lineterminator="\n").writerows((text,) for text in texts)
    return [line[:-1] if line != '""\n' else "" for line in lines]  # csv quotes an empty cell only if it is alone on its line


def _write_json_lines(file: IO[bytes], blocks: Iterator["Records"], layout: Layout) -> None:
    for block in blocks:
        file.write(json_lines(block).encode())
        layout.flush(file)


def json_lines(block: "Records") -> str:
    """Return records as JSON Lines; NaN and infinity become null.

    This is fast enough for a million scores: one template for all objects is filled with columns that are already text.
    """
    columns = {key: values for key, values in block.columns.items() if values is not None}
    keys = [json.dumps(key).replace("%", "%%") for key in columns]
    template = "{" + ", ".join(f"{key}: %s" for key in keys) + "%s" * len(block.optional) + "}\n"
    texts = [_json_column(values) for values in columns.values()]
    for key, values in block.optional.items():
        name = json.dumps(key)
        texts.append(["" if value is None else f", {name}: {_json(value)}" for value in values])
    return "".join(map(template.__mod__, zip(*texts, strict=True)))


def _json(value: Any) -> str:
    return json.dumps(json_values(value), allow_nan=False)


def _json_column(values: Sequence[Any]) -> list[str]:
    """Return each value as JSON, most kinds without a Python call per value."""
    if _is_array(values):
        return [f"[{numbers}]" for numbers in _number_lists(values)]
    kinds = set(map(type, values))
    if kinds <= {float}:
        texts = _float_texts(values)
        return ["null" if "n" in text else text for text in texts] if any("n" in text for text in texts) else texts
    if kinds <= {int}:
        return list(map(str, values))
    if kinds <= {bool}:
        return ["true" if value else "false" for value in values]
    return list(map(json.encoder.encode_basestring_ascii if kinds <= {str} else _json, values))


def _float_texts(values: Sequence[float]) -> list[str]:
    """Return floats as text that parses to the same floats; a value repeated in all rows (a threshold) is formatted once."""
    alike = len(set(map(id, values))) == 1
    return [repr(values[0])] * len(values) if alike else list(map(repr, values))


def _is_array(values: Any) -> bool:
    return getattr(values, "ndim", 1) > 1


def _number_lists(values: Any) -> Iterator[str]:
    """Yield each item's numbers, (B, ...), separated by commas."""
    flat = values.reshape(len(values), -1)
    number = "%d" if values.dtype.kind == "u" else "%.9g"  # nine digits are enough to read the same float32 back
    template = ",".join([number] * flat.shape[1])
    return (template % tuple(row.tolist()) for row in flat)


def _write_parquet(file: IO[bytes], blocks: Iterator["Records"], layout: Layout) -> None:
    """Write row groups as the blocks arrive; the first block sets the column types."""
    import pyarrow
    import pyarrow.parquet

    tables = _arrow_tables(blocks, layout)
    first = next(tables)
    with pyarrow.parquet.ParquetWriter(file, first.schema) as writer:
        waiting = [first]
        for table in tables:
            waiting.append(table)
            if sum(map(len, waiting)) >= ROW_GROUP or sum(one.nbytes for one in waiting) >= ROW_GROUP_BYTES:
                writer.write_table(pyarrow.concat_tables(waiting))
                waiting = []
        writer.write_table(pyarrow.concat_tables([first.slice(0, 0), *waiting]))


def _arrow_tables(blocks: Iterator["Records"], layout: Layout) -> Iterator[Any]:
    """Yield the blocks as tables with one schema; at least one table."""
    import pyarrow

    schema = None
    for block in blocks:
        columns = _arrow_columns(block)
        if schema is None:
            types = {name: pyarrow.array(values).type for name, values in columns.items()}
            schema = pyarrow.schema(
                [(name, pyarrow.string() if pyarrow.types.is_null(kind) else kind) for name, kind in types.items()]
            )
        try:
            yield pyarrow.table(columns, schema)
        except (pyarrow.ArrowInvalid, pyarrow.ArrowTypeError) as error:
            raise InputError(f"Parquet needs one type per column ({error}); use --format jsonl") from None
    if schema is None:
        numbers = layout.numbers
        kinds = {} if numbers is None else dict.fromkeys(numbers.names, pyarrow.from_numpy_dtype(numbers.dtype))
        yield pyarrow.schema([("item", pyarrow.int64()), *kinds.items()]).empty_table()


def _arrow_columns(block: "Records") -> dict[str, Any]:
    columns: dict[str, Any] = {}
    for key, values in block.columns.items():
        if values is None:
            columns[shown(key)] = [None] * len(block)
        elif _is_array(values):
            flat = values.reshape(len(block), -1)
            columns |= {f"{key}_{index}": flat[:, index] for index in range(flat.shape[1])}
        else:
            columns[shown(key)] = [shown(value) if isinstance(value, str) else value for value in values]
    return columns


FORMATS: dict[str, ItemFormat] = {
    "npy": ItemFormat("NumPy", _write_npy, is_text=False, has_keys=False),
    "csv": ItemFormat("CSV", _write_csv),
    "jsonl": ItemFormat("JSON Lines", _write_json_lines, has_lists=True),
    "parquet": ItemFormat("Parquet", _write_parquet, is_text=False),
}
SPREADSHEET = ItemFormat("CSV for spreadsheets", _write_spreadsheet)
KEYED_FORMATS = tuple(name for name, one in FORMATS.items() if one.has_keys)


def listed(names: Iterable[str]) -> str:
    """Join format names for a sentence: ``npy, csv or jsonl``."""
    *first, last = names
    return f"{', '.join(first)} or {last}" if first else last


def format_of(kind: str) -> ItemFormat:
    """Return the format of a writer: one of ``FORMATS``, or that of ``for_spreadsheet``."""
    return SPREADSHEET if kind == "spreadsheet" else FORMATS[kind]


def writes_ids(kind: str, key: str | None) -> bool:
    """Return whether a format has a place for the user's keys.

    Args:
        kind: the writer.
        key: ``--id``.

    Raises:
        InputError: a column of keys was asked for, and the format has none.
    """
    has_keys = format_of(kind).has_keys
    if key is not None and not has_keys:
        raise InputError(f"--id {key}: {format_of(kind).title} holds codes alone; use --format {listed(KEYED_FORMATS)}")
    return has_keys


def for_spreadsheet(kind: str, asked: bool) -> str:
    """Return the writer of a format: with ``--spreadsheet``, that of CSV without formulas.

    Raises:
        InputError: it was asked for, and the format is not CSV.
    """
    if asked and kind != "csv":
        raise InputError("--spreadsheet: for CSV only; use --format csv, or a file name that ends in .csv")
    return "spreadsheet" if asked else kind


def choose_format(given: str | None, as_json: bool, target: str, formats: Iterable[str], on_stdout: str) -> str:
    """Return the format of an output: the one requested, else the file's suffix, else ``on_stdout``.

    Args:
        given: ``--format``.
        as_json: ``--json``, which means JSON Lines on stdout.
        target: a path, or ``-`` for stdout.
        formats: the formats to choose from.
        on_stdout: the default on stdout.

    Raises:
        InputError: the format or the file's suffix is unknown.
    """
    if as_json and target == "-" and given != "jsonl":
        if given is not None:
            raise InputError(f"--json and --format {given}: both would go to stdout; write the {given} with --output FILE")
        return "jsonl"
    formats = list(formats)
    if given is not None:
        if given not in formats:
            raise InputError(f"--format {given}: unknown format; choose {listed(formats)}")
        return given
    if target == "-":
        return on_stdout
    suffix = Path(target).suffix.lower().removeprefix(".")
    if suffix not in formats:
        raise InputError(f"--output {target}: unknown suffix; use {listed(formats)}, or choose a format with --format")
    return suffix
