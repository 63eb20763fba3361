"""Turns the parts of a source into sets for training: used in place if possible, otherwise read into memory.

Shapes: N items, B items per block, D values per item.
"""

import hashlib
import logging
import math
import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from tiedae_cli.data.checksum import checksum
from tiedae_cli.data.item_rules import ItemRules, rules_for_training
from tiedae_cli.data.item_set import BLOCK_BYTES, ItemSet, ValueRange, range_of
from tiedae_cli.data.sources.cells import numbered
from tiedae_cli.data.sources.part import Part, RawBlock, stop
from tiedae_cli.errors import DataError
from tiedae_cli.system.cache import cache_folder, seal, taking_turns, undamaged_files
from tiedae_cli.system.mapped_files import memory_map
from tiedae_cli.system.memory_limits import available_memory, fits_in_memory, require_memory
from tiedae_cli.system.progress import progress
from tiedae_cli.system.storage import replacing

log = logging.getLogger(__name__)

TABLE_CACHE_VERSION = 3
STARTS = "series_starts.npy"


def training_sets(
    parts: dict[str, Part], source: str, missing: str = "error", given: tuple[float, float] | None = None
) -> dict[str, ItemSet]:
    """Return the splits that a source names as sets of one form.

    Args:
        parts: its parts by the name of their split.
        source: what the data is, for messages.
        missing: ``data.missing``: ``error``, ``drop`` or ``mean`` (missing values are kept, as NaN).
        given: ``data.range`` of images.

    Raises:
        DataError: an item that cannot be read, two forms, or more than the memory holds.
    """
    found = _range(parts, given)
    sets = {}
    for split, part in parts.items():
        sets[split] = _item_set(part, rules_for_training(part, _may_miss(part, missing), found), missing)
    first = next(iter(sets.values())).form
    for split, items in sets.items():
        if (items.form.shape, items.form.kind) != (first.shape, first.kind):
            raise DataError(f"{source}: {split} has {items.form.describe()}, {next(iter(sets))} has {first.describe()}")
    return sets


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


def _rows(part: Part) -> int:
    return max(1, BLOCK_BYTES // max(1, math.prod(part.shape) * part.dtype.itemsize))


def _may_miss(part: Part, missing: str) -> bool:
    """Return whether NaN passes for now: for a table always, because all columns with missing values are named at once."""
    return part.columns is not None or missing != "error"


def _item_set(part: Part, rules: ItemRules, missing: str) -> ItemSet:
    array, labels, names, starts = part.array, part.labels, part.label_names, None
    size = _rows(part)
    mapped = None
    if array is not None and _is_usable(part, rules) and not _is_read(part) and not (rules.allows_nan and missing == "drop"):
        for block in part.read(size, stop):
            rules.convert(block, stop)  # checks all values
        mapped = part.mapped
    else:
        array, kept, text, starts = _in_memory(part, rules, size, missing)
        labels = labels if labels is None or kept is None else labels[kept]
        if text is not None:
            labels, names = numbered(text)
    values = np.asarray(array).reshape(len(array), *rules.form.shape)
    large = memory_map(values) is not None and not fits_in_memory(values.nbytes)  # the user's file, or one of the cache
    digest = None if large or mapped is not None else checksum(values)
    return ItemSet(values, labels, rules.form, label_names=names, series_starts=starts, checksum=digest, mapped=mapped)


def _is_usable(part: Part, rules: ItemRules) -> bool:
    """Return whether the array of a part can be used as it is: its type, order and range are those of the target."""
    array = part.array
    same = array is not None and array.dtype == rules.target and array.flags.c_contiguous
    return same and not rules.channels_last and rules.range is None


def _is_read(part: Part) -> bool:
    """Return whether a file is read, because it may change while it is mapped. Arrays from Python are the caller's, mapped or not."""
    return part.mapped is not None and isinstance(part.array, np.memmap) and fits_in_memory(part.array.nbytes)


def _in_memory(
    part: Part, rules: ItemRules, size: int, missing: str
) -> tuple[np.ndarray, np.ndarray | None, np.ndarray | None, np.ndarray | None]:
    """Return all items of a part, (N, D) of the target type; the kept rows, if some were dropped; labels; starts of series."""
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
    if converts and isinstance(part.array, np.memmap):
        log.info(
            f"{part.name}: {_what(part, rules)}, converted to {rules.target} in memory ({_gigabytes(whole.nbytes)}); "
            f"{rules.target} would be memory-mapped"
        )
    return whole[:done], gaps.kept(), np.concatenate(words) if words else None, _series_starts(blocks)


def _series_starts(blocks: Sequence[RawBlock]) -> np.ndarray | None:
    """Return the rows in memory that begin another series, (n,) int64; None if the source does not tell series apart."""
    found = [block.positions for block in blocks if block.positions is not None]
    return np.flatnonzero(np.diff(np.concatenate(found)) != 1) + 1 if found else None


def _from_cache(
    part: Part, rules: ItemRules, size: int, missing: str
) -> tuple[np.ndarray, np.ndarray | None, np.ndarray | None, np.ndarray | None]:
    """Return the items of a large table memory-mapped from a file in the user's cache folder, which is written once.

    One block at a time is in memory while it is written.
    """
    digest = hashlib.sha256(os.fsencode(f"{TABLE_CACHE_VERSION}{part.key}{missing}{rules.target}")).hexdigest()[:32]
    folder = cache_folder() / "tables" / digest
    values, labels = folder / "values.raw", folder / "labels.npy"
    if not (files := undamaged_files(folder)):
        with taking_turns(folder):
            if not (files := undamaged_files(folder)):
                _write_cache(part, rules, size, missing, values, labels)
                files = {path.name for path in (values, labels, labels.with_name(STARTS)) if path.exists()}
                log.info(f"{part.name}: read once into {values}")
    items = np.memmap(values, rules.target, "r").reshape(-1, rules.form.values_per_item)
    texts, starts = (
        np.load(path, allow_pickle=False) if path.name in files else None for path in (labels, labels.with_name(STARTS))
    )
    return items, None, texts, starts


def _write_cache(part: Part, rules: ItemRules, size: int, missing: str, values: Path, labels: Path) -> None:
    gaps, words, done = _Gaps(part, rules, missing), [], 0
    positions: list[RawBlock] = []
    with replacing(values) as file:
        for raw in part.read(size, stop):
            block = gaps.without(rules.convert(raw, stop))
            file.write(np.ascontiguousarray(block.values).data)
            done += len(block.rows)
            positions.append(RawBlock((), block.values[:0], positions=block.positions))
            if block.labels is not None:
                words.append(block.labels.astype(str))
        gaps.finish(done)
        if not done:
            raise DataError(f"{part.name}: holds no items")
        starts = _series_starts(positions)
        if starts is not None:
            with replacing(labels.with_name(STARTS)) as file_of_starts:
                np.save(file_of_starts, starts)
        if words:
            with replacing(labels) as file_of_labels:
                np.save(file_of_labels, np.concatenate(words))
    written = [values, *([labels] if words else []), *([] if starts is None else [labels.with_name(STARTS)])]
    for old in {labels, labels.with_name(STARTS)} - set(written):
        old.unlink(missing_ok=True)
    seal(written)


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
        gaps = np.isnan(block.values)
        self.counts += gaps.sum(0)
        if self.missing != "drop" or not gaps.any():
            self.rows.append(block.rows)
            return block
        good = ~gaps.any(1)
        rows = [block.rows[index] for index in np.flatnonzero(good).tolist()]
        self.dropped += len(good) - len(rows)
        self.rows.append(rows)
        return RawBlock(rows, block.values[good], None if block.labels is None else block.labels[good])

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
