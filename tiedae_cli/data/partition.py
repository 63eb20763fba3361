"""The splits of a user's own data: what it does not name itself is cut from the training items by a seeded random choice."""

import torch

from tiedae_cli.config import DataConfig
from tiedae_cli.data.image_set import ImageSet, Splits
from tiedae_cli.errors import ConfigError, DataError

PORTION = 0.1  # of the training items, for validation and for the test each, where the config says nothing


def partition(given: dict[str, ImageSet], config: DataConfig, source: str) -> Splits:
    """Complete the splits of a source.

    The choice is a function of ``data.split_seed`` and the number of items, so every command sees the same splits. Nothing is copied:
    the new splits are indices into the training tensor. The training items keep their order, so that whole passes read forwards;
    validation and test keep the random one, so that their first items are a fair sample.

    Args:
        given: the splits that the source itself names; ``train`` is always there, and missing ones are cut from it.
        config: the portions and the seed.
        source: what the data is, for messages.

    Raises:
        ConfigError: a portion is given for a split that the source names itself, or nothing is left for training.
    """
    pool = given["train"]
    portions = {"test": config.test, "validation": config.validation}
    counts = {}
    for name, portion in portions.items():
        if name not in given:
            counts[name] = portion_count(PORTION if portion is None else portion, len(pool))
        elif portion is not None:
            raise ConfigError(f"data.{name}: {source} has a {name} split of its own; remove one of the two")
    if not len(pool):
        raise DataError(f"{source}: its train split is empty")
    if sum(counts.values()) >= len(pool):
        wanted = " and ".join(f"{count:,} for {name}" for name, count in counts.items())
        raise ConfigError(f"data: {source} has {len(pool):,} items; with {wanted} none is left for training")
    if not sum(counts.values()):
        return Splits(pool, given.get("validation", pool.slice(0, 0)), given.get("test", pool.slice(0, 0)), source)
    order = torch.randperm(len(pool), generator=torch.Generator().manual_seed(config.split_seed))
    parts, taken = dict(given), 0
    for name, count in counts.items():
        parts[name] = pool.subset(order[taken : taken + count].clone())  # a slice would keep the whole order in memory
        taken += count
    return Splits(pool.subset(order[taken:].sort().values), parts["validation"], parts["test"], source)


def portion_count(portion: float, total: int) -> int:
    """Return how many of ``total`` items a count, or a fraction below 1, means; a fraction means at least one."""
    return portion if isinstance(portion, int) else max(1, round(portion * total))
