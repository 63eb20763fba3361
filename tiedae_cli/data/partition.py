"""Splits of a user's own data: splits that it lacks are drawn from the training items by a seeded random choice."""

import logging
from collections import Counter

import numpy as np

from tiedae_cli.config import DataConfig
from tiedae_cli.data.item_set import NO_LABEL, ItemSet, Splits, permutation
from tiedae_cli.data.sources.cells import is_unlabelled, label_text
from tiedae_cli.data.sources.column_names import composed
from tiedae_cli.errors import ConfigError, DataError

log = logging.getLogger(__name__)

PORTION = 0.1  # of the training items, for validation and for the test each, by default


def partition(given: dict[str, ItemSet], config: DataConfig, source: str) -> Splits:
    """Complete the splits of a source.

    The choice is a function of ``data.split_seed`` and the number of items, so every command sees the same splits. Nothing is copied:
    the new splits are indices into the training array. The training items keep their order, because whole passes read forwards;
    validation and test keep the random order, because their first items are then a fair sample.

    Args:
        given: the splits that the source itself names; ``train`` is always there, and missing ones are cut from it.
        config: the portions, the seed, and the labels of the items to train on.
        source: what the data is, for messages.

    Raises:
        ConfigError: a portion is given for a split that the source names itself, nothing is left for training, or no item is normal.
    """
    whole = given["train"]
    normal, others = _normal(whole, config, source)
    _report_unlabelled(whole, others, config, source)
    parts = {name: items for name, items in given.items() if name != "train"}
    if config.normal and "validation" in parts:
        parts["validation"] = parts["validation"].subset(_normal(parts["validation"], config, source)[0])
    portions = {"test": config.test, "validation": config.validation}
    double = [name for name, portion in portions.items() if name in parts and portion is not None]
    if double:
        raise ConfigError(
            "\n".join(f"data.{name}: {source} has a {name} split of its own; remove one of the two" for name in double)
        )
    counts = {
        name: portion_count(PORTION if portion is None else portion, len(normal))
        for name, portion in portions.items()
        if name not in parts
    }
    if not len(normal):
        raise DataError(f"{source}: its train split is empty")
    if sum(counts.values()) >= len(normal):
        wanted = " and ".join(f"{count:,} for {name}" for name, count in counts.items())
        with_label = f" with the label {', '.join(config.normal)}" if config.normal else ""
        counted = f"{len(normal):,} item{'s' * (len(normal) != 1)}{with_label}"
        raise ConfigError(f"data: {source} has {counted}; with {wanted} none is left for training")
    if config.window > 1:
        return _ranges(whole, normal, parts, counts, source)
    if not sum(counts.values()) and not len(others):
        return Splits(whole, parts.get("validation", whole.slice(0, 0)), parts.get("test", whole.slice(0, 0)), source)
    order, taken = permutation(config.split_seed, len(normal)), 0
    for name, count in counts.items():
        chosen = normal[order[taken : taken + count]]
        taken += count
        if name == "test" and len(others):
            both = np.concatenate([chosen, others])
            chosen = both[permutation(config.split_seed, len(both))]
        parts[name] = whole.subset(chosen)
    return Splits(whole.subset(normal[np.sort(order[taken:])]), parts["validation"], parts["test"], source)


def _ranges(whole: ItemSet, normal: np.ndarray, parts: dict[str, ItemSet], counts: dict[str, int], source: str) -> Splits:
    """Cut a series: the last normal rows, and all rows between them, for the test, those before for validation; normal ones alone train."""
    end = len(normal)
    if "test" in counts:
        end -= counts["test"]
        parts["test"] = whole.slice(int(normal[end]) if counts["test"] else len(whole), len(whole))
    if "validation" in counts:
        end -= counts["validation"]
        parts["validation"] = whole.subset(normal[end : end + counts["validation"]])
    return Splits(whole.subset(normal[:end]), parts["validation"], parts["test"], source)


def _normal(items: ItemSet, config: DataConfig, source: str) -> tuple[np.ndarray, np.ndarray]:
    """Return the items that training may see and the others, (n,) int64 each: all and none unless ``data.normal`` is set."""
    everything = np.arange(len(items))
    if not config.normal:
        return everything, everything[:0]
    if items.labels is None:
        raise ConfigError(f"data.normal: {source}: has no labels (data.label names the column of a table)")
    names = {label: items.label_text(label) for label in sorted(set(items.labels.tolist()))}
    normal_texts = {composed(label_text(label)) for label in config.normal}
    wanted = [label for label, name in names.items() if composed(label_text(name)) in normal_texts]
    if not wanted:
        known = ", ".join(name or NO_LABEL for name in list(names.values())[:12])
        raise ConfigError(f"data.normal: {source}: no item has the label {', '.join(config.normal)} (it has {known})")
    is_normal = np.isin(items.labels, wanted)
    return everything[is_normal], everything[~is_normal]


def _report_unlabelled(items: ItemSet, others: np.ndarray, config: DataConfig, source: str) -> None:
    """Report how many items are excluded from training because they are unlabelled."""
    if not config.normal or items.labels is None:
        return
    counts = Counter(items.labels[others].tolist())
    found = sum(count for label, count in counts.items() if is_unlabelled(items.label_text(label), ()))
    if found:
        items_are = "1 unlabelled item is" if found == 1 else f"{found:,} unlabelled items are"
        log.info(f"{source}: {items_are} in the test split, and excluded from label-based metrics")


def normal_only(splits: Splits, config: DataConfig) -> Splits:
    """Return fixed splits with training and validation reduced to the labels of ``data.normal``; all items if it is empty.

    Raises:
        ConfigError: no item of the training split is normal.
    """
    if not config.normal:
        return splits
    train, validation = (
        items.subset(_normal(items, config, splits.source)[0]) if len(items) else items
        for items in (splits.train, splits.validation)
    )
    return Splits(train, validation, splits.test, splits.source)


def portion_count(portion: float, total: int) -> int:
    """Return how many of ``total`` items a count, or a fraction below 1, means; a fraction means at least one."""
    return portion if isinstance(portion, int) else max(1, round(portion * total))
