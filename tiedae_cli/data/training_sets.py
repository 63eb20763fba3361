"""Turns the parts of a source into sets for training: used in place if possible, otherwise read into memory.

Shapes: N items, B items per block, D values per item.
"""

import hashlib
import logging
import math
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from tiedae_cli.config.schema import Transform
from tiedae_cli.data.checksum import checksum
from tiedae_cli.data.item_rules import ItemRules, rules_for_training
from tiedae_cli.data.item_set import BLOCK_BYTES, SPLITS, ItemSet, Splits, ValueRange, range_of
from tiedae_cli.data.shares import Processes, Share, ShareReader, blocks_to_read
from tiedae_cli.data.sources.cells import numbered
from tiedae_cli.data.sources.part import Part, RawBlock, stop
from tiedae_cli.data.whole_numbers import base_of
from tiedae_cli.errors import DataError
from tiedae_cli.system.cache import cache_folder, seal, taking_turns, undamaged_files
from tiedae_cli.system.mapped_files import memory_map
from tiedae_cli.system.memory_limits import available_memory, fits_in_memory, require_memory
from tiedae_cli.system.progress import progress
from tiedae_cli.system.storage import replacing

log = logging.getLogger(__name__)

TABLE_CACHE_VERSION = 4
LABELS, STARTS, TIMES = "labels.npy", "series_starts.npy", "times.npy"


@dataclass(frozen=True)
class _Read:
    """All items of a part that are read into memory or a cached file."""

    values: np.ndarray
    """(N, D) of the target type."""
    labels: np.ndarray | None = None
    """(N,) text."""
    starts: np.ndarray | None = None
    """(n,) int64, the rows that begin another series."""
    times: np.ndarray | None = None
    """(N,) float64, time stamps."""
    kept: np.ndarray | None = None
    """The rows of the source that were kept, if some were dropped."""
    share: Share | None = None
    """Which rows ``values`` holds, if several processes share them; N is the number of all."""
    checksum: str | None = None
    """Of all values, if it was computed while they were read."""


def training_sets(
    parts: dict[str, Part],
    source: str,
    missing: str = "error",
    given: tuple[float, float] | None = None,
    transform: Transform = "none",
    processes: Processes | None = None,
    window: int = 1,
) -> dict[str, ItemSet]:
    """Return the splits that a source names as sets of one form.

    Args:
        parts: its parts by the name of their split.
        source: what the data is, for messages.
        missing: ``data.missing``: ``error``, ``drop`` or ``mean`` (missing values are kept, as NaN).
        given: ``data.range`` of images.
        transform: of vectors.
        processes: those that share what is read into memory; None: this process alone.
        window: consecutive rows that become one item.

    Raises:
        DataError: an item that cannot be read, two forms, or more than the memory holds.
    """
    found = _range(parts, given)
    base = _base(next(iter(parts.values()))) if transform == "none" else None  # transforms are of counts
    sets = {}
    for split, part in parts.items():
        rules = rules_for_training(part, _may_miss(part, missing), found, transform, base)
        sets[split] = _item_set(part, rules, missing, processes, window - 1)
    first = next(iter(sets.values())).form
    for split, items in sets.items():
        if (items.form.shape, items.form.kind) != (first.shape, first.kind):
            raise DataError(f"{source}: {split} has {items.form.describe()}, {next(iter(sets))} has {first.describe()}")
    return sets


def shared_out(splits: Splits, processes: Processes | None) -> Splits:
    """Return this process's share of splits that were read whole."""
    if processes is None:
        return splits
    train, validation, test = (_shared_set(splits.get(name), splits.source, processes) for name in SPLITS)
    return Splits(train, validation, test, splits.source)


def _shared_set(items: ItemSet, source: str, processes: Processes) -> ItemSet:
    reader = ShareReader(processes, items.form.values_per_item, items.values.dtype, len(items))
    for start, end in blocks_to_read(reader, len(items)):
        reader.add(items.rows[start:end])
    values, share, _ = reader.finish(source, None)
    return replace(items, values=values.reshape(len(values), *items.form.shape), share=share)


def _range(parts: dict[str, Part], given: tuple[float, float] | None) -> ValueRange | None:
    """Return which values of images are black and white: as given, or by the bits in use of whole numbers of more than 8 bits."""
    images = [part for part in parts.values() if len(part.shape) > 1]
    wide = [part for part in images if part.dtype.kind in "iu" and part.dtype.itemsize > 1]
    if given is not None or not wide:
        return None if given is None or not images else ValueRange(*given, whole=bool(wide))
    largest = max(
        (block.values.max() for part in wide for block in part.read(_rows(part), stop) if block.values.size), default=0
    )
    found = range_of(float(largest))
    if found is not None:
        log.info(
            f"{wide[0].name}: {wide[0].dtype} images up to {largest:,}: {found.high:,.0f} is white; "
            "override: --set 'data.range=[LOWEST, HIGHEST]'"
        )
    return found


def _base(part: Part) -> np.ndarray | None:
    """Return what to subtract from the whole numbers of vectors, (D,) float64; None: nothing."""
    if part.base is not None or len(part.shape) > 1 or part.dtype.kind not in "iu" or part.dtype.itemsize < 8:
        return part.base
    if part.columns is not None:
        return None
    first = next((block.values for block in part.read(_rows(part), stop) if len(block.values)), None)
    base = None if first is None else np.array([base_of(values) for values in first.reshape(len(first), -1).T])
    return base if base is not None and base.any() else None


def _rows(part: Part) -> int:
    return max(1, BLOCK_BYTES // max(1, math.prod(part.shape) * part.dtype.itemsize))


def _may_miss(part: Part, missing: str) -> bool:
    """Return whether NaN passes for now: for a table always, because all columns with missing values are named at once."""
    return part.columns is not None or missing != "error"


def _item_set(part: Part, rules: ItemRules, missing: str, processes: Processes | None, overlap: int) -> ItemSet:
    array, labels, names = part.array, part.labels, part.label_names
    size = _rows(part)
    mapped = None
    drops = rules.allows_nan and missing == "drop"
    in_place = array is not None and _is_usable(part, rules) and not _is_read(part, processes) and not drops
    if in_place and (processes is None or memory_map(np.asarray(array)) is not None):
        for block in part.read(size, stop):
            rules.convert(block, stop)  # checks all values
        read, mapped = _Read(np.asarray(array)), part.mapped
    else:
        read = (
            _in_memory(part, rules, size, missing)
            if processes is None
            else _own_share(part, rules, size, missing, processes, overlap)
        )
        labels = labels if labels is None or read.kept is None else labels[read.kept]
        if read.labels is not None:
            labels, names = numbered(read.labels)
    values = read.values.reshape(len(read.values), *rules.form.shape)
    large = memory_map(values) is not None and not fits_in_memory(values.nbytes)  # the user's file, or one of the cache
    digest = read.checksum or (None if large or mapped is not None else checksum(values))
    found = ItemSet(values, labels, rules.form, label_names=names, series_starts=read.starts, times=read.times)
    return replace(found, checksum=digest, mapped=mapped, share=read.share)


def _is_usable(part: Part, rules: ItemRules) -> bool:
    """Return whether the array of a part can be used as it is: its type, order and range are those of the target."""
    array = part.array
    same = array is not None and array.dtype == rules.target and array.flags.c_contiguous
    plain = rules.range is None and rules.form.transform == "none" and rules.form.base is None
    return same and plain and not rules.channels_last


def _is_read(part: Part, processes: Processes | None) -> bool:
    """Return whether a file is read, because it may change while it is mapped. Arrays from Python are the caller's, mapped or not."""
    if part.mapped is None or not isinstance(part.array, np.memmap):
        return False
    if processes is None:
        return fits_in_memory(part.array.nbytes)
    return all(processes.gather(fits_in_memory(part.array.nbytes // processes.count)))  # machines differ in memory


def _in_memory(part: Part, rules: ItemRules, size: int, missing: str) -> _Read:
    """Return all items of a part."""
    converts = part.dtype != rules.target or (part.array is not None and not _is_usable(part, rules))
    if part.count is not None:
        _check_room(part, rules, part.count * rules.form.values_per_item * rules.target.itemsize, converts)
    if part.key is not None:
        return _from_cache(part, rules, size, missing)
    gaps = _Gaps(part, rules, missing)
    blocks: list[RawBlock] = []
    whole = None if part.count is None else np.empty((part.count, rules.form.values_per_item), rules.target)
    done = seen = held = 0
    words: list[np.ndarray] = []
    for raw in part.read(size, stop):
        block = gaps.without(rules.convert(raw, stop))
        if whole is None:
            blocks.append(block)
            held += block.values.nbytes
            require_memory(part.name, held)  # once more, to put the blocks together
        else:
            whole[done : done + len(block.rows)] = block.values
            blocks.append(replace(block, values=block.values[:0]))  # for its positions
        if block.labels is not None:
            words.append(block.labels)
        done, seen = done + len(block.rows), seen + len(raw.rows)
        if part.count is not None and part.count > len(raw.rows):
            progress(f"reading {part.name}", seen, part.count)
    gaps.finish(done)
    if whole is None:
        if not done:
            raise DataError(f"{part.name}: holds no items")
        whole = np.concatenate([block.values for block in blocks])
    if converts and isinstance(part.array, np.memmap) and rules.form.base is None:
        log.info(
            f"{part.name}: {_what(part, rules)}, converted to {rules.target} in memory ({_gigabytes(whole.nbytes)}); "
            f"{rules.target} would be memory-mapped"
        )
    return _Read(whole[:done], np.concatenate(words) if words else None, _series_starts(blocks), _times(blocks), gaps.kept())


def _own_share(part: Part, rules: ItemRules, size: int, missing: str, processes: Processes, overlap: int) -> _Read:
    """Return the share of this process; what cannot be read in part is read to its end, and only the share is kept.

    A large table is not shared: all processes of a machine map one file of the cache.
    """
    if part.key is not None:
        return _from_cache(part, rules, size, missing)
    gaps, beside = _Gaps(part, rules, missing), list[RawBlock]()
    count = None if gaps.matters else part.count
    reader = ShareReader(processes, rules.form.values_per_item, rules.target, count, overlap)
    problem = None
    try:
        for raw in _blocks_for_share(part, size, None if gaps.matters else reader):
            block = gaps.without(rules.convert(raw, stop))
            reader.add(block.values)
            if any(found is not None for found in (block.labels, block.positions, block.times)):
                beside.append(replace(block, rows=(), values=block.values[:0].copy()))
        gaps.finish(reader.total)
        if not reader.total:
            raise DataError(f"{part.name}: holds no items")
    except DataError as error:
        problem = error
    values, share, digest = reader.finish(part.name, problem)
    words = [block.labels for block in beside if block.labels is not None]
    labels = np.concatenate(words) if words else None
    return _Read(values, labels, _series_starts(beside), _times(beside), gaps.kept(), share, digest)


def _blocks_for_share(part: Part, size: int, reader: ShareReader | None) -> Iterator[RawBlock]:
    """Yield the blocks of a part that a process reads: those that it keeps or checks, or all if the part is read to its end."""
    if part.read_range is None or part.count is None or reader is None:
        yield from part.read(size, stop)
        return
    for start, end in blocks_to_read(reader, part.count):
        yield part.read_range(start, end)


def _series_starts(blocks: Sequence[RawBlock]) -> np.ndarray | None:
    """Return the rows in memory that begin another series, (n,) int64; None if the source does not tell series apart."""
    found = [block.positions for block in blocks if block.positions is not None]
    return np.flatnonzero(np.diff(np.concatenate(found)) != 1) + 1 if found else None


def _times(blocks: Sequence[RawBlock]) -> np.ndarray | None:
    """Return the time stamp of each row, (N,) float64; None if the source has none."""
    found = [block.times for block in blocks if block.times is not None]
    return np.concatenate(found) if found else None


def _from_cache(part: Part, rules: ItemRules, size: int, missing: str) -> _Read:
    """Return the items of a large table memory-mapped from a file in the user's cache folder, which is written once.

    One block at a time is in memory while it is written.
    """
    digest = hashlib.sha256(
        os.fsencode(f"{TABLE_CACHE_VERSION}{part.key}{missing}{rules.target}{rules.form.transform}")
    ).hexdigest()[:32]
    folder = cache_folder() / "tables" / digest
    values = folder / "values.raw"
    if not (files := undamaged_files(folder)):
        with taking_turns(folder):
            if not (files := undamaged_files(folder)):
                _write_cache(part, rules, size, missing, values)
                files = {name for name in (values.name, LABELS, STARTS, TIMES) if (folder / name).exists()}
                log.info(f"{part.name}: read once into {values}")
    items = np.memmap(values, rules.target, "r").reshape(-1, rules.form.values_per_item)
    rest = (np.load(folder / name, allow_pickle=False) if name in files else None for name in (LABELS, STARTS, TIMES))
    return _Read(items, *rest)


def _write_cache(part: Part, rules: ItemRules, size: int, missing: str, values: Path) -> None:
    gaps, words, done = _Gaps(part, rules, missing), [], 0
    positions: list[RawBlock] = []
    with replacing(values) as file:
        for raw in part.read(size, stop):
            block = gaps.without(rules.convert(raw, stop))
            file.write(np.ascontiguousarray(block.values).data)
            done += len(block.rows)
            positions.append(RawBlock((), block.values[:0], positions=block.positions, times=block.times))
            if block.labels is not None:
                words.append(block.labels.astype(str))
        gaps.finish(done)
        if not done:
            raise DataError(f"{part.name}: holds no items")
        texts = np.concatenate(words) if words else None
        beside = {LABELS: texts, STARTS: _series_starts(positions), TIMES: _times(positions)}
        for name, array in beside.items():
            if array is None:
                values.with_name(name).unlink(missing_ok=True)
                continue
            with replacing(values.with_name(name)) as saved:
                np.save(saved, array)
    seal([values, *(values.with_name(name) for name, array in beside.items() if array is not None)])


class _Gaps:
    """Counts missing values by column, and drops the rows that have any if the config asks for it."""

    def __init__(self, part: Part, rules: ItemRules, missing: str) -> None:
        self.part = part
        self.missing = missing
        self.matters = rules.allows_nan and rules.target.kind == "f"
        self.counts = np.zeros(rules.form.values_per_item, np.int64)
        self.dropped = 0
        self.rows: list[Sequence[int | str]] = []

    def without(self, block: RawBlock) -> RawBlock:
        if not self.matters:
            return block
        if self.missing == "drop" and block.positions is None:  # a series ends at a skipped row
            block = replace(block, positions=block.numbers())
        gaps = np.isnan(block.values)
        self.counts += gaps.sum(0)
        if self.missing != "drop" or not gaps.any():
            self.rows.append(block.rows)
            return block
        good = ~gaps.any(1)
        kept = block.only(good, block.values)
        self.dropped += len(good) - len(kept.rows)
        self.rows.append(kept.rows)
        return kept

    def kept(self) -> np.ndarray | None:
        return np.array([row for rows in self.rows for row in rows], np.int64) if self.dropped else None

    def finish(self, items: int) -> None:
        """Report the missing values, or raise ``DataError``."""
        if not self.counts.any():
            return
        names = self.part.columns.values if self.part.columns is not None else [str(i) for i in range(len(self.counts))]
        found = [f"{name or '(without a name)'} ({self.counts[i]:,})" for i, name in enumerate(names) if self.counts[i]]
        listed = ", ".join(found[:12]) + (f" and {len(found) - 12} more" if len(found) > 12 else "")
        if self.missing == "error":
            raise DataError(
                f"{self.part.name}: missing values in the columns {listed}\n"
                "Skip these rows with --set data.missing=drop, or fill in the column's mean with --set data.missing=mean"
            )
        done = f"{self.dropped:,} rows skipped" if self.missing == "drop" else "replaced by the column's mean"
        log.info(f"{self.part.name}: missing values in the columns {listed}: {done}")


def _what(part: Part, rules: ItemRules) -> str:
    order = part.array is not None and not part.array.flags.c_contiguous
    return f"{part.dtype}{' in Fortran order' if order else ''}{', channels last' if rules.channels_last else ''}"


def _check_room(part: Part, rules: ItemRules, needed: int, converts: bool) -> None:
    """Refuse data that does not fit into memory, before time is spent on it."""
    available = available_memory()
    if needed <= (available // 2 if converts else available):
        return
    if part.array is None:
        raise DataError(
            f"{part.name}: {_gigabytes(needed)} unpacked, but {_gigabytes(available)} of memory are free; "
            "save the images as .npy, which is memory-mapped: np.save(file, x)"
        )
    path = Path(part.name)
    new = path.with_name(f"{path.stem}-{rules.target}.npy")
    moved = "np.moveaxis(a, -1, 1)" if rules.channels_last else "a"
    raise DataError(
        f"{part.name}: {_what(part, rules)}: as {rules.target} it would take {_gigabytes(needed)} of "
        f"{_gigabytes(available)} of free memory; {rules.target} is memory-mapped. Convert the file once:\n"
        f'python -c "import numpy as np; a = np.load({str(path)!r}, mmap_mode={"r"!r}); a = {moved}; '
        f'np.lib.format.open_memmap({str(new)!r}, {"w+"!r}, np.{rules.target}, a.shape)[:] = a"'
    )


def _gigabytes(count: int) -> str:
    return f"{count / 1e9:.1f} GB" if count >= 5e7 else f"{count / 1e6:.1f} MB"
