"""Rows of numbers to ``.npy``, CSV or JSON Lines, a block at a time: codes, and what they are decoded to.

Shapes: N rows, B rows a block, K numbers a row.
"""

import contextlib
import json
import math
import shutil
import tempfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import chain, islice
from pathlib import Path
from typing import IO

import numpy as np
from numpy.lib import format as npy

from tiedae_cli.data.sources.part import item_name
from tiedae_cli.errors import DataError, InputError
from tiedae_cli.output.output_targets import opened_output, refuse_bytes_on_terminal
from tiedae_cli.system.text import shown

FORMATS = ("npy", "csv", "jsonl")
RowBlock = tuple[Sequence[str | int], np.ndarray]


@dataclass(frozen=True)
class Rows:
    """A stream of rows to be written."""

    blocks: Iterable[RowBlock]
    """What tells each row apart, and the rows, (B, ...)."""
    count: int | None
    """N, where it is known."""
    shape: tuple[int, ...]
    """Of one row."""
    dtype: np.dtype
    key: str
    """What JSON Lines call the numbers; the columns of CSV are ``key_0`` and so on."""


def choose_format(given: str | None, as_json: bool, target: str, formats: Sequence[str], on_stdout: str) -> str:
    """Return the format of an output: the one asked for, else by the file's suffix, else ``on_stdout``.

    Args:
        given: ``--format``.
        as_json: ``--json``, which means JSON Lines on stdout.
        target: a path, or ``-`` for stdout.
        formats: the known ones.
        on_stdout: for stdout where nothing is asked for.

    Raises:
        InputError: no such format, or a suffix that does not say one.
    """
    if as_json and target == "-" and given != "jsonl":
        if given is not None:
            raise InputError(
                f"--json and --format {given}: stdout can carry one of them; with --output FILE it carries the JSON"
            )
        return "jsonl"
    known = ", ".join(formats)
    if given is not None:
        if given not in formats:
            raise InputError(f"--format {given}: no such format (known: {known})")
        return given
    if target == "-":
        return on_stdout
    suffix = Path(target).suffix.lower().removeprefix(".")
    if suffix not in formats:
        raise InputError(f"--output {target}: its suffix is none of {known}; name one of them with --format")
    return suffix


def write_rows(target: str, kind: str, rows: Rows) -> int:
    """Write rows to a file, whole or not at all, or to stdout where the target is ``-``; return how many.

    Raises:
        InputError: stdout is a terminal, and the format is no text.
        DataError: a number is not finite: the model and its input do not belong together.
        StorageError: it cannot be written.
    """
    if kind == "npy":
        refuse_bytes_on_terminal(target)
    blocks = _finite(rows.blocks)
    first = list(islice(blocks, 1))  # what is wrong at once is found before anything is written
    rows = replace(rows, blocks=chain(first, blocks))
    with opened_output(target) as file:
        if kind == "npy":
            return _write_npy(file, rows, in_place=target != "-" and file.seekable())
        return _write_csv(file, rows) if kind == "csv" else _write_json(file, rows)


def _finite(blocks: Iterable[RowBlock]) -> Iterator[RowBlock]:
    for items, block in blocks:
        wrong = np.flatnonzero(~np.isfinite(block.reshape(len(block), -1)).all(1))
        if len(wrong):
            raise DataError(
                f"{item_name(items[wrong[0]])}: the model answers it with NaN or infinity; are its values in the model's range?"
            )
        yield items, block


def _write_npy(output: IO[bytes], rows: Rows, in_place: bool) -> int:
    """Write an array; where N is not known, its head is filled in at the end, in a temporary file if the output cannot go back."""
    if rows.count is not None:
        _write_header(output, rows, rows.count)
        return _write_values(output, rows)
    with contextlib.nullcontext(output) if in_place else tempfile.TemporaryFile() as file:
        _write_header(file, rows, 0)
        count = _write_values(file, rows)
        file.seek(0)
        _write_header(file, rows, count)  # numpy leaves room for the digits of N: the head keeps its length
        if not in_place:
            file.seek(0)
            shutil.copyfileobj(file, output)
    return count


def _write_header(file: IO[bytes], rows: Rows, count: int) -> None:
    descriptor = npy.dtype_to_descr(rows.dtype)
    npy.write_array_header_1_0(file, {"descr": descriptor, "fortran_order": False, "shape": (count, *rows.shape)})


def _write_values(file: IO[bytes], rows: Rows) -> int:
    count = 0
    for _, block in rows.blocks:
        file.write(np.ascontiguousarray(block, rows.dtype).data)
        count += len(block)
    return count


def _write_csv(file: IO[bytes], rows: Rows) -> int:
    columns = ["item", *(f"{rows.key}_{index}" for index in range(math.prod(rows.shape)))]
    return _write_lines(file, ",".join(columns) + "\n", rows, lambda item, numbers: f"{_cell(item)},{numbers}\n")


def _write_json(file: IO[bytes], rows: Rows) -> int:
    return _write_lines(file, "", rows, lambda item, numbers: f'{{"item": {json.dumps(item)}, "{rows.key}": [{numbers}]}}\n')


def _write_lines(file: IO[bytes], heading: str, rows: Rows, line: Callable[[str | int, str], str]) -> int:
    file.write(heading.encode())
    number = "%d" if rows.dtype.kind == "u" else "%.9g"  # nine digits are enough to read the same float32 back
    template = ",".join([number] * math.prod(rows.shape))
    count = 0
    for items, block in rows.blocks:
        flat = block.reshape(len(block), -1)
        file.write("".join(line(item, template % tuple(row.tolist())) for item, row in zip(items, flat, strict=True)).encode())
        count += len(block)
    return count


def _cell(item: str | int) -> str:
    """Return a name as a CSV cell."""
    text = shown(str(item))
    return '"' + text.replace('"', '""') + '"' if any(mark in text for mark in ',"\r\n') else text
