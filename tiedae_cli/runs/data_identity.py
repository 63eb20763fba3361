"""What tells one data set from another: the identity of a split, and what has changed between two of them."""

import hashlib
from collections.abc import Mapping
from dataclasses import replace

import numpy as np

from tiedae_cli.data.checksum import checksum
from tiedae_cli.data.item_set import BLOCK_BYTES, ItemSet, Splits
from tiedae_cli.runs.training_state import SplitIdentity
from tiedae_cli.system.mapped_files import clock_time, memory_map

SAMPLE = 256  # items that stand for those of a memory-mapped file


def identities(splits: Splits) -> dict[str, SplitIdentity]:
    """Return the identities of the splits that training sees."""
    return {"train": identity(splits.train), "validation": identity(splits.validation)}


def identity(items: ItemSet) -> SplitIdentity:
    """Return the number, form and scaling of items, and a digest of their values: of all in memory, of a sample if they are mapped.

    If several processes share the items, all must ask together.
    """
    return items.led(lambda: _identity(items))


def _identity(items: ItemSet) -> SplitIdentity:
    head = hashlib.sha256(repr((len(items), items.form.shape, str(items.values.dtype))).encode())
    for values in (items.form.offset, items.form.scale, items.form.base):
        if isinstance(values, np.ndarray):
            head.update(np.ascontiguousarray(values).data)
    sample, step = head.copy(), max(1, len(items) // SAMPLE)
    sample.update(np.ascontiguousarray(items.raw_at(np.arange(0, len(items), step))).data)
    if items.checksum is None and memory_map(items.values) is not None:
        changed = None if items.mapped is None else items.mapped.mtime_ns
        return SplitIdentity(len(items), None, sample.hexdigest(), changed)
    return SplitIdentity(len(items), _digest(items, head.hexdigest()), sample.hexdigest(), None)


def _digest(items: ItemSet, head: str) -> str:
    """Return a digest of all items."""
    digest = hashlib.sha256(head.encode())
    if items.checksum is not None:
        digest.update(items.checksum.encode())
        digest.update(b"" if items.indices is None else checksum(items.indices).encode())
        return digest.hexdigest()
    size = max(1, BLOCK_BYTES // max(1, items.form.values_per_item * items.values.itemsize))
    for start in range(0, len(items), size):
        digest.update(checksum(items.raw(start, start + size)).encode())
    return digest.hexdigest()


def changed_data(before: Mapping[str, SplitIdentity], now: Mapping[str, SplitIdentity]) -> str | None:
    """Return how data differs from what it was, as a clause; None if it does not.

    Args:
        before: identities by the name of the split.
        now: those of the same data read again; splits that only one of the two has are ignored.
    """
    pairs = [(name, before[name], now[name]) for name in now if name in before]
    counts = [f"{old.images:,} {name} items before, {new.images:,} now" for name, old, new in pairs if old.images != new.images]
    if counts:
        return "; ".join(counts)
    for _, old, new in pairs:
        both_read = old.digest is not None and new.digest is not None
        if (old.digest != new.digest) if both_read else (old.sample != new.sample):
            return "as many items, but their values differ"
        if not both_read and None not in (old.changed_ns, new.changed_ns) and old.changed_ns != new.changed_ns:
            times = " before, ".join(clock_time(one.changed_ns or 0) for one in (old, new))
            return f"the file was last written to at {times} now (a memory-mapped file is compared by size, time and a sample)"
    return None


def comparable(found: SplitIdentity) -> SplitIdentity:
    """Return an identity without the time of its file, which differs between the machines of one training."""
    return replace(found, changed_ns=None)
