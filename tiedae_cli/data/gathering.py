"""A part of a source as a set for training: used where it lies if that can be, else read into memory.

Shapes: N items, B items a block, D values an item.
"""

import contextlib
import logging
import math
import os
import warnings
from pathlib import Path

import numpy as np
import torch

from tiedae_cli.data.conversion import Reading, reading_of
from tiedae_cli.data.image_set import BLOCK_BYTES, ImageSet
from tiedae_cli.data.sources.part import Part, stop
from tiedae_cli.errors import DataError
from tiedae_cli.system.reporting import progress

log = logging.getLogger(__name__)


def gather(parts: dict[str, Part], source: str) -> dict[str, ImageSet]:
    """Return the splits that a source names as sets of one form.

    Args:
        parts: its parts by the name of their split.
        source: what the data is, for messages.

    Raises:
        DataError: an item that cannot be read, two forms, or more than the memory holds.
    """
    sets = {split: _image_set(part, reading_of(part)) for split, part in parts.items()}
    first = next(iter(sets.values())).form
    for split, items in sets.items():
        if (items.form.shape, items.form.kind) != (first.shape, first.kind):
            raise DataError(f"{source}: {split} has {items.form.describe()}, {next(iter(sets))} has {first.describe()}")
    return sets


def _image_set(part: Part, reading: Reading) -> ImageSet:
    array = part.array
    size = max(1, BLOCK_BYTES // max(1, math.prod(part.shape) * part.dtype.itemsize))
    if array is not None and array.dtype == reading.target and array.flags.c_contiguous and not reading.channels_last:
        for block in part.read(size, stop):
            reading.convert(block, stop)  # a look at all values
    else:
        array = _in_memory(part, reading, size)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "The given NumPy array is not writable")  # nothing writes to it
        items = torch.from_numpy(array)
    return ImageSet(items.view(len(items), *reading.form.shape), part.labels, reading.form)


def _in_memory(part: Part, reading: Reading, size: int) -> np.ndarray:
    """Return all items of a part, (N, D) of the type that training reads."""
    converts = part.dtype != reading.target or part.array is not None
    if part.count is not None:
        _check_room(part, reading, part.count * reading.form.pixels * reading.target.itemsize, converts)
    blocks, done = [], 0
    whole = None if part.count is None else np.empty((part.count, reading.form.pixels), reading.target)
    for block in part.read(size, stop):
        _, values = reading.convert(block, stop)
        if whole is None:
            blocks.append(values)
        else:
            whole[done : done + len(values)] = values
        done += len(values)
        if part.count is not None and part.count > len(values):
            progress(f"reading {part.name}", done, part.count)
    if whole is None:
        if not blocks:
            raise DataError(f"{part.name}: holds no items")
        whole = np.concatenate(blocks)
    if converts and part.array is not None:
        log.info(
            f"{part.name}: {_what(part, reading)}, converted to {reading.target} in memory ({_gigabytes(whole.nbytes)}); "
            f"{reading.target} would be memory-mapped"
        )
    return whole


def _what(part: Part, reading: Reading) -> str:
    order = part.array is not None and not part.array.flags.c_contiguous
    return f"{part.dtype}{' in Fortran order' if order else ''}{', channels last' if reading.channels_last else ''}"


def _check_room(part: Part, reading: Reading, needed: int, converts: bool) -> None:
    """Refuse what would not fit into memory before an hour is spent on it."""
    available = available_memory()
    if needed <= (available // 2 if converts else available):
        return
    if part.array is None:
        raise DataError(
            f"{part.name}: {_gigabytes(needed)} unpacked, but {_gigabytes(available)} of memory are free; "
            "save the images as .npy, which is memory-mapped: np.save(file, x)"
        )
    path = Path(part.name)
    new = path.with_name(f"{path.stem}-{reading.target}.npy")
    moved = "np.moveaxis(a, -1, 1)" if reading.channels_last else "a"
    raise DataError(
        f"{part.name}: {_what(part, reading)}: as {reading.target} it would take {_gigabytes(needed)} of "
        f"{_gigabytes(available)} of free memory; {reading.target} is memory-mapped. Convert the file once:\n"
        f'python -c "import numpy as np; a = np.load({str(path)!r}, mmap_mode={"r"!r}); a = {moved}; '
        f'np.lib.format.open_memmap({str(new)!r}, {"w+"!r}, np.{reading.target}, a.shape)[:] = a"'
    )


def available_memory() -> int:
    """Return the bytes that can be taken without swapping: Linux's estimate, elsewhere half of what is built in."""
    with contextlib.suppress(OSError, StopIteration, ValueError), open("/proc/meminfo", encoding="ascii") as file:
        return 1024 * int(next(line for line in file if line.startswith("MemAvailable:")).split()[1])
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // 2


def _gigabytes(count: int) -> str:
    return f"{count / 1e9:.1f} GB" if count >= 5e7 else f"{count / 1e6:.1f} MB"
